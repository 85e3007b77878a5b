//! criu's messages: what it is asked, and what it answers (rpc.proto of criu; criu.org/RPC).
//!
//! Only the fields that are used, by the numbers that criu gives them. A field that is not sent has the default that
//! criu's command line has.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use super::wire::{Field, Value, decode, encode};

/// What a request is for, and what an answer is about (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump = 1,
    Restore = 2,
    Check = 3,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Dump => "dump",
            Kind::Restore => "restore",
            Kind::Check => "check",
            Kind::PreDump => "pre-dump",
            Kind::Notify => "notify",
            Kind::FeatureCheck => "feature check",
            Kind::Version => "version",
        })
    }
}

/// A field of `criu_opts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opt {
    ImagesDirFd = 1,
    Pid = 2,
    LeaveRunning = 3,
    ExtUnixSk = 4,
    TcpEstablished = 5,
    EvasiveDevices = 6,
    ShellJob = 7,
    FileLocks = 8,
    LogLevel = 9,
    LogFile = 10,
    PageServer = 11,
    NotifyScripts = 12,
    Root = 13,
    ParentImg = 14,
    TrackMem = 15,
    AutoDedup = 16,
    WorkDirFd = 17,
    LinkRemap = 18,
    ExtMnt = 23,
    ManageCgroups = 24,
    CgRoot = 25,
    RstSibling = 26,
    InheritFd = 27,
    ManageCgroupsMode = 34,
    External = 37,
    EmptyNs = 38,
    JoinNs = 39,
    FreezeCgroup = 44,
    TcpSkipInFlight = 46,
    LazyPages = 48,
    OrphanPtsMaster = 50,
    ConfigFile = 51,
    LsmProfile = 53,
    LsmMountContext = 63,
}

/// `criu_opts`: the fields that are set, those that may repeat once for each value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options(Vec<(Opt, Value)>);

impl Options {
    /// Sets a number.
    pub(crate) fn number(&mut self, opt: Opt, value: impl Into<i64>) {
        self.0.push((opt, Value::Number(value.into())));
    }

    /// Sets a string.
    pub(crate) fn text(&mut self, opt: Opt, value: impl Into<OsString>) {
        self.0.push((opt, Value::Text(value.into())));
    }

    /// Sets a switch, if it is on.
    pub(crate) fn switch(&mut self, opt: Opt, on: bool) {
        if on {
            self.number(opt, 1);
        }
    }

    /// Adds a pair of strings (`ext_mount_map`, `cgroup_root`, `join_namespace`).
    pub(crate) fn pair(&mut self, opt: Opt, first: impl Into<OsString>, second: impl Into<OsString>) {
        let pair = vec![(1, Value::Text(first.into())), (2, Value::Text(second.into()))];
        self.0.push((opt, Value::Message(pair)));
    }

    /// Adds a string with a number (`inherit_fd`, `criu_page_server_info`).
    pub(crate) fn numbered(&mut self, opt: Opt, text: impl Into<OsString>, number: impl Into<i64>) {
        let pair = vec![(1, Value::Text(text.into())), (2, Value::Number(number.into()))];
        self.0.push((opt, Value::Message(pair)));
    }

    fn fields(&self) -> Vec<(u32, Value)> {
        self.0.iter().map(|(opt, value)| (*opt as u32, value.clone())).collect()
    }
}

/// A line for each field, for the debug log and the golden files.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::Message(_) => String::new(),
        };
        for (opt, value) in &self.0 {
            let words = match value {
                Value::Message(fields) => {
                    fields.iter().map(|(_, value)| word(value)).collect::<Vec<_>>().join(" ")
                }
                value => word(value),
            };
            writeln!(f, "{:2} {opt:?} {words}", *opt as u32)?;
        }
        Ok(())
    }
}

/// Something that not every criu, or not every kernel, can do (`criu_features`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    MemTrack = 1,
    LazyPages = 2,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::MemTrack => "memory tracking",
            Feature::LazyPages => "lazy pages",
        })
    }
}

/// `criu_req`, encoded.
pub(crate) fn request(kind: Kind, options: Option<&Options>, feature: Option<Feature>) -> Vec<u8> {
    let mut fields = vec![(1, Value::Number(kind as i64))];
    fields.extend(options.map(|options| (2, Value::Message(options.fields()))));
    fields.extend(feature.map(|f| (5, Value::Message(vec![(f as u32, Value::Number(1))]))));
    encode(&fields)
}

/// The answer to a notification, encoded.
pub(crate) fn acknowledge(success: bool) -> Vec<u8> {
    encode(&[(1, Value::Number(Kind::Notify as i64)), (3, Value::Number(success.into()))])
}

/// `criu_resp`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Of `criu_req_type`.
    pub(crate) kind: i64,
    pub(crate) success: bool,
    /// An errno; 0 if there is none to tell.
    pub(crate) errno: i32,
    /// In words (criu 3.17.1 and later).
    pub(crate) message: Option<OsString>,
    pub(crate) notify: Option<Notification>,
    /// The features that were asked for and are there, by their numbers.
    pub(crate) features: Vec<u32>,
    pub(crate) version: Option<Version>,
}

/// What criu is about to do, or has done (`criu_notify`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Name of the moment.
    pub(crate) script: OsString,
    /// The init process, as criu sees it.
    pub(crate) pid: i32,
}

/// criu's version: 31701 is 3.17.1. One from between two releases counts as the next minor one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) i64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 / 100 % 100)?;
        match self.0 % 100 {
            0 => Ok(()),
            sublevel => write!(f, ".{sublevel}"),
        }
    }
}

impl Response {
    /// From the bytes of a message; `None` if they are none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Response> {
        let mut response = Response::default();
        for (number, field) in decode(bytes)? {
            match (number, field) {
                (1, Field::Number(kind)) => response.kind = kind,
                (2, Field::Number(success)) => response.success = success != 0,
                (5, Field::Bytes(bytes)) => response.notify = Some(notification(bytes)?),
                (7, Field::Number(errno)) => response.errno = i32::try_from(errno).ok()?,
                (8, Field::Bytes(bytes)) => response.features = features(bytes)?,
                (9, Field::Bytes(bytes)) => response.message = Some(text(bytes)),
                (10, Field::Bytes(bytes)) => response.version = Some(version(bytes)?),
                _ => {}
            }
        }
        Some(response)
    }

    /// Whether it is about `kind`.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as i64
    }
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn notification(bytes: &[u8]) -> Option<Notification> {
    let mut found = Notification::default();
    for (number, field) in decode(bytes)? {
        match (number, field) {
            (1, Field::Bytes(script)) => found.script = text(script),
            (2, Field::Number(pid)) => found.pid = i32::try_from(pid).ok()?,
            _ => {}
        }
    }
    Some(found)
}

fn features(bytes: &[u8]) -> Option<Vec<u32>> {
    let on = |(number, field)| (matches!(field, Field::Number(value) if value != 0)).then_some(number);
    Some(decode(bytes)?.into_iter().filter_map(on).collect())
}

fn version(bytes: &[u8]) -> Option<Version> {
    let (mut numbers, mut between) = ([0; 3], false);
    for (number, field) in decode(bytes)? {
        match (number, field) {
            (1, Field::Number(major)) => numbers[0] = major,
            (2, Field::Number(minor)) => numbers[1] = minor,
            (3, Field::Bytes(commit)) => between = !commit.is_empty(),
            (4, Field::Number(sublevel)) => numbers[2] = sublevel,
            _ => {}
        }
    }
    let [major, minor, sublevel] = numbers;
    let fits = |number: i64| (0..100).contains(&number).then_some(number);
    let (minor, sublevel) = (fits(minor)?, fits(sublevel)?);
    let next = if between { 100 } else { sublevel };
    Some(Version(fits(major)? * 10_000 + minor * 100 + next))
}

impl Notification {
    /// Whether it is this moment.
    pub(crate) fn is(&self, script: &str) -> bool {
        self.script == OsStr::new(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_criu_reads() {
        let mut options = Options::default();
        options.number(Opt::ImagesDirFd, 5);
        options.switch(Opt::LeaveRunning, true);
        options.switch(Opt::ShellJob, false);
        options.text(Opt::Root, "/r");
        options.pair(Opt::ExtMnt, "/a", "/b");
        options.numbered(Opt::InheritFd, "pipe:[7]", 1);
        let bytes = request(Kind::Restore, Some(&options), None);
        // criu_req { type 2, opts { 1: 5, 3: 1, 13: "/r", 23: { "/a", "/b" }, 27: { "pipe:[7]", 1 } } }
        let opts =
            b"\x08\x05\x18\x01\x6a\x02/r\xba\x01\x08\x0a\x02/a\x12\x02/b\xda\x01\x0c\x0a\x08pipe:[7]\x10\x01";
        let mut wanted = vec![0x08, 0x02, 0x12, u8::try_from(opts.len()).unwrap()];
        wanted.extend_from_slice(opts);
        assert_eq!(bytes, wanted);
        assert_eq!(request(Kind::Version, None, None), b"\x08\x0a");
        assert_eq!(request(Kind::FeatureCheck, None, Some(Feature::LazyPages)), b"\x08\x09\x2a\x02\x10\x01");
        assert_eq!(acknowledge(true), b"\x08\x06\x18\x01");
        assert_eq!(acknowledge(false), b"\x08\x06\x18\x00");
    }

    #[test]
    fn answers_are_understood() {
        let failed = Response::parse(b"\x08\x01\x10\x00\x38\x11\x4a\x04oops").unwrap();
        assert!(failed.is(Kind::Dump) && !failed.success);
        assert_eq!((failed.errno, failed.message.as_deref()), (17, Some(OsStr::new("oops"))));
        let notify = Response::parse(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x2a").unwrap();
        let moment = notify.notify.unwrap();
        assert!(moment.is("post-restore"));
        assert_eq!(moment.pid, 42);
        let features = Response::parse(b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x00").unwrap();
        assert_eq!(features.features, [1]);
        for nonsense in [&b"\x08"[..], b"\x2a\x03abc", b"\x42\x01\x08", b"\x52\x04\x08\x03\x10\x64"] {
            assert_eq!(Response::parse(nonsense), None, "{nonsense:x?}");
        }
    }

    #[test]
    fn versions_are_compared_and_read() {
        let version = |bytes: &[u8]| {
            let mut message = b"\x08\x0a\x10\x01\x52".to_vec();
            message.push(u8::try_from(bytes.len()).unwrap());
            message.extend_from_slice(bytes);
            Response::parse(&message).unwrap().version.unwrap()
        };
        let release = version(b"\x08\x03\x10\x11\x20\x01");
        assert_eq!((release, release.to_string().as_str()), (Version(31_701), "3.17.1"));
        assert_eq!(version(b"\x08\x04\x10\x02").to_string(), "4.2");
        assert_eq!(version(b"\x08\x03\x10\x0e\x1a\x03abc\x20\x05"), Version(31_500));
        assert!(release > Version(31_500));
    }
}
