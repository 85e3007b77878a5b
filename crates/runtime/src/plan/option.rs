//! Mount options: the words of the runtime specification (config.md, "Linux mount options"), and what each means.

use sys::mount::{SetAttr, attr, propagation};

use super::Propagation;

/// `MS_*` flags of mount(2), by which options are counted before they become attributes.
pub(super) mod ms {
    pub(crate) const RDONLY: u64 = 1;
    pub(crate) const NOSUID: u64 = 2;
    pub(crate) const NODEV: u64 = 4;
    pub(crate) const NOEXEC: u64 = 8;
    pub(crate) const SYNCHRONOUS: u64 = 16;
    pub(crate) const REMOUNT: u64 = 32;
    pub(crate) const MANDLOCK: u64 = 64;
    pub(crate) const DIRSYNC: u64 = 128;
    pub(crate) const NOSYMFOLLOW: u64 = 256;
    pub(crate) const NOATIME: u64 = 1024;
    pub(crate) const NODIRATIME: u64 = 2048;
    pub(crate) const BIND: u64 = 4096;
    pub(crate) const REC: u64 = 16384;
    pub(crate) const SILENT: u64 = 32768;
    pub(crate) const RELATIME: u64 = 1 << 21;
    pub(crate) const I_VERSION: u64 = 1 << 23;
    pub(crate) const STRICTATIME: u64 = 1 << 24;
    pub(crate) const LAZYTIME: u64 = 1 << 25;
    pub(crate) const TIMES: u64 = NOATIME | NODIRATIME | RELATIME | STRICTATIME;
}

/// Option words that are mount(2) flags: whether the word clears the flag, and the flag.
const FLAGS: &[(&str, bool, u64)] = &[
    ("async", true, ms::SYNCHRONOUS),
    ("atime", true, ms::NOATIME),
    ("bind", false, ms::BIND),
    ("defaults", false, 0),
    ("dev", true, ms::NODEV),
    ("diratime", true, ms::NODIRATIME),
    ("dirsync", false, ms::DIRSYNC),
    ("exec", true, ms::NOEXEC),
    ("iversion", false, ms::I_VERSION),
    ("lazytime", false, ms::LAZYTIME),
    ("loud", true, ms::SILENT),
    ("mand", false, ms::MANDLOCK),
    ("noatime", false, ms::NOATIME),
    ("nodev", false, ms::NODEV),
    ("nodiratime", false, ms::NODIRATIME),
    ("noexec", false, ms::NOEXEC),
    ("noiversion", true, ms::I_VERSION),
    ("nolazytime", true, ms::LAZYTIME),
    ("nomand", true, ms::MANDLOCK),
    ("norelatime", true, ms::RELATIME),
    ("nostrictatime", true, ms::STRICTATIME),
    ("nosuid", false, ms::NOSUID),
    ("nosymfollow", false, ms::NOSYMFOLLOW),
    ("rbind", false, ms::BIND | ms::REC),
    ("relatime", false, ms::RELATIME),
    ("remount", false, ms::REMOUNT),
    ("ro", false, ms::RDONLY),
    ("rw", true, ms::RDONLY),
    ("silent", false, ms::SILENT),
    ("strictatime", false, ms::STRICTATIME),
    ("suid", true, ms::NOSUID),
    ("symfollow", true, ms::NOSYMFOLLOW),
    ("sync", false, ms::SYNCHRONOUS),
];

/// Option words for propagation; each is followed by its recursive form, `r` and the word.
const PROPAGATION: &[(&str, u64)] = &[
    ("private", propagation::PRIVATE),
    ("slave", propagation::SLAVE),
    ("shared", propagation::SHARED),
    ("unbindable", propagation::UNBINDABLE),
];

/// Option words for mount_setattr(2) on the whole tree.
const RECURSIVE: &[(&str, bool, u64)] = &[
    ("ratime", true, attr::NOATIME),
    ("rdev", true, attr::NODEV),
    ("rdiratime", true, attr::NODIRATIME),
    ("rexec", true, attr::NOEXEC),
    ("rnoatime", false, attr::NOATIME),
    ("rnodev", false, attr::NODEV),
    ("rnodiratime", false, attr::NODIRATIME),
    ("rnoexec", false, attr::NOEXEC),
    ("rnorelatime", true, 0),
    ("rnostrictatime", true, attr::STRICTATIME),
    ("rnosuid", false, attr::NOSUID),
    ("rnosymfollow", false, attr::NOSYMFOLLOW),
    ("rrelatime", false, 0),
    ("rro", false, attr::RDONLY),
    ("rrw", true, attr::RDONLY),
    ("rstrictatime", false, attr::STRICTATIME),
    ("rsuid", true, attr::NOSUID),
    ("rsymfollow", true, attr::NOSYMFOLLOW),
];

/// Every option word that does not go to the file system, sorted; `features` lists them.
pub fn known() -> Vec<String> {
    let mut words: Vec<String> = FLAGS.iter().chain(RECURSIVE).map(|(word, ..)| (*word).to_owned()).collect();
    words.extend(PROPAGATION.iter().flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]));
    words.extend(["idmap", "ridmap", "tmpcopyup"].map(str::to_owned));
    words.sort();
    words
}

/// The propagation that a word names, as `linux.rootfsPropagation` has it too.
pub(super) fn propagation_word(word: &str) -> Option<Propagation> {
    PROPAGATION.iter().find_map(|(name, kind)| {
        let recursive = word.strip_prefix('r') == Some(name);
        (recursive || word == *name).then_some(Propagation { kind: *kind, recursive })
    })
}

/// The options of one mount, sorted out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// Flags that are set.
    pub(super) flags: u64,
    /// Flags that were named to be cleared.
    pub(super) cleared: u64,
    /// In the order of the options.
    pub(super) propagation: Vec<Propagation>,
    /// For the whole tree.
    pub(super) recursive: Option<SetAttr>,
    /// `tmpcopyup`.
    pub(super) copy_up: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub(super) idmap: Option<bool>,
    /// What the file system gets.
    pub(super) data: Vec<String>,
}

impl Options {
    /// Sorts option words; a later word wins over an earlier one.
    pub(super) fn parse(words: &[String]) -> Options {
        let mut options = Options::default();
        for word in words {
            options.take(word);
        }
        options
    }

    fn take(&mut self, word: &str) {
        if let Some((_, clear, flag)) = FLAGS.iter().find(|(name, ..)| *name == word) {
            if *clear {
                self.flags &= !flag;
                self.cleared |= flag;
            } else {
                self.flags |= flag;
                self.cleared &= !flag;
            }
        } else if let Some(change) = propagation_word(word) {
            self.propagation.push(change);
        } else if let Some((_, clear, flag)) = RECURSIVE.iter().find(|(name, ..)| *name == word) {
            let change = self.recursive.get_or_insert_default();
            // mount_setattr(2): the access time modes are a number, not flags; a new one clears the field.
            let times = *flag
                & !attr::NODIRATIME
                & !(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW);
            let is_times = times != 0 || *flag == 0;
            if is_times {
                change.clear |= attr::ATIME_MASK;
                change.set &= !attr::ATIME_MASK;
                if !clear {
                    change.set |= flag;
                }
            } else if *clear {
                change.clear |= flag;
                change.set &= !flag;
            } else {
                change.set |= flag;
                change.clear &= !flag;
            }
        } else {
            match word {
                "tmpcopyup" => self.copy_up = true,
                "idmap" => self.idmap = Some(false),
                "ridmap" => self.idmap = Some(true),
                "" => {}
                data => self.data.push(data.to_owned()),
            }
        }
    }

    pub(super) fn has(&self, flag: u64) -> bool {
        self.flags & flag == flag
    }

    /// The attributes of the mount that the flags name. strictatime wins over noatime, as in mount(2).
    pub(super) fn attr(&self) -> u64 {
        attr_of(self.flags)
    }

    /// The flags that belong to the file system, as its options.
    pub(super) fn superblock(&self) -> impl Iterator<Item = &'static str> {
        const WORDS: [(u64, &str); 5] = [
            (ms::RDONLY, "ro"),
            (ms::SYNCHRONOUS, "sync"),
            (ms::DIRSYNC, "dirsync"),
            (ms::LAZYTIME, "lazytime"),
            (ms::MANDLOCK, "mand"),
        ];
        let flags = self.flags;
        WORDS.iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, word)| *word)
    }

    /// `data` taken apart at commas, as the kernel does it with the string of mount(2): quotes protect commas (SELinux
    /// labels have them).
    pub(super) fn split_data(&self) -> Vec<(String, Option<String>)> {
        let mut parts = Vec::new();
        for word in &self.data {
            let mut quoted = false;
            for part in word.split(|c: char| {
                quoted ^= c == '"';
                c == ',' && !quoted
            }) {
                if part.is_empty() {
                    continue;
                }
                parts.push(match part.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.trim_matches('"').to_owned())),
                    None => (part.to_owned(), None),
                });
            }
        }
        parts
    }
}

pub(super) fn attr_of(flags: u64) -> u64 {
    let plain = [
        (ms::RDONLY, attr::RDONLY),
        (ms::NOSUID, attr::NOSUID),
        (ms::NODEV, attr::NODEV),
        (ms::NOEXEC, attr::NOEXEC),
        (ms::NODIRATIME, attr::NODIRATIME),
        (ms::NOSYMFOLLOW, attr::NOSYMFOLLOW),
    ];
    let times = if flags & ms::STRICTATIME != 0 {
        attr::STRICTATIME
    } else if flags & ms::NOATIME != 0 {
        attr::NOATIME
    } else {
        0
    };
    plain.iter().filter(|(ms, _)| flags & ms != 0).fold(times, |sum, (_, attr)| sum | attr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        Options::parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn later_words_win() {
        let options = parse("ro nosuid rw rbind");
        assert_eq!((options.flags, options.cleared), (ms::NOSUID | ms::BIND | ms::REC, ms::RDONLY));
        assert_eq!(parse("rw ro").attr(), attr::RDONLY);
        assert_eq!(parse("noatime strictatime").attr(), attr::STRICTATIME);
    }

    #[test]
    fn recursive_words_become_one_change() {
        let change = parse("rro rnoexec rexec rnoatime").recursive.unwrap();
        assert_eq!(change.set, attr::RDONLY | attr::NOATIME);
        assert_eq!(change.clear, attr::NOEXEC | attr::ATIME_MASK);
        assert_eq!(parse("rrelatime").recursive.unwrap().clear, attr::ATIME_MASK);
        assert_eq!(parse("ro").recursive, None);
        assert_eq!(parse("rnodiratime").recursive.unwrap().set, attr::NODIRATIME);
    }

    #[test]
    fn the_rest_is_data() {
        let options = parse("size=64m,mode=755 nosuid context=\"a,b\" newinstance ");
        let data = options.split_data();
        let data: Vec<_> = data.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        let wanted =
            [("size", Some("64m")), ("mode", Some("755")), ("context", Some("a,b")), ("newinstance", None)];
        assert_eq!(data, wanted);
    }

    #[test]
    fn propagation_has_a_recursive_form() {
        let change = propagation_word("rslave").unwrap();
        assert_eq!((change.kind, change.recursive), (propagation::SLAVE, true));
        assert!(!propagation_word("shared").unwrap().recursive);
        assert_eq!(propagation_word("ro"), None);
        assert!(known().contains(&"runbindable".to_owned()));
    }
}
