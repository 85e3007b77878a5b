//! One HTTP exchange: a client per host, redirects by our own rules, time limits, bounded bodies.
//!
//! Knows nothing of registries. No `Accept-Encoding` is sent and no `Content-Encoding` undone: digests are over
//! the bytes as they were pushed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, StatusCode, Url};
use tokio::time::timeout;

use crate::error::{chain, one_line};
use crate::tls::Tls;
use crate::{Error, Limits};

/// Hops that are followed, as containerd does.
const REDIRECTS_MAX: usize = 10;
/// Error bodies are read up to this and shown up to 300 characters.
const ERROR_BODY_MAX: u64 = 64 << 10;
/// Less than this in a whole [`Limits::idle`] of waiting counts as a stall (a slow-loris server).
const PROGRESS_MIN: u64 = 16 << 10;

/// Why no usable answer came.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no connection and trying again soon is of no use: no such host, refused, no route.
    Connect(String),
    /// The server talks, but not TLS.
    NotTls,
    /// The handshake failed: the certificate, the version.
    Tls(String),
    /// The connection broke, stalled or spoke no HTTP; may pass.
    Broken(String),
    /// A redirect against the rules.
    Rule(String),
    /// Bad settings for the host.
    Settings(Error),
}

impl Failure {
    /// As an error about `host`, met while getting `what`.
    pub(crate) fn about(self, host: &str, what: &str) -> Error {
        let host = host.to_owned();
        match self {
            Self::Connect(reason) | Self::Broken(reason) => Error::Unreachable { host, reason },
            Self::NotTls => Error::Tls {
                host,
                reason: "the server speaks no TLS; if it is meant to be plain http, \
                         set insecure = true for it in registries.conf"
                    .into(),
            },
            Self::Tls(reason) => Error::Tls { host, reason },
            Self::Rule(reason) => Error::Protocol { what: what.to_owned(), location: host, reason },
            Self::Settings(error) => error,
        }
    }

    /// Whether the same request may succeed in a moment.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

/// A request as data.
#[derive(Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) accept: Option<&'static str>,
    /// First byte wanted.
    pub(crate) from: Option<u64>,
    /// Sent to the host of the URL only, never after a redirect elsewhere.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// A form to POST.
    pub(crate) form: Option<String>,
    /// Certificates need not verify, and a redirect may lead to plain http.
    pub(crate) insecure: bool,
}

/// HTTP clients of one thread.
pub(crate) struct Http<'a> {
    tls: &'a Tls,
    limits: &'a Limits,
    clients: RefCell<HashMap<(String, bool), Client>>,
}

impl<'a> Http<'a> {
    pub(crate) fn new(tls: &'a Tls, limits: &'a Limits) -> Self {
        Self { tls, limits, clients: RefCell::default() }
    }

    /// Sends a request and follows redirects.
    pub(crate) async fn send(&self, url: &Url, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut at_origin = true;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(&url, ask, at_origin).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer {
                    status: response.status(),
                    headers: response.headers().clone(),
                    length: response.content_length(),
                    at_origin,
                    idle: self.limits.idle,
                    waited: Duration::ZERO,
                    got: 0,
                    response,
                });
            }
            let next = redirected(&url, response.headers(), ask)?;
            // Once elsewhere, credentials stay away even if the way leads back (CVE-2026-50151).
            at_origin &= next.origin() == url.origin();
            url = next;
        }
        Err(Failure::Rule(format!("more than {REDIRECTS_MAX} redirects")))
    }

    async fn once(&self, url: &Url, ask: &Ask<'_>, at_origin: bool) -> Result<reqwest::Response, Failure> {
        let client = self.client(url, ask.insecure).map_err(Failure::Settings)?;
        let mut request = match &ask.form {
            Some(form) => client
                .post(url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
            None => client.get(url.clone()),
        };
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(from) = ask.from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(value) = ask.authorization.filter(|_| at_origin) {
            request = request.header(AUTHORIZATION, value);
        }
        match timeout(self.limits.connect + self.limits.header, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(Failure::Broken(format!("no answer within {} s", self.limits.header.as_secs()))),
        }
    }

    fn client(&self, url: &Url, insecure: bool) -> Result<Client, Error> {
        let host = host_of(url);
        let key = (format!("{}://{host}", url.scheme()), insecure);
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let config = match url.scheme() {
            "https" => self.tls.config(&host, !insecure)?,
            _ => self.tls.unused(),
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!("rcr/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.limits.connect);
        if is_loopback(&host) {
            // Go's rule, and so podman's and docker's: no proxy for this very host.
            builder = builder.no_proxy();
            // `localhost` must not be what some DNS server says it is.
            let here = [(Ipv4Addr::LOCALHOST, 0).into(), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
            builder = builder.resolve_to_addrs("localhost", &here);
        }
        let client = builder.build().map_err(|e| Error::Unreachable { host, reason: chain(&e) })?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// An answer whose header has come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `Content-Length`, if the server sent one.
    pub(crate) length: Option<u64>,
    /// No redirect to another origin was followed.
    pub(crate) at_origin: bool,
    response: reqwest::Response,
    idle: Duration,
    waited: Duration,
    got: u64,
}

impl Answer {
    /// A header's text; `None` if it is absent, repeated or not ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    }

    /// The next bytes of the body, `None` at its end. Time that the caller takes between calls is not counted.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]>>, Failure> {
        let asked = Instant::now();
        let chunk = match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(classify(&error)),
            Err(_) => return Err(Failure::Broken(format!("no data for {} s", self.idle.as_secs_f32()))),
        };
        self.waited += asked.elapsed();
        self.got += chunk.as_ref().map_or(0, |c| c.len() as u64);
        if self.waited >= self.idle {
            if self.got < PROGRESS_MIN && chunk.is_some() {
                let (got, idle) = (self.got, self.idle.as_secs_f32());
                return Err(Failure::Broken(format!("only {got} bytes in {idle} s")));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }

    /// The whole body; `Ok(None)` if it has more than `max` bytes.
    pub(crate) async fn body(mut self, max: u64) -> Result<Option<Vec<u8>>, Failure> {
        if self.length.is_some_and(|n| n > max) {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(chunk.as_ref());
            if body.len() as u64 > max {
                return Ok(None);
            }
        }
        Ok(Some(body))
    }

    /// What an error answer says, on one line: the `errors` of the distribution-spec, or the first words of a
    /// text. HTML says nothing.
    pub(crate) async fn complaint(self) -> String {
        let html = self.header("content-type").is_some_and(|t| t.contains("html"));
        let limit = self.idle.min(Duration::from_secs(10));
        match timeout(limit, self.body(ERROR_BODY_MAX)).await {
            Ok(Ok(Some(body))) if !html => complaint(&body),
            _ => String::new(),
        }
    }
}

fn complaint(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
        return if text.trim_start().starts_with('<') { String::new() } else { one_line(&text, 200) };
    };
    let field = |v: &serde_json::Value, key: &str| v.get(key).and_then(|f| f.as_str()).map(str::to_owned);
    let mut parts = Vec::new();
    for error in json.get("errors").and_then(|e| e.as_array()).into_iter().flatten().take(3) {
        match (field(error, "code"), field(error, "message")) {
            (Some(code), Some(message)) => parts.push(format!("{code}: {message}")),
            (code, message) => parts.extend(code.or(message)),
        }
    }
    // Token servers and proxies.
    if parts.is_empty() {
        parts.extend(
            ["error_description", "message", "details", "error"].iter().find_map(|k| field(&json, k)),
        );
    }
    one_line(&parts.join("; "), 300)
}

/// Where a redirect leads, if it may.
fn redirected(from: &Url, headers: &HeaderMap, ask: &Ask<'_>) -> Result<Url, Failure> {
    let rule = |text: String| Err(Failure::Rule(text));
    if ask.form.is_some() {
        return rule("a token server redirected a request that holds credentials".into());
    }
    let Some(location) = headers.get(LOCATION).and_then(|v| v.to_str().ok()) else {
        return rule("a redirect without a Location".into());
    };
    let Ok(mut next) = from.join(location) else {
        return rule(format!("a redirect to {:?}, which is no URL", one_line(location, 100)));
    };
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") if ask.insecure => {}
        ("https", "http") => {
            return rule(format!("a redirect from https to plain http ({})", host_of(&next)));
        }
        (_, scheme) => return rule(format!("a redirect to a {} URL", one_line(scheme, 20))),
    }
    if next.host_str().is_none() {
        return rule("a redirect to a URL without a host".into());
    }
    if !next.username().is_empty() || next.password().is_some() {
        return rule("a redirect to a URL with a user name in it".into());
    }
    next.set_fragment(None);
    Ok(next)
}

/// `host[:port]` of a URL, the port only if it is not the scheme's own.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether `host[:port]` is written as a loopback address or `localhost`. Names that resolve there do not count:
/// who controls the DNS would decide (CVE-2026-92543).
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Sorts reqwest's error by what lies beneath it.
fn classify(error: &reqwest::Error) -> Failure {
    if error.is_dns() {
        return Failure::Connect("no such host; check the name and the DNS settings".into());
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        let Some(io) = cause.downcast_ref::<std::io::Error>() else {
            next = cause.source();
            continue;
        };
        use std::io::ErrorKind as Kind;
        match io.kind() {
            Kind::ConnectionRefused => {
                return Failure::Connect("connection refused; is the registry running?".into());
            }
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                return Failure::Connect(format!("{io}; is there a network?"));
            }
            _ => {}
        }
        // `source` of an io::Error passes over what it wraps.
        next = io.get_ref().map(|inner| inner as &(dyn StdError + 'static));
    }
    if error.is_connect() && error.is_timeout() {
        return Failure::Broken("no connection in time; is there a firewall or a proxy between?".into());
    }
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    Failure::Broken(one_line(if text.is_empty() { "the connection broke" } else { &text }, 200))
}

fn tls_failure(error: &rustls::Error) -> Failure {
    use rustls::CertificateError as Bad;
    Failure::Tls(match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => return Failure::NotTls,
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the certificate is signed by an unknown authority; \
             put the registry's CA certificate into /etc/containers/certs.d/HOST[:PORT]/ca.crt"
                .into()
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            let text = one_line(&error.to_string(), 200);
            format!("{text}; check this host's clock, or the registry must renew its certificate")
        }
        _ => one_line(&error.to_string(), 300),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_as_loopback_is_loopback() {
        for host in
            ["127.0.0.1", "127.0.0.1:5000", "127.9.9.9", "localhost", "localhost:80", "[::1]", "[::1]:5000"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "my-localhost",
            "10.0.0.1",
            "[::2]:1",
            "",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn complaints_are_found_where_registries_put_them() {
        for (body, want) in [
            ("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\"},{\"message\":\"x\"}]}", "DENIED: no; x"),
            ("{\"errors\":[{\"code\":\"DENIED\"}]}", "DENIED"),
            ("{\"details\":\"bad password\"}", "bad password"),
            ("{\"errors\":\"x\"}", ""),
            ("[]", ""),
            ("plain words\n", "plain words"),
            ("<!doctype html>", ""),
            ("", ""),
        ] {
            assert_eq!(complaint(body.as_bytes()), want, "{body}");
        }
    }
}
