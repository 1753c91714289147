//! The network request: which one, and which of the sandbox's ports the host publishes.
//!
//! `-p` is written as in docker and podman, `[ip:]host:container[/tcp|udp]`, with one difference:
//! without an address a port is published on loopback only, of both families. To be reachable from
//! elsewhere, it needs an address: `-p 0.0.0.0:8080:80`, `-p [::]:8080:80`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which network a sandbox gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own, with an address and a way out through the host.
    #[default]
    Private,
    /// Its own, with an address but no way out: for what is connected to and does not connect.
    Internal,
    /// Its own, with nothing but loopback.
    None,
    /// The host's.
    Host,
    /// That of an existing namespace, a file such as `/run/netns/blue`.
    Join(PathBuf),
}

impl Network {
    /// Whether the sandbox has an address of its own.
    pub fn has_address(&self) -> bool {
        matches!(self, Network::Private | Network::Internal)
    }

    /// Whether it is the sandbox's own.
    pub fn is_own(&self) -> bool {
        self.has_address() || *self == Network::None
    }
}

impl FromStr for Network {
    type Err = Error;

    /// `private`, `internal`, `none`, `host` or `ns:PATH`.
    fn from_str(text: &str) -> Result<Network> {
        match text {
            "private" => Ok(Network::Private),
            "internal" => Ok(Network::Internal),
            "none" => Ok(Network::None),
            "host" => Ok(Network::Host),
            _ => match text.strip_prefix("ns:") {
                Some(path) if path.starts_with('/') => Ok(Network::Join(path.into())),
                Some(_) => Err(Error::new(format!("network {text}: the path is not absolute"))
                    .hint("write it as ns:/run/netns/NAME")),
                None => Err(Error::new(format!("network {text}: unknown kind"))
                    .hint("use private, internal, none, host or ns:PATH")),
            },
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Private => f.write_str("private"),
            Network::Internal => f.write_str("internal"),
            Network::None => f.write_str("none"),
            Network::Host => f.write_str("host"),
            Network::Join(path) => write!(f, "ns:{}", path.display()),
        }
    }
}

/// A transport protocol that can be published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// One published port: what reaches `host_port` on the host reaches `port` in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address; the unspecified address is every address of its family, `None` is
    /// loopback of both families.
    pub host: Option<IpAddr>,
    /// The port on the host, 1-65535.
    pub host_port: u16,
    /// The port in the sandbox, 1-65535.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Publish {
    /// Reads the text of one `-p`: one entry for each port of its ranges.
    pub fn parse(text: &str) -> Result<Vec<Publish>> {
        let bad = |why: String| Error::new(format!("-p {text}: {why}"));
        let shape = |why: &str| {
            bad(why.to_owned()).hint("write [ADDRESS:]HOST-PORT:PORT[/tcp|udp], e.g. 8080:80")
        };

        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => {
                return Err(bad(format!("unknown protocol \"{other}\"")).hint("use tcp or udp"));
            }
        };
        let (host, ports) = split_address(ports).map_err(&shape)?;
        let Some((host_ports, ports)) = ports.split_once(':') else {
            return Err(shape("the sandbox's port is missing"));
        };
        let host_ports = parse_range(host_ports).map_err(&bad)?;
        let ports = parse_range(ports).map_err(&bad)?;
        if host_ports.len() != ports.len() {
            let (here, there) = (host_ports.len(), ports.len());
            return Err(bad(format!("{here} host ports for {there} sandbox ports"))
                .hint("both ranges must have the same length"));
        }
        Ok(host_ports
            .zip(ports)
            .map(|(host_port, port)| Publish { host, host_port, port, protocol })
            .collect())
    }

    /// The addresses of the host it is published on.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let (first, second) = match self.host {
            Some(address) => (address, None),
            None => (Ipv4Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into())),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether it is reachable only from the host itself.
    pub fn is_loopback(&self) -> bool {
        self.host.is_none_or(|address| address.is_loopback())
    }
}

impl fmt::Display for Publish {
    /// The text `-p` takes: `127.0.0.1:8080:80/udp`; `/tcp` is implied.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spell(f, 1)
    }
}

impl Publish {
    /// The texts that `-p` takes for all of these, in order; consecutive ones form a range,
    /// `8000-8009:9000-9009`.
    pub fn ranges(all: &[Publish]) -> Vec<String> {
        let follows = |a: &Publish, b: &Publish| {
            (a.host, a.protocol) == (b.host, b.protocol)
                && a.host_port.checked_add(1) == Some(b.host_port)
                && a.port.checked_add(1) == Some(b.port)
        };
        let range = |some: &[Publish]| Spelled(some[0].clone(), some.len() as u16).to_string();
        all.chunk_by(follows).map(range).collect()
    }

    fn spell(&self, f: &mut fmt::Formatter<'_>, many: u16) -> fmt::Result {
        match self.host {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        let (host, port, more) = (self.host_port, self.port, many - 1);
        match more {
            0 => write!(f, "{host}:{port}")?,
            _ => write!(f, "{host}-{}:{port}-{}", host + more, port + more)?,
        }
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// That many consecutive ports, from the first on.
struct Spelled(Publish, u16);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.spell(f, self.1)
    }
}

/// Takes the address off the front: an IPv6 address is in brackets.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("missing closing bracket")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "no IPv6 address in the brackets")?;
        if address.to_ipv4_mapped().is_some() {
            return Err("write an IPv4-mapped address as IPv4");
        }
        let ports = rest.strip_prefix(':').ok_or("no port after the address")?;
        return Ok((Some(address.into()), ports));
    }
    match text.matches(':').count() {
        0 | 1 => Ok((None, text)),
        2 => {
            let (address, ports) = text.split_once(':').unwrap_or_default();
            let address: Ipv4Addr = address.parse().map_err(|_| "the address is not IPv4")?;
            Ok((Some(address.into()), ports))
        }
        _ => Err("an IPv6 address needs brackets"),
    }
}

/// `80` or `80-90`.
fn parse_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    if first > last {
        return Err(format!("the range {text} runs backwards"));
    }
    Ok(first..=last)
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("a port is missing".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("\"{text}\" is not a port number"));
    }
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("port {text} is out of range (1-65535)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Publish {
        let mut all = Publish::parse(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn error(text: &str) -> String {
        Publish::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn neighbours_are_spelled_as_the_range_that_they_are() {
        let mut all = Publish::parse("0.0.0.0:65000-65535:1000-1535/udp").unwrap();
        all.extend(Publish::parse("8080:80").unwrap());
        all.extend(Publish::parse("8081:82").unwrap());
        let ranges = Publish::ranges(&all);
        assert_eq!(ranges, ["0.0.0.0:65000-65535:1000-1535/udp", "8080:80", "8081:82"]);
        let again: Vec<Publish> = ranges.iter().flat_map(|r| Publish::parse(r).unwrap()).collect();
        assert_eq!(again, all);
    }

    #[test]
    fn a_port_without_an_address_is_for_loopback_of_both_families() {
        let publish = one("8080:80");
        assert_eq!(
            publish,
            Publish { host: None, host_port: 8080, port: 80, protocol: Protocol::Tcp }
        );
        assert!(publish.is_loopback());
        let addresses: Vec<_> = publish.addresses().map(|a| a.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1"]);
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(one("192.0.2.1:53:53/udp").host, Some(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert_eq!(one("192.0.2.1:53:53/udp").protocol, Protocol::Udp);
        assert_eq!(one("0.0.0.0:1:65535").host, Some(Ipv4Addr::UNSPECIFIED.into()));
        assert_eq!(one("[::]:8080:80/tcp").host, Some(Ipv6Addr::UNSPECIFIED.into()));
        assert_eq!(one("[::1]:8080:80").host, Some(Ipv6Addr::LOCALHOST.into()));
        assert!(!one("[::]:8080:80").is_loopback());
    }

    #[test]
    fn a_range_is_one_publish_for_each_port() {
        let all = Publish::parse("8000-8010:80-90").unwrap();
        assert_eq!(all.len(), 11);
        assert_eq!((all[0].host_port, all[0].port), (8000, 80));
        assert_eq!((all[10].host_port, all[10].port), (8010, 90));
        assert_eq!(Publish::parse("1-65535:1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for text in ["8080:80", "127.0.0.1:8080:80", "[::]:53:53/udp", "0.0.0.0:1:2/udp"] {
            assert_eq!(one(text).to_string(), text);
        }
        assert_eq!(one("[0:0::1]:1:2/tcp").to_string(), "[::1]:1:2");
    }

    #[test]
    fn errors_name_the_text_and_the_reason() {
        assert_eq!(error("70000:80"), "-p 70000:80: port 70000 is out of range (1-65535)");
        assert_eq!(error("0:80"), "-p 0:80: port 0 is out of range (1-65535)");
        assert_eq!(
            error("80:99999999999999999999"),
            "-p 80:99999999999999999999: port 99999999999999999999 is out of range (1-65535)"
        );
        assert_eq!(
            error("8080"),
            "-p 8080: the sandbox's port is missing; write [ADDRESS:]HOST-PORT:PORT[/tcp|udp], e.g. 8080:80"
        );
        assert_eq!(error("80:80/sctp"), "-p 80:80/sctp: unknown protocol \"sctp\"; use tcp or udp");
        assert_eq!(
            error("8000-8010:80-85"),
            "-p 8000-8010:80-85: 11 host ports for 6 sandbox ports; both ranges must have the same length"
        );
        assert_eq!(error("9-5:9-5"), "-p 9-5:9-5: the range 9-5 runs backwards");
        assert_eq!(error("http:80"), "-p http:80: \"http\" is not a port number");
        assert_eq!(error(":80"), "-p :80: a port is missing");
        assert!(error("::1:80:80").contains("an IPv6 address needs brackets"));
        assert!(error("[::1:80:80").contains("missing closing bracket"));
        assert!(error("localhost:80:80").contains("the address is not IPv4"));
        assert!(error("[::ffff:127.0.0.1]:80:80").contains("mapped"));
    }

    #[test]
    fn odd_text_is_refused_and_never_panics() {
        for text in [
            "",
            ":",
            "::",
            ":::",
            "/",
            "/tcp",
            "80:",
            "80:/tcp",
            "[",
            "]",
            "[]",
            "[]:",
            "[::]",
            "[::]80:80",
            "[::]:",
            "[::]:80",
            "-",
            "-:-",
            "1-:1-",
            "-1:-1",
            "1-2-3:1-3",
            "+1:1",
            "80:80/",
            "80:80/TCP",
            "80:80/tcp/udp",
            " 80:80",
            "80 :80",
            "٣:٣",
            "é:80",
            "1.2.3:80:80",
            "1.2.3.4:80",
            "[fe80::1%eth0]:80:80",
            "80:80:",
            "\0:80",
        ] {
            assert!(Publish::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn networks_are_named_as_they_are_printed() {
        for text in ["private", "none", "host", "ns:/run/netns/blue"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert!("bridge".parse::<Network>().is_err());
        assert!("ns:blue".parse::<Network>().is_err());
        assert!("".parse::<Network>().is_err());
    }
}
