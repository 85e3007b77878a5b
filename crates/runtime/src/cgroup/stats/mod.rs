//! What a cgroup has used: the files of both kernel interfaces → [`Stats`].

mod read;
mod v1;
mod v2;

use super::Cgroup;
use crate::Error;
use crate::stats::Stats;

impl Cgroup {
    /// Reads all that is counted. On a hybrid host each controller is read where it is. What is not counted here, or
    /// was removed meanwhile, is 0.
    ///
    /// # Errors
    /// A file that can't be read, or says what no kernel writes.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        let sizes = huge_page_sizes();
        v1::read(self, &sizes, &mut stats)?;
        if let Some(dir) = self.unified() {
            v2::read(dir, &|controller| self.v1(controller).is_some(), &sizes, &mut stats)?;
        }
        Ok(stats)
    }
}

/// The sizes of huge pages that this kernel has, as the names of hugetlb's files spell them.
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|e| page_size(e.file_name().to_str()?)).collect()
}

/// `hugepages-2048kB` → `2MB`; the kernel's hugetlb_cgroup.c rounds in the same way.
fn page_size(name: &str) -> Option<String> {
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        0x10_0000.. => format!("{}GB", kib >> 20),
        0x400.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_spelled_as_in_file_names() {
        for (name, size) in [
            ("hugepages-2048kB", Some("2MB")),
            ("hugepages-1048576kB", Some("1GB")),
            ("hugepages-64kB", Some("64KB")),
            ("hugepages-2048", None),
            ("other", None),
        ] {
            assert_eq!(page_size(name).as_deref(), size, "{name}");
        }
    }
}
