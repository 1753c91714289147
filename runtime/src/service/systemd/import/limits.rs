//! Limits: UMask=, Limit*=, and those of the unit's cgroup.

use crate::config::{Rlimit, Size, Throttle};
use crate::service::systemd::reader::UnitReader;
use crate::service::systemd::values::{number_list, processors, size, time};

/// All limits.
pub fn limits(r: &mut UnitReader<'_>) {
    if let Some(mask) = r.last("UMask") {
        match u32::from_str_radix(&mask, 8) {
            Ok(value) if value <= 0o777 => r.draft.set("umask", mask, ""),
            _ => r.draft.note(format!("UMask={mask}"), "not a mask"),
        }
    }
    resource_limits(r);
    memory(r);
    if let Some(text) = limit(r, "CPUQuota") {
        match processors(&text) {
            Ok(cpus) => r.draft.set("cpus", cpus, format!("CPUQuota={text}")),
            Err(error) => r.draft.note("CPUQuota", error.to_string()),
        }
    }
    let pinned = r.last("CPUAffinity");
    let allowed = r.last("AllowedCPUs");
    let directive = if allowed.is_some() { "AllowedCPUs" } else { "CPUAffinity" };
    if let Some(text) = allowed.or(pinned) {
        match number_list(&text) {
            Ok(list) => r.draft.set("cpuset-cpus", list, format!("{directive}=")),
            Err(error) => r.draft.note(directive, error.to_string()),
        }
    }
    if let Some(text) = limit(r, "TasksMax") {
        match text.parse::<u32>() {
            Ok(number) => r.draft.set("pids-limit", number.to_string(), ""),
            Err(_) => r.draft.note(format!("TasksMax={text}"), "pids-limit takes a number"),
        }
    }
    for (key, name, bytes) in [
        ("IOReadBandwidthMax", "read", true),
        ("IOWriteBandwidthMax", "write", true),
        ("IOReadIOPSMax", "riops", false),
        ("IOWriteIOPSMax", "wiops", false),
    ] {
        disk(r, key, name, bytes);
    }
}

/// A value, if it is a limit.
fn limit(r: &mut UnitReader<'_>, key: &'static str) -> Option<String> {
    r.last(key).filter(|text| text != "infinity")
}

fn memory(r: &mut UnitReader<'_>) {
    let new = limit(r, "MemoryMax");
    let old = limit(r, "MemoryLimit");
    let swap = limit(r, "MemorySwapMax");
    let read = |r: &mut UnitReader<'_>, key: &str, text: Option<String>| {
        let text = text?;
        match size(&text, 1024) {
            Ok(bytes) => bytes,
            Err(_) => {
                r.draft.note(format!("{key}={text}"), "a limit takes a size, e.g. 512m");
                None
            }
        }
    };
    let old = if new.is_some() { None } else { old };
    let bytes = read(r, "MemoryMax", new).or(read(r, "MemoryLimit", old));
    if let Some(bytes) = bytes {
        r.draft.set("memory", Size(bytes).to_string(), "");
    }
    let swap = read(r, "MemorySwapMax", swap);
    match (bytes, swap) {
        (Some(bytes), Some(swap)) => {
            let sum = Size(bytes.saturating_add(swap)).to_string();
            r.draft.set("memory-swap", sum, "memory and swap together");
        }
        (None, Some(_)) => r.draft.note("MemorySwapMax", "it needs a limit of memory"),
        _ => {}
    }
}

const RLIMITS: [(&str, &str, Unit); 16] = [
    ("LimitCPU", "cpu", Unit::Seconds),
    ("LimitFSIZE", "fsize", Unit::Bytes),
    ("LimitDATA", "data", Unit::Bytes),
    ("LimitSTACK", "stack", Unit::Bytes),
    ("LimitCORE", "core", Unit::Bytes),
    ("LimitRSS", "rss", Unit::Bytes),
    ("LimitNOFILE", "nofile", Unit::Number),
    ("LimitAS", "as", Unit::Bytes),
    ("LimitNPROC", "nproc", Unit::Number),
    ("LimitMEMLOCK", "memlock", Unit::Bytes),
    ("LimitLOCKS", "locks", Unit::Number),
    ("LimitSIGPENDING", "sigpending", Unit::Number),
    ("LimitMSGQUEUE", "msgqueue", Unit::Bytes),
    ("LimitNICE", "nice", Unit::Nice),
    ("LimitRTPRIO", "rtprio", Unit::Number),
    ("LimitRTTIME", "rttime", Unit::Microseconds),
];

#[derive(Clone, Copy)]
enum Unit {
    Number,
    Bytes,
    Seconds,
    Microseconds,
    Nice,
}

fn resource_limits(r: &mut UnitReader<'_>) {
    for (key, name, unit) in RLIMITS {
        let Some(text) = r.last(key) else { continue };
        let bounds: Option<Vec<String>> = text.splitn(2, ':').map(|one| bound(one, unit)).collect();
        let value = bounds.map(|bounds| format!("{name}={}", bounds.join(":")));
        match value.filter(|value| value.parse::<Rlimit>().is_ok()) {
            Some(value) => r.draft.push("ulimit", value, ""),
            None => r.draft.note(format!("{key}={text}"), "not a limit"),
        }
    }
}

/// One of the two bounds, as a number.
fn bound(text: &str, unit: Unit) -> Option<String> {
    if text == "infinity" {
        return Some("unlimited".into());
    }
    let number = match unit {
        Unit::Number => text.parse().ok()?,
        Unit::Bytes => size(text, 1024).ok()??,
        Unit::Seconds => time(text).ok()??.as_micros().div_ceil(1_000_000).try_into().ok()?,
        // A number alone is in microseconds.
        Unit::Microseconds => match text.parse() {
            Ok(number) => number,
            Err(_) => time(text).ok()??.as_micros().try_into().ok()?,
        },
        Unit::Nice => match text.strip_prefix('+').or(text.starts_with('-').then_some(text)) {
            Some(level) => {
                u64::try_from(20 - level.parse::<i32>().ok().filter(|it| (-20..20).contains(it))?)
                    .ok()?
            }
            None => text.parse().ok()?,
        },
    };
    Some(number.to_string())
}

/// `IOReadBandwidthMax=/srv 5M`.
fn disk(r: &mut UnitReader<'_>, key: &'static str, name: &str, bytes: bool) {
    for value in r.list(key) {
        let directive = format!("{key}={value}");
        let limit = value.rsplit_once(char::is_whitespace).and_then(|(path, limit)| {
            let number = size(limit, 1000).ok()?;
            let number = number.map(|number| match bytes {
                true => format!("{number}B/s"),
                false => number.to_string(),
            });
            // Without a limit there is nothing to say.
            Some(number.map(|number| format!("{name}={number}:{}", path.trim())))
        });
        match limit {
            Some(None) => {}
            Some(Some(text)) if Throttle::parse(&text).is_ok() => r.draft.push("io", text, ""),
            _ => r.draft.note(directive, "not a path and a limit"),
        }
    }
}
