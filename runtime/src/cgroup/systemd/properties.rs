//! The properties of a unit: limits in systemd's terms, and those given by annotations.
//! (systemd.resource-control(5).)

use crate::cgroup::hierarchy::Version;
use crate::cgroup::rules::{AccessRule, DeviceKind, Exceptions, exceptions, rules};
use crate::cgroup::v2::weight_of_shares;
use crate::config::limits::{CPU_PERIOD, cpu_list};
use crate::config::oci::Resources;
use crate::sys::file::read_kernel;
use crate::wire::dbus::DbusValue;
use crate::{Error, Result};

/// The prefix of annotations that name properties of the unit.
pub(super) const ANNOTATION: &str = "org.systemd.property.";

/// What systemd has properties for; it enforces these, so it must be told, or it restores its own
/// values.
pub(super) fn of_resources(
    version: Version,
    resources: &Resources,
) -> Result<Vec<(String, DbusValue)>> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: DbusValue| all.push((name.to_owned(), value));
    let number = |n: i64| DbusValue::U64(u64::try_from(n).unwrap_or(u64::MAX));
    if let Some(memory) = &resources.memory {
        let limit = memory.limit.filter(|n| *n != 0);
        if let Some(limit) = limit {
            add(if version == Version::V1 { "MemoryLimit" } else { "MemoryMax" }, number(limit));
        }
        if version == Version::V2 {
            if let Some(reservation) = memory.reservation.filter(|n| *n != 0) {
                add("MemoryLow", number(reservation));
            }
            match (memory.swap.filter(|n| *n != 0), limit) {
                (Some(swap), _) if swap < 0 => add("MemorySwapMax", DbusValue::U64(u64::MAX)),
                (Some(swap), Some(limit)) if (0..=swap).contains(&limit) => {
                    add("MemorySwapMax", number(swap - limit));
                }
                (None, Some(-1)) => add("MemorySwapMax", DbusValue::U64(u64::MAX)),
                // What is wrong is reported when the file is written.
                _ => {}
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|n| *n != 0) {
            match version {
                Version::V1 => add("CPUShares", DbusValue::U64(shares)),
                Version::V2 => add("CPUWeight", DbusValue::U64(weight_of_shares(shares))),
            }
        }
        let period = cpu.period.filter(|n| *n != 0);
        if let Some(period) = period {
            add("CPUQuotaPeriodUSec", DbusValue::U64(period));
        }
        if let Some(quota) = cpu.quota.filter(|n| *n != 0) {
            // Time per second, in whole percent: rounded up, as the exact value is written below
            // it.
            let per_second = u64::try_from(quota).map_or(u64::MAX, |quota| {
                let period = u128::from(period.unwrap_or(CPU_PERIOD));
                let exact = u128::from(quota) * 1_000_000 / period;
                u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(u64::MAX)
            });
            add("CPUQuotaPerSecUSec", DbusValue::U64(per_second));
        }
        if version == Version::V2 {
            for (name, field, list) in [
                ("AllowedCPUs", "cpu.cpus", &cpu.cpus),
                ("AllowedMemoryNodes", "cpu.mems", &cpu.mems),
            ] {
                if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                    let bits = bits(list).map_err(|error| error.within(field))?;
                    add(name, DbusValue::Bytes(bits));
                }
            }
        }
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        // It does not accept 0.
        add("TasksMax", number(if limit == 0 { 1 } else { limit }));
    }
    if let Some(weight) = resources.block_io.as_ref().and_then(|io| io.weight).filter(|n| *n != 0)
        && version == Version::V1
    {
        add("BlockIOWeight", DbusValue::U64(weight.into()));
    }
    Ok(all)
}

/// `0-2,9` as a bitmap, lowest byte first.
fn bits(list: &str) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    for (first, last) in cpu_list(list)? {
        for n in first..=last {
            let at = n as usize / 8;
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (n % 8);
        }
    }
    Ok(bytes)
}

/// A property from an annotation. Its value is in GVariant text format: `'text'`, `true`, `5`,
/// `uint64 5`, `['a', 'b']`.
pub(super) fn property(name: &str, value: &str) -> Result<(String, DbusValue)> {
    let wrong = || {
        Error::new(format!("{ANNOTATION}{name}: {value:?} is not a valid value"))
            .hint("e.g. 'text', true, 5, uint64 5 or ['a', 'b']")
    };
    let plain = |c: char| c.is_ascii_alphanumeric();
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Error::new(format!("{ANNOTATION}{name}: not a valid property name")));
    }
    let parsed = parse_value(value.trim()).ok_or_else(wrong)?;
    // Unit files use seconds; the bus uses microseconds, under another name.
    if let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        let seconds = match parsed {
            DbusValue::I32(n) => f64::from(n),
            DbusValue::U32(n) => f64::from(n),
            DbusValue::I64(n) => n as f64,
            DbusValue::U64(n) => n as f64,
            DbusValue::F64(n) => n,
            _ => return Err(wrong()),
        };
        if seconds < 0.0 {
            return Err(wrong());
        }
        return Ok((format!("{stem}USec"), DbusValue::U64((seconds * 1e6) as u64)));
    }
    Ok((name.to_owned(), parsed))
}

fn parse_value(text: &str) -> Option<DbusValue> {
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items: Option<Vec<DbusValue>> = items.map(parse_value).collect();
        let mut items = items?.into_iter();
        return match items.clone().next()? {
            DbusValue::Text(_) => items
                .map(|item| if let DbusValue::Text(text) = item { Some(text) } else { None })
                .collect::<Option<_>>()
                .map(DbusValue::Texts),
            DbusValue::U32(_) => items
                .map(|item| if let DbusValue::U32(n) = item { Some(n) } else { None })
                .collect::<Option<_>>()
                .map(DbusValue::Numbers),
            _ => items.next().and(None),
        };
    }
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            let plain = !inner.contains([quote, '\\']);
            return plain.then(|| DbusValue::Text(inner.to_owned()));
        }
    }
    match text.split_once(' ') {
        Some(("uint32", n)) => n.trim().parse().ok().map(DbusValue::U32),
        Some(("uint64", n)) => n.trim().parse().ok().map(DbusValue::U64),
        Some(("int32", n)) => n.trim().parse().ok().map(DbusValue::I32),
        Some(("int64", n)) => n.trim().parse().ok().map(DbusValue::I64),
        Some(("double", n)) => n.trim().parse().ok().map(DbusValue::F64),
        Some(_) => None,
        None => match text {
            "true" => Some(DbusValue::Bool(true)),
            "false" => Some(DbusValue::Bool(false)),
            // GVariant's own rule: a number is an int32, or a double.
            _ => text
                .parse()
                .map(DbusValue::I32)
                .or_else(|_| text.parse::<f64>().map(DbusValue::F64))
                .ok()
                .filter(|value| !matches!(value, DbusValue::F64(n) if !n.is_finite())),
        },
    }
}

/// The same for systemd, which otherwise allows everything whenever it reapplies the unit. What it
/// cannot express is left to the cgroup itself.
pub(super) fn of_devices(resources: &Resources) -> Result<Vec<(String, DbusValue)>> {
    let (policy, allowed) = match exceptions(&rules(resources)?) {
        Ok(Exceptions { allowed: false, rules }) => ("strict", rules),
        _ => ("auto", Vec::new()),
    };
    let groups = read_kernel("/proc/devices").unwrap_or_default();
    let name = |rule: &AccessRule| {
        let kind = if rule.kind == Some(DeviceKind::Block) { "block" } else { "char" };
        match (rule.major, rule.minor) {
            (None, None) => Some(format!("{kind}-*")),
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (Some(major), None) => Some(format!("{kind}-{}", group(&groups, kind, major)?)),
            (None, Some(_)) => None,
        }
    };
    let access = |rule: &AccessRule| rule.words().rsplit(' ').next().unwrap_or_default().to_owned();
    let pairs = allowed.iter().filter_map(|rule| Some((name(rule)?, access(rule)))).collect();
    Ok(vec![
        ("DevicePolicy".into(), DbusValue::Text(policy.into())),
        ("DeviceAllow".into(), DbusValue::Pairs(pairs)),
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
