//! From `linux.intelRdt` to the container's resctrl group.

use super::{Planner, invalid};
use crate::Error;
use crate::resctrl::{Entry, Group};

impl Planner<'_> {
    /// `linux.intelRdt` (config-linux.md, "IntelRdt").
    pub(super) fn resctrl(&mut self) -> Result<(), Error> {
        let at = "linux.intelRdt";
        let Some(wanted) = self.spec.linux().as_ref().and_then(|l| l.intel_rdt().as_ref()) else {
            return Ok(());
        };
        let clos = wanted.clos_id().as_deref().filter(|clos| !clos.is_empty());
        // `/` is the default group; anything else is a name, not a path.
        if let Some(clos) = clos.filter(|clos| *clos != "/")
            && (clos == "." || clos == ".." || clos.contains(['/', '\0', '\n']))
        {
            return Err(invalid(format!("{at}.closID"), format!("invalid intelRdt.ClosID {clos:?}")));
        }
        let l3 = wanted.l3_cache_schema().as_deref().filter(|line| !line.is_empty());
        let bandwidth = wanted.mem_bw_schema().as_deref().filter(|line| !line.is_empty());
        let schemata = wanted.schemata().iter().flatten().map(String::as_str).filter(|line| !line.is_empty());
        let schemata: Vec<String> =
            l3.into_iter().chain(bandwidth).chain(schemata).map(str::to_owned).collect();
        // The kernel reads a line each.
        if let Some(line) = schemata.iter().find(|line| line.contains(['\n', '\0'])) {
            return Err(invalid(at, format!("schema {line:?} is more than a line")));
        }
        let Some(resctrl) = &self.host.resctrl else {
            let why = "intelRdt is specified in config, but Intel RDT is not enabled (no resctrl file system is mounted: \
                 mount -t resctrl resctrl /sys/fs/resctrl)";
            return Err(invalid(at, why));
        };
        for (field, given, enabled, what) in
            [("l3CacheSchema", l3, resctrl.l3, "CAT"), ("memBwSchema", bandwidth, resctrl.bandwidth, "MBA")]
        {
            if given.is_some() && !enabled {
                let why =
                    format!("intelRdt.{field} is specified in config, but Intel RDT/{what} is not enabled");
                return Err(invalid(format!("{at}.{field}"), why));
            }
        }
        let dir = match clos {
            Some("/") => resctrl.root.clone(),
            name => resctrl.root.join(name.unwrap_or(&self.args.id)),
        };
        let monitor =
            (*wanted.enable_monitoring() == Some(true)).then(|| dir.join("mon_groups").join(&self.args.id));
        self.plan.resctrl = Some(Entry {
            group: Group { dir, monitor, own: clos.is_none() },
            root: resctrl.root.clone(),
            must_exist: clos.is_some() && schemata.is_empty(),
            schemata,
        });
        Ok(())
    }
}
