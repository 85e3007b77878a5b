//! checkpoint: stores a container's processes as files, by criu.

use std::ffi::OsString;
use std::fs::{read_dir, read_link, symlink_metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::create::CONFIG;
use super::directory::{Directory, no_such_container};
use super::kill::open_init;
use super::record::Record;
use crate::args::Args;
use crate::cgroup::MountOptions;
use crate::criu::{self, Criu, Feature, Images, Kind, Wishes};
use crate::host::Host;
use crate::{Error, ErrorKind, Status, plan, spec};

/// How long the init may take to be dead after its checkpoint, in milliseconds.
const PATIENCE: u16 = 10_000;

/// Stores the processes of a running or paused container in `wishes.images`. Unless they are left running they are dead
/// then, and the rest of the container is [`super::delete`]'s to remove.
///
/// # Errors
/// [`ErrorKind::State`] unless it runs; no criu, or one that cannot do what is wished; what criu says, with its log's
/// path. The container goes on then.
pub fn checkpoint(root: &Path, id: &str, wishes: &Wishes) -> Result<(), Error> {
    criu::require_root("checkpoint")?;
    let directory = Directory::open(root, id)?;
    let _lock = directory.lock()?;
    let record = Record::read(&directory)?;
    match record.status(&directory)? {
        Status::Running | Status::Paused => {}
        status => {
            let message = format!("container cannot be checkpointed in {status} state");
            return Err(Error::new(message).kind(ErrorKind::State));
        }
    }
    criu::require(criu::OLDEST, "checkpoint")?;
    if wishes.pre_dump {
        criu::require_feature(Feature::MemTrack)?;
    }
    if wishes.lazy_pages {
        criu::require_feature(Feature::LazyPages)?;
    }
    // While this is open and the process lives, its number is nobody else's.
    let init = open_init(&record)?;
    let images = Images::for_dump(wishes)?;
    dump(&directory, &record, wishes, &images)?;
    if wishes.pre_dump || wishes.leave_running {
        return Ok(());
    }
    match poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE)) {
        Ok(0) => Err(Error::new("the container is checkpointed, but its init does not die")),
        // It is not this process's child: a signal is no reason to wait again.
        _ => Ok(()),
    }
}

fn dump(directory: &Directory, record: &Record, wishes: &Wishes, images: &Images) -> Result<(), Error> {
    let json = directory.read(CONFIG)?.ok_or_else(no_such_container)?;
    let spec = spec::parse(&json)?;
    criu::check_mounts(&spec)?;
    let args = Args { id: record.id.clone(), bundle: PathBuf::from(&record.bundle), ..Args::default() };
    let host = Host::detect()?;
    let made = plan::create(&spec, &host, &args)?;
    let pid = record.init_process_pid;
    let fail = |e: Errno| Error::new(format!("open the root of process {pid}")).because(e);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty()).map_err(fail)?;
    let mut namespaces = Vec::new();
    for shared in criu::namespaces(&spec)?.into_iter().filter(|shared| shared.external) {
        // Its own word for it, since the path may be gone.
        let path = format!("/proc/{pid}/ns/{}", shared.kind);
        let stat = std::fs::metadata(&path).map_err(|e| Error::new(format!("stat {path}")).because(e))?;
        namespaces.push((shared.kind, stat.ino()));
    }
    let paths = &record.cgroup_paths;
    let container = criu::Running {
        pid,
        rootfs: Path::new(&record.rootfs),
        freezer: paths.get("freezer").or_else(|| paths.get("")).map(PathBuf::as_path),
        config: record.annotations.get(criu::CONFIG_ANNOTATION).map(String::as_str),
        mounts: &criu::keys(&criu::mounts(&made), &mut |mount| criu::place_in(root.as_fd(), mount))?,
        namespaces: &namespaces,
    };
    let options = criu::dump(wishes, images.places(), &container);
    if !wishes.pre_dump {
        images.write_descriptors(&streams(record)?)?;
    }
    let kind = if wishes.pre_dump { Kind::PreDump } else { Kind::Dump };
    options.to_string().lines().for_each(|line| tracing::debug!("criu {kind}: {line}"));
    let mut status = wishes.status_fd.map(take_status).transpose()?;
    let mut criu = Criu::alone()?;
    let cgroup2 = MountOptions::read(&host.cgroups);
    let response = criu.ask(&criu::request(kind, Some(&options), None), &mut |notification, _| {
        if notification.is("status-ready")
            && let Some(status) = status.take()
        {
            // Whoever asked may have gone; the checkpoint is not the worse for it.
            let _ = nix::unistd::write(&status, &[0]);
        }
        Ok(())
    });
    // With the checkpoint itself nothing is wrong then.
    let kept = cgroup2.map_or(Ok(()), |options| options.keep());
    let response = response?;
    if let Err(e) = kept {
        tracing::warn!("{e:#}");
    }
    if !response.success {
        return Err(criu::failure(kind, &response, criu.said(), Some((images, criu::DUMP_LOG))));
    }
    // After a pre-dump criu waits for the next one, and calls it a failure that there is none.
    let ended_well = criu.end()?;
    if ended_well || wishes.pre_dump {
        return Ok(());
    }
    Err(criu::failure(kind, &response, None, Some((images, criu::DUMP_LOG))))
}

/// What the standard streams of the init are, as the kernel names them. A pipe between processes of the container is
/// left out: it is theirs, and comes back with them. (runc stores what they were at the start. This costs the start
/// nothing.)
fn streams(record: &Record) -> Result<[OsString; 3], Error> {
    let pid = record.init_process_pid;
    let fds = PathBuf::from(format!("/proc/{pid}/fd"));
    let mut streams: [OsString; 3] = std::array::from_fn(|number| {
        read_link(fds.join(number.to_string())).map(PathBuf::into_os_string).unwrap_or_default()
    });
    let pipe = |name: &OsString| name.to_str().is_some_and(criu::is_pipe);
    if !streams.iter().any(pipe) {
        return Ok(streams);
    }
    for process in record.cgroup()?.pids()? {
        // It may end at any moment.
        for entry in read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = read_link(entry.path()).map(PathBuf::into_os_string) else { continue };
            let Ok(mode) = symlink_metadata(entry.path()).map(|m| m.permissions().mode()) else { continue };
            // proc_pid_fd(5): the permissions of the link are the modes of the open file.
            for (number, stream) in streams.iter_mut().enumerate() {
                let other_end = if number == 0 { 0o200 } else { 0o400 };
                if *stream == target && pipe(stream) && mode & other_end != 0 {
                    *stream = OsString::new();
                }
            }
        }
    }
    Ok(streams)
}

/// Takes over the descriptor that `--status-fd` names: it is closed when the pages are ready, and criu does not get it.
fn take_status(number: i32) -> Result<std::os::fd::OwnedFd, Error> {
    let refuse = |why: &str| {
        Error::new(format!("invalid --status-fd argument {number}{why}")).kind(ErrorKind::Invalid)
    };
    let own = sys::pidfd::open(nix::unistd::getpid().as_raw()).map_err(|e| refuse("").because(e))?;
    let copy = sys::pidfd::getfd(own.as_fd(), number).map_err(|e| refuse("").because(e))?;
    let flags = nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_GETFL).map_err(|e| refuse("").because(e))?;
    if OFlag::from_bits_truncate(flags & OFlag::O_ACCMODE.bits()) == OFlag::O_RDONLY {
        return Err(refuse(": not writable"));
    }
    if number > 2 {
        nix::unistd::close(number).map_err(|e| refuse("").because(e))?;
    }
    Ok(copy)
}
