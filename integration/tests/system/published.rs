//! Published ports of containers in the background: who reaches them, and who holds them when.

use std::net::{TcpListener, UdpSocket};
use std::path::Path as FilePath;

use harness::host::Need::{Path, Root};
use harness::stage::until;
use harness::world::{fails, ok, say};
use harness::{Case, cases};

use crate::killed::{busy, kill_all};
use crate::network::{Host, Outside, answers, on_a_host, talk};
use crate::reach::{comes_back, echo, is_refused_or_lost, mirror};

const BUSYBOX: harness::host::Need = Path("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("published":
    ports_of_one_in_the_background_are_reached_from_everywhere [Root, BUSYBOX],
    ports_are_free_from_stop_to_start [Root, BUSYBOX],
    the_next_monitor_holds_the_ports_again [Root, BUSYBOX],
    a_port_that_cannot_be_held_again_is_told [Root, BUSYBOX],
);

impl Host {
    /// A container in the background.
    fn up(&self, name: &str, flags: &[&str], script: &str) {
        let words =
            [&["run", "-d", "--name", name], flags, &[self.image.as_str(), "sh", "-c", script]].concat();
        ok(&mut self.rcr(&words));
    }

    fn listed(&self, name: &str) -> String {
        ok(&mut self.rcr(&["ps", "-a", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"]))
    }

    /// Kills the only monitor.
    fn kill_the_monitor(&self) {
        let monitors = busy(&self.world, "rcr-monitor");
        assert_eq!(monitors.len(), 1);
        kill_all(&monitors);
        until("it is dead", || !FilePath::new(&format!("/proc/{}/exe", monitors[0])).exists());
    }
}

fn tcp_is_free() -> bool {
    TcpListener::bind("0.0.0.0:8080").is_ok() && TcpListener::bind("[::]:8080").is_ok()
}

fn udp_is_free() -> bool {
    UdpSocket::bind("0.0.0.0:5300").is_ok()
}

fn ports_of_one_in_the_background_are_reached_from_everywhere() {
    on_a_host(|host| {
        let outside = Outside::new();
        let flags = ["-p", "8080:80", "-p", "5300:53/udp", "-p", "127.0.0.1:9000:90"];
        host.up("web", &flags, "sleep 1000");
        host.up("other", &[], "sleep 1000");
        mirror(host.within("web", || TcpListener::bind("[::]:80").expect("a port")));
        mirror(host.within("web", || TcpListener::bind("0.0.0.0:90").expect("a port")));
        echo(host.within("web", || UdpSocket::bind("0.0.0.0:53").expect("a port")));
        for at in
            ["127.0.0.1:8080", "192.0.2.1:8080", "10.77.0.1:8080", "[2001:db8::1]:8080", "127.0.0.1:9000"]
        {
            talk(at);
        }
        assert!(outside.run(|| talk("192.0.2.1:8080")).ends_with("192.0.2.2"), "it is seen who calls");
        assert_eq!(outside.run(|| talk("[2001:db8::1]:8080")), "2001:db8::2");
        assert!(outside.run(|| is_refused_or_lost("192.0.2.1:9000")), "on loopback only");
        assert!(outside.run(|| comes_back("192.0.2.1:5300")) && comes_back("127.0.0.1:5300"));
        for from in ["web", "other"] {
            host.within(from, || talk("192.0.2.1:8080"));
            assert!(host.within(from, || comes_back("192.0.2.1:5300")), "hairpin from {from}");
        }
        assert_eq!(host.listed("web"), "0.0.0.0:8080->80/tcp, 0.0.0.0:5300->53/udp, 127.0.0.1:9000->90/tcp");
        ok(&mut host.rcr(&["rm", "-f", "web", "other"]));
        assert!(outside.run(|| is_refused_or_lost("192.0.2.1:8080")) && is_refused_or_lost("127.0.0.1:8080"));
        assert_eq!(host.leases(), 0);
    });
}

fn ports_are_free_from_stop_to_start() {
    on_a_host(|host| {
        host.up("web", &["-p", "8080:80", "-p", "5300:53/udp"], &answers("one", 80));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        assert!(!tcp_is_free() && !udp_is_free());
        for _ in 0..2 {
            ok(&mut host.rcr(&["stop", "-t", "0", "web"]));
            assert!(tcp_is_free() && udp_is_free());
            assert_eq!(host.listed("web"), "");
            assert_eq!(ok(&mut host.rcr(&["port", "web"])), "");
            ok(&mut host.rcr(&["start", "web"]));
            assert_eq!(talk("127.0.0.1:8080"), "one");
            assert!(!tcp_is_free() && !udp_is_free());
            assert_eq!(host.listed("web"), "0.0.0.0:8080->80/tcp, 0.0.0.0:5300->53/udp");
        }
        // Whoever takes it meanwhile has it.
        ok(&mut host.rcr(&["stop", "-t", "0", "web"]));
        host.up("other", &["-p", "8080:80"], &answers("two", 80));
        fails(&mut host.rcr(&["start", "web"]), 1, &["0.0.0.0:8080/tcp", "in use by container other"]);
        assert_eq!(talk("127.0.0.1:8080"), "two");
        assert!(udp_is_free(), "nothing of it is taken");
        ok(&mut host.rcr(&["rm", "-f", "other"]));
        ok(&mut host.rcr(&["restart", "-t", "0", "web"]));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        ok(&mut host.rcr(&["rm", "-f", "web"]));
        assert!(tcp_is_free() && udp_is_free());
        assert_eq!(host.leases(), 0);
    });
}

fn the_next_monitor_holds_the_ports_again() {
    on_a_host(|host| {
        host.up("web", &["-p", "8080:80", "-p", "5300:53/udp"], &answers("one", 80));
        for _ in 0..3 {
            host.kill_the_monitor();
            assert!(tcp_is_free() && udp_is_free(), "it was its monitor that held them");
            let said = say(&mut host.rcr(&["ps"]));
            assert_eq!((said.code, said.err.as_str()), (0, ""));
            assert!(!tcp_is_free() && !udp_is_free());
            assert_eq!(talk("127.0.0.1:8080"), "one");
            fails(&mut host.run(&["-p", "8080:80"], &["true"]), 125, &["in use by container web"]);
        }
        ok(&mut host.rcr(&["stop", "-t", "0", "web"]));
        assert!(tcp_is_free() && udp_is_free());
        ok(&mut host.rcr(&["rm", "web"]));
    });
}

fn a_port_that_cannot_be_held_again_is_told() {
    on_a_host(|host| {
        let outside = Outside::new();
        host.up("web", &["-p", "8080:80", "-p", "5300:53/udp"], &answers("one", 80));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        host.kill_the_monitor();
        let other = TcpListener::bind("0.0.0.0:8080").expect("nobody holds it");
        let said = say(&mut host.rcr(&["ps", "--format", "{{.Ports}}"]));
        // The rules stay: what is shown is true.
        assert_eq!(said.out, "0.0.0.0:8080->80/tcp, 0.0.0.0:5300->53/udp\n");
        assert_eq!(
            (talk("127.0.0.1:8080").as_str(), outside.run(|| talk("192.0.2.1:8080")).as_str()),
            ("one", "one")
        );
        for word in ["container web", "0.0.0.0:8080->80/tcp", "until it stops"] {
            assert!(said.err.contains(word), "{}", said.err);
        }
        assert!(said.code == 0 && said.err.lines().count() == 1, "{said:?}");
        assert!(!udp_is_free(), "the other one is held");
        assert_eq!(say(&mut host.rcr(&["ps"])).err, "", "told once");
        // From its end on the port is the other's.
        ok(&mut host.rcr(&["stop", "-t", "0", "web"]));
        other.set_nonblocking(true).expect("a socket");
        while other.accept().is_ok() {}
        outside.run(|| std::net::TcpStream::connect("192.0.2.1:8080").expect("it listens"));
        assert!(other.accept().is_ok());
        fails(&mut host.rcr(&["start", "web"]), 1, &["0.0.0.0:8080/tcp", "in use"]);
        drop(other);
        ok(&mut host.rcr(&["start", "web"]));
        assert_eq!(talk("127.0.0.1:8080"), "one");
        ok(&mut host.rcr(&["rm", "-f", "web"]));
    });
}
