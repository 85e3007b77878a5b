//! How plans and steps read: in errors, in the debug log, in the dry run and in the golden files.

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};

use sys::mount::{SetAttr, attr, propagation};

use super::capability::names as capabilities;
use super::namespace::{name, names};
use super::{
    Barrier, Bind, Device, IdMapping, IdMaps, Mount, Open, Plan, Propagation, Range, RootSource, Source,
    Step, Tree,
};
use crate::devices::USUAL;
use crate::resctrl::Entry;

fn text(bytes: &CStr) -> std::borrow::Cow<'_, str> {
    bytes.to_string_lossy()
}

fn attributes(set: u64) -> Vec<&'static str> {
    let mut words = Vec::new();
    for (bit, word) in [
        (attr::RDONLY, "ro"),
        (attr::NOSUID, "nosuid"),
        (attr::NODEV, "nodev"),
        (attr::NOEXEC, "noexec"),
        (attr::NODIRATIME, "nodiratime"),
        (attr::NOSYMFOLLOW, "nosymfollow"),
    ] {
        if set & bit != 0 {
            words.push(word);
        }
    }
    match set & attr::ATIME_MASK {
        attr::NOATIME => words.push("noatime"),
        attr::STRICTATIME => words.push("strictatime"),
        _ => {}
    }
    words
}

fn parenthesised(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(",")) }
}

fn propagation_word(change: Propagation) -> String {
    let word = match change.kind {
        propagation::SHARED => "shared",
        propagation::SLAVE => "slave",
        propagation::PRIVATE => "private",
        _ => "unbindable",
    };
    format!("{}{word}", if change.recursive { "r" } else { "" })
}

fn recursive_words(change: SetAttr) -> Vec<String> {
    let set = attributes(change.set).into_iter().map(|word| format!("r{word}"));
    let cleared = attributes(change.clear & !attr::ATIME_MASK & !change.set)
        .into_iter()
        .map(|word| format!("no r{word}"));
    let relative = change.clear & attr::ATIME_MASK != 0 && change.set & attr::ATIME_MASK == 0;
    set.chain(cleared).chain(relative.then(|| "rrelatime".to_owned())).collect()
}

impl Display for Barrier {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Barrier::IdMap => "id maps",
            Barrier::Cgroup => "cgroup",
            Barrier::NetDevices => "network devices",
            Barrier::RuntimeHooks => "createRuntime hooks",
            Barrier::ContainerHooks => "createContainer hooks",
            Barrier::SeccompFd => "seccomp listener",
            Barrier::Ready => "ready",
        })
    }
}

impl Display for Mount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = attributes(self.attr).into_iter().map(str::to_owned).collect();
        for (key, value) in &self.options {
            words.push(match value {
                Some(value) => format!("{}={}", text(key), text(value)),
                None if words.iter().any(|w| *w == text(key)) => continue,
                None => text(key).into_owned(),
            });
        }
        words.extend(self.propagation.iter().copied().map(propagation_word));
        if self.copy_up {
            words.push("tmpcopyup".to_owned());
        }
        let (fstype, path) = (text(&self.fstype), text(&self.target.path));
        write!(f, "{fstype} on {path}{}", parenthesised(&words))?;
        match &self.instead {
            Some(path) => write!(f, ", else bind {}", text(path)),
            None => Ok(()),
        }
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) | Source::Opened(_, path) => f.write_str(&text(path)),
            Source::Either(first, second) => write!(f, "{} (or else {})", text(first), text(second)),
            Source::Inside(path) => write!(f, "the root's {}", text(path)),
            Source::InsideByParent(tree) => write!(f, "the root's {} (opened by the parent)", tree.words()),
        }
    }
}

impl Display for Bind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        if self.recursive {
            words.push("rbind".to_owned());
        }
        if let Some(wanted) = self.attr {
            words.extend(attributes(wanted.set).into_iter().map(str::to_owned));
            words.extend(attributes(wanted.clear).into_iter().map(|word| format!("no {word}")));
        }
        words.extend(self.recursive_attr.map(recursive_words).unwrap_or_default());
        words.extend(self.propagation.iter().copied().map(propagation_word));
        write!(f, "{} on {}{}", self.source, text(&self.target.path), parenthesised(&words))
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = text(&self.path);
        if self.bind.is_some() {
            return write!(f, "{path} from the host's");
        }
        let kind = match self.mode & 0o170_000 {
            0o060_000 => 'b',
            0o010_000 => 'p',
            _ => 'c',
        };
        let (major, minor) = self.number;
        write!(f, "{path} ({kind} {major}:{minor}, mode {:04o}", self.mode & 0o7777)?;
        match self.owner {
            (0, 0) => f.write_str(")"),
            (uid, gid) => write!(f, ", owner {uid}:{gid})"),
        }
    }
}

impl Display for Step {
    #[allow(clippy::too_many_lines)] // a table
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::TakeTrees(slots) => write!(f, "take {} mounts that the parent opens", slots.len()),
            Step::Barrier(barrier) => write!(f, "wait for the parent: {barrier}"),
            Step::Undumpable => f.write_str("become undumpable"),
            Step::JoinCgroups => f.write_str("join cgroups"),
            Step::Session => f.write_str("start a session"),
            Step::Join(kind, _, path) => write!(f, "join {} namespace {}", name(*kind), text(path)),
            Step::JoinProcess(kinds, _, pid) => {
                write!(f, "join {} namespace of process {pid}", names(*kinds))
            }
            Step::EnterRoot(_, pid) => write!(f, "enter the root of process {pid}"),
            Step::BecomeRoot => f.write_str("become root of the user namespace"),
            Step::Keyring(name, _) => write!(f, "join session keyring {}", text(name)),
            Step::Loopback => f.write_str("bring up lo"),
            Step::TimeOffsets(offsets) => {
                write!(f, "create time namespace ({})", text(offsets).trim_end().replace('\n', ", "))
            }
            Step::Create(kinds) => write!(f, "create {} namespace", names(*kinds)),
            Step::Proc { own: true } => f.write_str("open an own procfs"),
            Step::Proc { own: false } => f.write_str("open the host's procfs"),
            Step::Propagate(change) => write!(f, "make all mounts {}", propagation_word(*change)),
            Step::PropagateParent(change, paths) => {
                let path = paths.first().map_or("".into(), |p| text(p));
                write!(f, "make the mount above {path} {}", propagation_word(*change))
            }
            Step::Root(root) => {
                let path = text(&root.path);
                match root.source {
                    RootSource::Path => write!(f, "bind root file system {path}"),
                    RootSource::Opened(_) => write!(f, "attach root file system {path}"),
                    RootSource::Given => write!(f, "attach the given root file system at {path}"),
                }?;
                f.write_str(if root.slave { " (slave)" } else { "" })
            }
            Step::MountPoint(place) => write!(f, "make mount point {}", text(&place.path)),
            Step::Mount(mount) => write!(f, "mount {mount}"),
            Step::Bind(bind) => write!(f, "bind {bind}"),
            Step::Remount(mount) => write!(f, "remount {mount}"),
            Step::Device(device) => write!(f, "make device {device}"),
            Step::Link { to, at, .. } => write!(f, "link {} -> {}", text(at), text(to)),
            Step::PivotRoot { .. } => f.write_str("pivot_root"),
            Step::MoveRoot { .. } => f.write_str("move the root and chroot"),
            Step::Detach(path) => write!(f, "unmount {}", text(path)),
            Step::Chroot => f.write_str("chroot"),
            Step::RootPropagation(change) => write!(f, "make / {}", propagation_word(*change)),
            Step::ReopenNull => f.write_str("take /dev/null from the container"),
            Step::MakeDirectory(path) => write!(f, "make directory {}", text(path)),
            Step::Terminal(terminal) => match terminal.size {
                Some((rows, columns)) => write!(f, "make a terminal of {rows} rows, {columns} columns"),
                None => f.write_str("make a terminal"),
            },
            Step::ReadOnlyMount(path) => write!(f, "make {} read-only", text(path)),
            Step::ReadOnlyRoot => f.write_str("make / read-only"),
            Step::Umask(mask) => write!(f, "umask {mask:04o}"),
            Step::HostName(name) => write!(f, "set hostname {}", text(name)),
            Step::DomainName(name) => write!(f, "set domainname {}", text(name)),
            Step::Sysctl(path, value) => write!(f, "set sysctl {} = {}", text(path), text(value)),
            Step::ReadOnlyPath(path) => write!(f, "protect {}", text(path)),
            Step::Mask(path) => write!(f, "mask {}", text(path)),
            Step::AppArmor(profile) => write!(f, "set apparmor profile {}", text(profile)),
            Step::SelinuxLabel(label) => write!(f, "set selinux label {}", text(label)),
            Step::SelinuxKeyLabel(label) => write!(f, "set selinux label {} for keys", text(label)),
            Step::NoNewPrivileges => f.write_str("set no_new_privs"),
            Step::Scheduling(s) => {
                write!(f, "set scheduler (policy {}, nice {}, priority {}", s.policy, s.nice, s.priority)?;
                if s.flags != 0 {
                    write!(f, ", flags {:#x}", s.flags)?;
                }
                let deadline = [s.runtime, s.deadline, s.period];
                if deadline != [0; 3] {
                    write!(f, ", runtime {} deadline {} period {}", s.runtime, s.deadline, s.period)?;
                }
                f.write_str(")")
            }
            Step::IoPriority(p) => write!(f, "set io priority (class {}, {})", p >> 13, p & 0x1fff),
            Step::Personality(persona) => write!(f, "set personality {persona:#x}"),
            Step::MemoryPolicy(mode, nodes) => write!(f, "set memory policy {mode:#x} on nodes {nodes:x?}"),
            Step::Affinity(cpus) => write!(f, "set cpu affinity {cpus:x?}"),
            Step::EveryCpu => f.write_str("run on every cpu"),
            Step::Seccomp => f.write_str("load seccomp filter"),
            Step::CloseOnExec(first) => write!(f, "close descriptors from {first} on at exec"),
            Step::Close(first) => write!(f, "close descriptors from {first} on"),
            Step::Keep => f.write_str("keep the given descriptors open"),
            Step::StdioOwner(uid) => write!(f, "give the standard streams to user {uid}"),
            Step::Home(uid) => write!(f, "look up HOME of user {uid}"),
            Step::Directory(path) => write!(f, "chdir to cwd ({:?}) set in config.json", text(path)),
            Step::DirectoryAsUser(path) => {
                write!(f, "chdir to cwd ({:?}) set in config.json, as the user", text(path))
            }
            Step::CheckDirectory => f.write_str("check the working directory"),
            Step::Bounding(keep) => write!(f, "limit capabilities to {}", capabilities(*keep)),
            Step::Become(identity) => {
                write!(f, "become user {}, group {}", identity.uid, identity.gid)?;
                if identity.groups.is_empty() { Ok(()) } else { write!(f, ", groups {:?}", identity.groups) }
            }
            Step::Capabilities(sets) => {
                let [e, p, i] = [sets.effective, sets.permitted, sets.inheritable].map(capabilities);
                if e == p {
                    write!(f, "set capabilities (permitted and effective {p}; inheritable {i})")
                } else {
                    write!(f, "set capabilities (permitted {p}; effective {e}; inheritable {i})")
                }
            }
            Step::Ambient(set) => write!(f, "set ambient capabilities {}", capabilities(*set)),
            Step::DeathSignal(signal) => write!(f, "get signal {signal} when the parent dies"),
            Step::Find(candidates) => {
                let paths: Vec<_> = candidates.iter().map(|path| text(path)).collect();
                write!(
                    f,
                    "find {}",
                    if paths.is_empty() { "nothing: no PATH".into() } else { paths.join(", ") }
                )
            }
            Step::AwaitStart => f.write_str("wait for start"),
            Step::Exec => f.write_str("exec"),
        }
    }
}

fn write_ranges(f: &mut Formatter<'_>, what: &str, ranges: &[Range]) -> fmt::Result {
    let ranges: Vec<_> = ranges.iter().map(|r| format!("{} {} {}", r.inside, r.outside, r.size)).collect();
    writeln!(f, "{what}: {}", ranges.join(", "))
}

impl Tree {
    /// Its path, and how owners are shown.
    fn words(&self) -> String {
        let path = text(&self.path);
        match &self.id_maps {
            None => path.into_owned(),
            Some((IdMapping::Namespace(namespace), _)) => format!("{path}, id-mapped as {}", text(namespace)),
            Some((IdMapping::Ranges(map), _)) => {
                format!("{path}, id-mapped ({} uid, {} gid ranges)", map.uid.len(), map.gid.len())
            }
        }
    }
}

impl Display for Tree {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}mount of {}", if self.recursive { "recursive " } else { "" }, self.words())
    }
}

impl Display for Open {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Open::Namespace { kind, path, index, .. } => {
                write!(f, "{} namespace linux.namespaces[{index}].path {}", name(*kind), text(path))
            }
            Open::Process(pid) => write!(f, "process {pid}"),
            Open::ProcessRoot(pid) => write!(f, "root of process {pid}"),
            Open::Tree(tree) => write!(f, "{tree}"),
            Open::Late(tree) => write!(f, "{tree}, in the process's mount namespace"),
        }
    }
}

impl Display for IdMaps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_ranges(f, "  uid map", &self.map.uid)?;
        write_ranges(f, "  gid map", &self.map.gid)?;
        if self.helpers {
            writeln!(f, "  by newuidmap and newgidmap")?;
        }
        if self.deny_setgroups {
            writeln!(f, "  setgroups: deny")?;
        }
        Ok(())
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let how = if self.must_exist { "existing " } else { "" };
        write!(f, "join {how}resctrl group {}", self.group.dir.display())?;
        if !self.schemata.is_empty() {
            write!(f, " ({})", self.schemata.join(", "))?;
        }
        match &self.group.monitor {
            Some(monitor) => write!(f, ", monitored by {}", monitor.display()),
            None => Ok(()),
        }
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        writeln!(f, "parent")?;
        for open in &self.opens {
            writeln!(f, "  open {open}")?;
        }
        if let Some(cpus) = &self.start_on {
            writeln!(f, "  clone on cpus {cpus:x?}")?;
        }
        if let Some(slot) = self.pid_namespace {
            writeln!(f, "  clone into pid namespace of {}", self.opens[slot])?;
        }
        if self.clone_flags != 0 {
            writeln!(f, "  clone with new namespaces: {}", names(self.clone_flags))?;
        }
        if let Some(maps) = &self.id_maps {
            write!(f, "{maps}")?;
        }
        if let Some(uid) = self.cgroup_owner {
            writeln!(f, "  give the cgroup to user {uid}")?;
        }
        for file in &self.cgroup_files {
            writeln!(f, "  write {file}")?;
        }
        if !self.device_rules.is_empty() {
            let own = &self.device_rules[..self.device_rules.len().saturating_sub(USUAL)];
            let own: String = own.iter().map(|rule| format!("{rule}, ")).collect();
            writeln!(f, "  device rules: {own}allow what every container may use")?;
        }
        if let Some(score) = self.oom_score_adj {
            writeln!(f, "  oom_score_adj {score}")?;
        }
        for limit in &self.limits {
            writeln!(f, "  limit {} {} {}", limit.name, limit.soft, limit.hard)?;
        }
        for device in &self.net_devices {
            write!(f, "  move network device {}", device.name)?;
            match &device.new_name {
                Some(name) => writeln!(f, ", as {name}")?,
                None => writeln!(f)?,
            }
        }
        if let Some(entry) = &self.resctrl {
            writeln!(f, "  {entry}")?;
        }
        if !self.trampoline.is_empty() {
            writeln!(f, "intermediate process")?;
        }
        let mut number = 0;
        for step in &self.trampoline {
            writeln!(f, "{number:3}  {step}")?;
            number += 1;
        }
        writeln!(f, "process")?;
        for step in &self.steps {
            writeln!(f, "{number:3}  {step}")?;
            number += 1;
        }
        let args: Vec<_> = self.args.iter().map(|arg| format!("{:?}", text(arg))).collect();
        writeln!(f, "     args {}", args.join(" "))?;
        let env: Vec<_> = self.env.iter().map(|entry| format!("{:?}", text(entry))).collect();
        writeln!(f, "     env {}", env.join(" "))
    }
}
