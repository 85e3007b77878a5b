//! `rcr version`.

use serde_json::json;

use super::{on_terminal, say};
use crate::error::Error;
use crate::print::format::{Format, one};

/// Show the version of rcr and of what it implements
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// json, or a Go template such as '{{.Version}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
}

impl Version {
    pub(crate) fn execute(self) -> Result<(), Error> {
        let version = engine::version();
        let value = json!({
            "Version": version.version,
            "RuntimeSpec": version.runtime_spec,
            "Os": version.platform.os,
            "Arch": version.platform.architecture,
            "KernelVersion": version.kernel,
        });
        let text = format!(
            "rcr:           {}\nRuntime spec:  {}\nOS/Arch:       {}\nKernel:        {}\n",
            version.version, version.runtime_spec, version.platform, version.kernel
        );
        say(&one(&value, text, &self.format, on_terminal())?)
    }
}
