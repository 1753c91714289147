//! A scope created by systemd: the cgroup of a container under `--systemd-cgroup`, so that systemd
//! knows the owner and leaves it alone (Delegate=).
//!
//! The unit is created around a process, with the limits for which systemd has properties; the
//! others are written to the files afterwards, where systemd does not touch them.
//! (systemd.scope(5), systemd.resource-control(5), org.freedesktop.systemd1(5).)

mod properties;
mod scope;

use std::collections::BTreeMap;
use std::path::Path;

use properties::{ANNOTATION, of_devices, of_resources, property};
pub(crate) use scope::{delegates_to_caller, innermost, is_of_user};
use serde::{Deserialize, Serialize};

use super::hierarchy::Version;
use crate::config::oci::Resources;
use crate::sys::process;
use crate::wire::dbus::{Bus, Callee, DIRECT, DbusValue};
use crate::{Error, Result};

/// A systemd unit.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
    /// Its cgroup, relative to the root of the trees.
    pub path: String,
    /// The bus of its systemd.
    pub bus: String,
    /// Further properties, from annotations; not needed to stop it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, String>,
}

const MANAGER: Callee<'static> = Callee {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

impl Unit {
    /// The unit for `linux.cgroupsPath`, `slice:prefix:name`. Creates nothing.
    pub(super) fn choose(
        id: &str,
        path: Option<&str>,
        annotations: &BTreeMap<String, String>,
        rootless: bool,
    ) -> Result<Unit> {
        let hint = |error: Error| error.within("--systemd-cgroup");
        let bus = if rootless { user_bus().map_err(hint)? } else { system_bus() };
        let above = if rootless { manager_cgroup(&bus)? } else { String::new() };
        let mut unit = Unit::named(id, path, rootless)?;
        unit.path = format!("{}{}", above.trim_end_matches('/'), unit.path);
        unit.bus = bus;
        for (name, value) in annotations {
            if let Some(name) = name.strip_prefix(ANNOTATION) {
                // An invalid property is detected before anything is created.
                property(name, value)?;
                unit.asked.insert(name.to_owned(), value.clone());
            }
        }
        Ok(unit)
    }

    fn named(id: &str, path: Option<&str>, rootless: bool) -> Result<Unit> {
        let path = path.unwrap_or("");
        let parts: Vec<&str> = path.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "garth", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(Error::new(format!("cgroupsPath {path:?}: not slice:prefix:name"))
                    .hint("required with --systemd-cgroup, e.g. system.slice:garth:web"));
            }
        };
        let slice = match slice {
            "" if rootless => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let unit = if name.ends_with(".slice") {
            name.to_owned()
        } else {
            format!("{prefix}-{name}.scope")
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.is_empty() || unit.len() > 255 || !unit.chars().all(fits) {
            return Err(Error::new(format!(
                "cgroupsPath {path:?}: {unit:?} is not a valid unit name"
            )));
        }
        let above = expand_slice(slice)?;
        let path = format!("{}/{unit}", above.trim_end_matches('/'));
        Ok(Unit { name: unit, slice: slice.to_owned(), path, ..Unit::default() })
    }

    /// Creates the unit around process `pid`, and waits until it exists.
    pub(super) fn start(&self, pid: i32, version: Version, resources: &Resources) -> Result<()> {
        let mut properties =
            vec![("Description".to_owned(), text(&format!("container {}", self.name)))];
        let mut add = |name: &str, value| properties.push((name.to_owned(), value));
        if self.name.ends_with(".slice") {
            add("Wants", DbusValue::Texts(vec![self.slice.clone()]));
        } else {
            add("Slice", text(&self.slice));
            add("Delegate", DbusValue::Bool(true));
        }
        add("PIDs", DbusValue::Numbers(vec![pid as u32]));
        for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting"] {
            add(name, DbusValue::Bool(true));
        }
        let io = if version == Version::V1 { "BlockIOAccounting" } else { "IOAccounting" };
        add(io, DbusValue::Bool(true));
        add("DefaultDependencies", DbusValue::Bool(false));
        properties.extend(of_resources(version, resources)?);
        properties.extend(of_devices(resources)?);
        for (name, value) in &self.asked {
            let (name, value) = property(name, value)?;
            properties.retain(|(known, _)| *known != name);
            properties.push((name, value));
        }
        self.start_transient(&mut self.connect()?, properties)
    }

    fn start_transient(&self, bus: &mut Bus, properties: Vec<(String, DbusValue)>) -> Result<()> {
        let arguments = [
            text(&self.name),
            text("replace"),
            DbusValue::Properties(properties),
            DbusValue::NoUnits,
        ];
        let first = self.job(bus, "StartTransientUnit", &arguments);
        match first {
            // A failed unit is still known by its name until it is reset.
            Err(error) if error.to_string().contains(".UnitExists") => {
                let _ = bus.call(MANAGER, "ResetFailedUnit", &[text(&self.name)]);
                self.job(bus, "StartTransientUnit", &arguments)
            }
            result => result,
        }
    }

    /// Changes the given properties.
    pub(super) fn update(&self, version: Version, resources: &Resources) -> Result<()> {
        let mut properties = of_resources(version, resources)?;
        if !resources.devices.is_empty() {
            properties.extend(of_devices(resources)?);
        }
        if properties.is_empty() {
            return Ok(());
        }
        let arguments =
            [text(&self.name), DbusValue::Bool(true), DbusValue::Properties(properties)];
        self.connect()?.call(MANAGER, "SetUnitProperties", &arguments).map(drop)
    }

    /// Stops the unit, and resets its failed state. One that is gone already is not an error.
    pub(super) fn stop(&self) -> Result<()> {
        let mut bus = self.connect()?;
        let stopped = self.job(&mut bus, "StopUnit", &[text(&self.name), text("replace")]);
        let _ = bus.call(MANAGER, "ResetFailedUnit", &[text(&self.name)]);
        match stopped {
            Err(error) if error.to_string().contains(".NoSuchUnit") => Ok(()),
            result => result,
        }
    }

    fn connect(&self) -> Result<Bus> {
        connect(&self.bus)
    }

    /// Calls a method that creates a job, and waits until the job is done.
    fn job(&self, bus: &mut Bus, method: &str, arguments: &[DbusValue]) -> Result<()> {
        bus.watch(
            "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
        )?;
        // Without it systemd sends no signals.
        bus.call(MANAGER, "Subscribe", &[]).map(drop).or_else(|error| {
            match error.to_string().contains("AlreadySubscribed") {
                true => Ok(()),
                false => Err(error),
            }
        })?;
        let answer = bus.call(MANAGER, method, arguments)?;
        let job = answer.texts.first().cloned().unwrap_or_default();
        let removed = bus
            .signal(|signal| signal.member == "JobRemoved" && signal.texts.first() == Some(&job))
            .map_err(|error| error.within(format_args!("{method} {}", self.name)))?;
        // Job id and path, the unit, the result.
        match removed.texts.get(2).map(String::as_str) {
            Some("done") => Ok(()),
            other => Err(Error::new(format!(
                "{method} {}: systemd says {}",
                self.name,
                other.unwrap_or("nothing")
            ))),
        }
    }

    pub(super) fn to_text(&self) -> String {
        [&self.name, &self.slice, &self.path, &self.bus].map(String::as_str).join(" ")
    }

    pub(super) fn from_text(text: &str) -> Option<Unit> {
        let parts: Vec<String> = text.splitn(4, ' ').map(str::to_owned).collect();
        let [name, slice, path, bus] = parts.try_into().ok()?;
        Some(Unit { name, slice, path, bus, asked: BTreeMap::new() })
    }
}

fn text(text: &str) -> DbusValue {
    DbusValue::Text(text.to_owned())
}

/// Whether the systemd that would create a scope for this caller responds, and where.
///
/// # Errors
/// It does not respond.
pub fn reached() -> Result<String> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok("not the init system of this machine".into());
    }
    let user = process::effective_ids().0 != 0 || crate::facts::confined();
    let bus = if user { user_bus()? } else { system_bus() };
    manager_cgroup(&bus)?;
    Ok(format!(
        "{} responds at {bus}",
        if user { "the user manager" } else { "the system manager" }
    ))
}

fn connect(bus: &str) -> Result<Bus> {
    Bus::connect(bus).map_err(|error| {
        error
            .within("ask systemd for a scope")
            .hint("is systemd running here? if not, leave out --systemd-cgroup")
    })
}

fn system_bus() -> String {
    if let Ok(address) = std::env::var("DBUS_SYSTEM_BUS_ADDRESS") {
        return address;
    }
    let bus = "/run/dbus/system_bus_socket";
    let direct = format!("/run{DIRECT}");
    let without = !Path::new(bus).exists() && Path::new(&direct).exists();
    format!("unix:path={}", if without { &direct } else { bus })
}

/// The bus of a user's own systemd. In a user namespace the ids differ from those outside, but the
/// environment is the same.
fn user_bus() -> Result<String> {
    if let Ok(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        return Ok(address);
    }
    let dir = std::env::var("XDG_RUNTIME_DIR")
        .unwrap_or_else(|_| format!("/run/user/{}", process::effective_ids().0));
    let sockets = [format!("{dir}/bus"), format!("{dir}{DIRECT}")];
    match sockets.iter().find(|socket| Path::new(socket).exists()) {
        Some(socket) => Ok(format!("unix:path={socket}")),
        None => Err(Error::new(format!("no D-Bus socket of this user at {}", sockets[0])).hint(
            "log in as this user, run `loginctl enable-linger USER`, or set \
             DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR",
        )),
    }
}

/// The cgroup of the user's systemd, including all its units.
fn manager_cgroup(bus: &str) -> Result<String> {
    let callee = Callee { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
    let arguments = [text(MANAGER.interface), text("ControlGroup")];
    let answer = connect(bus)?.call(callee, "Get", &arguments)?;
    Ok(answer.texts.first().cloned().unwrap_or_default())
}

/// `a-b.slice` is in `a.slice`; `-.slice` is the root.
fn expand_slice(slice: &str) -> Result<String> {
    let wrong = || {
        Error::new(format!("cgroupsPath: {slice:?} is not a valid slice name"))
            .hint("e.g. system.slice, or machine-web.slice, which is inside machine.slice")
    };
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    if name == "-" {
        return Ok("/".into());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() || !part.chars().all(fits) {
            return Err(wrong());
        }
        path += &format!("/{prefix}{part}.slice");
        prefix += &format!("{part}-");
    }
    Ok(path)
}

#[cfg(test)]
pub(super) mod tests;
