//! Pseudo terminals, from inside the process that will own one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Unlocks the master and opens its other end, without a path (TIOCSPTLCK, TIOCGPTPEER).
pub fn peer(master: BorrowedFd) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    crate::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    crate::owned(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())
}

/// Sets the size of a terminal, in character cells.
pub fn set_size(tty: BorrowedFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize.
    crate::check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// Makes `tty` the controlling terminal of this session leader.
pub fn set_controlling(tty: BorrowedFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 = don't steal.
    crate::check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}
