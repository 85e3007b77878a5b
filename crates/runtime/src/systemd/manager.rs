//! The service manager: what systemd is asked over D-Bus (org.freedesktop.systemd1(5)), each call bounded.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::bus::{Bus, escape, refusal};
use super::message::Target;
use super::place::is_slice;
use super::property::Property;
use super::value::Value;
use crate::{Error, ErrorKind};

/// How long a unit may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the system bus is, unless the environment says otherwise.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Where systemd itself answers root, also on a host without a bus.
const PRIVATE: &str = "unix:path=/run/systemd/private";

const MANAGER: Target<'static> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

const PROPERTIES: Target<'static> = Target { interface: "org.freedesktop.DBus.Properties", ..MANAGER };

const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                           interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A connection to the system's service manager or the user's.
#[derive(Debug)]
pub(crate) struct Manager {
    bus: Bus,
    version: Option<u32>,
    watches: bool,
}

impl Manager {
    /// Connects. `user`: to the service manager of the user who calls.
    pub(super) fn connect(user: bool) -> Result<Manager, Error> {
        let bus = if user { Bus::open(&session_bus()?) } else { system_bus() };
        let hint = if user {
            "failed to connect to dbus (hint: for rootless containers, maybe you need to install dbus-user-session package)"
        } else {
            "failed to connect to dbus"
        };
        Ok(Manager::over(bus.map_err(|e| Error::new(hint).because(e))?))
    }

    fn over(bus: Bus) -> Manager {
        Manager { bus, version: None, watches: false }
    }

    /// systemd's version: 252.
    pub(super) fn version(&mut self) -> Result<u32, Error> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let text = self.property("Version")?;
        let version = parse_version(&text)
            .ok_or_else(|| Error::new(format!("systemd's version {text:?} has no number")))?;
        self.version = Some(version);
        Ok(version)
    }

    /// The manager's own cgroup: `/user.slice/user-1000.slice/user@1000.service`; empty for the system's.
    pub(super) fn control_group(&mut self) -> Result<String, Error> {
        self.property("ControlGroup")
    }

    fn property(&mut self, name: &str) -> Result<String, Error> {
        let answer = self.bus.call(PROPERTIES, "Get", &[MANAGER.interface.into(), name.into()])?;
        match answer.first() {
            Some(Value::Variant(inner)) => inner.text().map(str::to_owned),
            _ => None,
        }
        .ok_or_else(|| Error::new(format!("systemd's property {name} is no text")))
    }

    /// Starts a transient unit and waits until it runs. A failed unit of this name, which nobody needs, is replaced.
    ///
    /// # Errors
    /// A unit of this name that lives; systemd's refusal, naming the property; the start failed or took too long, and
    /// then it was stopped.
    pub(super) fn start(&mut self, unit: &str, properties: Vec<Property>) -> Result<(), Error> {
        let fail = |e: Error| Error::new(format!("unable to start unit {unit:?}")).because(e);
        let properties = properties.into_iter().map(Property::argument).collect();
        let arguments = [
            unit.into(),
            "replace".into(),
            Value::Array("(sv)".to_owned(), properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        self.watch_jobs().map_err(fail)?;
        let mut answer = self.bus.call(MANAGER, "StartTransientUnit", &arguments);
        if answer.as_ref().is_err_and(|e| refusal(e) == Some(UNIT_EXISTS)) {
            self.reset_failed(unit);
            answer = self.bus.call(MANAGER, "StartTransientUnit", &arguments);
        }
        let started = match answer {
            // Nothing was started. Without an answer it may have been.
            Err(e) if refusal(&e).is_some() => return Err(fail(e)),
            Err(e) => Err(e),
            Ok(job) => match self.wait(&job) {
                Ok(result) if result == "done" => Ok(()),
                Ok(result) => Err(Error::new(format!("its start ended with {result:?}"))),
                Err(e) => Err(Error::new("its start").because(e)),
            },
        };
        if started.is_err() {
            // The first error is the one to tell.
            let _ = self.stop(unit);
        }
        started.map_err(fail)
    }

    /// Stops a unit and has systemd forget it. That there is none is no error.
    ///
    /// # Errors
    /// It took too long.
    pub(super) fn stop(&mut self, unit: &str) -> Result<(), Error> {
        let fail = |e: Error| Error::new(format!("unable to stop unit {unit:?}")).because(e);
        self.watch_jobs().map_err(fail)?;
        match self.bus.call(MANAGER, "StopUnit", &[unit.into(), "replace".into()]) {
            Err(e) if refusal(&e) == Some(NO_SUCH_UNIT) => return Ok(()),
            Err(e) => return Err(fail(e)),
            Ok(job) => {
                let result = self.wait(&job).map_err(fail)?;
                if result != "done" {
                    tracing::warn!("stopping unit {unit:?} ended with {result:?}");
                }
            }
        }
        self.reset_failed(unit);
        Ok(())
    }

    /// Sets properties of a unit that runs.
    pub(super) fn set(&mut self, unit: &str, properties: Vec<Property>) -> Result<(), Error> {
        let properties = properties.into_iter().map(Property::argument).collect();
        // Not for the next boot, at which there is no such container.
        let runtime = true.into();
        let arguments = [unit.into(), runtime, Value::Array("(sv)".to_owned(), properties)];
        let answer = self.bus.call(MANAGER, "SetUnitProperties", &arguments);
        answer
            .map(drop)
            .map_err(|e| Error::new(format!("unable to set properties of unit {unit:?}")).because(e))
    }

    /// The present values of properties of a unit that runs.
    pub(super) fn get(&mut self, unit: &str, properties: &[Property]) -> Result<Vec<Property>, Error> {
        let interface = if is_slice(unit) { "Slice" } else { "Scope" };
        let interface = format!("org.freedesktop.systemd1.{interface}");
        let path = format!("/org/freedesktop/systemd1/unit/{}", object_name(unit));
        let target = Target { path: &path, ..PROPERTIES };
        let fail = |e| Error::new(format!("unable to get properties of unit {unit:?}")).because(e);
        let answer = self.bus.call(target, "GetAll", &[interface.as_str().into()]).map_err(fail)?;
        let Some(Value::Array(_, all)) = answer.into_iter().next() else {
            return Err(fail(Error::new("the answer is no list")));
        };
        let wanted = |name: &str| properties.iter().any(|p| p.name == name);
        let entry = |entry| match entry {
            Value::Entry(pair) => match *pair {
                (Value::Text(name), Value::Variant(value)) if wanted(&name) => {
                    Some(Property::new(name, *value))
                }
                _ => None,
            },
            _ => None,
        };
        Ok(all.into_iter().filter_map(entry).collect())
    }

    /// Moves a process into a unit, or into a cgroup below it (`/sub`).
    pub(super) fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Result<(), Error> {
        let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid.unsigned_abs())]);
        let answer = self.bus.call(MANAGER, "AttachProcessesToUnit", &[unit.into(), below.into(), pids]);
        let fail = |e| Error::new(format!("error adding pid {pid} to cgroups: unit {unit:?}")).because(e);
        answer.map(drop).map_err(fail)
    }

    /// A unit that has failed stays until somebody has seen it; this is that. One that has not is no error.
    fn reset_failed(&mut self, unit: &str) {
        let _ = self.bus.call(MANAGER, "ResetFailedUnit", &[unit.into()]);
    }

    fn watch_jobs(&mut self) -> Result<(), Error> {
        if !self.watches {
            self.bus.watch(JOB_REMOVED)?;
            self.watches = true;
        }
        Ok(())
    }

    /// Waits for the end of the job that a call returned: how it ended.
    fn wait(&mut self, answer: &[Value]) -> Result<String, Error> {
        let Some(job) = answer.first().and_then(Value::text) else {
            return Err(Error::new("systemd named no job"));
        };
        self.bus.signal(Instant::now() + PATIENCE, |signal| match &signal.body[..] {
            // Number, path, unit, result.
            [_, Value::Path(path), _, Value::Text(result)] if signal.name == "JobRemoved" && path == job => {
                Some(result.clone())
            }
            _ => None,
        })
    }
}

/// Whether the user's own bus knows this process's user as root: then this is a user namespace with a systemd of its
/// own inside. Anybody else's root, as in podman's namespace, is an ordinary user to that bus.
pub(super) fn session_user() -> Result<u32, Error> {
    Bus::open(&session_bus()?)?.own_uid()
}

fn system_bus() -> Result<Bus, Error> {
    let given = env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    Bus::open(given.as_deref().unwrap_or(SYSTEM_BUS)).or_else(|e| Bus::open_direct(PRIVATE).map_err(|_| e))
}

/// The address of the user's bus.
fn session_bus() -> Result<String, Error> {
    if let Some(address) = env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty()) {
        return Ok(address);
    }
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let path = runtime_dir.map(|dir| Path::new(&dir).join("bus")).filter(|path| path.exists());
    let address = path.map(|path| format!("unix:path={}", escape(path.as_os_str().as_bytes())));
    address.ok_or_else(|| {
        let message = "could not detect DBUS_SESSION_BUS_ADDRESS from the environment; make sure you have installed \
                       the dbus-user-session or dbus-daemon package; note you may need to re-login";
        Error::new(message).kind(ErrorKind::Invalid)
    })
}

/// A unit's name in an object's path: all but letters and digits as `_2d`.
fn object_name(unit: &str) -> String {
    let plain = |at: usize, b: u8| b.is_ascii_alphabetic() || at > 0 && b.is_ascii_digit();
    let letter =
        |(at, b): (usize, u8)| if plain(at, b) { char::from(b).to_string() } else { format!("_{b:02x}") };
    unit.bytes().enumerate().map(letter).collect()
}

/// `252.39-1~deb12u1`, `v245-1.fc32`, `245`.
fn parse_version(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(['"', 'v']);
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Answer, Fake};
    use super::*;

    const JOB: &str = "/org/freedesktop/systemd1/job/7";

    fn started(answers: Vec<Answer>) -> (Result<(), String>, Vec<String>) {
        let fake = Fake::new(answers);
        let mut manager = Manager::over(Bus::open(&fake.address()).unwrap());
        let result = manager.start("x.scope", vec![Property::new("Delegate", true)]);
        drop(manager);
        (result.map_err(|e| format!("{e:#}")), fake.calls())
    }

    #[test]
    fn a_start_is_over_when_its_job_is() {
        let (result, calls) = started(vec![Answer::Job(JOB, &[("/other", "failed"), (JOB, "done")])]);
        assert_eq!(result, Ok(()));
        assert_eq!(calls, ["Hello", "AddMatch", "StartTransientUnit x.scope"]);
        // Nobody but systemd can say so.
        assert_eq!(started(vec![Answer::ForgedJob(JOB)]).0, Ok(()));
        // The signal may come before the answer.
        assert_eq!(started(vec![Answer::EarlyJob(JOB, "done")]).0, Ok(()));
    }

    #[test]
    fn a_start_that_fails_says_so_and_is_taken_back() {
        let (result, calls) = started(vec![
            Answer::Job(JOB, &[(JOB, "failed")]),
            Answer::Job("/stop", &[("/stop", "done")]),
            Answer::Nothing,
        ]);
        assert_eq!(result.unwrap_err(), "unable to start unit \"x.scope\": its start ended with \"failed\"");
        assert_eq!(calls[2..], ["StartTransientUnit x.scope", "StopUnit x.scope", "ResetFailedUnit x.scope"]);
    }

    #[test]
    fn a_failed_leftover_is_replaced_and_a_living_unit_is_not_touched() {
        let exists = || Answer::Error(UNIT_EXISTS, "Unit x.scope was already loaded or has a fragment file.");
        let (result, calls) = started(vec![exists(), Answer::Nothing, Answer::Job(JOB, &[(JOB, "done")])]);
        assert_eq!(result, Ok(()));
        assert_eq!(calls[3], "ResetFailedUnit x.scope");
        let (result, calls) = started(vec![exists(), Answer::Nothing, exists()]);
        let error = result.unwrap_err();
        assert!(
            error.ends_with(
                "StartTransientUnit: Unit x.scope was already loaded or has a fragment file. (UnitExists)"
            ),
            "{error}"
        );
        assert!(!calls.iter().any(|call| call.starts_with("StopUnit")), "{calls:?}");
    }

    #[test]
    fn a_bus_that_goes_away_is_an_error() {
        let (result, _) = started(vec![Answer::Close]);
        assert!(result.unwrap_err().contains("the other side closed the connection"));
        let (result, _) = started(vec![Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")]);
        assert!(result.unwrap_err().contains("the answer is no D-Bus message"));
    }

    #[test]
    fn stopping_what_is_not_there_is_no_error() {
        let fake = Fake::new(vec![Answer::Error(NO_SUCH_UNIT, "Unit x.scope not loaded.")]);
        let mut manager = Manager::over(Bus::open(&fake.address()).unwrap());
        manager.stop("x.scope").unwrap();
    }

    #[test]
    fn a_bus_that_refuses_the_user_is_named() {
        let fake = Fake::refusing();
        let error = format!("{:#}", Bus::open(&fake.address()).unwrap_err());
        assert!(error.contains("the bus refuses this user: \"REJECTED EXTERNAL\""), "{error}");
        assert!(Bus::open("unix:path=/no/such/bus").is_err());
    }

    #[test]
    fn units_have_paths() {
        assert_eq!(object_name("runc-web.scope"), "runc_2dweb_2escope");
        assert_eq!(object_name("1-a_b.slice"), "_31_2da_5fb_2eslice");
    }

    #[test]
    fn versions_are_read_from_what_distributions_make_of_them() {
        for (text, version) in [
            ("252.39-1~deb12u1", 252),
            ("v245.4-1.fc32", 245),
            ("\"v245-1", 245),
            ("245", 245),
            ("239 (239-82)", 239),
        ] {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
        assert_eq!(parse_version("unknown"), None);
    }
}
