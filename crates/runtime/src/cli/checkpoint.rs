//! `checkpoint`, and the flags that it shares with `restore`.

use std::path::PathBuf;

use super::flags::{Flag, Parsed};
use super::global::{Global, absolute};
use super::{Command, id_of, invalid};
use crate::criu::{CgroupsMode, Wishes};
use crate::{Error, ErrorKind, lifecycle};

/// Where images are when no flag says so, in the working directory.
const DEFAULT_IMAGES: &str = "checkpoint";

pub(crate) const WORK_PATH: Flag =
    Flag::value("work-path", "path for saving work files and logs (default: that of the images)");
pub(crate) const TCP_ESTABLISHED: Flag = Flag::switch("tcp-established", "allow open tcp connections");
pub(crate) const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "allow external unix sockets");
pub(crate) const SHELL_JOB: Flag = Flag::switch("shell-job", "allow shell jobs");
pub(crate) const FILE_LOCKS: Flag = Flag::switch("file-locks", "handle file locks, for safety");
pub(crate) const MANAGE_CGROUPS: Flag =
    Flag::value("manage-cgroups-mode", "cgroups mode: soft|full|strict|ignore (default: soft)");
pub(crate) const EMPTY_NS: Flag =
    Flag::list("empty-ns", "create a namespace, but don't restore its properties (network)");
pub(crate) const AUTO_DEDUP: Flag = Flag::switch("auto-dedup", "enable auto deduplication of memory images");
pub(crate) const LAZY_PAGES: Flag =
    Flag::switch("lazy-pages", "use userfaultfd to lazily restore memory pages");

pub(crate) const COMMAND: Command = Command {
    name: "checkpoint",
    usage: "checkpoint a running container",
    arguments: "<container-id>\n\n\
        Where \"<container-id>\" is the name for the instance of the container to be checkpointed.",
    description: "The checkpoint command saves the state of the container instance, by means of criu(8). Unless it\n\
        is left running, the container is deleted.",
    flags: &[
        Flag::value("image-path", "path for saving criu image files (default: \"./checkpoint\")"),
        WORK_PATH,
        Flag::value("parent-path", "path of the criu image files of a pre-dump, relative to --image-path"),
        Flag::switch("leave-running", "leave the process running after checkpointing"),
        TCP_ESTABLISHED,
        Flag::switch("tcp-skip-in-flight", "skip in-flight tcp connections"),
        Flag::switch("link-remap", "allow one to link unlinked files back when possible"),
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        Flag::value("status-fd", "\\0 is written to this FD once lazy-pages is ready"),
        Flag::value("page-server", "ADDRESS:PORT of the page server"),
        FILE_LOCKS,
        Flag::switch(
            "pre-dump",
            "dump container's memory information only, leave the container running after this",
        ),
        MANAGE_CGROUPS,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    arity: (1, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let id = id_of(parsed)?;
    let wishes = Wishes {
        parent: parsed.nonempty("parent-path").map(PathBuf::from),
        leave_running: parsed.on("leave-running"),
        tcp_skip_in_flight: parsed.on("tcp-skip-in-flight"),
        link_remap: parsed.on("link-remap"),
        pre_dump: parsed.on("pre-dump"),
        status_fd: status_fd(parsed)?,
        page_server: parsed.text("page-server").map_err(invalid)?.map(page_server).transpose()?,
        ..wishes(parsed)?
    };
    lifecycle::checkpoint(&global.root, &id, &wishes)?;
    if !wishes.leave_running && !wishes.pre_dump {
        // The checkpoint is whole: what is left of the container is no reason to call it a failure.
        // And whoever ran it in the foreground may be deleting it at this moment.
        if let Err(e) = lifecycle::delete(&global.root, &id, false)
            && e.what() != ErrorKind::NotFound
        {
            eprintln!("the container is checkpointed, but not deleted: {e:#}");
        }
    }
    Ok(0)
}

/// What both commands know.
pub(crate) fn wishes(parsed: &Parsed) -> Result<Wishes, Error> {
    for name in parsed.texts("empty-ns").map_err(invalid)? {
        // Which is the only one, and always so: devices are not restored.
        if name != "network" {
            return Err(invalid(format!("namespace {name:?} is not supported")));
        }
    }
    let text = |name| Ok::<_, Error>(parsed.text(name).map_err(invalid)?.map(str::to_owned));
    Ok(Wishes {
        images: absolute(parsed.nonempty("image-path").unwrap_or(DEFAULT_IMAGES.as_ref()).as_ref())?,
        work: parsed.nonempty("work-path").map(|path| absolute(path.as_ref())).transpose()?,
        tcp_established: parsed.on("tcp-established"),
        external_unix_sockets: parsed.on("ext-unix-sk"),
        shell_job: parsed.on("shell-job"),
        file_locks: parsed.on("file-locks"),
        auto_dedup: parsed.on("auto-dedup"),
        lazy_pages: parsed.on("lazy-pages"),
        cgroups: cgroups_mode(parsed.text("manage-cgroups-mode").map_err(invalid)?)?,
        lsm_profile: text("lsm-profile")?,
        lsm_mount_context: text("lsm-mount-context")?,
        ..Wishes::default()
    })
}

fn cgroups_mode(word: Option<&str>) -> Result<CgroupsMode, Error> {
    Ok(match word {
        None => CgroupsMode::Default,
        Some("soft") => CgroupsMode::Soft,
        Some("full") => CgroupsMode::Full,
        Some("strict") => CgroupsMode::Strict,
        Some("ignore") => CgroupsMode::Ignore,
        Some(other) => {
            let known = "soft, full, strict or ignore";
            return Err(invalid(format!("invalid manage-cgroups-mode value {other:?}: it is not {known}")));
        }
    })
}

/// -1 is none, which callers write too.
fn status_fd(parsed: &Parsed) -> Result<Option<i32>, Error> {
    let Some(text) = parsed.text("status-fd").map_err(invalid)? else { return Ok(None) };
    match text.parse::<i32>() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(Some(number)),
        _ => Err(invalid(format!("invalid --status-fd argument {text}"))),
    }
}

/// `ADDRESS:PORT`, with an IPv6 address in brackets.
fn page_server(text: &str) -> Result<(String, u16), Error> {
    let usage = || invalid("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(usage)?;
    let address = match address.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.ok_or_else(usage)?,
        None if address.contains([':', ']']) => return Err(usage()),
        None => address,
    };
    if address.is_empty() || port.is_empty() {
        return Err(usage());
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((address.to_owned(), port)),
        _ => Err(invalid(format!("Invalid port number {port:?} in --page-server"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    fn parsed(args: &[&str]) -> Parsed {
        let args = args.iter().map(Into::into).collect();
        flags::parse(args, &[COMMAND.flags], usize::MAX).unwrap()
    }

    #[test]
    fn page_servers_are_addresses_with_ports() {
        assert_eq!(page_server("0.0.0.0:27277").unwrap(), ("0.0.0.0".to_owned(), 27277));
        assert_eq!(page_server("[::1]:1").unwrap(), ("::1".to_owned(), 1));
        for bad in ["", "x", ":1", "host:", "::1:1", "[::1:1", "h]:1", "host:x", "host:0", "host:65536"] {
            assert!(page_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_become_wishes() {
        let found =
            wishes(&parsed(&["--image-path", "/i/../j", "--shell-job", "--empty-ns", "network", "x"]));
        let found = found.unwrap();
        assert_eq!((found.images.as_path(), found.work), ("/j".as_ref(), None));
        assert!(found.shell_job && !found.file_locks);
        assert_eq!(found.cgroups, CgroupsMode::Default);
        assert!(wishes(&parsed(&[])).unwrap().images.ends_with("checkpoint"));
        for (bad, word) in [("--empty-ns=pid", "pid"), ("--manage-cgroups-mode=hard", "manage-cgroups-mode")]
        {
            assert!(wishes(&parsed(&[bad])).unwrap_err().to_string().contains(word));
        }
        assert_eq!(status_fd(&parsed(&["--status-fd", "-1"])).unwrap(), None);
        assert_eq!(status_fd(&parsed(&["--status-fd=7"])).unwrap(), Some(7));
        assert!(status_fd(&parsed(&["--status-fd", "-2"])).is_err());
    }
}
