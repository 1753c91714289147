//! Capabilities (capabilities(7)) as flags and messages spell them. The names and numbers are those
//! of the crate caps.

pub use caps::Capability;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A set of capabilities, as a bit mask by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// All that have a name; in a request, it means all that the caller has.
    pub const ALL: CapabilitySet =
        CapabilitySet((2 << Capability::CAP_CHECKPOINT_RESTORE as u64) - 1);

    /// Permits signalling processes of other users.
    pub const KILL: CapabilitySet = CapabilitySet::of(&[Capability::CAP_KILL]);

    /// What daemons that start as root need in order to change to another user, and no more.
    pub const ROOT_DEFAULT: CapabilitySet = CapabilitySet::of(&[
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_KILL,
        Capability::CAP_SETGID,
        Capability::CAP_SETUID,
        Capability::CAP_NET_BIND_SERVICE,
        Capability::CAP_SYS_CHROOT,
    ]);

    /// The set of these.
    pub const fn of(capabilities: &[Capability]) -> CapabilitySet {
        let (mut bits, mut at) = (0, 0);
        while at < capabilities.len() {
            bits |= 1 << capabilities[at] as u64;
            at += 1;
        }
        CapabilitySet(bits)
    }

    /// The capabilities of a list as in config.json, `CAP_NET_ADMIN`; unknown names are ignored.
    pub fn named(names: &[String]) -> CapabilitySet {
        let known = names.iter().filter_map(|name| name.parse::<Capability>().ok());
        CapabilitySet::of(&known.collect::<Vec<_>>())
    }

    /// `--cap-add`/`--cap-drop`: names separated by commas, or `all`.
    pub fn parse(text: &str) -> Result<CapabilitySet> {
        text.split(',').try_fold(CapabilitySet(0), |set, name| {
            let more = match name.to_ascii_lowercase().as_str() {
                "all" => CapabilitySet::ALL,
                _ => CapabilitySet::of(&[capability(name)?]),
            };
            Ok(set.union(more))
        })
    }

    /// The union.
    #[must_use]
    pub fn union(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }

    /// `self` without `other`.
    #[must_use]
    pub fn without(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    /// Whether the set contains it.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bitmask() != 0
    }

    /// Its members that have a name, in numerical order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let mut all: Vec<Capability> = caps::all().into_iter().collect();
        all.sort_unstable_by_key(Capability::index);
        all.into_iter().filter(move |capability| self.has(*capability))
    }

    /// The names, for display.
    pub fn names(self) -> String {
        match self {
            CapabilitySet(0) => "none".into(),
            CapabilitySet::ALL => "all".into(),
            _ => self.iter().map(short).collect::<Vec<_>>().join(","),
        }
    }
}

/// `net_admin`.
fn short(capability: Capability) -> String {
    capability.to_string().trim_start_matches("CAP_").to_ascii_lowercase()
}

/// `CAP_NET_ADMIN`, `net_admin`, in either case.
fn capability(text: &str) -> Result<Capability> {
    // Not caps::to_canonical, which maps some non-ASCII letters to ASCII when it changes case.
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    format!("CAP_{}", name.to_ascii_uppercase()).parse().map_err(|_| {
        let names: Vec<String> = CapabilitySet::ALL.iter().map(short).collect();
        let error = Error::new(format!("{text:?} is not a capability"));
        let error = error.hint("capabilities(7) lists them");
        super::did_you_mean(error, name, names.iter().map(String::as_str))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_every_usual_spelling() {
        for text in ["CAP_NET_ADMIN", "net_admin", "NET_ADMIN", "cap_net_admin"] {
            assert_eq!(CapabilitySet::parse(text).unwrap(), CapabilitySet(1 << 12));
        }
        for text in ["", "net_admin,", "CAP_CAP_KILL", "12", "CAP_", "kıll"] {
            assert!(CapabilitySet::parse(text).is_err(), "{text}");
        }
        let error = CapabilitySet::parse("net_admni").unwrap_err().to_string();
        assert!(error.contains("did you mean net_admin?"), "{error}");
        assert_eq!(CapabilitySet::parse("all").unwrap().names(), "all");
        assert_eq!(
            CapabilitySet::ROOT_DEFAULT.names(),
            "chown,dac_override,fowner,kill,setgid,setuid,net_bind_service,sys_chroot"
        );
        // As the kernel numbers them, without a gap.
        let numbers: Vec<u8> = CapabilitySet::ALL.iter().map(|one| one.index()).collect();
        assert_eq!(numbers, (0..41).collect::<Vec<u8>>());
    }

    #[test]
    fn names_of_a_bundle_are_taken_as_they_are_written() {
        let names = ["CAP_KILL", "cap_chown", "KILL", "CAP_LATER"].map(str::to_owned);
        assert_eq!(CapabilitySet::named(&names), CapabilitySet::KILL);
    }
}
