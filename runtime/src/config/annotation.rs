//! Annotations of config.json, by which containers request what the specification has no fields
//! for: the counterpart of `garth wrap`'s flags for a sandbox.
//!
//! The specification forbids an error for an unknown key (config.md, "Annotations"), so an unknown
//! one with our prefix only causes a warning.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::mount::{Mount, MountKind};
use super::network::Publish;
use super::rate::Rates;
use super::rate_group::RateGroup;
use super::units::Rate;
use crate::{Error, Result};

/// The prefix of all of ours.
const PREFIX: &str = "dev.garth.";

/// `dev.garth.plugin.NAME`: same as `--plugin NAME`, with its configuration as the value.
pub const PLUGIN: &str = "dev.garth.plugin.";

/// `dev.garth.rate.up`, `dev.garth.rate.down`: same as `--rate up=...` and `--rate down=...`, a
/// rate with its unit.
pub const RATE: [&str; 2] = ["dev.garth.rate.up", "dev.garth.rate.down"];

/// `dev.garth.rate.group`: same as `--rate-group`; the two above are bounds within it.
pub const GROUP: &str = "dev.garth.rate.group";

/// `dev.garth.volume`: a RAID volume, as `-v NAME:TARGET[:OPTIONS]`; for more than one,
/// `dev.garth.volume.ANYTHING` too.
pub const VOLUME: [&str; 2] = ["dev.garth.volume", "dev.garth.volume."];

/// `dev.garth.publish`: same as `-p`, several separated by commas; without an address on 127.0.0.1.
pub const PUBLISH: &str = "dev.garth.publish";

/// The known ones; one that ends in a dot stands for all with that prefix.
const KNOWN: [&str; 7] = [PLUGIN, RATE[0], RATE[1], GROUP, VOLUME[0], VOLUME[1], PUBLISH];

/// Whether it has our prefix but is not one of ours.
pub fn is_unknown(key: &str) -> bool {
    let known = |known: &&str| match known.ends_with('.') {
        true => key.len() > known.len() && key.starts_with(known),
        false => key == *known,
    };
    key.starts_with(PREFIX) && !KNOWN.iter().any(known)
}

/// How fast the container's network may be.
///
/// # Errors
/// A value is not a rate; the key is named.
pub fn rates(annotations: &BTreeMap<String, String>) -> Result<Rates> {
    let rate = |key: &str| -> Result<Option<Rate>> {
        let Some(text) = annotations.get(key) else { return Ok(None) };
        let rate = text.parse::<Rate>();
        rate.map(Some).map_err(|error| error.within(format_args!("annotation {key}")))
    };
    let rates = Rates { up: rate(RATE[0])?, down: rate(RATE[1])? };
    rates.check().map(|()| rates).map_err(|error| error.within("annotations"))
}

/// The budget shared with other containers; `own` are this one's bounds.
///
/// # Errors
/// A value that is not a group, or bounds that do not fit within it.
pub fn rate_group(
    annotations: &BTreeMap<String, String>,
    own: &Rates,
) -> Result<Option<RateGroup>> {
    let Some(text) = annotations.get(GROUP) else { return Ok(None) };
    let group = text.parse::<RateGroup>().and_then(|group| {
        group.check()?;
        group.check_own(own)?;
        Ok(group)
    });
    group.map(Some).map_err(|error| error.within(format_args!("annotation {GROUP}")))
}

/// The host's ports that lead to the container.
///
/// # Errors
/// A value is not that of `-p`, or an address cannot lead to a container.
pub fn publish(annotations: &BTreeMap<String, String>) -> Result<Vec<Publish>> {
    let mut all = Vec::new();
    let Some(text) = annotations.get(PUBLISH) else { return Ok(all) };
    let within = |error: Error| error.within(format_args!("annotation {PUBLISH}"));
    for one in text.split(',') {
        for mut publish in Publish::parse(one.trim()).map_err(within)? {
            let host = publish.host.get_or_insert(Ipv4Addr::LOCALHOST.into());
            if host.is_ipv6() && host.is_loopback() {
                return Err(within(
                    Error::new(format!("-p {publish}: only a sandbox answers on ::1"))
                        .hint("publish on 127.0.0.1 or on [::]"),
                ));
            }
            all.push(publish);
        }
    }
    Ok(all)
}

/// The RAID volumes that are mounted in the container, in the order of the keys: the name of each, and
/// the mount.
///
/// # Errors
/// A value is not that of `-v`, or has a path instead of a name; the key is named.
pub fn volumes(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Mount)>> {
    let own = |key: &str| key == VOLUME[0] || (key.starts_with(VOLUME[1]) && !is_unknown(key));
    let mut found = Vec::new();
    for (key, text) in annotations.iter().filter(|(key, _)| own(key)) {
        let within = |error: Error| error.within(format_args!("annotation {key}"));
        let mount = Mount::volume(text).map_err(within)?;
        match &mount.kind {
            MountKind::Volume { name, .. } => found.push((name.clone(), mount)),
            _ => {
                return Err(within(
                    Error::new(format!("{text:?} has no name of a volume"))
                        .hint("write NAME:TARGET; paths are for the engine's own -v"),
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_as_those_of_the_flag() {
        let annotations = |up: &str| BTreeMap::from([(RATE[0].to_owned(), up.to_owned())]);
        assert_eq!(rates(&annotations("2MB/s")).unwrap().to_string(), "up=16Mbit/s");
        assert!(rates(&BTreeMap::new()).unwrap().is_empty());
        for (text, why) in
            [("10", "missing unit"), ("0bit/s", "less than"), ("1bit/s", "less than 8k")]
        {
            let error = rates(&annotations(text)).unwrap_err().to_string();
            assert!(error.contains("annotation") && error.contains(why), "{error}");
        }
        let group = |text: &str, own| {
            rate_group(&BTreeMap::from([(GROUP.to_owned(), text.to_owned())]), &own)
        };
        let none = Rates::default();
        assert_eq!(group("all:up=1MB/s", none).unwrap().unwrap().name, "all");
        assert!(rate_group(&BTreeMap::new(), &none).unwrap().is_none());
        let own = rates(&annotations("2MB/s")).unwrap();
        for (text, why) in
            [("all", "missing :"), ("all:up=1MB/s", "more than the"), ("a/b:1MB/s", "name")]
        {
            let error = group(text, own).unwrap_err().to_string();
            assert!(error.contains(GROUP) && error.contains(why), "{error}");
        }
        assert!(!is_unknown(GROUP) && !is_unknown(RATE[1]) && is_unknown("dev.garth.rate"));
    }

    #[test]
    fn ports_are_as_those_of_the_flag_and_on_one_address() {
        let of = |text: &str| publish(&BTreeMap::from([(PUBLISH.to_owned(), text.to_owned())]));
        let found = of("8080:80, 0.0.0.0:53:53/udp,[::]:1-2:3-4").unwrap();
        let shown = found.iter().map(|one| one.to_string()).collect::<Vec<_>>();
        assert_eq!(shown, ["127.0.0.1:8080:80", "0.0.0.0:53:53/udp", "[::]:1:3", "[::]:2:4"]);
        assert!(publish(&BTreeMap::new()).unwrap().is_empty());
        for (text, why) in [("", "missing"), ("80", "missing"), ("[::1]:1:2", "on ::1")] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(PUBLISH) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn volumes_are_as_those_of_the_flag() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, text)| (key.to_string(), text.to_string()));
            volumes(&pairs.collect())
        };
        let found = of(&[
            ("dev.garth.volume.more", "logs:/var/log/x:ro"),
            ("dev.garth.volume", "data:/srv/data"),
            ("dev.garth.volumes", "x"),
        ]);
        let found = found.unwrap();
        let shown = found.iter().map(|(name, mount)| (&**name, mount.access.words()));
        let expected =
            [("data", "rw,nosuid,nodev".to_owned()), ("logs", "ro,nosuid,nodev".to_owned())];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        for (text, why) in
            [("/srv:/x", "no name of a volume"), ("data", "no target"), ("data:x", "absolute")]
        {
            let error = of(&[("dev.garth.volume", text)]).unwrap_err().to_string();
            assert!(
                error.contains("annotation dev.garth.volume") && error.contains(why),
                "{error}"
            );
        }
        assert!(!is_unknown("dev.garth.volume.2") && is_unknown("dev.garth.volumes"));
    }

    #[test]
    fn those_of_others_are_not_ours_to_know() {
        assert!(!is_unknown("org.opencontainers.image.title"));
        assert!(!is_unknown("dev.garth.plugin.hosts"));
        for key in ["dev.garth.plugin.", "dev.garth.plugins.x", "dev.garth.plugin"] {
            assert!(is_unknown(key), "{key}");
        }
    }
}
