//! From `root`, `hostname`, masked and read-only paths, and propagation to steps.

use std::path::{Path, PathBuf};

use oci::runtime::Process;
use sys::clone::namespace::{MOUNT, UTS};
use sys::mount::propagation;

use super::mount::clean;
use super::option::propagation_word;
use super::{Planner, Propagation, Root, RootSource, Step, Terminal, Tree, c_string, invalid};
use crate::Error;

impl Planner<'_> {
    /// The root file system's path on the host.
    pub(super) fn root_path(&self) -> Result<PathBuf, Error> {
        let root = self.spec.root().as_ref().ok_or_else(|| invalid("root", "must be specified"))?;
        if root.path().as_os_str().is_empty() {
            return Err(invalid("root.path", "must not be empty"));
        }
        Ok(clean(&self.args.bundle.join(root.path())))
    }

    /// `linux.rootfsPropagation`.
    fn root_propagation(&self) -> Result<Option<Propagation>, Error> {
        let word = self.spec.linux().as_ref().and_then(|l| l.rootfs_propagation().as_deref());
        let Some(word) = word.filter(|w| !w.is_empty()) else { return Ok(None) };
        let at = "linux.rootfsPropagation";
        let change =
            propagation_word(word).ok_or_else(|| invalid(at, format!("{word:?} is not supported")))?;
        if self.args.no_pivot && change.kind == propagation::PRIVATE {
            return Err(invalid(at, "of [r]private is not safe without pivot_root"));
        }
        Ok(Some(change))
    }

    /// Cuts the child's mounts off from the host's and attaches the root file system.
    pub(super) fn begin_root(&mut self) -> Result<(), Error> {
        let path = self.root_path()?;
        let at = c_string("root.path", path.as_os_str())?;
        let slave = Propagation { kind: propagation::SLAVE, recursive: true };
        let wanted = self.root_propagation()?;
        let change = wanted.unwrap_or(slave);
        // Only who asks for it gets the host's later mounts in the root itself, as in runc.
        let slave = wanted.is_some_and(|change| change.kind == propagation::SLAVE);
        // In the host's own mount namespace nothing but the container's directory may be touched.
        if self.namespaces.has(MOUNT) {
            self.steps.push(Step::Propagate(change));
            self.tree_propagation = Some(change);
            if !change.recursive || !matches!(change.kind, propagation::SLAVE | propagation::PRIVATE) {
                let above: Result<_, _> =
                    path.ancestors().map(|p| c_string("root.path", p.as_os_str())).collect();
                let kind = if slave { propagation::SLAVE } else { propagation::PRIVATE };
                self.steps.push(Step::PropagateParent(Propagation { kind, recursive: false }, above?));
            }
        }
        let source = if self.args.rootfs_given {
            RootSource::Given
        } else if self.parent_opens() {
            let tree =
                Tree { path: at.clone(), recursive: true, propagation: self.tree_propagation, id_maps: None };
            RootSource::Opened(self.open_tree(tree))
        } else {
            RootSource::Path
        };
        // The root of a user namespace may not get to the place, as its directories are for the host's root alone; nothing
        // is seen of it once the root is entered.
        let at = if self.args.rootfs_given && self.parent_opens() { c"/".to_owned() } else { at };
        self.steps.push(Step::Root(Root { path: at, source, slave }));
        Ok(())
    }

    /// Makes the root file system `/`.
    pub(super) fn enter_root(&mut self, process: &Process) -> Result<(), Error> {
        let change = self.root_propagation()?;
        if !self.namespaces.has(MOUNT) {
            self.steps.push(Step::Chroot);
        } else if self.args.no_pivot {
            let root = self.root_path()?;
            let outside = self.host.pseudo_mounts.iter().filter(|path| !path.starts_with(&root));
            let cover =
                outside.map(|path| c_string("root.path", path.as_os_str())).collect::<Result<_, _>>()?;
            self.steps.push(Step::MoveRoot { cover });
        } else {
            let shared = change.is_some_and(|c| {
                !c.recursive || !matches!(c.kind, propagation::SLAVE | propagation::PRIVATE)
            });
            self.steps.push(Step::PivotRoot { shared });
        }
        // Private and slave it has been since it was attached.
        if let Some(change) = change.filter(|c| !matches!(c.kind, propagation::SLAVE | propagation::PRIVATE))
        {
            self.steps.push(Step::RootPropagation(change));
        }
        if self.sets_up_dev() {
            self.steps.push(Step::ReopenNull);
        }
        let cwd = self.cwd(process)?;
        if cwd != Path::new("/") {
            self.steps.push(Step::MakeDirectory(c_string("process.cwd", cwd.as_os_str())?));
        }
        Ok(())
    }

    /// `process.cwd`.
    pub(super) fn cwd(&self, process: &Process) -> Result<PathBuf, Error> {
        let cwd = process.cwd();
        if cwd.as_os_str().is_empty() {
            return Err(invalid("process.cwd", "Cwd property must not be empty"));
        }
        if !cwd.is_absolute() {
            return Err(invalid("process.cwd", format!("Cwd must be an absolute path, not {cwd:?}")));
        }
        Ok(clean(cwd))
    }

    /// `process.terminal`.
    pub(super) fn terminal(&mut self, process: &Process, console: bool) {
        if process.terminal() != Some(true) {
            return;
        }
        let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let size = process.console_size().map(|size| (cells(size.height()), cells(size.width())));
        let size = size.filter(|size| *size != (0, 0));
        self.steps.push(Step::Terminal(Terminal { size, console }));
    }

    /// What had to wait until everything inside was made.
    pub(super) fn finish_root(&mut self, process: &Process) -> Result<(), Error> {
        let later = std::mem::take(&mut self.read_only_later);
        self.steps.extend(later.into_iter().map(Step::ReadOnlyMount));
        if self.spec.root().as_ref().and_then(|r| r.readonly()) == Some(true) {
            self.steps.push(Step::ReadOnlyRoot);
        }
        self.umask(process);
        Ok(())
    }

    pub(super) fn umask(&mut self, process: &Process) {
        let own = self.spec.process().as_ref().and_then(|p| p.user().umask());
        self.steps.push(Step::Umask(process.user().umask().or(own).unwrap_or(0o022)));
    }

    pub(super) fn names(&mut self) -> Result<(), Error> {
        type Make = fn(std::ffi::CString) -> Step;
        let wanted: [(&str, &Option<String>, Make); 2] = [
            ("hostname", self.spec.hostname(), Step::HostName),
            ("domainname", self.spec.domainname(), Step::DomainName),
        ];
        for (at, name, step) in wanted {
            let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
            if !self.namespaces.has(UTS) {
                return Err(invalid(at, format!("unable to set {at} without a private UTS namespace")));
            }
            // __NEW_UTS_LEN of linux/utsname.h.
            if name.len() > 64 {
                return Err(invalid(at, "is longer than 64 bytes"));
            }
            self.steps.push(step(c_string(at, name)?));
        }
        Ok(())
    }

    /// `linux.readonlyPaths` and `linux.maskedPaths`.
    pub(super) fn protect_paths(&mut self) -> Result<(), Error> {
        let Some(linux) = self.spec.linux() else { return Ok(()) };
        type Make = fn(std::ffi::CString) -> Step;
        let lists: [(&str, &Option<Vec<String>>, Make); 2] = [
            ("linux.readonlyPaths", linux.readonly_paths(), Step::ReadOnlyPath),
            ("linux.maskedPaths", linux.masked_paths(), Step::Mask),
        ];
        for (at, paths, step) in lists {
            let mut seen: Vec<PathBuf> = Vec::new();
            for (index, path) in paths.iter().flatten().enumerate() {
                let at = format!("{at}[{index}]");
                if !self.namespaces.has(MOUNT) {
                    return Err(invalid(
                        at,
                        "unable to restrict sys entries without a private MNT namespace",
                    ));
                }
                if !path.starts_with('/') {
                    return Err(invalid(at, format!("{path:?} is not absolute")));
                }
                let path = clean(Path::new(path));
                if path == Path::new("/") {
                    return Err(invalid(at, "is the root"));
                }
                if !seen.contains(&path) {
                    self.steps.push(step(c_string(&at, path.as_os_str())?));
                    seen.push(path);
                }
            }
        }
        self.plan.mount_label =
            self.mount_label.as_deref().map(|label| c_string("linux.mountLabel", label)).transpose()?;
        Ok(())
    }
}
