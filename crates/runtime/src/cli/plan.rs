//! `plan`: what `create` would do, without doing it.

use std::path::Path;

use super::flags::{Flag, Parsed};
use super::global::Global;
use super::{Command, print};
use crate::args::Args;
use crate::host::Host;
use crate::systemd::Draft;
use crate::{Error, plan, spec};

pub(crate) const COMMAND: Command = Command {
    name: "plan",
    usage: "print the steps that create would take for a bundle",
    arguments: "[bundle]",
    description: "The bundle defaults to the current directory. Nothing is created or changed.",
    flags: &[
        Flag::value("id", "the container id to plan for (default: \"plan\")"),
        Flag::switch("no-pivot", "plan without pivot_root(2)"),
        Flag::switch("no-new-keyring", "plan without a new session keyring"),
    ],
    arity: (0, 1),
    stop_after: usize::MAX,
    failure: 1,
    enters: false,
    run,
};

fn run(global: &Global, parsed: &Parsed) -> Result<u8, Error> {
    let bundle = Path::new(parsed.rest.first().map_or(".".as_ref(), |b| b.as_os_str()));
    let bundle = std::fs::canonicalize(bundle)
        .map_err(|e| Error::new(format!("find bundle {bundle:?}")).because(e))?;
    let spec = spec::load(&bundle.join("config.json"))?;
    let mut host = Host::detect()?;
    host.detect_for(&spec, parsed.on("no-pivot"))?;
    let id = parsed.value("id").map_or("plan".into(), |id| id.to_string_lossy().into_owned());
    let cgroup = match global.systemd_cgroup {
        true => Some(Draft::new(&spec, &id, global.rootless, &host)?.path),
        false => None,
    };
    let args = Args {
        id,
        bundle,
        no_pivot: parsed.on("no-pivot"),
        no_new_keyring: parsed.on("no-new-keyring"),
        placed_by_systemd: cgroup.is_some(),
        cgroup,
        await_start: true,
        ..Args::default()
    };
    let plan = plan::create(&spec, &host, &args)?;
    print(&plan.to_string())
}
