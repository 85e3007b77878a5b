//! The init of containers, as a program to be bound into one: `init -- COMMAND [ARGUMENT…]`. Source: init/main.rs.

/// A static executable for this machine; empty on a processor that it is not written for (it is for x86_64 and
/// aarch64).
pub const ELF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output, Stdio};

    fn program() -> std::path::PathBuf {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rcr-init-{}-{count}", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).unwrap();
        file.write_all(super::ELF).unwrap();
        drop(file);
        assert!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o100 != 0);
        path
    }

    fn init(args: &[&str]) -> Output {
        let path = program();
        // A child of another test may still have the file open for writing (ETXTBSY) until it has executed.
        let output = loop {
            match Command::new(&path).arg("--").args(args).output() {
                Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) => {}
                result => break result.unwrap(),
            }
        };
        std::fs::remove_file(&path).unwrap();
        output
    }

    #[test]
    fn ends_as_its_command_ends() {
        assert!(super::ELF.len() < 16 << 10, "{} bytes", super::ELF.len());
        let output = init(&["sh", "-c", "echo out; echo $0 \"$@\" >&2; exit 7", "zero", "a b", ""]);
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"zero a b \n"[..])
        );
        assert_eq!(init(&["/bin/sh", "-c", "kill -USR1 $$"]).status.code(), Some(128 + libc::SIGUSR1));
    }

    #[test]
    fn commands_that_cannot_run() {
        for (command, code, said) in [
            ("no-such-command", 127, "rcr-init: exec no-such-command: not found\n"),
            ("/no/such/file", 127, "rcr-init: exec /no/such/file: not found\n"),
            ("/etc/passwd", 126, "rcr-init: exec /etc/passwd: cannot be executed\n"),
            ("/etc", 126, "rcr-init: exec /etc: cannot be executed\n"),
            ("", 127, "rcr-init: exec : not found\n"),
        ] {
            let output = init(&[command]);
            assert_eq!(output.status.code(), Some(code), "{command}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), said);
        }
    }

    #[test]
    fn passes_signals_on() {
        let path = program();
        let mut command = Command::new(&path);
        command.args(["--", "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let pidfd = crate::pidfd::open(i32::try_from(child.id()).unwrap()).unwrap();
        crate::pidfd::signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((status.code(), status.signal()), (Some(3), None));
    }
}
