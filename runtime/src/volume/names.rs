//! Servers that are given by name. A name is looked up once, when a volume is created: the kernel
//! knows its connections by address, and two names may be those of one server.
//!
//! By getent(1): this program is static, so it cannot ask the sources of nsswitch.conf(5) itself.

use std::collections::HashMap;
use std::net::IpAddr;

use super::device::VolumeDevice;
use super::tools::execute;
use crate::error::{Error, Result};

/// The same devices, with addresses instead of names.
///
/// # Errors
/// A name has no address, or two of them are the same device.
pub fn resolved(devices: Vec<VolumeDevice>) -> Result<Vec<VolumeDevice>> {
    let mut known: HashMap<String, String> = HashMap::new();
    let mut all = Vec::new();
    for device in devices {
        let name = device.portal().map(|portal| portal.host.clone());
        let name = name.filter(|host| host.parse::<IpAddr>().is_err());
        let Some(name) = name else {
            all.push(device);
            continue;
        };
        let address = match known.get(&name) {
            Some(address) => address.clone(),
            None => address_of(&name)?.to_string(),
        };
        known.insert(name, address.clone());
        all.push(device.at_host(address));
    }
    VolumeDevice::check_distinct(&all)?;
    Ok(all)
}

fn address_of(name: &str) -> Result<IpAddr> {
    let words = ["getent", "--", "ahosts", name].map(String::from);
    let finished = execute(&words)?;
    let text = String::from_utf8_lossy(&finished.output);
    match first_address(&text).filter(|_| finished.status.success()) {
        Some(address) => Ok(address),
        None => Err(Error::new(format!("{name} has no address"))
            .hint(format!("getent ahosts {name} looks it up, as /etc/nsswitch.conf says"))),
    }
}

/// The first of the addresses in the order of getaddrinfo(3), `10.0.1.1 STREAM name`, that needs no
/// interface.
fn first_address(text: &str) -> Option<IpAddr> {
    text.lines().filter_map(|line| line.split_whitespace().next()).find_map(|one| one.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_address_that_needs_no_interface_counts() {
        let text =
            "fe80::1%eth0  STREAM store1\nfd00::1  STREAM\nfd00::1  DGRAM\n10.0.1.1 STREAM\n";
        assert_eq!(first_address(text), "fd00::1".parse().ok());
        assert_eq!(first_address("store1 STREAM\n"), None);
    }

    #[test]
    fn two_names_of_one_server_are_one_server() {
        let devices = |texts: &[&str]| VolumeDevice::parse_all(texts, Path::new("/")).unwrap();
        let [one] = &resolved(devices(&["nbd://localhost/x"])).unwrap()[..] else { panic!() };
        assert!(one.portal().unwrap().host.parse::<IpAddr>().unwrap().is_loopback());
        let same = [one.to_string(), "nbd://localhost/x".into()];
        let error = resolved(devices(&[&same[0], &same[1]])).unwrap_err().to_string();
        assert!(error.contains("given twice"), "{error}");
        let error = resolved(devices(&["nbd://none.invalid/x"])).unwrap_err().to_string();
        assert!(error.starts_with("none.invalid has no address"), "{error}");
    }
}
