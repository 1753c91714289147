//! The private network, on the real kernel: a "host" whose network namespace is made for each test,
//! an "outside" on its uplink, and sandboxes that are sleeping processes.
//!
//! Every test runs itself again under unshare(1), so that nothing on the machine is touched.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod private;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use garth::config::network::Publish;
use garth::journal::Journal;
use garth::network::pasta::Pasta;
use garth::network::{Leftovers, Pools, PrivateNetwork};
use garth::sys::netns::in_netns_of;
use private::Space;

/// What works comes within this time, also on a busy machine: after a second, TCP tries once more.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is to be silent is listened to for this long.
const SILENCE: Duration = Duration::from_millis(700);

/// Runs `test`, named `name`, on a private host.
fn on_a_private_host(name: &str, test: impl FnOnce(&Host)) {
    private::on_a_private_host(name, || test(&Host::new(name)));
}

struct Host {
    outside: Space,
    state: PathBuf,
}

impl Host {
    fn new(name: &str) -> Host {
        let state = env::temp_dir().join(format!("garth-test-{name}-{}", std::process::id()));
        let outside = Space::new();
        sh(&format!(
            "ip link set lo up
             ip link add up0 type veth peer name eth0 netns {pid}
             ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad
             ip link set up0 up",
            pid = outside.pid()
        ));
        outside.sh("ip link set lo up; ip link set eth0 up
             ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad");
        sh("ip route add default via 192.0.2.2; ip route add default via 2001:db8::2");
        Host { outside, state }
    }

    fn lease(&self, id: &str, publish: &[&str]) -> PrivateNetwork {
        let publish = publish.iter().flat_map(|text| Publish::parse(text).unwrap()).collect();
        PrivateNetwork::lease(&self.state, id, &Pools::default(), publish).unwrap()
    }

    fn sandbox(&self, id: &str, publish: &[&str]) -> Sandbox {
        let network = self.lease(id, publish);
        let mut ports = network.reserve().unwrap();
        ports.push(network.prepare(&self.journal()).unwrap());
        let space = Space::new();
        network.connect(space.pid()).unwrap();
        space.sh("ip link set lo up");
        Sandbox { network, space, _held: ports }
    }

    fn journal(&self) -> Journal {
        Journal::at(self.state.clone())
    }

    fn release(&self, sandbox: Sandbox) {
        sandbox.network.release(&self.state).unwrap();
    }

    fn elements(&self) -> String {
        let sets = ["publish4", "publish4_any", "publish6", "publish6_any"];
        let sets = sets.iter().map(|map| format!("map inet garth {map}"));
        let own = ["sandboxes4", "sandboxes6"].iter().map(|set| format!("set inet garth {set}"));
        sets.chain(own)
            // With the last sandbox, the table goes too.
            .map(|set| sh(&format!("nft list {set} 2>/dev/null || true")))
            .filter(|t| t.contains("elements"))
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.state);
    }
}

struct Sandbox {
    network: PrivateNetwork,
    space: Space,
    _held: Vec<OwnedFd>,
}

impl Space {
    fn sh(&self, script: &str) -> String {
        run(Command::new("nsenter").args([
            "-t",
            &self.pid().to_string(),
            "-n",
            "sh",
            "-ec",
            script,
        ]))
    }

    fn visit<T>(&self, visit: impl FnOnce() -> T) -> T {
        in_netns_of(self.pid(), visit).unwrap()
    }

    /// Answers every TCP connection and every UDP packet to `port` with the caller's address.
    fn serve(&self, port: u16) {
        self.visit(|| serve(port));
    }

    /// The answer of a server at `address`: the peer address it sees.
    fn ask(&self, address: &str) -> io::Result<IpAddr> {
        self.visit(|| ask(address))
    }

    fn reaches(&self, address: &str) -> bool {
        self.visit(|| reaches(address))
    }

    fn ask_udp(&self, address: &str) -> io::Result<IpAddr> {
        self.visit(|| ask_udp(&udp_client(address), address))
    }
}
fn serve(port: u16) {
    let tcp = TcpListener::bind(("::", port)).unwrap();
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(peer.to_string().as_bytes());
        }
    });
    let udp = UdpSocket::bind(("::", port)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
        }
    });
}

fn ask(address: &str) -> io::Result<IpAddr> {
    ask_within(PATIENCE, address)
}

fn reaches(address: &str) -> bool {
    ask_within(SILENCE, address).is_ok()
}

fn ask_within(patience: Duration, address: &str) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.parse().unwrap())
}

fn udp_client(address: &str) -> UdpSocket {
    let socket = match address.parse::<SocketAddr>().unwrap().is_ipv4() {
        true => UdpSocket::bind("0.0.0.0:0").unwrap(),
        false => UdpSocket::bind("[::]:0").unwrap(),
    };
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

fn ask_udp(socket: &UdpSocket, address: &str) -> io::Result<IpAddr> {
    socket.send_to(b"who am I", address)?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn sh(script: &str) -> String {
    run(Command::new("sh").args(["-ec", script]))
}

fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_sandbox_has_addresses_and_routes_of_both_families() {
    on_a_private_host("a_sandbox_has_addresses_and_routes_of_both_families", |host| {
        sh("ip link set up0 mtu 1400");
        let web = host.sandbox("web", &[]);
        let network = &web.network;
        let addresses = web.space.sh("ip -o addr show dev eth0 scope global");
        assert!(addresses.contains(&format!("inet {}/31", network.inner4)), "{addresses}");
        assert!(
            addresses.contains(&format!("inet6 {}/127", network.inner6.unwrap())),
            "{addresses}"
        );
        assert!(!addresses.contains("tentative"), "{addresses}");
        let routes = web.space.sh("ip route; ip -6 route");
        assert!(routes.contains(&format!("default via {} dev eth0", network.host4)), "{routes}");
        assert!(routes.contains(&format!("default via {} dev eth0", network.host6.unwrap())));
        assert!(web.space.sh("ip link show eth0").contains("mtu 1400"));
        assert_eq!(network.uplinks, ["up0"]);
        assert_eq!(network.link.len(), 13);
        let link = sh(&format!("ip -d addr show {}", network.link));
        assert!(!link.contains("fe80:"), "{link}");
        let sysctl = |key: &str| sh(&format!("cat /proc/sys/net/{key}")).trim().to_owned();
        assert_eq!(sysctl("ipv4/conf/all/forwarding"), "0");
        assert_eq!(sysctl("ipv6/conf/all/forwarding"), "0");
        assert_eq!(sysctl(&format!("ipv6/conf/{}/accept_ra", network.link)), "0");
        assert_eq!(sysctl("ipv4/conf/up0/route_localnet"), "0");
    });
}

#[test]
fn the_outside_reaches_a_published_port_and_keeps_its_address() {
    on_a_private_host("the_outside_reaches_a_published_port_and_keeps_its_address", |host| {
        let web = host.sandbox("web", &["0.0.0.0:8080:80", "[::]:8080:80", "192.0.2.1:9090:80"]);
        web.space.serve(80);
        assert_eq!(host.outside.ask("192.0.2.1:8080").unwrap(), ip("192.0.2.2"));
        assert_eq!(host.outside.ask("[2001:db8::1]:8080").unwrap(), ip("2001:db8::2"));
        assert_eq!(host.outside.ask("192.0.2.1:9090").unwrap(), ip("192.0.2.2"));
        // From the host itself, by each of its names.
        assert_eq!(ask("192.0.2.1:8080").unwrap(), ip("192.0.2.1"));
        assert_eq!(ask("[2001:db8::1]:8080").unwrap(), ip("2001:db8::1"));
        assert_eq!(ask("127.0.0.1:8080").unwrap(), ip(&web.network.host4.to_string()));
        assert!(ask("[::1]:8080").is_ok());
        assert!(!reaches("127.0.0.1:9090"));
    });
}

#[test]
fn a_loopback_publish_is_for_the_host_only() {
    on_a_private_host("a_loopback_publish_is_for_the_host_only", |host| {
        let web = host.sandbox("web", &["8080:80", "8081:81/udp"]);
        web.space.serve(80);
        assert_eq!(ask("127.0.0.1:8080").unwrap(), IpAddr::from(web.network.host4));
        assert_eq!(ask("[::1]:8080").unwrap(), IpAddr::from(web.network.host6.unwrap()));
        assert_eq!(
            ask_udp(&udp_client("127.0.0.1:1"), "127.0.0.1:8080").unwrap_err().kind(),
            ErrorKind::WouldBlock
        );

        assert!(!host.outside.reaches("192.0.2.1:8080"));
        assert!(!host.outside.reaches("[2001:db8::1]:8080"));
        // A neighbour may put 127.0.0.1 or the sandbox's own address in a packet.
        host.outside.sh("ip addr flush dev lo; ip link set lo down
             echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
             ip route add 127.0.0.1 via 192.0.2.1; ip -6 route add ::1 via 2001:db8::1 metric 1
             ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1");
        let socket = web.space.visit(|| UdpSocket::bind("[::]:81")).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let arrives = || socket.recv(&mut [0; 8]).is_ok();
        udp_client("127.0.0.1:1").send_to(b"x", "127.0.0.1:8081").unwrap();
        assert!(arrives());
        host.outside.visit(|| udp_client("127.0.0.1:1").send_to(b"x", "127.0.0.1:8081").unwrap());
        assert!(!arrives());
        assert!(!host.outside.reaches("127.0.0.1:8080"));
        assert!(!host.outside.reaches("[::1]:8080"));
        assert!(!host.outside.reaches(&format!("{}:80", web.network.inner4)));
        assert!(!host.outside.reaches(&format!("[{}]:80", web.network.inner6.unwrap())));
    });
}

#[test]
fn udp_is_published_and_a_client_follows_to_the_next_sandbox() {
    on_a_private_host("udp_is_published_and_a_client_follows_to_the_next_sandbox", |host| {
        let ports = ["0.0.0.0:53:5353/udp", "[::]:53:5353/udp"];
        let client = host.outside.visit(|| udp_client("192.0.2.1:53"));
        // With no sandbox yet, the flow is tracked as one to the host.
        let _tracking = host.sandbox("other", &["9999:9999"]);
        assert!(ask_udp(&client, "192.0.2.1:53").is_err());
        let first = host.sandbox("first", &ports);
        first.space.serve(5353);
        assert_eq!(ask_udp(&client, "192.0.2.1:53").unwrap(), ip("192.0.2.2"));
        assert_eq!(host.outside.ask_udp("[2001:db8::1]:53").unwrap(), ip("2001:db8::2"));
        assert!(ask_udp(&udp_client("127.0.0.1:1"), "127.0.0.1:53").is_ok());
        assert!(ask_udp(&udp_client("[::1]:1"), "[::1]:53").is_ok());
        first.network.release_link().unwrap();
        host.release(first);
        let second = host.sandbox("second", &ports);
        second.space.serve(5353);
        assert_eq!(ask_udp(&client, "192.0.2.1:53").unwrap(), ip("192.0.2.2"));
    });
}

#[test]
fn a_sandbox_goes_out_with_the_address_of_the_host() {
    on_a_private_host("a_sandbox_goes_out_with_the_address_of_the_host", |host| {
        let web = host.sandbox("web", &[]);
        host.outside.serve(80);
        assert_eq!(web.space.ask("192.0.2.2:80").unwrap(), ip("192.0.2.1"));
        assert_eq!(web.space.ask("[2001:db8::2]:80").unwrap(), ip("2001:db8::1"));
        assert_eq!(web.space.ask_udp("192.0.2.2:80").unwrap(), ip("192.0.2.1"));
    });
}

#[test]
fn a_sandbox_reaches_neither_others_nor_the_host_but_published_ports() {
    on_a_private_host(
        "a_sandbox_reaches_neither_others_nor_the_host_but_published_ports",
        |host| {
            let a = host.sandbox("a", &[]);
            let b = host.sandbox("b", &["0.0.0.0:8080:80", "[::]:8080:80"]);
            b.space.serve(80);
            serve(22);
            for port in [22, 80] {
                assert!(!a.space.reaches(&format!("{}:{port}", b.network.inner4)));
                assert!(!a.space.reaches(&format!("[{}]:{port}", b.network.inner6.unwrap())));
            }
            for address in ["192.0.2.1:22", "[2001:db8::1]:22"] {
                assert!(!a.space.reaches(address));
            }
            assert!(!a.space.reaches(&format!("{}:22", a.network.host4)));
            assert!(!a.space.reaches(&format!("[{}]:22", a.network.host6.unwrap())));

            assert_eq!(a.space.ask("192.0.2.1:8080").unwrap(), IpAddr::from(a.network.inner4));
            assert_eq!(
                a.space.ask("[2001:db8::1]:8080").unwrap(),
                IpAddr::from(a.network.inner6.unwrap())
            );
            // It calls itself at the host's address.
            assert_eq!(b.space.ask("192.0.2.1:8080").unwrap(), IpAddr::from(b.network.host4));
            assert_eq!(
                b.space.ask("[2001:db8::1]:8080").unwrap(),
                IpAddr::from(b.network.host6.unwrap())
            );
        },
    );
}

#[test]
fn a_sandbox_cannot_use_a_source_address_that_is_not_its_own() {
    on_a_private_host("a_sandbox_cannot_use_a_source_address_that_is_not_its_own", |host| {
        let a = host.sandbox("a", &[]);
        a.space.sh("ip addr add 203.0.113.9/32 dev lo
             ip addr add 2001:db8:9::9/128 dev lo nodad");
        let server = host.outside.visit(|| udp_client("[::1]:1"));
        let port = server.local_addr().unwrap().port();
        let arrives = |from: IpAddr, to: &str| {
            let client = a.space.visit(|| UdpSocket::bind((from, 0))).unwrap();
            client.send_to(b"x", (ip(to), port)).unwrap();
            server.recv(&mut [0; 8]).is_ok()
        };
        assert!(arrives(a.network.inner4.into(), "192.0.2.2"));
        assert!(arrives(a.network.inner6.unwrap().into(), "2001:db8::2"));
        assert!(!arrives(ip("203.0.113.9"), "192.0.2.2"));
        assert!(!arrives(ip("2001:db8:9::9"), "2001:db8::2"));
        // Nor does it reach the host's loopback with a packet to 127.0.0.1.
        a.space.sh(&format!(
            "ip addr flush dev lo; ip link set lo down
             echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
             ip route add 127.0.0.1 via {host4}
             ping -c 1 -W 1 {host4}; ! ping -c 1 -W 1 127.0.0.1",
            host4 = a.network.host4
        ));
    });
}

#[test]
fn opening_the_uplink_for_sandboxes_does_not_open_it_for_others() {
    on_a_private_host("opening_the_uplink_for_sandboxes_does_not_open_it_for_others", |host| {
        let lan = Space::new();
        sh(&format!(
            "ip link add lan0 type veth peer name eth0 netns {}
             ip addr add 198.51.100.1/24 dev lan0; ip addr add 2001:db8:1::1/64 dev lan0 nodad
             ip link set lan0 up",
            lan.pid()
        ));
        lan.sh("ip link set lo up; ip link set eth0 up
             ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8:1::2/64 dev eth0 nodad
             ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1");
        host.outside.sh("ip route add 198.51.100.0/24 via 192.0.2.1; ip -6 route add 2001:db8:1::/64 via 2001:db8::1");
        lan.serve(80);
        host.outside.serve(80);
        let forwarding = |link: &str| {
            sh(&format!("cd /proc/sys/net; cat ipv4/conf/{link}/forwarding")).trim() == "1"
        };
        assert!(!forwarding("up0"));

        let web = host.sandbox("web", &["0.0.0.0:8080:80", "[::]:8080:80"]);
        web.space.serve(80);
        assert!(forwarding("up0") && forwarding("lan0"));
        assert!(!host.outside.reaches("198.51.100.2:80"));
        assert!(!host.outside.reaches("[2001:db8:1::2]:80"));
        assert!(!lan.reaches("192.0.2.2:80"));
        assert!(!lan.reaches("[2001:db8::2]:80"));
        // Both reach the published port, and the sandbox reaches the outside.
        assert_eq!(host.outside.ask("192.0.2.1:8080").unwrap(), ip("192.0.2.2"));
        assert_eq!(lan.ask("198.51.100.1:8080").unwrap(), ip("198.51.100.2"));
        assert_eq!(lan.ask("[2001:db8:1::1]:8080").unwrap(), ip("2001:db8:1::2"));
        assert!(web.space.ask("192.0.2.2:80").is_ok());
        assert!(web.space.ask("198.51.100.2:80").is_ok());
    });
}

#[test]
fn a_kernel_without_forwarding_by_interface_stays_closed_to_others() {
    on_a_private_host("a_kernel_without_forwarding_by_interface_stays_closed_to_others", |host| {
        // Linux before 6.17 has no force_forwarding; hide it, and leave the switch for all.
        let dir = host.state.join("all");
        fs::create_dir_all(&dir).unwrap();
        sh(&format!(
            "mount --bind /proc/sys/net/ipv6/conf/all {dir}
             cd /proc/sys/net/ipv6/conf/all; mount -t tmpfs tmpfs .; cd ../all
             touch forwarding; mount --bind {dir}/forwarding forwarding",
            dir = dir.display()
        ));
        let lan = Space::new();
        sh(&format!(
            "ip link add lan0 type veth peer name eth0 netns {}
             ip addr add 2001:db8:1::1/64 dev lan0 nodad; ip link set lan0 up",
            lan.pid()
        ));
        lan.sh("ip link set eth0 up; ip addr add 2001:db8:1::2/64 dev eth0 nodad
             ip -6 route add default via 2001:db8:1::1");
        host.outside.sh("ip -6 route add 2001:db8:1::/64 via 2001:db8::1");
        host.outside.serve(80);
        lan.serve(80);
        let web = host.sandbox("web", &["[::]:8080:80"]);
        web.space.serve(80);
        let read =
            |key: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{key}")).unwrap();
        assert_eq!(read("all/forwarding"), "1\n");
        assert_eq!(read("up0/force_forwarding"), "0\n");
        assert_eq!(read("up0/accept_ra"), "2\n");
        assert_eq!(web.space.ask("[2001:db8::2]:80").unwrap(), ip("2001:db8::1"));
        assert_eq!(host.outside.ask("[2001:db8::1]:8080").unwrap(), ip("2001:db8::2"));
        assert!(!host.outside.reaches("[2001:db8:1::2]:80"));
        assert!(!lan.reaches("[2001:db8::2]:80"));
        sh(&format!(
            "umount /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/all; umount {}",
            dir.display()
        ));
    });
}

#[test]
fn what_will_be_done_is_told_and_nothing_is_taken() {
    on_a_private_host("what_will_be_done_is_told_and_nothing_is_taken", |host| {
        let publish = ["8080:80", "[::]:53:53/udp"].map(|text| Publish::parse(text).unwrap());
        let config = Pools::default();
        let network =
            PrivateNetwork::propose(&host.state, "web", &config, publish.concat()).unwrap();
        assert_eq!(
            network.describe().join("\n"),
            "lease address 10.231.61.227
reserve tcp port 8080 of 127.0.0.1 and ::1
reserve udp port 53 of ::
turn on IPv4 forwarding on up0, dropping traffic that is not for a sandbox
turn on IPv6 forwarding on up0, dropping traffic that is not for a sandbox
publish tcp port 80 as 8080 on loopback (-p 0.0.0.0:8080:80 or -p [::]:8080:80 for all)
publish [::]:53:53/udp in table inet garth
link garth0ae73de3 to eth0 in the sandbox, mtu 1500
address garth0ae73de3 10.231.61.226/31 and fd67:6172:7468::ae7:3de2/127
address eth0 10.231.61.227/31 and fd67:6172:7468::ae7:3de3/127
default route via 10.231.61.226 and fd67:6172:7468::ae7:3de2"
        );
        assert!(!host.state.exists());
    });
}

#[test]
fn a_port_in_use_is_named() {
    on_a_private_host("a_port_in_use_is_named", |host| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let network = host.lease("web", &["8080:80"]);
        let error = network.reserve().unwrap_err().to_string();
        assert!(
            error.starts_with("-p 8080:80: port 8080 is in use on 127.0.0.1; `ss -lnp"),
            "{error}"
        );
        // A server that has ended may leave connections in TIME_WAIT.
        let client = TcpStream::connect("127.0.0.1:8080").unwrap();
        drop(listener.accept().unwrap());
        drop(client);
        drop(listener);
        let _ports = network.reserve().unwrap();
        assert!(TcpListener::bind("127.0.0.1:8080").is_err());
        assert!(TcpListener::bind("[::1]:8080").is_err());

        let error = host.lease("far", &["192.0.2.77:80:80"]).reserve().unwrap_err().to_string();
        assert!(error.starts_with("-p 192.0.2.77:80:80: this host has no address"), "{error}");
    });
}

#[test]
fn a_port_of_another_sandbox_is_named_and_stays_its() {
    on_a_private_host("a_port_of_another_sandbox_is_named_and_stays_its", |host| {
        let first = host.sandbox("first", &["8080:80"]);
        first.space.serve(80);
        let second = host.lease("second", &["7000-7010:7000-7010", "8080:80"]);
        let error = second.prepare(&host.journal()).unwrap_err().to_string();
        assert!(
            error.starts_with("-p 8080:80: port 8080 is published by another sandbox"),
            "{error}"
        );
        // What was not made is not removed.
        second.release(&host.state).unwrap();
        assert!(ask("127.0.0.1:8080").is_ok());
        assert!(!host.elements().contains("7000"));
    });
}

#[test]
fn release_leaves_nothing_however_often_it_is_done() {
    on_a_private_host("release_leaves_nothing_however_often_it_is_done", |host| {
        let ports = ["8080:80", "0.0.0.0:9000-9100:9000-9100", "[::]:53:53/udp"];
        let lease_only = host.lease("lease-only", &ports);
        lease_only.release(&host.state).unwrap();
        let web = host.sandbox("web", &ports);
        assert!(host.elements().contains("9100"));
        assert_eq!(fs::read_dir(host.state.join("leases")).unwrap().count(), 1);
        // As read from the journal.
        let record = serde_json::to_string(&web.network).unwrap();
        drop(web);
        let network: PrivateNetwork = serde_json::from_str(&record).unwrap();
        network.release(&host.state).unwrap();
        network.release(&host.state).unwrap();
        assert_eq!(host.elements(), "");
        assert_eq!(fs::read_dir(host.state.join("leases")).unwrap().count(), 0);

        // The table goes too, after a while in which no other sandbox has used it.
        let has_gone = || !sh("nft list tables").contains("garth");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !has_gone() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(has_gone());
    });
}

#[test]
fn nobody_else_changes_the_table() {
    on_a_private_host("nobody_else_changes_the_table", |host| {
        let a = host.sandbox("a", &["8080:80"]);
        a.space.serve(80);
        sh("nft flush ruleset");
        for words in [
            "delete table inet garth",
            "flush chain inet garth forward",
            "delete element inet garth publish4 { tcp . 127.0.0.1 . 8080 }",
        ] {
            let nft = Command::new("nft").arg(words).stderr(Stdio::null()).status().unwrap();
            assert!(!nft.success(), "{words}");
        }
        assert!(ask("127.0.0.1:8080").is_ok());
    });
}

#[test]
fn leftovers_are_found_and_removed() {
    on_a_private_host("leftovers_are_found_and_removed", |host| {
        let live = HashSet::from(["live".to_owned()]);
        assert!(Leftovers::find(&host.state, || Ok(live.clone())).unwrap().is_empty());
        let kept = host.sandbox("live", &["8080:80"]);
        kept.space.serve(80);
        let dead = host.sandbox("dead", &["0.0.0.0:9090:80", "[::1]:9091:80"]);
        let found = Leftovers::find(&host.state, || Ok(live.clone())).unwrap();
        assert_eq!(found.links, std::slice::from_ref(&dead.network.link));
        assert_eq!(found.elements, [dead.network.inner4]);
        let owner = format!("dead {:016x}", dead.network.number);
        assert_eq!(found.leases, [(dead.network.inner4, owner)]);
        found.remove(&host.state).unwrap();
        assert!(Leftovers::find(&host.state, || Ok(live.clone())).unwrap().is_empty());
        assert!(!host.elements().contains("909"));
        assert!(ask("127.0.0.1:8080").is_ok());
        dead.network.release_link().unwrap();
    });
}

#[test]
fn a_pool_that_the_host_uses_is_passed_over_or_named() {
    on_a_private_host("a_pool_that_the_host_uses_is_passed_over_or_named", |host| {
        sh("ip route add 10.231.0.0/16 via 192.0.2.2");
        let network = host.lease("web", &[]);
        assert_eq!(network.inner4.octets()[..2], [172, 30]);
        let pool4 = vec!["10.231.5.0/24".parse().unwrap()];
        let config = Pools { pool4, ..Pools::default() };
        let error =
            PrivateNetwork::lease(&host.state, "b", &config, vec![]).unwrap_err().to_string();
        assert!(
            error.contains("10.231.5.0/24 collides with the route 10.231.0.0/16 on up0"),
            "{error}"
        );
        // The two halves by which a VPN takes over the default route are not a collision.
        sh("ip route del 10.231.0.0/16; ip route add 0.0.0.0/1 via 192.0.2.2");
        assert_eq!(host.lease("c", &[]).inner4.octets()[..2], [10, 231]);
        // Pools that collided leave no lease behind.
        assert_eq!(fs::read_dir(host.state.join("leases")).unwrap().count(), 2);
    });
}

#[test]
fn twenty_sandboxes_start_at_once() {
    on_a_private_host("twenty_sandboxes_start_at_once", |host| {
        host.outside.serve(80);
        let sandboxes: Vec<Sandbox> = thread::scope(|scope| {
            let start = |n: u16| {
                scope.spawn(move || {
                    let sandbox = host.sandbox(&format!("s{n}"), &[&format!("{}:80", 8000 + n)]);
                    sandbox.space.serve(80);
                    assert!(sandbox.space.ask("192.0.2.2:80").is_ok());
                    sandbox
                })
            };
            let all: Vec<_> = (0..20).map(start).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: HashSet<_> = sandboxes.iter().map(|s| s.network.inner4).collect();
        assert_eq!(addresses.len(), 20);
        for n in 0..20 {
            assert!(ask(&format!("127.0.0.1:{}", 8000 + n)).is_ok());
            assert!(ask(&format!("[::1]:{}", 8000 + n)).is_ok());
        }
        for sandbox in sandboxes {
            host.release(sandbox);
        }
        assert_eq!(host.elements(), "");
    });
}

#[test]
fn a_long_range_is_published_and_released() {
    on_a_private_host("a_long_range_is_published_and_released", |host| {
        let network = host.lease("web", &["0.0.0.0:10000-19999:10000-19999"]);
        network.prepare(&host.journal()).unwrap();
        assert!(host.elements().contains("19999"));
        network.release(&host.state).unwrap();
        assert_eq!(host.elements(), "");
    });
}

#[test]
fn the_table_reads_as_it_is_documented() {
    on_a_private_host("the_table_reads_as_it_is_documented", |host| {
        let network = host.lease("web", &[]);
        let _kept = network.prepare(&host.journal()).unwrap();
        let listed = sh("nft -s list table inet garth");
        // Its owner, and what kernels before 6.9 cannot do.
        let owner = |line: &&str| line.contains("# progname") || line.contains("\tflags owner");
        let listed: Vec<&str> = listed.lines().filter(|line| !owner(line)).collect();
        let listed = listed.join("\n") + "\n";
        let listed = listed.replace(&format!("{:016x}", network.number), "NUMBER");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network.nft");
        if env::var_os("GARTH_BLESS").is_some() {
            fs::write(&golden, &listed).unwrap();
        }
        assert_eq!(listed, fs::read_to_string(golden).unwrap());
    });
}

#[test]
fn pasta_publishes_without_root() {
    on_a_private_host("pasta_publishes_without_root", |host| {
        garth_needs::needs!(userns);
        let Some(program) = garth_needs::which("pasta") else {
            garth_needs::skip("program", "the program pasta");
            return;
        };
        // It changes to the user nobody before it opens the device; the mount namespace is ours.
        sh("mount -t tmpfs tmpfs /dev/net; mknod -m 666 /dev/net/tun c 10 200");
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let child = Command::new("setpriv")
            .args(user)
            .args(["unshare", "--user", "--map-root-user", "--net", "sleep", "1000"])
            .spawn()
            .unwrap();
        let there = format!("/proc/{}/ns/net", child.id());
        while fs::read_link(&there).unwrap() == fs::read_link("/proc/self/ns/net").unwrap()
            || !fs::read_to_string(format!("/proc/{}/gid_map", child.id())).unwrap().contains('1')
        {
            thread::yield_now();
        }
        let space = Space(child);
        fs::create_dir_all(&host.state).unwrap();
        sh(&format!("chmod 777 {}", host.state.display()));
        let publish = Publish::parse("8080:80").unwrap();
        let pid_file = host.state.join("pasta.pid");
        let pasta = Pasta { pasta: Some(program), slirp: None, pid_file, publish };
        assert_eq!(pasta.begin(space.pid()).unwrap(), "pasta");
        space.serve(80);
        assert!(ask("127.0.0.1:8080").is_ok());
        assert!(!host.outside.reaches("192.0.2.1:8080"));
        pasta.end().unwrap();
        assert!(!reaches("127.0.0.1:8080"));
    });
}

/// `cargo test -- --ignored --nocapture measure`: microseconds, medians of 50.
#[test]
#[ignore = "prints figures and asserts nothing"]
fn measure() {
    on_a_private_host("measure", |host| {
        // All stay: the death of a namespace holds the kernel's network lock for tens of ms.
        let (mut spaces, mut held) = (Vec::new(), Vec::new());
        // Nor is the table remade each time.
        held.push(host.lease("first", &[]).prepare(&host.journal()).unwrap());
        for publish in [&[] as &[&str], &["8080:80"]] {
            let mut times: [Vec<u128>; 5] = Default::default();
            for n in 0..51 {
                let space = Space::new();
                let mut marks = vec![Instant::now()];
                let network = host.lease(&format!("m{}-{n}", publish.len()), publish);
                marks.push(Instant::now());
                held.push(network.prepare(&host.journal()).unwrap());
                marks.push(Instant::now());
                network.connect(space.pid()).unwrap();
                marks.push(Instant::now());
                network.release(&host.state).unwrap();
                marks.push(Instant::now());
                spaces.push(space);
                // What nftables still has to free must not count as the next start's time.
                thread::sleep(Duration::from_millis(40));
                if n > 0 {
                    for (all, mark) in times.iter_mut().zip(marks.windows(2)) {
                        all.push((mark[1] - mark[0]).as_micros());
                    }
                    times[4].push((marks[3] - marks[1]).as_micros());
                }
            }
            println!("publishing {publish:?}");
            let names = ["lease", "prepare", "connect", "release", "prepare + connect"];
            for (name, all) in names.iter().zip(&mut times) {
                all.sort();
                println!("{name:17} p10 {:5} median {:5} p90 {:5} µs", all[5], all[25], all[45]);
            }
        }
    });
}
