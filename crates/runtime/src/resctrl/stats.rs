//! What a container's resctrl group has, and what its processes use of caches and memory bandwidth → [`IntelRdt`].

use std::fs;
use std::path::Path;

use super::{Group, Resctrl};
use crate::Error;
use crate::stats::{CacheUse, IntelRdt, L3CacheInfo, MemBwInfo, MemBwUse};

impl Resctrl {
    /// Reads all that the kernel tells of `group`.
    ///
    /// # Errors
    /// A file that can't be read, or says what no kernel writes.
    pub(crate) fn stats(&self, group: &Group) -> Result<IntelRdt, Error> {
        let (default, own) = (schemata(&self.root)?, schemata(&group.dir)?);
        let mut stats = IntelRdt::default();
        if self.l3 {
            let info = self.root.join("info/L3");
            stats.l3_cache_info = Some(L3CacheInfo {
                cbm_mask: text(&info.join("cbm_mask"))?,
                min_cbm_bits: number(&info.join("min_cbm_bits"))?,
                num_closids: number(&info.join("num_closids"))?,
            });
            stats.l3_cache_schema_root = of("L3", &default);
            stats.l3_cache_schema = of("L3", &own);
        }
        if self.bandwidth {
            let info = self.root.join("info/MB");
            stats.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: number(&info.join("bandwidth_gran"))?,
                delay_linear: number(&info.join("delay_linear"))?,
                min_bandwidth: number(&info.join("min_bandwidth"))?,
                num_closids: number(&info.join("num_closids"))?,
            });
            stats.mem_bw_schema_root = of("MB", &default);
            stats.mem_bw_schema = of("MB", &own);
        }
        stats.schemata = own;
        let features = text(&self.root.join("info/L3_MON/mon_features")).unwrap_or_default();
        self::monitored(group.monitor.as_ref().unwrap_or(&group.dir), &features, &mut stats)?;
        Ok(stats)
    }
}

/// Adds what is counted, cache by cache. The counters are the container's own only in a monitoring group.
fn monitored(group: &Path, features: &str, stats: &mut IntelRdt) -> Result<(), Error> {
    let has = |feature: &str| features.lines().any(|line| line == feature);
    let (total, local, occupancy) = (has("mbm_total_bytes"), has("mbm_local_bytes"), has("llc_occupancy"));
    if !(total || local || occupancy) {
        return Ok(());
    }
    let dir = group.join("mon_data");
    let entries = fs::read_dir(&dir).map_err(|e| Error::new(format!("list {dir:?}")).because(e))?;
    let mut caches: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    caches.sort();
    let read = |wanted: bool, path: &Path| if wanted { number(path) } else { Ok(0) };
    for cache in caches {
        if total || local {
            stats.mbm_stats.push(MemBwUse {
                mbm_total_bytes: read(total, &cache.join("mbm_total_bytes"))?,
                mbm_local_bytes: read(local, &cache.join("mbm_local_bytes"))?,
            });
        }
        if occupancy {
            stats.cmt_stats.push(CacheUse { llc_occupancy: number(&cache.join("llc_occupancy"))? });
        }
    }
    Ok(())
}

/// The lines of a group's `schemata`.
fn schemata(group: &Path) -> Result<Vec<String>, Error> {
    Ok(text(&group.join("schemata"))?.lines().map(|line| line.trim().to_owned()).collect())
}

/// The line about one resource.
fn of(resource: &str, schemata: &[String]) -> String {
    let line = schemata.iter().find(|line| line.split(':').next() == Some(resource));
    line.cloned().unwrap_or_default()
}

fn text(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|e| Error::new(format!("read {path:?}")).because(e))?;
    Ok(text.trim().to_owned())
}

/// The kernel writes `Unavailable` for a counter that the processor has none for at the moment.
fn number(path: &Path) -> Result<u64, Error> {
    let text = text(path)?;
    let parsed = if text == "Unavailable" { Ok(0) } else { text.parse() };
    parsed.map_err(|e| Error::new(format!("{path:?} says {text:?}")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes files below `root`, as the kernel lays them out.
    fn lay(root: &Path, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn all_that_the_kernel_tells_in_runcs_words() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        lay(
            root,
            &[
                ("schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n"),
                ("info/L3/cbm_mask", "fffff\n"),
                ("info/L3/min_cbm_bits", "1\n"),
                ("info/L3/num_closids", "16\n"),
                ("info/MB/bandwidth_gran", "10\n"),
                ("info/MB/delay_linear", "1\n"),
                ("info/MB/min_bandwidth", "10\n"),
                ("info/MB/num_closids", "8\n"),
                ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
                ("web/schemata", "    L3:0=ff;1=ff\n    MB:0= 50;1=100\n"),
                ("web/mon_groups/web/mon_data/mon_L3_01/mbm_total_bytes", "20\n"),
                ("web/mon_groups/web/mon_data/mon_L3_01/mbm_local_bytes", "10\n"),
                ("web/mon_groups/web/mon_data/mon_L3_01/llc_occupancy", "4096\n"),
                ("web/mon_groups/web/mon_data/mon_L3_00/mbm_total_bytes", "2\n"),
                ("web/mon_groups/web/mon_data/mon_L3_00/mbm_local_bytes", "1\n"),
                ("web/mon_groups/web/mon_data/mon_L3_00/llc_occupancy", "Unavailable\n"),
            ],
        );
        let group =
            Group { dir: root.join("web"), monitor: Some(root.join("web/mon_groups/web")), own: true };
        let stats = Resctrl::at(root).stats(&group).unwrap();
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            concat!(
                r#"{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":1,"num_closids":16},"#,
                r#""l3_cache_schema_root":"L3:0=fffff;1=fffff","l3_cache_schema":"L3:0=ff;1=ff","#,
                r#""mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},"#,
                r#""mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0= 50;1=100","#,
                r#""schemata":["L3:0=ff;1=ff","MB:0= 50;1=100"],"#,
                r#""mbm_stats":[{"mbm_total_bytes":2,"mbm_local_bytes":1},{"mbm_total_bytes":20,"mbm_local_bytes":10}],"#,
                r#""cmt_stats":[{"llc_occupancy":0},{"llc_occupancy":4096}]}"#
            )
        );
    }

    #[test]
    fn what_the_processor_lacks_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        lay(root, &[("schemata", "L2:0=ff\n"), ("info/L2/cbm_mask", "ff\n"), ("web/schemata", "L2:0=f\n")]);
        let group = Group { dir: root.join("web"), monitor: None, own: true };
        let stats = Resctrl::at(root).stats(&group).unwrap();
        assert_eq!(serde_json::to_string(&stats).unwrap(), r#"{"schemata":["L2:0=f"]}"#);
        lay(root, &[("info/L3/cbm_mask", "f\n"), ("info/L3/min_cbm_bits", "many\n")]);
        let error = Resctrl::at(root).stats(&group).unwrap_err().to_string();
        assert!(error.contains("min_cbm_bits") && error.contains("many"), "{error}");
    }
}
