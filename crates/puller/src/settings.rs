//! Where a user's settings of registries lie: the files that podman, skopeo, CRI-O and docker read.

use std::path::{Path, PathBuf};

/// Files and directories with settings of registries; see [`Settings::of_process`] for the usual ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `registries.conf` and then the files of its `.d` directories, each overriding those before it.
    pub registries: Vec<PathBuf>,
    /// The one auth file to use, which must exist (`--authfile`, `$REGISTRY_AUTH_FILE`).
    pub auth_file: Option<PathBuf>,
    /// Without `auth_file`: `auth.json` and docker's `config.json`; the first one with an entry wins, missing
    /// ones are skipped.
    pub auth_files: Vec<PathBuf>,
    /// `certs.d` directories; the first one with a directory for the registry wins.
    pub certs: Vec<PathBuf>,
}

impl Settings {
    /// The files that podman and docker would read for this process's user and environment.
    pub fn of_process() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self::of(&var, Path::new("/etc"), effective_uid())
    }

    fn of(var: &dyn Fn(&str) -> Option<PathBuf>, etc: &Path, uid: u32) -> Self {
        let home = var("HOME");
        let user = var("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
        let user = user.map(|c| c.join("containers"));
        let runtime_dir = var("XDG_RUNTIME_DIR").map(|d| d.join("containers"));

        let auth_files = [
            Some(runtime_dir.unwrap_or_else(|| format!("/run/containers/{uid}").into()).join("auth.json")),
            user.as_ref().map(|d| d.join("auth.json")),
            var("DOCKER_CONFIG")
                .or_else(|| home.as_ref().map(|h| h.join(".docker")))
                .map(|d| d.join("config.json")),
        ];
        let certs = [
            user.as_ref().map(|d| d.join("certs.d")),
            Some(etc.join("containers/certs.d")),
            Some(etc.join("docker/certs.d")),
        ];
        Self {
            registries: registries_files(var, etc, user.as_deref()),
            auth_file: var("REGISTRY_AUTH_FILE"),
            auth_files: auth_files.into_iter().flatten().collect(),
            certs: certs.into_iter().flatten().collect(),
        }
    }
}

/// In containers-registries.conf.d(5)'s order: a user's own main file hides the system's, drop-ins included;
/// `$CONTAINERS_REGISTRIES_CONF` replaces the main file alone and `…_DIR` all drop-in directories.
fn registries_files(var: &dyn Fn(&str) -> Option<PathBuf>, etc: &Path, user: Option<&Path>) -> Vec<PathBuf> {
    let system = etc.join("containers");
    let given = var("CONTAINERS_REGISTRIES_CONF");
    let users_main = user.map(|u| u.join("registries.conf")).filter(|f| given.is_none() && f.exists());
    let mut dirs = Vec::new();
    if let Some(dir) = var("CONTAINERS_REGISTRIES_CONF_DIR") {
        dirs.push(dir);
    } else {
        if users_main.is_none() {
            dirs.push(system.join("registries.conf.d"));
        }
        dirs.extend(user.map(|u| u.join("registries.conf.d")));
    }
    let mut files = vec![given.or(users_main).unwrap_or_else(|| system.join("registries.conf"))];
    for dir in dirs {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut drop_ins: Vec<_> =
            entries.filter(|p| p.extension().is_some_and(|e| e == "conf") && !p.is_dir()).collect();
        drop_ins.sort();
        files.extend(drop_ins);
    }
    files
}

/// The owner of `/proc/self` is the effective user; a system call would need `unsafe`.
fn effective_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or(0, |m| m.uid())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(files: &[PathBuf], root: &Path) -> Vec<String> {
        files.iter().map(|f| f.strip_prefix(root).unwrap_or(f).display().to_string()).collect()
    }

    #[test]
    fn finds_the_files_podman_finds() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for file in [
            "etc/containers/registries.conf.d/b.conf",
            "etc/containers/registries.conf.d/a.conf",
            "etc/containers/registries.conf.d/a.txt",
            "home/.config/containers/registries.conf.d/c.conf",
        ] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let of = |vars: &[(&str, &str)]| {
            let vars: BTreeMap<String, PathBuf> =
                vars.iter().map(|(k, v)| ((*k).to_owned(), root.join(v))).collect();
            Settings::of(&|name| vars.get(name).cloned(), &root.join("etc"), 7)
        };
        let system = [
            "etc/containers/registries.conf",
            "etc/containers/registries.conf.d/a.conf",
            "etc/containers/registries.conf.d/b.conf",
            "home/.config/containers/registries.conf.d/c.conf",
        ];
        let settings = of(&[("HOME", "home")]);
        assert_eq!(names(&settings.registries, root), system);
        assert_eq!(
            names(&settings.auth_files, root),
            ["/run/containers/7/auth.json", "home/.config/containers/auth.json", "home/.docker/config.json"]
        );
        let settings =
            of(&[("HOME", "home"), ("CONTAINERS_REGISTRIES_CONF", "my.conf"), ("DOCKER_CONFIG", "dc")]);
        assert_eq!(names(&settings.registries, root)[..2], ["my.conf", system[1]]);
        assert_eq!(names(&settings.auth_files, root)[2], "dc/config.json");
        let settings = of(&[("CONTAINERS_REGISTRIES_CONF", "m"), ("CONTAINERS_REGISTRIES_CONF_DIR", "none")]);
        assert_eq!(names(&settings.registries, root), ["m"]);

        std::fs::write(root.join("home/.config/containers/registries.conf"), "").unwrap();
        let settings = of(&[("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("REGISTRY_AUTH_FILE", "auth")]);
        assert_eq!(names(&settings.registries, root), ["home/.config/containers/registries.conf", system[3]]);
        assert_eq!(names(&settings.auth_files, root)[0], "run/containers/auth.json");
        assert_eq!(settings.auth_file, Some(root.join("auth")));
    }
}
