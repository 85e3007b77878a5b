//! sd_notify(3) for a container: it gets a socket of its own, and what it says there first, that it is ready, is told
//! to the service manager that started this program, with the right process id.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use oci::runtime::Mount;

use super::directory::Directory;
use crate::{Error, Spec};

/// Where the directory with the socket is in the container.
const INSIDE: &str = "/run/notify";
/// Its name in the state directory.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";

/// How long a service manager may take to say that it has seen the messages, in milliseconds.
const BARRIER_PATIENCE: u16 = 30_000;

/// Adds the mount and the environment variable to a container's configuration.
pub(crate) fn add_to(spec: &mut Spec, root: &Path, id: &str) {
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(INSIDE));
    mount.set_source(Some(root.join(id).join(DIRECTORY)));
    mount.set_typ(None);
    mount.set_options(Some(["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).into()));
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
        process.set_env(Some(env));
    }
}

/// Makes the directory that [`add_to`] mounts.
pub(crate) fn make_directory(directory: &Directory) -> Result<(), Error> {
    directory.make_directory(DIRECTORY, 0o755)
}

/// A container's notify socket, before anything was said.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
}

impl Notify {
    /// Opens the socket of a container that was created with `notify_socket`, before its process starts.
    ///
    /// # Errors
    /// There is no such container, or it was created without one.
    pub fn listen(root: &Path, id: &str) -> Result<Notify, Error> {
        Notify::open(&Directory::open(root, id)?)
    }

    pub(crate) fn open(directory: &Directory) -> Result<Notify, Error> {
        let path = directory.path().join(DIRECTORY).join(SOCKET);
        let fail = |e: io::Error| Error::new(format!("open notify socket {path:?}")).because(e);
        // Through the descriptor, because a socket's path may only have 107 bytes.
        let short = format!("/proc/self/fd/{}/{DIRECTORY}/{SOCKET}", directory.as_fd().as_raw_fd());
        let socket = UnixDatagram::bind(&short).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        // Whatever user the container's process is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&short, mode).map_err(fail)?;
        Ok(Notify { socket })
    }

    /// Waits until the container says that it is ready, and tells the service manager at `host`; returns without when
    /// the process of `pidfd` ends first.
    ///
    /// # Errors
    /// The service manager cannot be reached.
    pub fn forward(&self, host: &Path, main_pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        loop {
            let mut fds =
                [PollFd::new(self.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::new("wait for the container to be ready").because(e)),
            }
            let ended = fds[1].any().unwrap_or(false);
            if self.take(host, main_pid)? || ended {
                return Ok(());
            }
        }
    }

    /// Takes what has been said; when it was readiness, tells `host` and returns true.
    ///
    /// # Errors
    /// As [`Notify::forward`].
    pub fn take(&self, host: &Path, main_pid: i32) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let said = buffer[..length].split(|b| *b == b'\n').find(|line| line.starts_with(b"READY="));
            if let Some(ready) = said {
                let fail = |e| Error::new(format!("notify {host:?}")).because(e);
                return tell(host, ready, main_pid).map(|()| true).map_err(fail);
            }
        }
        Ok(false)
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn tell(host: &Path, ready: &[u8], main_pid: i32) -> io::Result<()> {
    let manager = UnixDatagram::unbound()?;
    // An address that begins with @ is an abstract one, sd_notify(3).
    match host.to_str().and_then(|host| host.strip_prefix('@')) {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            manager.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        None => manager.connect(host)?,
    }
    manager.send(&[ready, b"\n"].concat())?;
    manager.send(format!("MAINPID={main_pid}\n").as_bytes())?;
    // sd_notify_barrier(3): the manager closes the pipe when it has read everything before. One that does not know
    // of it keeps it open, and that is no error.
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    sys::message::send(manager.as_fd(), b"BARRIER=1", Some(write.as_fd()))?;
    drop(write);
    poll(&mut [PollFd::new(read.as_fd(), PollFlags::POLLIN)], PollTimeout::from(BARRIER_PATIENCE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_told_with_the_pid_and_a_barrier() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), "web").unwrap();
        make_directory(&directory).unwrap();
        let notify = Notify::open(&directory).unwrap();
        let host = root.path().join("manager");
        let manager = UnixDatagram::bind(&host).unwrap();
        let container = UnixDatagram::unbound().unwrap();
        let inside = directory.path().join(DIRECTORY).join(SOCKET);
        container.send_to(b"STATUS=starting\n", &inside).unwrap();
        assert!(!notify.take(&host, 42).unwrap());
        container.send_to(b"STATUS=done\nREADY=1\nERRNO=0", &inside).unwrap();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            for _ in 0..3 {
                let mut buffer = [0; 64];
                // The descriptor that comes with the barrier is closed unseen.
                let length = manager.recv(&mut buffer).unwrap();
                said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            said
        });
        let own = sys::pidfd::open(1).unwrap();
        notify.forward(&host, 42, own.as_fd()).unwrap();
        assert_eq!(reader.join().unwrap(), ["READY=1\n", "MAINPID=42\n", "BARRIER=1"]);
    }
}
