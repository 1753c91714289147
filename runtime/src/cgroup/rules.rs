//! Which devices a container may use: `linux.resources.devices`, and the default devices.
//!
//! The rules are read in order, and for each kind of access (read, write, mknod) the last one that
//! fits the device decides; where none fits, access is denied. The program in the unified tree does
//! exactly that ([`super::filter`]). v1 has a default and exceptions from it; rules that take a
//! part out of an exception cannot be expressed there, and are refused.

use crate::config::oci::Resources;
use crate::{Error, Result};

/// Reading; the values are the kernel's (linux/bpf.h).
pub(super) const READ: u32 = 2;
/// Writing.
pub(super) const WRITE: u32 = 4;
/// Creating the node.
pub(super) const MKNOD: u32 = 1;
/// Everything.
pub(super) const ANY: u32 = READ | WRITE | MKNOD;

/// The type of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Block,
    Char,
}

impl DeviceKind {
    /// Its letter, as in `ls -l`.
    pub(super) fn letter(self) -> char {
        match self {
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        }
    }
}

/// A rule; `None` matches everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessRule {
    pub allow: bool,
    pub kind: Option<DeviceKind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
    /// It is not from the config: where a cgroup above denies it, it stays denied.
    pub own: bool,
}

impl AccessRule {
    /// Whether it matches everything.
    fn is_whole(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, ANY)
    }

    fn same_devices(&self, other: &AccessRule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Whether every device that `other` matches is one of these.
    fn covers(&self, other: &AccessRule) -> bool {
        fn within<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || one == other
        }
        within(self.kind, other.kind)
            && within(self.major, other.major)
            && within(self.minor, other.minor)
    }

    /// Whether some device matches both.
    fn meets(&self, other: &AccessRule) -> bool {
        fn both<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        both(self.kind, other.kind)
            && both(self.major, other.major)
            && both(self.minor, other.minor)
    }

    /// `c 1:3 rwm`, the format of v1's files.
    pub(super) fn words(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, c)| c).collect();
        let kind = self.kind.map_or('a', DeviceKind::letter);
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// What every container may use, after what the config says: the nodes that every container has,
/// and creating nodes of any kind, which are useless without the right to open them.
/// config-linux.md, "Default Devices"; 10:200 is /dev/net/tun, which engines rely on.
const OWN: [(DeviceKind, Option<u32>, Option<u32>, u32); 11] = [
    (DeviceKind::Char, None, None, MKNOD),
    (DeviceKind::Block, None, None, MKNOD),
    (DeviceKind::Char, Some(1), Some(3), ANY),
    (DeviceKind::Char, Some(1), Some(5), ANY),
    (DeviceKind::Char, Some(1), Some(7), ANY),
    (DeviceKind::Char, Some(1), Some(8), ANY),
    (DeviceKind::Char, Some(1), Some(9), ANY),
    (DeviceKind::Char, Some(5), Some(0), ANY),
    (DeviceKind::Char, Some(5), Some(2), ANY),
    (DeviceKind::Char, Some(136), None, ANY),
    (DeviceKind::Char, Some(10), Some(200), ANY),
];

/// The rules of `resources` and our own, in order.
pub(super) fn rules(resources: &Resources) -> Result<Vec<AccessRule>> {
    let mut rules = Vec::new();
    for (at, asked) in resources.devices.iter().enumerate() {
        let wrong = |what: &str| Err(Error::new(format!("devices[{at}]: {what}")));
        let kind = match asked.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(DeviceKind::Block),
            Some("c" | "u") => Some(DeviceKind::Char),
            Some(other) => return wrong(&format!("type {other:?} is not a, b or c")),
        };
        let mut access = 0;
        for letter in asked.access.chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                other => return wrong(&format!("access {other:?} is not r, w or m")),
            };
        }
        if access == 0 {
            access = ANY;
        }
        let number = |n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => u32::try_from(n).map(Some),
        };
        let (Ok(major), Ok(minor)) = (number(asked.major), number(asked.minor)) else {
            return wrong("invalid device number");
        };
        rules.push(AccessRule { allow: asked.allow, kind, major, minor, access, own: false });
    }
    let own = |(kind, major, minor, access)| AccessRule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
        own: true,
    };
    rules.extend(OWN.map(own));
    Ok(rules)
}

/// What v1 can express: a default, and exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub allowed: bool,
    pub rules: Vec<AccessRule>,
}

/// The same as `rules`, in v1's terms.
pub(super) fn exceptions(rules: &[AccessRule]) -> Result<Exceptions> {
    let mut all = Exceptions { allowed: false, rules: Vec::new() };
    for rule in rules {
        if rule.is_whole() {
            all = Exceptions { allowed: rule.allow, rules: Vec::new() };
            continue;
        }
        // A rule for all kinds of device is split in two.
        for kind in [DeviceKind::Block, DeviceKind::Char] {
            if rule.kind.is_none_or(|one| one == kind) {
                all.add(AccessRule { kind: Some(kind), ..*rule })?;
            }
        }
    }
    Ok(all)
}

impl Exceptions {
    fn add(&mut self, rule: AccessRule) -> Result<()> {
        if rule.allow != self.allowed {
            // The kernel requires a single exception that allows all of an access, such as O_RDWR:
            // where two overlap, what they allow together becomes a third.
            let meeting = |known: &&AccessRule| rule.allow && known.meets(&rule);
            let together: Vec<AccessRule> = self
                .rules
                .iter()
                .filter(meeting)
                .map(|known| AccessRule {
                    major: known.major.or(rule.major),
                    minor: known.minor.or(rule.minor),
                    access: (known.access | rule.access) & (READ | WRITE),
                    ..rule
                })
                .filter(|both| both.access == READ | WRITE)
                .collect();
            together.into_iter().chain([rule]).for_each(|rule| self.put(rule));
            return Ok(());
        }
        // Back to the default: removes a whole exception, or some kinds of access from it.
        for known in &mut self.rules {
            if known.access & rule.access == 0 || !known.meets(&rule) {
                continue;
            }
            if !rule.covers(known) {
                let verb = if rule.allow { "allow" } else { "deny" };
                return Err(Error::new(format!(
                    "devices: {verb} {}: v1 cgroups cannot make an exception from {}",
                    rule.words(),
                    known.words()
                ))
                .hint("list the devices individually instead"));
            }
            known.access &= !rule.access;
        }
        self.rules.retain(|known| known.access != 0);
        Ok(())
    }

    /// Adds an exception, unless another already covers it.
    fn put(&mut self, rule: AccessRule) {
        let says_it =
            |known: &AccessRule| known.covers(&rule) && known.access & rule.access == rule.access;
        if self.rules.iter().any(says_it) {
            return;
        }
        match self.rules.iter_mut().find(|known| known.same_devices(&rule)) {
            Some(known) => known.access |= rule.access,
            None => self.rules.push(rule),
        }
    }
}

#[cfg(test)]
mod tests;
