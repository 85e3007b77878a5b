//! `--tmpfs DIR[:OPTIONS]`.

use engine::Tmpfs;

/// Options that mount(8) and the kernel's tmpfs take as they are.
const FLAGS: [&str; 19] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];
/// Options of tmpfs(5) that have a value.
const KEYS: [&str; 9] = ["size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge", "noswap"];

/// Reads `DIR[:OPTION[,OPTION]…]`.
///
/// # Errors
/// What is wanted, when the directory is not absolute or an option is not one of tmpfs.
pub(crate) fn parse(text: &str) -> Result<Tmpfs, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') || target.trim_end_matches('/').is_empty() {
        return Err("wants DIR or DIR:OPTIONS with an absolute DIR other than /, for instance /tmp:size=64m"
            .to_owned());
    }
    let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
    for option in &options {
        let (key, value) = option.split_once('=').map_or((option.as_str(), None), |(k, v)| (k, Some(v)));
        match value {
            None if FLAGS.contains(&key) || key == "noswap" => {}
            Some("") => return Err(format!("the option {key} has no value")),
            Some(value) if KEYS.contains(&key) => check(key, value)?,
            _ => {
                return Err(format!(
                    "{option:?} is not an option of tmpfs; wants {} or KEY=VALUE with one of {}",
                    FLAGS[..8].join(" "),
                    KEYS[..6].join(" ")
                ));
            }
        }
    }
    Ok(Tmpfs { target: target.to_owned(), options })
}

fn check(key: &str, value: &str) -> Result<(), String> {
    let digits = |radix: u32| value.chars().all(|c| c.is_digit(radix));
    let fine = match key {
        // The kernel's memparse() takes a unit, and tmpfs a share of the memory.
        "size" => match value.strip_suffix('%') {
            Some(share) => share.parse::<u8>().is_ok(),
            None => super::size::parse(value).is_ok(),
        },
        "nr_blocks" | "nr_inodes" => super::size::parse(value).is_ok(),
        "mode" => digits(8) && value.len() <= 5,
        "uid" | "gid" => digits(10) && value.parse::<u32>().is_ok(),
        _ => true,
    };
    if fine {
        Ok(())
    } else {
        Err(format!("{value:?} does not suit {key}, for instance size=64m, mode=1777, uid=0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_directory_and_options() {
        let tmpfs = parse("/run:rw,noexec,size=64m,mode=1777,uid=5").unwrap();
        assert_eq!(tmpfs.target, "/run");
        assert_eq!(tmpfs.options, ["rw", "noexec", "size=64m", "mode=1777", "uid=5"]);
        assert_eq!(parse("/tmp").unwrap(), Tmpfs { target: "/tmp".into(), options: vec![] });
        assert_eq!(parse("/tmp:size=50%").unwrap().options, ["size=50%"]);
    }

    #[test]
    fn refuses_the_rest() {
        for (text, reason) in [
            ("", "absolute DIR"),
            ("tmp", "absolute DIR"),
            ("/", "absolute DIR"),
            ("//", "absolute DIR"),
            ("/tmp:bogus", "not an option of tmpfs"),
            ("/tmp:lowerdir=/etc", "not an option of tmpfs"),
            ("/tmp:size", "not an option of tmpfs"),
            ("/tmp:size=", "has no value"),
            ("/tmp:size=big", "does not suit size"),
            ("/tmp:mode=9", "does not suit mode"),
            ("/tmp:uid=-1", "does not suit uid"),
            ("/tmp:/x", "not an option of tmpfs"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
        }
    }
}
