//! The servers of names of networks: started when a container needs one, started again when one was killed, and told what
//! is kept of containers.
//!
//! A server is this program under another name, begun anew so that it has little memory of its own, and without a parent,
//! a terminal or a capability.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use network::{Attachment, Member, NameServer, Network};
use nix::unistd;
use sys::clone::{Options, clone3};
use sys::process::{Capabilities, close_on_exec_from, set_capabilities, set_no_new_privileges};

use crate::connection::Joined;
use crate::link::Named;
use crate::options::RunOptions;
use crate::{Engine, Error, connection, host, name};

/// The name by which this program is a server of names: `rcr-names ROOT RUNROOT NETWORK`.
pub const NAME_SERVER: &str = "rcr-names";

/// Makes sure that the containers of a network find each other by name, if it is a network where they do. One of them
/// holds an address there already.
pub(crate) fn ensure(engine: &Engine, network: &Network) -> Result<(), Error> {
    if network.name_server().is_none() { Ok(()) } else { run(engine, network) }
}

/// Lets a container on a network without names ask the host's resolvers where all of them listen on loopback, which is the
/// host's own: a server on the bridge passes its questions on. Where another one has the port, it is that one that hears them.
pub(crate) fn stand_in(
    engine: &Engine,
    network: &Network,
    attachment: &mut Attachment,
    options: &RunOptions,
) {
    let Some(ip) = network.stand_in().filter(|_| options.dns.servers.is_empty()) else { return };
    if !network::names_loopback_only(&host::resolv_conf(&options.network)) {
        return;
    }
    let place = engine.networks().name_server(&network.id);
    let is_others = || {
        let taken = UdpSocket::bind((ip, 53)).err().is_some_and(|e| e.kind() == ErrorKind::AddrInUse);
        taken && !place.answers()
    };
    // One of ours may just be ending.
    let others = (0..3).all(|_| {
        is_others() && {
            sleep(Duration::from_millis(20));
            true
        }
    });
    match if others { Ok(()) } else { run(engine, network) } {
        Ok(()) => attachment.resolver = Some(ip),
        // That it has none is told when its files are written.
        Err(error) => tracing::debug!("a server of names for network {}: {error}", network.name),
    }
}

fn run(engine: &Engine, network: &Network) -> Result<(), Error> {
    let place = engine.networks().name_server(&network.id);
    // One that has found nobody to serve a moment ago ends without an answer.
    for _ in 0..3 {
        if place.answers() {
            return Ok(());
        }
        start(engine, network)?;
    }
    Err(Error::Invalid(format!("network {}: the server of names ends again and again", network.name)))
}

/// Starts servers again that were killed while they were needed, and clears away what others left. Costs a look at a
/// directory that is not there unless networks with names are in use.
pub(crate) fn revive(engine: &Engine) {
    let networks = engine.networks();
    for place in networks.name_servers() {
        if place.is_there() {
            continue;
        }
        let needed = networks
            .find(place.network())
            .ok()
            .filter(|network| networks.leases(network).list().is_ok_and(|leases| !leases.is_empty()));
        let revived = match needed {
            Some(network) => start(engine, &network),
            None => place.clear().map_err(Error::from),
        };
        if let Err(error) = revived {
            // This command has other work; the next container of the network tells its user.
            tracing::debug!("names of network {}: {error}", place.network());
        }
    }
}

/// Returns when it listens.
fn start(engine: &Engine, network: &Network) -> Result<(), Error> {
    let what = || format!("start the server of names of network {}", network.name);
    let fail = || Error::io(what());
    // It must hold nothing open that this process got from its caller.
    close_on_exec_from(3).map_err(fail())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME_SERVER).arg(&engine.root).arg(&engine.runroot).arg(&network.id);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().map_err(fail())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Invalid(format!("{}: {}", what(), said.trim_end())))
}

/// Is the server of names that its arguments, `ROOT RUNROOT NETWORK`, describe: returns when it listens, in a process of its
/// own, or when another one does.
///
/// # Errors
/// It cannot listen, for instance because another DNS server listens on every address of the host.
pub fn serve_names(args: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let args: Vec<OsString> = args.collect();
    let [root, runroot, id] = args.as_slice() else {
        return Err(Error::Invalid(format!("{NAME_SERVER} wants ROOT RUNROOT NETWORK")));
    };
    let engine = Engine { root: PathBuf::from(root), runroot: PathBuf::from(runroot) };
    let network = engine.networks().find(&id.to_string_lossy())?;
    let server = match engine.networks().serve_names(&network) {
        Ok(Some(server)) => server,
        Ok(None) => return Ok(()),
        Err(network::Error::Io { what, source }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            let cure =
                "another DNS server of the host listens on every address; let it listen on its own only";
            return Err(Error::Invalid(format!("{what}: {cure}")));
        }
        Err(error) => return Err(error.into()),
    };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(Error::io("open \"/dev/null\""))?;
    clone3(&Options::default(), || i32::from(stay(&engine, server, null).is_err()))
        .map_err(Error::io("make a process"))?;
    Ok(())
}

/// The rest of its life, in a session of its own.
fn stay(engine: &Engine, server: NameServer, null: File) -> Result<(), Error> {
    let fail = || Error::io("leave the caller");
    unistd::setsid().map_err(|e| fail()(e.into()))?;
    unistd::chdir("/").map_err(|e| fail()(e.into()))?;
    if let Ok(name) = CString::new(NAME_SERVER) {
        // A name is a convenience.
        let _ = nix::sys::prctl::set_name(&name);
    }
    // Nothing it does needs a right that the owner of its files has not.
    set_no_new_privileges().map_err(fail())?;
    set_capabilities(Capabilities::default()).map_err(fail())?;
    unistd::dup2_stdin(&null).map_err(|e| fail()(e.into()))?;
    unistd::dup2_stdout(&null).map_err(|e| fail()(e.into()))?;
    // Last, because the caller waits for its end.
    unistd::dup2_stderr(&null).map_err(|e| fail()(e.into()))?;
    drop(null);
    server.serve(&|id| look_up(engine, id)).map_err(fail())
}

fn look_up(engine: &Engine, id: &str) -> Option<Member> {
    if !name::is_id(id) {
        return None;
    }
    let dir = engine.container(id);
    let Joined { attachments, servers, .. } = connection::read(&dir)?;
    let Named { name, hostname, options } = Named::read(&dir)?;
    let names = vec![name, name::short(id).to_owned(), hostname];
    Some(Member { names, attachments, links: options.links, servers })
}
