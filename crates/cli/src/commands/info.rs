//! `rcr info`.

use engine::Engine;
use serde_json::json;

use super::{on_terminal, say};
use crate::error::Error;
use crate::print::format::{Format, one};
use crate::print::human;

/// Show what rcr knows about the host and its own store
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// json, or a Go template such as '{{.CgroupVersion}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
}

impl Info {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let info = engine::info(engine)?;
        let version = engine::version();
        let containers = info.running + info.paused + info.stopped;
        // docker's names where it has one.
        let value = json!({
            "Containers": containers,
            "ContainersRunning": info.running,
            "ContainersPaused": info.paused,
            "ContainersStopped": info.stopped,
            "Images": info.images,
            "Driver": "overlay",
            "BackingFilesystem": info.file_system,
            "CgroupVersion": info.cgroups,
            "KernelVersion": info.kernel,
            "OperatingSystem": info.operating_system,
            "OSType": info.platform.os,
            "Architecture": info.platform.architecture,
            "NCPU": info.cpus,
            "MemTotal": info.memory,
            "Name": info.name,
            "RootDir": info.root,
            "RunRoot": info.runroot,
            "Rootless": info.rootless,
            "ServerVersion": version.version,
        });
        let rows = [
            ("Containers", containers.to_string()),
            (" Running", info.running.to_string()),
            (" Paused", info.paused.to_string()),
            (" Stopped", info.stopped.to_string()),
            ("Images", info.images.to_string()),
            ("Version", version.version.to_owned()),
            ("Storage driver", format!("overlay on {}", info.file_system)),
            ("Root", info.root.display().to_string()),
            ("Run root", info.runroot.display().to_string()),
            ("Cgroups", info.cgroups),
            ("Kernel", info.kernel),
            ("Operating system", info.operating_system),
            ("OS/Arch", info.platform.to_string()),
            ("CPUs", info.cpus.to_string()),
            ("Memory", human::size(info.memory)),
            ("Name", info.name),
            ("Rootless", info.rootless.to_string()),
        ];
        let text: String = rows.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        say(&one(&value, text, &self.format, on_terminal())?)
    }
}
