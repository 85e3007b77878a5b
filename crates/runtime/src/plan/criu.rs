//! Plans of a process that is criu: it runs here, or, to restore a container, in a mount namespace of its own.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use sys::clone::namespace::MOUNT;
use sys::mount::propagation;

use super::{Bind, OnProc, Open, Place, Plan, Propagation, Root, RootSource, Source, Step, Tree, c_string};
use crate::{Error, seal};

/// Plans `criu swrk SOCKET` ("service worker": criu takes its orders from a socket it inherits), found in `$PATH` of
/// the environment `env`.
///
/// # Errors
/// A variable or path that contains a NUL.
pub(crate) fn criu(
    socket: i32,
    env: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut candidates = Vec::new();
    for (name, value) in env.filter(|(name, _)| name != seal::MARK) {
        if name == "PATH" {
            // An empty one is the working directory, where no program of root's should come from.
            for dir in std::env::split_paths(&value).filter(|dir| dir.is_absolute()) {
                candidates.push(c_string("PATH", dir.join("criu"))?);
            }
        }
        plan.env.push(c_string(
            "environment",
            OsStr::from_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat()),
        )?);
    }
    plan.args = vec![c"criu".to_owned(), c"swrk".to_owned(), c_string("socket", socket.to_string())?];
    plan.steps =
        vec![Step::Umask(0o022), Step::CloseOnExec(3), Step::Keep, Step::Find(candidates), Step::Exec];
    Ok(plan)
}

/// Plans the same in the container's cgroup and a mount namespace where the root file system `rootfs` is attached at
/// `place`, because criu wants it to be a mount point that is not covered. Mount points of the container that `made`,
/// the plan it was made by, would make are made before.
///
/// # Errors
/// As [`criu`].
pub(crate) fn criu_in(place: &Path, rootfs: &Path, made: &Plan, criu: Plan) -> Result<Plan, Error> {
    let slave = Propagation { kind: propagation::SLAVE, recursive: true };
    let place = c_string("root.path", place.as_os_str())?;
    let tree = Tree {
        path: c_string("root.path", rootfs.as_os_str())?,
        recursive: true,
        propagation: Some(slave),
        id_maps: None,
    };
    let mut plan = Plan { clone_flags: MOUNT, ..criu };
    let mut attach = || {
        plan.opens.push(Open::Tree(tree.clone()));
        let source = RootSource::Opened(plan.opens.len() - 1);
        Step::Root(Root { path: place.clone(), source, slave: false })
    };
    let mut steps = vec![Step::JoinCgroups, Step::Propagate(slave), attach()];
    steps.extend(mount_points(made));
    // What was bound to make mount points in it is criu's to bind.
    steps.extend([Step::Detach(place.clone()), attach()]);
    steps.append(&mut plan.steps);
    Ok(Plan { steps, ..plan })
}

/// The steps that make the mount points of a container: those of binds by binding, because others may lie in them.
fn mount_points(made: &Plan) -> Vec<Step> {
    let mut covered: Vec<&CStr> = Vec::new();
    let mut steps = Vec::new();
    for step in &made.steps {
        let place = match step {
            Step::Mount(mount) => &mount.target.path,
            Step::Bind(bind) => &bind.target.path,
            Step::Device(device) => &device.path,
            _ => continue,
        };
        // What is below a file system of the container's own comes back with it.
        let below = covered.iter().any(|top| is_below(place, top));
        if let Step::Mount(mount) = step {
            covered.push(&mount.target.path);
        }
        if below {
            continue;
        }
        match step {
            Step::Mount(mount) => steps.push(Step::MountPoint(mount.target.clone())),
            Step::Bind(bind) => steps.push(plain_bind(&bind.source, bind.target.clone())),
            Step::Device(device) => {
                let target = Place { path: device.path.clone(), proc: OnProc::Refuse, no_link: false };
                steps.extend(device.bind.as_ref().map(|source| plain_bind(source, target)));
            }
            _ => {}
        }
    }
    steps
}

fn plain_bind(source: &Source, target: Place) -> Step {
    let source = match source {
        Source::Path(path) | Source::Either(path, _) | Source::Opened(_, path) => Source::Path(path.clone()),
        Source::Inside(path) => Source::Inside(path.clone()),
        Source::InsideByParent(tree) => Source::Inside(tree.path.clone()),
    };
    Step::Bind(Box::new(Bind {
        source,
        recursive: true,
        attr: None,
        recursive_attr: None,
        propagation: Vec::new(),
        target,
    }))
}

fn is_below(place: &CStr, top: &CStr) -> bool {
    let path = |text: &CStr| std::ffi::OsString::from_vec(text.to_bytes().to_vec());
    let (place, top) = (path(place), path(top));
    place != top && Path::new(&place).starts_with(&top)
}
