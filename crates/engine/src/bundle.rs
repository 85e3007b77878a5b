//! `bundle`: an image as a directory that any OCI runtime can run.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use store::{Image, Overlay, Store};

use crate::isolation::Found;
use crate::leftover::enter;
use crate::options::RunOptions;
use crate::root::Root;
use crate::spec::Ingredients;
use crate::{Engine, Error, host, image, place, spec, tree, user};

/// The host name in a bundle's config.json; there is no container yet that could have one.
const HOSTNAME: &str = "rcr";

/// Writes DIR/rootfs, a full copy of the image's root, and DIR/config.json, which runs its command (`sh` if it names
/// none).
///
/// # Errors
/// DIR is not empty; the image is not here; the disk is full. Nothing is left in DIR then.
pub fn bundle(engine: &Engine, image: &str, dir: &Path) -> Result<(), Error> {
    enter(engine)?;
    let store = Store::open(&engine.root)?;
    let found = image::find(&store, image, None)?.ok_or_else(|| Error::NoSuchImage(image.to_owned()))?;
    let made = match fs::create_dir(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) => return Err(Error::io(format!("make directory {dir:?}"))(e)),
    };
    let mut entries = fs::read_dir(dir).map_err(Error::io(format!("list {dir:?}")))?;
    if entries.next().is_some() {
        return Err(Error::Invalid(format!("{dir:?} is not empty")));
    }
    let written = write(&found, dir);
    if written.is_err() {
        // The first error is the one to tell.
        let _ = tree::remove(&dir.join("rootfs"));
        let _ = fs::remove_file(dir.join("config.json"));
        if made {
            let _ = fs::remove_dir(dir);
        }
    }
    written
}

fn write(image: &Image, dir: &Path) -> Result<(), Error> {
    let rootfs = dir.join("rootfs");
    place::make_dir(&rootfs, 0o755)?;
    let open = |path: &Path| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|e| Error::io(format!("open {path:?}"))(e.into()))
    };
    let to = open(&rootfs)?;
    let lower: Vec<&Path> = image.layers.iter().map(|layer| layer.as_path()).collect();
    if !lower.is_empty() {
        let from = store::overlay(&Overlay { lower: &lower, upper: None, source: "rcr" })?;
        store::copy_tree(from.as_fd(), to.as_fd())?;
    }
    let spec = describe(image, Root(to.as_fd()))?;
    let path = dir.join("config.json");
    let mut json =
        serde_json::to_vec_pretty(&spec).map_err(|source| Error::Damaged { path: path.clone(), source })?;
    json.push(b'\n');
    place::write_new(&path, &json, 0o644)
}

fn describe(image: &Image, root: Root<'_>) -> Result<oci::runtime::Spec, Error> {
    let config = image.config.config().clone().unwrap_or_default();
    let mut options = RunOptions::new("");
    if config.entrypoint().is_none() && config.cmd().is_none() {
        options.command = vec!["sh".to_owned()];
    }
    let wanted = config.user().as_deref().unwrap_or_default();
    let user = user::resolve(wanted, &root.read("/etc/passwd")?, &root.read("/etc/group")?);
    spec::spec(&Ingredients {
        image: &config,
        options: &options,
        user: &user.map_err(Error::Invalid)?,
        hostname: HOSTNAME,
        points: &[],
        files: None,
        network: None,
        init: None,
        cgroups_path: None,
        all_capabilities: 0,
        devices: &[],
        found: &Found::default(),
        linked: &[],
        kernel: host::kernel_version(),
    })
    .map_err(Error::Invalid)
}
