//! Applying the device rules: the files of v1, a BPF program in the unified tree.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::directory::write;
use super::filter::DeviceFilter;
use super::hierarchy::{Controller, Version};
use super::record::Cgroup;
use super::rules::{AccessRule, exceptions, rules};
use crate::config::oci::Resources;
use crate::facts;
use crate::sys::file::read_kernel;
use crate::sys::{Errno, bpf};
use crate::{Error, Result};

impl Cgroup {
    /// Allows and denies devices as `resources` says.
    ///
    /// # Errors
    /// Rules that cannot be expressed, or that the kernel refused, except in a user namespace:
    /// there the kernel blocks device nodes anyway.
    pub(super) fn write_devices(&self, resources: &Resources) -> Result<()> {
        let Some(dir) = self.deciding(Controller::Devices) else { return Ok(()) };
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

/// Writes only the difference between the current and the wanted rules: a device that stays allowed
/// is never denied in between.
fn write_v1(dir: &Path, rules: &[AccessRule]) -> Result<()> {
    let wanted = exceptions(rules)?;
    let list = dir.join("devices.list");
    let text = read_kernel(&list)
        .map_err(|error| Error::io(format!("read {}", list.display()), &error))?;
    let (allow, deny) = (dir.join("devices.allow"), dir.join("devices.deny"));
    let there: Vec<&str> = text.lines().map(str::trim).collect();
    let all_allowed = there.contains(&"a *:* rwm");
    if wanted.allowed {
        // The existing exceptions cannot be read; this clears them.
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
                return Err(error.hint("the parent cgroup does not allow it").within("devices"));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Replaces the attached program with ours.
fn attach(dir: &Path, rules: &[AccessRule]) -> Result<()> {
    let failed = |what: &str, errno| {
        Error::os(format!("devices: {what} {}", dir.display()), errno)
            .hint("device rules in cgroup v2 need bpf(2): CAP_BPF, or CAP_SYS_ADMIN")
    };
    let open = fs::File::open(dir);
    let cgroup = open.map_err(|error| Error::io(format!("open {}", dir.display()), &error))?;
    let before = bpf::attached(&cgroup).unwrap_or_default();
    let filter = DeviceFilter::new(rules);
    if filter.allows_all() && before.is_empty() {
        return Ok(());
    }
    let program = bpf::load_device_program(&filter.assemble())
        .map_err(|errno| failed("load a BPF program for", errno))?;
    let old: Vec<_> = before.iter().filter_map(|id| bpf::open_program(*id).ok()).collect();
    if let [old] = old.as_slice()
        && bpf::replace(&cgroup, &program, old).is_ok()
    {
        return Ok(());
    }
    // All attached programs must agree, so ours is attached before the old ones are detached.
    bpf::attach(&cgroup, &program).map_err(|errno| failed("attach a BPF program to", errno))?;
    old.iter().try_for_each(|old| {
        bpf::detach(&cgroup, old).map_err(|errno| failed("detach a BPF program from", errno))
    })
}
