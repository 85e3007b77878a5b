//! A registry that does as a test tells it: one thread per connection, requests parsed by hand, answers written
//! byte by byte where a test wants to misbehave.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A stream, plain or TLS.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// How many requests for this path (query left out) came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn bare(&self) -> &str {
        self.path.split('?').next().unwrap()
    }

    /// First byte of a `Range` header.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    pub fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }
}

/// The connection a request came by.
pub struct Conn<'a> {
    stream: &'a mut dyn Stream,
    sent: &'a AtomicU64,
    open: bool,
}

impl Conn<'_> {
    /// Sends an answer with a right `Content-Length`.
    pub fn reply(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let length = body.len().to_string();
        self.head(status, &[headers, &[("Content-Length", &length)]].concat());
        self.write(body);
    }

    /// Sends just the status line and headers.
    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) {
        let mut text = format!("HTTP/1.1 {status} X\r\n");
        for (key, value) in headers {
            text += &format!("{key}: {value}\r\n");
        }
        text += "\r\n";
        self.write(text.as_bytes());
    }

    /// Sends a body by chunked encoding, without a length.
    pub fn chunked(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        self.head(status, &[headers, &[("Transfer-Encoding", "chunked")]].concat());
        for part in body.chunks(1000) {
            self.write(format!("{:x}\r\n", part.len()).as_bytes());
            self.write(part);
            self.write(b"\r\n");
        }
        self.write(b"0\r\n\r\n");
    }

    /// Writes raw bytes; `false` once the client has gone.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.open &= self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok();
        if self.open {
            self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.open
    }

    /// Closes the connection after this answer.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Sends nothing for a while.
    pub fn stall(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

pub type Handler = dyn Fn(&Request, &mut Conn) + Send + Sync;

/// A running server; its threads end with the test's process.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request, &mut Conn) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", None, handler)
    }

    /// Listens at an address; with TLS if `tls` is given.
    pub fn start_at(
        address: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request, &mut Conn) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, count) = (requests.clone(), sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log, count, tls) = (handler.clone(), log.clone(), count.clone(), tls.clone());
                std::thread::spawn(move || connection(stream, tls, &*handler, &log, &count));
            }
        });
        Self { address, requests, sent }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests a predicate holds for.
    pub fn count(&self, test: impl Fn(&Request) -> bool) -> usize {
        self.requests().iter().filter(|r| test(r)).count()
    }

    /// Bytes written to clients.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn connection(
    mut tcp: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: &Handler,
    log: &Mutex<Vec<Request>>,
    sent: &AtomicU64,
) {
    let _ = tcp.set_nodelay(true);
    let mut first = [0];
    let hello = tcp.peek(&mut first).is_ok_and(|n| n == 1) && first[0] == 0x16;
    match tls {
        Some(config) => {
            let session = rustls::ServerConnection::new(config).unwrap();
            serve(&mut rustls::StreamOwned::new(session, tcp), handler, log, sent);
        }
        // What Go's servers say to a TLS client.
        None if hello => {
            let _ = tcp.write_all(
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n",
            );
        }
        None => serve(&mut tcp, handler, log, sent),
    }
}

fn serve(stream: &mut dyn Stream, handler: &Handler, log: &Mutex<Vec<Request>>, sent: &AtomicU64) {
    while let Some(mut request) = read_request(stream) {
        {
            let mut log = log.lock().unwrap();
            request.nth = log.iter().filter(|r: &&Request| r.bare() == request.bare()).count();
            log.push(request.clone());
        }
        let mut conn = Conn { stream, sent, open: true };
        handler(&request, &mut conn);
        if !conn.open {
            return;
        }
    }
}

fn read_request(stream: &mut dyn Stream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 || head.len() > 100_000 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut start = lines.next()?.split(' ');
    let (method, path) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let length = headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, v)| v.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8(body).unwrap(), nth: 0 })
}

/// What a well-behaved registry has: content by path.
#[derive(Clone, Default)]
pub struct Site(pub HashMap<String, (String, Vec<u8>)>);

impl Site {
    pub fn put(&mut self, path: &str, media_type: &str, body: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), (media_type.to_owned(), body.into()));
    }

    /// Answers as a registry should, ranges included.
    pub fn serve(&self, request: &Request, conn: &mut Conn) {
        let Some((media_type, body)) = self.0.get(request.bare()) else {
            let code = if request.is_blob() { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            let json = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"not here\"}}]}}");
            return conn.reply(404, &[("Content-Type", "application/json")], json);
        };
        match request.from() {
            Some(from) if from < body.len() => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                conn.reply(206, &[("Content-Type", media_type), ("Content-Range", &range)], &body[from..]);
            }
            _ => conn.reply(200, &[("Content-Type", media_type)], body),
        }
    }
}
