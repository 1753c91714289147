//! What the types cannot check: [`Config::validate`] and what it calls. Nothing here looks at the
//! machine.

use std::collections::BTreeSet;

use super::checks::{check_interface, check_processors, not_absolute};
use super::words::{MemoryFlag, MemoryMode, NamespaceType};
use super::{Config, IdMapping, Linux, MemoryPolicy, Mount, parse_list, refuse};
use crate::config::annotation;
use crate::config::seccomp::Action;
use crate::error::{Error, Result};

/// The words of `rootfsPropagation`.
const PROPAGATION: &[&str] =
    &["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"];

const HOST_NAME_MAX: usize = libc::HOST_NAME_MAX as usize;

impl Config {
    /// Checks what the types cannot. `process` may be absent: only `start` needs it.
    ///
    /// # Errors
    /// The first thing that is wrong, in one line that names its place.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|error| error.within("config.json"))
    }

    fn check(&self) -> Result<()> {
        check_version(&self.oci_version)?;
        match &self.root {
            None => return refuse("root", "missing; it is required on Linux"),
            Some(root) if root.path.is_empty() => return refuse("root.path", "missing or empty"),
            Some(_) => {}
        }
        if let Some(process) = &self.process {
            process.validate().map_err(|error| error.within("process"))?;
        }
        let none = Linux::default();
        let linux = self.linux.as_ref().unwrap_or(&none);
        for (key, name) in [("hostname", &self.hostname), ("domainname", &self.domainname)] {
            let Some(name) = name else { continue };
            if linux.namespace(NamespaceType::Uts).is_none() {
                return refuse(key, "would change the host: it needs a namespace of type uts");
            }
            if name.len() > HOST_NAME_MAX {
                return refuse(
                    key,
                    format!("{} bytes, more than the maximum of {HOST_NAME_MAX}", name.len()),
                );
            }
        }
        if !self.mounts.is_empty() && linux.namespace(NamespaceType::Mount).is_none() {
            return refuse("mounts", "would change the host: they need a namespace of type mount");
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            mount.check(linux).map_err(|error| {
                error.within(format_args!("mounts[{at}] ({:?})", mount.destination))
            })?;
        }
        if let Some(hooks) = &self.hooks {
            hooks.check()?;
        }
        if self.annotations.contains_key("") {
            return refuse("annotations", "an empty key");
        }
        linux.check()
    }

    /// What every runtime ignores, so that it only belongs in a log.
    pub fn notes(&self) -> Vec<String> {
        let of = |(at, mount): (usize, &Mount)| {
            let note = move |option| {
                format!("mounts[{at}]: option {option:?} has no effect on a bind mount")
            };
            mount.without_effect().into_iter().map(note)
        };
        self.mounts.iter().enumerate().flat_map(of).collect()
    }

    /// What is odd but not an error, to be logged: unknown capabilities, relative destinations,
    /// limits that the kernel no longer has.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(process) = &self.process {
            warnings.extend(process.warnings());
        }
        for (at, mount) in self.mounts.iter().enumerate() {
            if !mount.destination.starts_with('/') {
                warnings.push(format!(
                    "mounts[{at}].destination: {:?} is relative to /, which is deprecated",
                    mount.destination
                ));
            }
        }
        for key in self.annotations.keys().filter(|key| annotation::is_unknown(key)) {
            warnings.push(format!("annotations: unknown key {key:?} ignored"));
        }
        let memory =
            self.linux.as_ref().and_then(|linux| linux.resources.as_ref()?.memory.as_ref());
        if memory.is_some_and(|memory| memory.kernel.is_some()) {
            warnings
                .push("linux.resources.memory.kernel: obsolete since Linux 5.4 and ignored".into());
        }
        warnings
    }
}

/// A supported version of the specification: all of 1, whatever follows the number.
fn check_version(version: &str) -> Result<()> {
    let place = "ociVersion";
    if version.is_empty() {
        return refuse(place, "missing or empty");
    }
    let number = version.split(['-', '+']).next().unwrap_or("");
    let suffix = &version[number.len()..];
    let parts: Vec<&str> = number.split('.').collect();
    let is_number = |part: &&str| {
        part.bytes().all(|byte| byte.is_ascii_digit()) && (1..=9).contains(&part.len())
    };
    let in_suffix = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    if parts.len() != 3 || !parts.iter().all(is_number) || !suffix.bytes().all(in_suffix) {
        return refuse(place, format!("{version:?} is not a version, e.g. 1.3.0"));
    }
    match parts[0] {
        "1" => Ok(()),
        _ => refuse(place, format!("{version:?} is not supported; versions 1.x are")),
    }
}

impl Mount {
    fn check(&self, linux: &Linux) -> Result<()> {
        if self.destination.is_empty() {
            return refuse("destination", "missing or empty");
        }
        let options = self.parse_options()?;
        match (options.is_bind(), &self.source, &self.kind) {
            (true, None, _) if !options.remount => {
                return refuse("source", "required for a bind mount");
            }
            (false, _, None) if !options.remount => {
                return Err(
                    Error::new("type: missing").hint("set it, or use the option bind or rbind")
                );
            }
            _ => {}
        }
        let mapped = !self.uid_mappings.is_empty() || !self.gid_mappings.is_empty();
        if self.uid_mappings.is_empty() != self.gid_mappings.is_empty() {
            return refuse("uidMappings, gidMappings", "one without the other");
        }
        check_mappings("uidMappings", &self.uid_mappings)?;
        check_mappings("gidMappings", &self.gid_mappings)?;
        if (mapped || options.idmap.is_some()) && !options.is_bind() {
            return refuse("uidMappings", "only bind mounts can be id-mapped");
        }
        if options.idmap.is_some() && !mapped && linux.namespace(NamespaceType::User).is_none() {
            return Err(Error::new("option idmap: no mappings").hint(
                "set uidMappings and gidMappings, or create a user namespace, whose mappings are used then",
            ));
        }
        Ok(())
    }
}

impl Linux {
    fn check(&self) -> Result<()> {
        self.check_namespaces()?;
        self.check_devices()?;
        self.check_sysctl()?;
        if let Some(propagation) = &self.rootfs_propagation
            && !PROPAGATION.contains(&propagation.as_str())
        {
            return Err(Error::new(format!("linux.rootfsPropagation: {propagation:?}"))
                .hint(format!("valid values: {}", PROPAGATION.join(", "))));
        }
        for (key, paths) in
            [("maskedPaths", &self.masked_paths), ("readonlyPaths", &self.readonly_paths)]
        {
            if let Some(at) = paths.iter().position(|path| !path.starts_with('/')) {
                return refuse(format!("linux.{key}[{at}]"), not_absolute(&paths[at]));
            }
            if !paths.is_empty() && self.namespace(NamespaceType::Mount).is_none() {
                let what = "would change the host: they need a namespace of type mount";
                return refuse(format!("linux.{key}"), what);
            }
        }
        if let Some(path) = &self.cgroups_path
            && path.split('/').any(|part| part == "..")
        {
            return refuse("linux.cgroupsPath", format!("{path:?} contains .."));
        }
        if let Some(resources) = &self.resources {
            resources.validate().map_err(|error| error.within("linux.resources"))?;
        }
        self.check_intel_rdt()?;
        if let Some(policy) = &self.memory_policy {
            policy.check().map_err(|error| error.within("linux.memoryPolicy"))?;
        }
        if let Some(personality) = &self.personality
            && let Some(flag) = personality.flags.first()
        {
            return refuse("linux.personality.flags", format!("{flag:?}; no flags are defined"));
        }
        if let Some(seccomp) = &self.seccomp {
            let within = |error: Error| error.within("linux.seccomp");
            seccomp.validate().map_err(within)?;
            let notifies = seccomp.syscalls.iter().any(|rule| rule.action == Action::Notify);
            if notifies && seccomp.listener_path.as_deref().unwrap_or("").is_empty() {
                return refuse("linux.seccomp", "SCMP_ACT_NOTIFY without listenerPath");
            }
        }
        Ok(())
    }

    fn check_namespaces(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (at, namespace) in self.namespaces.iter().enumerate() {
            if !seen.insert(namespace.kind) {
                let what = format!("duplicate type {}", namespace.kind);
                return refuse(format!("linux.namespaces[{at}]"), what);
            }
            if let Some(path) = namespace.path.as_deref().filter(|path| !path.starts_with('/')) {
                return refuse(format!("linux.namespaces[{at}].path"), not_absolute(path));
            }
        }
        for (key, mappings) in
            [("uidMappings", &self.uid_mappings), ("gidMappings", &self.gid_mappings)]
        {
            let key = format!("linux.{key}");
            // They may be given along with a path, if they are those of the namespace: engines do
            // that for the containers of a pod.
            match self.namespace(NamespaceType::User) {
                None if !mappings.is_empty() => {
                    return refuse(key, "needs a namespace of type user");
                }
                Some(user) if user.path.is_none() && mappings.is_empty() => {
                    return refuse(key, "missing for the new user namespace");
                }
                _ => check_mappings(&key, mappings)?,
            }
        }
        for (clock, offset) in &self.time_offsets {
            let place = format!("linux.timeOffsets {clock:?}");
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return refuse(place, "valid clocks: monotonic, boottime");
            }
            if !self.is_new(NamespaceType::Time) {
                return refuse(place, "needs a new namespace of type time");
            }
            if offset.nanosecs > 999_999_999 {
                return refuse(
                    place,
                    format!("nanosecs {} is more than a second", offset.nanosecs),
                );
            }
        }
        Ok(())
    }

    fn check_devices(&self) -> Result<()> {
        for (at, device) in self.devices.iter().enumerate() {
            let place = |key: &str| format!("linux.devices[{at}].{key}");
            if !device.path.starts_with('/') {
                return refuse(place("path"), not_absolute(&device.path));
            }
            super::resources::check_numbers(Some(device.major), Some(device.minor))
                .map_err(|error| error.within(format_args!("linux.devices[{at}]")))?;
        }
        let mut names = BTreeSet::new();
        for (host, device) in &self.net_devices {
            let place = format!("linux.netDevices {host:?}");
            let name = device.name.as_deref().unwrap_or(host);
            for name in [host.as_str(), name] {
                check_interface(name).map_err(|error| error.within(&place))?;
            }
            if self.namespace(NamespaceType::Network).is_none() {
                return refuse(place, "needs a namespace of type network");
            }
            if !names.insert(name) {
                return refuse(place, format!("duplicate device name {name:?}"));
            }
        }
        Ok(())
    }

    fn check_intel_rdt(&self) -> Result<()> {
        let Some(rdt) = &self.intel_rdt else { return Ok(()) };
        let place = |key: &str| format!("linux.intelRdt.{key}");
        if let Some(id) = &rdt.clos_id
            && (matches!(id.as_str(), "." | "..") || id.contains(['/', '\n']) || id.len() > 255)
        {
            return refuse(place("closID"), format!("{id:?} is not a valid directory name"));
        }
        for (key, start, line) in [
            ("l3CacheSchema", "L3", &rdt.l3_cache_schema),
            ("memBwSchema", "MB:", &rdt.mem_bw_schema),
        ] {
            let Some(line) = line else { continue };
            if !line.starts_with(start) || line.contains('\n') {
                return refuse(
                    place(key),
                    format!("{line:?} is not a single line beginning with {start}"),
                );
            }
        }
        if let Some(at) = rdt.schemata.iter().position(|line| line.contains('\n')) {
            return refuse(place(&format!("schemata[{at}]")), "more than one line");
        }
        Ok(())
    }
}

impl MemoryPolicy {
    /// The rules of set_mempolicy(2).
    fn check(&self) -> Result<()> {
        let place = "nodes";
        let nodes = self.nodes.as_deref();
        match (self.mode, nodes) {
            (MemoryMode::Default | MemoryMode::Local, Some(_)) => {
                return refuse(place, format!("not allowed for {}", self.mode));
            }
            (MemoryMode::Default | MemoryMode::Local | MemoryMode::Preferred, None) => {}
            (mode, None) => return refuse(place, format!("missing; required for {mode}")),
            (_, Some(list)) => drop(parse_list(list).map_err(|error| error.within(place))?),
        }
        let has = |flag| self.flags.contains(&flag);
        if self.mode == MemoryMode::Default && !self.flags.is_empty() {
            return refuse("flags", "not allowed for MPOL_DEFAULT");
        }
        if has(MemoryFlag::StaticNodes) && has(MemoryFlag::RelativeNodes) {
            return refuse(
                "flags",
                "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES are mutually exclusive",
            );
        }
        Ok(())
    }
}

impl super::CpuAffinity {
    pub(super) fn check(&self) -> Result<()> {
        check_processors("execCPUAffinity.initial", self.initial.as_deref())?;
        check_processors("execCPUAffinity.final", self.r#final.as_deref())
    }
}

/// Ranges that are not empty, end within 32 bits, and do not overlap (user_namespaces(7)).
fn check_mappings(key: &str, mappings: &[IdMapping]) -> Result<()> {
    for side in ["containerID", "hostID"] {
        let first = |mapping: &IdMapping| match side {
            "containerID" => mapping.container_id,
            _ => mapping.host_id,
        };
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(mappings.len());
        for (at, mapping) in mappings.iter().enumerate() {
            if mapping.size == 0 {
                return refuse(format!("{key}[{at}].size"), "must not be 0");
            }
            let start = u64::from(first(mapping));
            let end = start + u64::from(mapping.size);
            // The id -1 means none.
            if end > u64::from(u32::MAX) {
                return refuse(format!("{key}[{at}].{side}"), "the range ends beyond 4294967294");
            }
            ranges.push((start, end));
        }
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            return refuse(
                format!("{key}: {side}"),
                format!("{} is in more than one range", pair[1].0),
            );
        }
    }
    Ok(())
}
