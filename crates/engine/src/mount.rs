//! What is mounted where for a container: volumes of the image, `-v`, `--tmpfs`.
//!
//! Owns the choice and its translation into mounts of a runtime spec. Makes no directory and looks at none.

use std::path::{Path, PathBuf};

use oci::runtime::Mount;
use serde::{Deserialize, Serialize};

use crate::options::{Origin, RunOptions, Tmpfs, Volume};

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A path of the host.
    Bind,
    /// A directory below ROOT/volumes.
    Volume,
    /// Memory.
    Tmpfs,
}

/// A mount of a container, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) kind: Kind,
    /// Name of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The volume was made for this container and goes with it.
    #[serde(default)]
    pub(crate) anonymous: bool,
    /// Path on the host; empty for a tmpfs.
    pub(crate) source: PathBuf,
    /// Clean absolute path in the container.
    pub(crate) target: String,
    /// Options for the mount, as the runtime spec has them.
    pub(crate) options: Vec<String>,
    /// An empty volume starts with what the image has at `target`.
    #[serde(default)]
    pub(crate) copy_up: bool,
    /// A path of the host that is not made if it is missing.
    #[serde(default)]
    pub(crate) must_exist: bool,
}

/// Options of `-v` that only other engines or SELinux know; they change nothing here.
const IGNORED: [&str; 8] = ["z", "Z", "cached", "consistent", "delegated", "copy", "nocopy", "rw"];
/// podman's option for a bind that is seen by the container's ids.
pub(crate) const ID_MAPPED: &str = "idmap";
const PROPAGATION: [&str; 8] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];

/// All mounts besides the ones every container has, in the order in which they are to be made.
///
/// `from_others` are those of `--volumes-from`, `volumes` is the directory of volumes, `cwd` what a relative path of `-v` counts from, and `new_name` names an
/// anonymous volume.
///
/// # Errors
/// A target that is not absolute, is the root, or is taken twice; an unknown option.
pub(crate) fn points(
    options: &RunOptions,
    from_others: Vec<Point>,
    image_volumes: &[String],
    volumes: &Path,
    cwd: &Path,
    mut new_name: impl FnMut() -> String,
) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = Vec::new();
    for volume in &options.volumes {
        points.push(of_volume(volume, volumes, cwd, &mut new_name)?);
    }
    for tmpfs in &options.tmpfs {
        points.push(of_tmpfs(tmpfs)?);
    }
    for (n, point) in points.iter().enumerate() {
        if points[..n].iter().any(|other| other.target == point.target) {
            return Err(format!("two mounts on {:?}", point.target));
        }
    }
    // The user's own win over those of --volumes-from, which win over the image's.
    for point in from_others {
        if !points.iter().any(|own| own.target == point.target) {
            points.push(point);
        }
    }
    let mut wanted: Vec<String> =
        image_volumes.iter().map(|target| check(target)).collect::<Result<_, _>>()?;
    wanted.sort();
    wanted.dedup();
    for target in wanted {
        if !points.iter().any(|point| point.target == target) {
            points.push(named(new_name(), true, target, volumes, &[])?);
        }
    }
    // Parents first, so that nothing is hidden by what comes later.
    points.sort_by_key(|point| point.target.matches('/').count());
    Ok(points)
}

fn of_volume(
    volume: &Volume,
    volumes: &Path,
    cwd: &Path,
    new_name: &mut impl FnMut() -> String,
) -> Result<Point, String> {
    let target = check(&volume.target)?;
    match &volume.origin {
        Origin::Anonymous => named(new_name(), true, target, volumes, &volume.options),
        Origin::Named(name) if is_name(name) => named(name.clone(), false, target, volumes, &volume.options),
        Origin::Named(name) => Err(format!("invalid volume name {name:?}: wants [a-zA-Z0-9][a-zA-Z0-9_.-]*")),
        Origin::Path(path) => Ok(Point {
            kind: Kind::Bind,
            name: None,
            anonymous: false,
            source: cwd.join(path),
            target,
            options: bind_options(&volume.options)?,
            copy_up: false,
            must_exist: volume.must_exist,
        }),
    }
}

fn named(
    name: String,
    anonymous: bool,
    target: String,
    volumes: &Path,
    options: &[String],
) -> Result<Point, String> {
    let copy_up = !options.iter().any(|option| option == "nocopy");
    let source = volumes.join(&name).join("_data");
    Ok(Point {
        kind: Kind::Volume,
        name: Some(name),
        anonymous,
        source,
        target,
        options: bind_options(options)?,
        copy_up,
        must_exist: false,
    })
}

fn of_tmpfs(tmpfs: &Tmpfs) -> Result<Point, String> {
    let mut options: Vec<String> = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    options.extend(tmpfs.options.iter().cloned());
    Ok(Point {
        kind: Kind::Tmpfs,
        name: None,
        anonymous: false,
        source: PathBuf::new(),
        target: check(&tmpfs.target)?,
        options,
        copy_up: false,
        must_exist: false,
    })
}

fn bind_options(asked: &[String]) -> Result<Vec<String>, String> {
    let mut options = vec!["rbind".to_owned()];
    if !asked.iter().any(|option| PROPAGATION.contains(&option.as_str())) {
        options.push("rprivate".to_owned());
    }
    for option in asked {
        match option.as_str() {
            // With everything mounted below it, as docker does since 25.
            "ro" => options.push("rro".to_owned()),
            "norro" => options.push("ro".to_owned()),
            "bind" => "bind".clone_into(&mut options[0]),
            "rbind" => {}
            other if IGNORED.contains(&other) => {}
            "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" | ID_MAPPED => {
                options.push(option.clone());
            }
            other if PROPAGATION.contains(&other) => options.push(option.clone()),
            other => return Err(format!("volume option {other:?} is not supported")),
        }
    }
    Ok(options)
}

/// A place in the container where something may be mounted.
fn check(target: &str) -> Result<String, String> {
    let fail = |why: &str| Err(format!("invalid mount target {target:?}: {why}"));
    if !target.starts_with('/') {
        return fail("wants an absolute path");
    }
    if target.contains('\0') {
        return fail("it has a NUL");
    }
    match clean(target) {
        root if root == "/" => fail("the root itself cannot be mounted on"),
        target => Ok(target),
    }
}

/// Is it a name of a volume or container? Never a path.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// An absolute path without `.`, `..` and double slashes; `..` of the root is the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl Point {
    /// The mount for the runtime. With a user namespace (`mapped`) a volume is seen by the container's own ids, so that
    /// containers with other maps may have it too.
    pub(crate) fn to_spec(&self, mapped: bool) -> Mount {
        let mut options = self.options.clone();
        options.retain(|option| option != ID_MAPPED || mapped);
        if mapped && self.kind == Kind::Volume && !options.iter().any(|option| option == ID_MAPPED) {
            options.push(ID_MAPPED.to_owned());
        }
        match self.kind {
            Kind::Tmpfs => mount(&self.target, "tmpfs", Path::new("tmpfs"), &options),
            Kind::Bind | Kind::Volume => mount(&self.target, "bind", &self.source, &options),
        }
    }

    /// Can the container write to it?
    pub(crate) fn writable(&self) -> bool {
        !self.options.iter().any(|option| matches!(option.as_str(), "ro" | "rro"))
    }
}

/// A mount of the runtime spec.
pub(crate) fn mount(target: &str, kind: &str, source: &Path, options: &[impl ToString]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(target))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(ToString::to_string).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(origin: Origin, target: &str, options: &[&str]) -> Volume {
        Volume {
            origin,
            target: target.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            must_exist: false,
        }
    }

    fn all(options: &RunOptions, image: &[&str]) -> Result<Vec<Point>, String> {
        let image: Vec<String> = image.iter().map(|v| (*v).to_owned()).collect();
        let mut count = 0;
        points(options, Vec::new(), &image, Path::new("/vols"), Path::new("/cwd"), || {
            count += 1;
            format!("anon{count}")
        })
    }

    fn brief(points: &[Point]) -> Vec<String> {
        points
            .iter()
            .map(|p| format!("{} {} {}", p.source.display(), p.target, p.options.join(",")))
            .collect()
    }

    #[test]
    fn flags_win_over_the_image_and_parents_come_first() {
        let mut options = RunOptions::new("x");
        options.volumes = vec![
            volume(Origin::Path("/host".into()), "/a/b/c", &["ro"]),
            volume(Origin::Path("./rel".into()), "/rel/", &["rslave", "noexec", "z"]),
            volume(Origin::Named("data".into()), "/a", &["nocopy"]),
            volume(Origin::Anonymous, "/n", &[]),
        ];
        options.tmpfs = vec![Tmpfs { target: "/t".into(), options: vec!["size=1m".into(), "exec".into()] }];
        let points = all(&options, &["/image", "/a", "/a/b/../b/c/", "/image/"]).unwrap();
        assert_eq!(
            brief(&points),
            [
                "/cwd/./rel /rel rbind,rslave,noexec",
                "/vols/data/_data /a rbind,rprivate",
                "/vols/anon1/_data /n rbind,rprivate",
                " /t nosuid,nodev,noexec,size=1m,exec",
                "/vols/anon2/_data /image rbind,rprivate",
                "/host /a/b/c rbind,rprivate,rro",
            ]
        );
        assert_eq!(
            points.iter().map(|p| p.copy_up).collect::<Vec<_>>(),
            [false, false, true, false, true, false]
        );
        assert_eq!(
            points.iter().map(|p| p.anonymous).collect::<Vec<_>>(),
            [false, false, true, false, true, false]
        );
        assert!(!points[5].writable() && points[0].writable());
    }

    /// CVE-2022-23648: what an image calls a volume cannot name anything above its root.
    #[test]
    fn targets_never_leave_the_root() {
        let points = all(&RunOptions::new("x"), &["/../../etc", "/a/../../x", "//b//./c"]).unwrap();
        assert_eq!(points.iter().map(|p| p.target.as_str()).collect::<Vec<_>>(), ["/etc", "/x", "/b/c"]);
        for bad in ["/", "//", "/..", "/a/..", "etc", "", "/a\0b"] {
            assert!(
                all(&RunOptions::new("x"), &[bad]).unwrap_err().contains("invalid mount target"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn bad_volumes_are_refused() {
        let one = |v: Volume| {
            let mut options = RunOptions::new("x");
            options.volumes = vec![v.clone(), volume(Origin::Anonymous, "/y", &[])];
            all(&options, &[]).unwrap_err()
        };
        for name in ["../x", ".", "", "a/b", "-x", &"a".repeat(256)] {
            assert!(
                one(volume(Origin::Named(name.into()), "/x", &[])).contains("invalid volume name"),
                "{name:?}"
            );
        }
        assert!(one(volume(Origin::Anonymous, "/x", &["U"])).contains("\"U\" is not supported"));
        assert!(one(volume(Origin::Anonymous, "/y/../y", &[])).contains("two mounts on \"/y\""));
    }
}
