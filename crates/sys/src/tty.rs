//! The size of a terminal. ioctl_tty(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Rows, columns, and the (mostly unused) size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Character rows.
    pub rows: u16,
    /// Character columns.
    pub columns: u16,
    /// Width in pixels, or 0.
    pub x_pixels: u16,
    /// Height in pixels, or 0.
    pub y_pixels: u16,
}

/// TIOCGWINSZ. ENOTTY when `tty` is no terminal.
pub fn size(tty: BorrowedFd) -> io::Result<Size> {
    let mut raw = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize to the address, which is that of a live winsize.
    crate::check(i64::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &raw mut raw) }))?;
    Ok(Size { rows: raw.ws_row, columns: raw.ws_col, x_pixels: raw.ws_xpixel, y_pixels: raw.ws_ypixel })
}

/// TIOCSWINSZ: sets the size; the foreground process group gets SIGWINCH when it changed.
pub fn set_size(tty: BorrowedFd, size: Size) -> io::Result<()> {
    let raw = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.x_pixels,
        ws_ypixel: size.y_pixels,
    };
    // SAFETY: the kernel reads one winsize from the address, which is that of a live winsize.
    crate::check(i64::from(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &raw const raw) }))
        .map(drop)
}
