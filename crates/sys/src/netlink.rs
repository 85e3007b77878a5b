//! netlink(7): requests to the kernel and its answers, as attributes in a header. What they mean is for
//! [`crate::rtnetlink`] and for whoever speaks another family of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long the kernel may take for an answer. It answers within the call; only a lost message makes anybody wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for the largest message that the kernel makes (NLMSG_GOODSIZE is at most 32 KiB for a dump).
const BUFFER: usize = 64 << 10;

/// struct nlmsghdr, in bytes.
const HEADER: usize = 16;

/// A socket to one of the kernel's subsystems, in the network namespace in which it was made, whichever the process is in
/// later.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// What a request says behind the netlink header: the fixed header of its family, then attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body(Vec<u8>);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `RTM_*`, or subsystem and `NFT_MSG_*`.
    pub kind: u16,
    /// `NLM_F_*`; `NLM_F_REQUEST` goes without saying.
    pub flags: u16,
    /// The rest.
    pub body: Body,
}

impl Body {
    /// Begins with a fixed header.
    pub fn new(header: &[u8]) -> Body {
        Body(header.to_vec())
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Body {
        // Names, addresses and lists of a few of them.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text with the NUL that the kernel wants behind it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Body {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that is made of attributes.
    pub fn put_nested(&mut self, kind: u16, inside: &Body) -> &mut Body {
        const NESTED: u16 = 1 << 15;
        self.put(kind | NESTED, &inside.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Socket {
    /// Opens a socket for `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`, …) in this thread's network namespace.
    ///
    /// # Errors
    /// The errno of socket(2): EPROTONOSUPPORT when the kernel lacks the subsystem.
    pub fn open(protocol: i32) -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: three integers.
        let fd = crate::owned(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) }.into())?;
        let patience =
            libc::timeval { tv_sec: libc::time_t::try_from(PATIENCE.as_secs()).unwrap_or(1), tv_usec: 0 };
        let length = libc::socklen_t::try_from(size_of_val(&patience)).map_err(|_| invalid())?;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
        // SAFETY: the kernel reads a timeval of the given length.
        let set =
            unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const patience).cast(), length) };
        crate::check(set.into())?;
        Ok(Socket { fd })
    }

    /// Asks for one change and waits until it is made.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&self, kind: u16, flags: libc::c_int, body: Body) -> io::Result<()> {
        self.ask(kind, flags | libc::NLM_F_ACK, body, &mut |_, _| ())
    }

    /// Sends one request and hands the answer's messages (kind and payload) to `each`, until the kernel says that it is
    /// done.
    ///
    /// # Errors
    /// The kernel's; EINTR when a list changed while it was read, so that it must be read again.
    pub fn ask(
        &self,
        kind: u16,
        flags: libc::c_int,
        body: Body,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let flags = u16::try_from(flags).map_err(|_| invalid())?;
        self.send(&encode(&Request { kind, flags, body }, 0)?)?;
        let mut buffer = vec![0u8; BUFFER];
        let mut torn = false;
        loop {
            let mut rest = self.receive(&mut buffer)?;
            let mut many = false;
            while let Some(message) = message(rest) {
                rest = message.after;
                torn |= message.flags & libc::NLM_F_DUMP_INTR != 0;
                match libc::c_int::from(message.kind) {
                    // Errors are an errno below zero; an acknowledgement is zero.
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match message.error() {
                            Some(error) => Err(error),
                            None if torn => Err(io::Error::from_raw_os_error(libc::EINTR)),
                            None => Ok(()),
                        };
                    }
                    _ => each(message.kind, message.payload),
                }
                many |= message.flags & libc::NLM_F_MULTI != 0;
            }
            // A single answer to a request without NLM_F_ACK is not followed by anything.
            if !many {
                return Ok(());
            }
        }
    }

    /// Sends several requests of nfnetlink that take effect together or not at all: `first` and `last` are what begins and
    /// ends the batch.
    ///
    /// # Errors
    /// The kernel's, with the index of the request that it refused, if it was one of them.
    pub fn batch(
        &self,
        first: &Request,
        requests: &[Request],
        last: &Request,
    ) -> Result<(), (Option<usize>, io::Error)> {
        let whole = |e| (None, e);
        let mut bytes = encode(first, 0).map_err(whole)?;
        for (request, sequence) in requests.iter().zip(1..) {
            // Only the last one's answer is waited for; refusals are told in any case.
            let acknowledged = u16::try_from(libc::NLM_F_ACK).unwrap_or(0);
            let is_last = sequence as usize == requests.len();
            let flags = request.flags | if is_last { acknowledged } else { 0 };
            let request = Request { flags, ..request.clone() };
            bytes.extend(encode(&request, sequence).map_err(whole)?);
        }
        bytes.extend(encode(last, u32::MAX).map_err(whole)?);
        self.send(&bytes).map_err(whole)?;
        let mut buffer = vec![0u8; BUFFER];
        let mut refused = None;
        loop {
            let mut rest = self.receive(&mut buffer).map_err(whole)?;
            while let Some(message) = message(rest) {
                rest = message.after;
                if libc::c_int::from(message.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                let index = (message.sequence as usize).checked_sub(1).filter(|at| *at < requests.len());
                if let Some(error) = message.error() {
                    refused.get_or_insert((index, error));
                }
                // What went wrong with the batch as such is told of its begin.
                if index.is_none() || index == requests.len().checked_sub(1) {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are of one slice. A socket without a peer sends to the kernel.
        crate::check(
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) } as libc::c_long
        )
        .map(drop)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes.
        let count = crate::check(unsafe {
            libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        } as libc::c_long)?;
        buffer.get(..usize::try_from(count).map_err(|_| invalid())?).ok_or_else(invalid)
    }
}

fn encode(request: &Request, sequence: u32) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER + request.body.0.len()).map_err(|_| invalid())?;
    let flags = request.flags | u16::try_from(libc::NLM_F_REQUEST).map_err(|_| invalid())?;
    let mut bytes = Vec::with_capacity(HEADER + request.body.0.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(request.kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&request.body.0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    flags: libc::c_int,
    sequence: u32,
    payload: &'a [u8],
    after: &'a [u8],
}

impl Message<'_> {
    /// What NLMSG_ERROR or NLMSG_DONE says, unless it says that all is well.
    fn error(&self) -> Option<io::Error> {
        let code = self.payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        (code < 0).then(|| io::Error::from_raw_os_error(-code))
    }
}

fn message(bytes: &[u8]) -> Option<Message<'_>> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let half = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    Some(Message {
        kind: half(4)?,
        flags: half(6)?.into(),
        sequence: u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
        payload: bytes.get(HEADER..length)?,
        after: bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    })
}

/// The attributes in `bytes`: kind and value each. Ends where they make no sense any more.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head: [u8; 4] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two high bits say how the value is encoded.
        Some((u16::from_ne_bytes([head[2], head[3]]) & 0x3fff, value))
    })
}

/// The value of the first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text that ends with a NUL, or with its attribute.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_messages_end_the_list() {
        let mut body = Body::default();
        body.put(3, b"abcde").put(7 | 0x8000, b"x");
        assert_eq!(body.as_bytes().len(), 20);
        let found: Vec<_> = attributes(body.as_bytes()).collect();
        assert_eq!(found, [(3, &b"abcde"[..]), (7, b"x")]);
        assert_eq!(attributes(&body.as_bytes()[..6]).count(), 0);
        assert!(message(&[20, 0, 0, 0, 1, 0, 0, 0]).is_none());
        assert!(message(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }

    #[test]
    fn nested_attributes_are_read_back() {
        let mut inner = Body::default();
        inner.put_text(1, "bridge").put(2, &7u32.to_ne_bytes());
        let mut outer = Body::new(&[0; 16]);
        outer.put_nested(18, &inner);
        let nested = attribute(&outer.as_bytes()[16..], 18).unwrap();
        assert_eq!(attribute(nested, 1).map(text).as_deref(), Some("bridge"));
        assert_eq!(attribute(nested, 2), Some(&7u32.to_ne_bytes()[..]));
        assert_eq!(attribute(nested, 3), None);
    }
}
