//! A scope for a sandbox that `garth wrap` limits: next to the caller's unit, in the same slice and
//! under the same limits, as Garth may not write to the unit's own cgroup
//! (<https://systemd.io/CGROUP_DELEGATION>, "single-writer rule").

use std::collections::BTreeMap;

use super::{MANAGER, Unit, connect, expand_slice, manager_cgroup, system_bus, text, user_bus};
use crate::wire::dbus::{Bus, Callee, DbusValue};
use crate::{Error, Result};

/// Settings of a unit that apply to everything it starts: the sandbox inherits them. Freezing and
/// accounting cannot be carried over (systemd.resource-control(5)).
const CARRIED: [&str; 29] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "DeviceAllow",
    "DevicePolicy",
    "IODeviceLatencyTargetUSec",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOReadIOPSMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "IOWriteIOPSMax",
    "IPAddressAllow",
    "IPAddressDeny",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "RestrictNetworkInterfaces",
    "SocketBindAllow",
    "SocketBindDeny",
    "TasksMax",
];

impl Unit {
    /// The scope for sandbox `id` of a caller whose cgroup is `own`, and the directory from which
    /// its systemd passes controllers on. Creates nothing.
    ///
    /// # Errors
    /// An ordinary user's systemd cannot be reached, or does not manage the caller.
    pub(crate) fn beside(own: &str, id: &str, user: bool) -> Result<(Unit, String)> {
        // The pid of the launcher: the scope of a sandbox that ended just now may still exist.
        let name = format!("garth-{id}-{}.scope", std::process::id());
        if !user {
            let slice = slice_of(own).unwrap_or("system.slice");
            let path = format!("{}/{name}", expand_slice(slice)?.trim_end_matches('/'));
            let unit =
                Unit { name, slice: slice.into(), path, bus: system_bus(), ..Unit::default() };
            return Ok((unit, String::new()));
        }
        if let Some(service) = innermost(own).filter(|unit| unit.ends_with(".service"))
            && !is_of_user(own)
        {
            return Err(Error::new(format!("{service} does not delegate its cgroup to this user"))
                .hint("set Delegate=yes in the unit"));
        }
        let bus = user_bus()?;
        let manager = manager_cgroup(&bus)?;
        let manager = manager.trim_end_matches('/');
        let slice = own.strip_prefix(manager).and_then(slice_of).unwrap_or("app.slice");
        let path = format!("{manager}{}/{name}", expand_slice(slice)?.trim_end_matches('/'));
        let unit = Unit { name, slice: slice.into(), path, bus, ..Unit::default() };
        Ok((unit, manager.to_owned()))
    }

    /// Creates it around process `pid`, under the limits of the caller's unit, and waits until it
    /// exists. systemd removes it when the last process has ended.
    pub(crate) fn start_beside(&self, pid: i32, id: &str) -> Result<()> {
        let mut bus = self.connect()?;
        let mut properties = vec![
            ("Description".to_owned(), text(&format!("sandbox {id}"))),
            ("Slice".to_owned(), text(&self.slice)),
            ("Delegate".to_owned(), DbusValue::Bool(true)),
            ("CollectMode".to_owned(), text("inactive-or-failed")),
            ("PIDs".to_owned(), DbusValue::Numbers(vec![pid as u32])),
        ];
        let own = of_own_unit(&mut bus)?;
        properties.extend(own.into_iter().filter(|(name, value)| carries(name, value)));
        self.start_transient(&mut bus, properties)
    }

    /// Moves this process into the cgroup `below` the scope.
    pub(crate) fn attach(&self, below: &str) -> Result<()> {
        let own = DbusValue::Numbers(vec![std::process::id()]);
        let arguments = [text(&self.name), text(below), own];
        self.connect()?.call(MANAGER, "AttachProcessesToUnit", &arguments).map(drop)
    }
}

/// Whether the user's systemd has delegated the cgroup of this process's unit.
pub(crate) fn delegates_to_caller() -> Result<bool> {
    let properties = of_own_unit(&mut connect(&user_bus()?)?)?;
    Ok(properties.get("Delegate") == Some(&DbusValue::Bool(true)))
}

/// The properties of this process's unit; empty if the unit belongs to another systemd, like the
/// login session of an ordinary user.
fn of_own_unit(bus: &mut Bus) -> Result<BTreeMap<String, DbusValue>> {
    let unit = match bus.call(MANAGER, "GetUnitByPID", &[DbusValue::U32(0)]) {
        Err(error) if error.to_string().contains(".NoUnitForPID") => return Ok(BTreeMap::new()),
        answer => answer?.texts.into_iter().next().unwrap_or_default(),
    };
    let interface = "org.freedesktop.DBus.Properties";
    // Without an interface name, those of all interfaces.
    let all = bus.call(Callee { path: &unit, interface, ..MANAGER }, "GetAll", &[text("")])?;
    all.properties().ok_or_else(|| Error::new(format!("{interface} GetAll {unit}: invalid reply")))
}

fn carries(name: &str, value: &DbusValue) -> bool {
    let says_something = match value {
        DbusValue::U64(n) => *n != u64::MAX,
        DbusValue::U32(n) => *n != 0,
        DbusValue::Text(words) => !["", "auto", "none"].contains(&words.as_str()),
        DbusValue::Array(_, items) => !items.is_empty(),
        // A flag and the list it applies to.
        DbusValue::Struct(items) => {
            !items.iter().any(|item| matches!(item, DbusValue::Array(_, list) if list.is_empty()))
        }
        _ => true,
    };
    says_something && CARRIED.contains(&name)
}

/// The slice that the caller's unit is in.
fn slice_of(own: &str) -> Option<&str> {
    let names = own.split('/').filter(|name| !name.is_empty());
    names.take_while(|name| name.ends_with(".slice")).last()
}

/// The name of the innermost unit in the cgroup path `own`.
pub(crate) fn innermost(own: &str) -> Option<&str> {
    const KINDS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    own.rsplit('/').find(|name| KINDS.iter().any(|kind| name.ends_with(kind)))
}

/// Whether the cgroup `own` belongs to a unit of a user's systemd.
pub(crate) fn is_of_user(own: &str) -> bool {
    own.contains("/user@")
}
