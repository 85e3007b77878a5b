//! What criu is asked for the fixtures that have a criu.json, which says what else is known: dump.txt, restore.txt, and
//! the plan of the criu that restores, criu.txt. `UPDATE_GOLDEN=1 cargo test -p rcr-runtime golden` writes them anew.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::options::{CONFIG_ANNOTATION, Places, Running, Stopped, Wishes, dump, restore};
use super::{external, namespace_key};
use crate::plan::{self, golden};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Setting {
    work: bool,
    parent: Option<PathBuf>,
    page_server: Option<(String, u16)>,
    /// Every switch of the command line.
    all_switches: bool,
    pre_dump: bool,
    lsm_profile: Option<String>,
    /// Of the paths to mask, those that are files.
    masked_files: Vec<String>,
    /// What links make of a mount point.
    moved: Vec<(String, String)>,
    pipes: Vec<(String, i32)>,
    network_locked: bool,
}

#[test]
fn golden_requests() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for dir in golden::fixtures_with("criu.json") {
        count += 1;
        let setting = serde_json::from_slice(&std::fs::read(dir.join("criu.json")).unwrap());
        let setting: Setting = setting.unwrap_or_else(|e| panic!("{dir:?}: {e}"));
        for (name, got) in texts(&dir, &setting) {
            let path = dir.join(name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&path, &got).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != got {
                wrong.push(format!("{}:\n{got}", path.display()));
            }
        }
    }
    assert!(count >= 3, "only {count} fixtures found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn texts(dir: &Path, setting: &Setting) -> [(&'static str, String); 3] {
    let (spec, made) = golden::made_by(dir);
    let mounts = external::mounts(&made);
    let on = setting.all_switches;
    let wishes = Wishes {
        images: PathBuf::from("/images"),
        work: setting.work.then(|| PathBuf::from("/work")),
        parent: setting.parent.clone(),
        page_server: setting.page_server.clone(),
        leave_running: on,
        tcp_established: on,
        tcp_skip_in_flight: on,
        link_remap: on,
        external_unix_sockets: on,
        shell_job: on,
        file_locks: on,
        pre_dump: setting.pre_dump,
        auto_dedup: on,
        lazy_pages: on,
        lsm_profile: setting.lsm_profile.clone(),
        ..Wishes::default()
    };
    let places = Places { images: 10, work: setting.work.then_some(11) };
    let annotations = spec.annotations().clone().unwrap_or_default();
    let config = annotations.get(CONFIG_ANNOTATION).map(String::as_str);
    let keys = external::keys(&mounts, &mut |mount| {
        let place = mount.place.to_str().unwrap();
        if mount.masks {
            return Ok(setting.masked_files.iter().any(|m| *m == place).then(|| OsString::from(place)));
        }
        let moved = setting.moved.iter().find(|(from, _)| *from == place);
        Ok(Some(moved.map_or(place, |(_, to)| to).into()))
    });
    let keys = keys.unwrap();
    let shared = external::namespaces(&spec).unwrap();
    let external: Vec<_> = shared.iter().filter(|s| s.external).map(|s| (s.kind, 4_026_530_000)).collect();
    let running = Running {
        pid: 77,
        rootfs: Path::new("/bundle/rootfs"),
        freezer: Some(Path::new("/sys/fs/cgroup/freezer/web")),
        config,
        mounts: &keys,
        namespaces: &external,
    };
    let joined: Vec<_> = shared.iter().filter(|s| !s.external).map(|s| (s.kind, s.path.clone())).collect();
    let mut inherited = setting.pipes.clone();
    inherited.extend(shared.iter().filter(|s| s.external).zip(12..).map(|(s, n)| (namespace_key(s.kind), n)));
    let stopped = Stopped {
        root: Path::new("/run/state/web/criu-root"),
        config,
        mounts: &external::with_other_names(&mounts, &|_| None),
        joined: &joined,
        inherited: &inherited,
        network_locked: setting.network_locked,
        cgroups: &[("memory".to_owned(), "/web".to_owned()), (String::new(), "/web".to_owned())],
    };
    let env = [("PATH", "/sbin:bin:/bin"), ("RCR_SEALED", "1")].map(|(n, v)| (n.into(), v.into()));
    let place = Path::new("/run/state/web/criu-root");
    let criu = plan::criu(13, env.into_iter()).unwrap();
    let criu = plan::criu_in(place, Path::new("/bundle/rootfs"), &made, criu).unwrap();
    [
        ("dump.txt", dump(&wishes, places, &running).to_string()),
        ("restore.txt", restore(&wishes, places, &stopped).to_string()),
        ("criu.txt", criu.to_string()),
    ]
}
