//! A pair of connected sockets that carries short messages and open files between parent and child.
//! Nothing here allocates after [`pair`].

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// socketpair(2) of AF_UNIX, SOCK_SEQPACKET: message boundaries are kept, and a read of 0 bytes means that the other
/// end is gone.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two integers.
    crate::check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }.into())?;
    // SAFETY: the call just opened both, and nobody else owns them yet.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Length of one descriptor in a control message.
const FD_LEN: u32 = 4;

/// Room for one control message that carries one descriptor, aligned as cmsghdr wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends `bytes` as one message, with a copy of `fd` if one is given. A gone peer is EPIPE, not a signal.
pub fn send(socket: BorrowedFd, bytes: &[u8], fd: Option<BorrowedFd>) -> io::Result<()> {
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: msghdr is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; CMSG_FIRSTHDR points into `control`, which has room for
        // CMSG_SPACE(4) = 24 bytes and is aligned.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(FD_LEN) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(FD_LEN) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
        }
    }
    loop {
        // SAFETY: everything `message` points to lives through the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match crate::check(sent as libc::c_long) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one message into `bytes`: how long it was (0: the peer is gone) and the descriptor that came with it.
pub fn receive(socket: BorrowedFd, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: msghdr is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(FD_LEN) } as _;
    let len = loop {
        // SAFETY: everything `message` points to lives through the call, and the lengths are those of the buffers.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match crate::check(got as libc::c_long) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            other => break usize::try_from(other?).unwrap_or(0),
        }
    };
    // SAFETY: the kernel filled `message`; there is room for one descriptor, so at most one came, and it is ours.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
        {
            Some(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
        } else {
            None
        }
    };
    Ok((len, fd))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn carries_bytes_and_a_descriptor_and_tells_the_end() {
        let (a, b) = pair().unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        send(a.as_fd(), b"12345678", Some(file.as_fd())).unwrap();
        send(a.as_fd(), b"x", None).unwrap();
        let mut buf = [0; 16];
        let (len, fd) = receive(b.as_fd(), &mut buf).unwrap();
        assert_eq!((len, &buf[..8]), (8, b"12345678".as_slice()));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(fd.unwrap()), &mut text).unwrap();
        assert!(text.contains(" R ") || text.contains(" S "), "{text}");
        let (len, fd) = receive(b.as_fd(), &mut buf).unwrap();
        assert!((len, fd.is_none()) == (1, true));
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buf).unwrap().0, 0);
        assert_eq!(send(b.as_fd(), b"x", None).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
