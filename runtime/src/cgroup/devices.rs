//! Which devices a container may use: `linux.resources.devices`, and those that every container
//! may.
//!
//! The rules are read in order, and for each kind of access (read, write, mknod) the last one that
//! fits the device decides; where none fits, access is denied. That is what a program in the unified tree
//! does ([`super::filter`]). v1 has a default and exceptions from it, and rules that take
//! a part out of an exception cannot be said there: they are refused.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::hierarchy::{Controller, Version};
use super::{Cgroup, filter, write};
use crate::config::oci::Resources;
use crate::facts;
use crate::sys::file::read_kernel;
use crate::sys::{Errno, bpf};
use crate::wire::dbus::Value;
use crate::{Error, Result};

/// Reading; the kernel's numbers (linux/bpf.h).
pub(super) const READ: u32 = 2;
/// Writing.
pub(super) const WRITE: u32 = 4;
/// Making the node.
pub(super) const MKNOD: u32 = 1;
/// Everything.
pub(super) const ANY: u32 = READ | WRITE | MKNOD;

/// The type of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

impl Kind {
    /// The letter of it, as in `ls -l`.
    pub(super) fn letter(self) -> char {
        match self {
            Kind::Block => 'b',
            Kind::Char => 'c',
        }
    }
}

/// A rule; `None` fits everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
    /// It is not in the config: where a cgroup above denies it, it stays denied.
    pub own: bool,
}

impl Rule {
    /// Whether it decides everything.
    fn is_whole(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, ANY)
    }

    fn same_devices(&self, other: &Rule) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Every device of `other` is one of these.
    fn covers(&self, other: &Rule) -> bool {
        fn within<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || one == other
        }
        within(self.kind, other.kind)
            && within(self.major, other.major)
            && within(self.minor, other.minor)
    }

    /// There is a device that both fit.
    fn meets(&self, other: &Rule) -> bool {
        fn both<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        both(self.kind, other.kind)
            && both(self.major, other.major)
            && both(self.minor, other.minor)
    }

    /// `c 1:3 rwm`, as v1's files take and show it.
    pub(super) fn words(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, c)| c).collect();
        let kind = self.kind.map_or('a', Kind::letter);
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// What every container may use, after what the config says: the nodes that every container has,
/// and making nodes of any kind, which without the right to open them are good for nothing.
/// config-linux.md, "Default Devices"; 10:200 is /dev/net/tun, which engines rely on.
const OWN: [(Kind, Option<u32>, Option<u32>, u32); 11] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ANY),
    (Kind::Char, Some(1), Some(5), ANY),
    (Kind::Char, Some(1), Some(7), ANY),
    (Kind::Char, Some(1), Some(8), ANY),
    (Kind::Char, Some(1), Some(9), ANY),
    (Kind::Char, Some(5), Some(0), ANY),
    (Kind::Char, Some(5), Some(2), ANY),
    (Kind::Char, Some(136), None, ANY),
    (Kind::Char, Some(10), Some(200), ANY),
];

/// The rules of `resources` and our own, in order.
pub(super) fn rules(resources: &Resources) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (at, asked) in resources.devices.iter().enumerate() {
        let wrong = |what: &str| Err(Error::new(format!("devices[{at}]: {what}")));
        let kind = match asked.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(Kind::Block),
            Some("c" | "u") => Some(Kind::Char),
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
            return wrong("not the number of a device");
        };
        rules.push(Rule { allow: asked.allow, kind, major, minor, access, own: false });
    }
    let own = |(kind, major, minor, access)| Rule {
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

/// What v1 can say: a default, and exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub allowed: bool,
    pub rules: Vec<Rule>,
}

/// The same as `rules`, in v1's words.
pub(super) fn exceptions(rules: &[Rule]) -> Result<Exceptions> {
    let mut all = Exceptions { allowed: false, rules: Vec::new() };
    for rule in rules {
        if rule.is_whole() {
            all = Exceptions { allowed: rule.allow, rules: Vec::new() };
            continue;
        }
        // A rule for every kind of device is one for each.
        for kind in [Kind::Block, Kind::Char] {
            if rule.kind.is_none_or(|one| one == kind) {
                all.add(Rule { kind: Some(kind), ..*rule })?;
            }
        }
    }
    Ok(all)
}

impl Exceptions {
    fn add(&mut self, rule: Rule) -> Result<()> {
        if rule.allow != self.allowed {
            // The kernel wants one exception that allows all of an access at once, as of
            // O_RDWR: where two meet, what they allow together is a third.
            let meeting = |known: &&Rule| rule.allow && known.meets(&rule);
            let together: Vec<Rule> = self
                .rules
                .iter()
                .filter(meeting)
                .map(|known| Rule {
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
        // Back to the default: a whole exception goes, or some kinds of access of it.
        for known in &mut self.rules {
            if known.access & rule.access == 0 || !known.meets(&rule) {
                continue;
            }
            if !rule.covers(known) {
                let verb = if rule.allow { "allow" } else { "deny" };
                return Err(Error::new(format!(
                    "devices: {verb} {}: v1 cgroups cannot take a part out of {}",
                    rule.words(),
                    known.words()
                ))
                .hint("name the devices one by one instead"));
            }
            known.access &= !rule.access;
        }
        self.rules.retain(|known| known.access != 0);
        Ok(())
    }

    /// Adds an exception, unless another says the same already.
    fn put(&mut self, rule: Rule) {
        let says_it =
            |known: &Rule| known.covers(&rule) && known.access & rule.access == rule.access;
        if self.rules.iter().any(says_it) {
            return;
        }
        match self.rules.iter_mut().find(|known| known.same_devices(&rule)) {
            Some(known) => known.access |= rule.access,
            None => self.rules.push(rule),
        }
    }
}

impl Cgroup {
    /// Allows and denies devices as `resources` says.
    ///
    /// # Errors
    /// Rules that cannot be said, and what the kernel refused: but in a user namespace the kernel
    /// keeps devices from everyone by itself.
    pub(super) fn write_devices(&self, resources: &Resources) -> Result<()> {
        let Some(dir) = self.place(Controller::Devices) else { return Ok(()) };
        let rules = rules(resources)?;
        let own = self.path(dir);
        let result = match dir.version {
            Version::V1 => write_v1(&own, &rules),
            Version::V2 => attach(&own, &rules),
        };
        match result {
            Err(error)
                if error
                    .errno()
                    .is_some_and(|errno| matches!(errno.0, libc::EPERM | libc::EACCES))
                    && facts::rootless() =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// Writes the difference between what is there and what is to be: a device that stays allowed is
/// so all the time.
fn write_v1(dir: &Path, rules: &[Rule]) -> Result<()> {
    let wanted = exceptions(rules)?;
    let list = dir.join("devices.list");
    let text = read_kernel(&list)
        .map_err(|error| Error::io(format!("read {}", list.display()), &error))?;
    let (allow, deny) = (dir.join("devices.allow"), dir.join("devices.deny"));
    let there: Vec<&str> = text.lines().map(str::trim).collect();
    let all_allowed = there.contains(&"a *:* rwm");
    if wanted.allowed {
        // The exceptions that there are do not show; they go with this.
        if !(all_allowed && wanted.rules.is_empty()) {
            write(&allow, "a").map_err(|error| error.within("devices"))?;
        }
        return wanted.rules.iter().try_for_each(|rule| write(&deny, &rule.words()));
    }
    if all_allowed {
        write(&deny, "a")?;
    } else {
        let unwanted = |line: &&&str| !wanted.rules.iter().any(|rule| rule.words() == **line);
        for line in there.iter().filter(|line| !line.is_empty()).filter(unwanted) {
            write(&deny, line)?;
        }
    }
    let file = fs::OpenOptions::new().write(true).open(&allow);
    let mut file = file.map_err(|e| Error::io(format!("open {}", allow.display()), &e))?;
    for rule in &wanted.rules {
        let words = rule.words();
        if !all_allowed && there.contains(&words.as_str()) {
            continue;
        }
        let failed =
            |e: &std::io::Error| Error::io(format!("write \"{words}\" to {}", allow.display()), e);
        match file.write_all(words.as_bytes()).map_err(|e| failed(&e)) {
            Err(error) if rule.own && error.errno() == Some(Errno(libc::EPERM)) => {}
            Err(error) => {
                return Err(error.hint("the cgroup above does not have it").within("devices"));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Puts our program in the place of the one that is there.
fn attach(dir: &Path, rules: &[Rule]) -> Result<()> {
    let failed = |what: &str, errno| {
        Error::os(format!("devices: {what} {}", dir.display()), errno)
            .hint("device rules in the unified tree need bpf(2): CAP_BPF, or CAP_SYS_ADMIN")
    };
    let open = fs::File::open(dir);
    let cgroup = open.map_err(|error| Error::io(format!("open {}", dir.display()), &error))?;
    let before = bpf::attached(&cgroup).unwrap_or_default();
    let filter = filter::Filter::new(rules);
    if filter.allows_all() && before.is_empty() {
        return Ok(());
    }
    let program = bpf::load_device_program(&filter.assemble())
        .map_err(|errno| failed("load a program for", errno))?;
    let old: Vec<_> = before.iter().filter_map(|id| bpf::open_program(*id).ok()).collect();
    if let [old] = old.as_slice()
        && bpf::replace(&cgroup, &program, old).is_ok()
    {
        return Ok(());
    }
    // All that are attached must agree; so ours comes first, and the others go after it.
    bpf::attach(&cgroup, &program).map_err(|errno| failed("attach a program to", errno))?;
    old.iter().try_for_each(|old| {
        bpf::detach(&cgroup, old).map_err(|errno| failed("detach a program from", errno))
    })
}

/// The same for systemd, which otherwise allows everything whenever it looks after the unit
/// again. What it has no words for is left to the cgroup itself.
pub(crate) fn device_properties(resources: &Resources) -> Result<Vec<(String, Value)>> {
    let (policy, allowed) = match exceptions(&rules(resources)?) {
        Ok(Exceptions { allowed: false, rules }) => ("strict", rules),
        _ => ("auto", Vec::new()),
    };
    let groups = read_kernel("/proc/devices").unwrap_or_default();
    let name = |rule: &Rule| {
        let kind = if rule.kind == Some(Kind::Block) { "block" } else { "char" };
        match (rule.major, rule.minor) {
            (None, None) => Some(format!("{kind}-*")),
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (Some(major), None) => Some(format!("{kind}-{}", group(&groups, kind, major)?)),
            (None, Some(_)) => None,
        }
    };
    let access = |rule: &Rule| rule.words().rsplit(' ').next().unwrap_or_default().to_owned();
    let pairs = allowed.iter().filter_map(|rule| Some((name(rule)?, access(rule)))).collect();
    Ok(vec![
        ("DevicePolicy".into(), Value::Text(policy.into())),
        ("DeviceAllow".into(), Value::Pairs(pairs)),
    ])
}

/// The name of a group of devices in /proc/devices: two lists of `number name`.
fn group<'a>(text: &'a str, kind: &str, major: u32) -> Option<&'a str> {
    let heading = if kind == "block" { "Block devices:" } else { "Character devices:" };
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests;
