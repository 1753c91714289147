//! How much of the machine a sandbox may have, as docker and podman spell it.
//!
//! | field | flag | meaning |
//! |---|---|---|
//! | `memory` | `--memory 256m` | resident memory, page cache included |
//! | `swap` | `--memory-swap 512m` | memory **and** swap together, docker's meaning |
//! | `cpus` | `--cpus 1.5` | processor time per time, over periods of 100 ms |
//! | `cpuset` | `--cpuset-cpus 0-3,8` | the processors to run on |
//! | `pids` | `--pids-limit 100` | processes and threads |
//! | `io` | `--io read=50MB/s:/srv` | reading and writing, per disk (`io.rs`) |
//!
//! With `memory` and no `swap`, docker lets the sandbox swap as much again as it may keep in
//! memory, and so does Garth: unlimited swap would turn a memory limit into load on a disk that
//! others use too.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::io::Throttle;
use super::oci::{Cpu, Memory, Pids, Resources};
use super::units::Size;
use crate::{Error, Result};

/// The period over which a share of processor time is counted, in µs: the kernel's own default.
pub const CPU_PERIOD: u64 = 100_000;

/// The highest processor count a kernel can be built for (CONFIG_NR_CPUS on x86).
const MAX_CPUS: u32 = 8192;

/// The kernel's PID_MAX_LIMIT on 64 bits; pids.max accepts no more.
const MAX_PIDS: u64 = 4_194_304;

/// What a sandbox may use; `None` is unlimited.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Bytes of memory and swap together; not below `memory`. Equal to it: no swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Size>,
    /// Processors' worth of time; 0.5 is half a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processors by number, as in `0-3,8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Processes and threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Reading and writing, on each disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<Throttle>,
}

impl Limits {
    /// No limits.
    pub const NONE: &Limits =
        &Limits { memory: None, swap: None, cpus: None, cpuset: None, pids: None, io: Vec::new() };

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Refuses what no kernel would accept or what cannot have been meant.
    pub fn check(&self) -> Result<()> {
        if let Some(memory) = self.memory
            && memory.0 < 64 << 10
        {
            // `--memory 256` is 256 bytes to docker too; it can only be a slip.
            return Err(Error::new(format!("--memory {memory}: too small to start a program"))
                .hint("a bare number is bytes: write 256m for 256 MiB"));
        }
        match (self.swap, self.memory) {
            (Some(swap), None) => {
                return Err(Error::new(format!("--memory-swap {swap}: needs --memory"))
                    .hint("it is the sum of memory and swap"));
            }
            (Some(swap), Some(memory)) if swap < memory => {
                return Err(Error::new(format!(
                    "--memory-swap {swap}: less than --memory {memory}"
                ))
                .hint(format!("it is the sum of memory and swap: write {memory} for no swap")));
            }
            _ => {}
        }
        if let Some(cpus) = self.cpus
            // Below 0.01 the quota falls below the kernel's minimum, 1 ms in 100 ms.
            && !(0.01..=f64::from(MAX_CPUS)).contains(&cpus)
        {
            return Err(Error::new(format!("--cpus {cpus}: not between 0.01 and {MAX_CPUS}"))
                .hint("1.5 means one and a half CPUs"));
        }
        if let Some(list) = &self.cpuset {
            cpu_list(list).map_err(|error| error.within("--cpuset-cpus"))?;
        }
        if let Some(pids) = self.pids
            && !(1..=MAX_PIDS).contains(&pids)
        {
            return Err(Error::new(format!("--pids-limit {pids}: not between 1 and {MAX_PIDS}"))
                .hint("leave it out for no limit"));
        }
        self.io.iter().try_for_each(Throttle::check)
    }

    /// Microseconds of processor time in every [`CPU_PERIOD`].
    pub fn cpu_quota(&self) -> Option<u64> {
        self.cpus.map(|cpus| (cpus * CPU_PERIOD as f64).round() as u64)
    }

    /// Bytes of memory and swap together: as requested, or docker's rule of twice the memory.
    pub fn memory_and_swap(&self) -> Option<Size> {
        self.swap.or_else(|| self.memory.map(|memory| Size(memory.0.saturating_mul(2))))
    }
}

/// Expressed as `linux.resources`, with docker's rules applied. Which disks `io` means depends on
/// the machine.
impl From<&Limits> for Resources {
    fn from(limits: &Limits) -> Resources {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let bytes = |size: Size| number(size.0);
        let memory = limits.memory.is_some().then(|| Memory {
            limit: limits.memory.map(bytes),
            swap: limits.memory_and_swap().map(bytes),
            ..Memory::default()
        });
        let quota = limits.cpu_quota().map(number);
        let cpu = (quota.is_some() || limits.cpuset.is_some()).then(|| Cpu {
            quota,
            period: quota.map(|_| CPU_PERIOD),
            cpus: limits.cpuset.clone(),
            ..Cpu::default()
        });
        let pids = limits.pids.map(|pids| Pids { limit: Some(number(pids)) });
        Resources { memory, cpu, pids, ..Resources::default() }
    }
}

/// Where the limits of a cgroup come from, and so how an error names them.
#[derive(Clone, Copy, Debug)]
pub enum LimitSource<'a> {
    /// Flags of `wrap`.
    Flags(&'a Limits),
    /// `linux.resources` of config.json.
    Config(&'a Resources),
}

impl LimitSource<'_> {
    /// Nothing is limited.
    pub const NONE: LimitSource<'static> = LimitSource::Flags(Limits::NONE);

    /// The request, expressed as `linux.resources`.
    pub fn resources(&self) -> Cow<'_, Resources> {
        match *self {
            LimitSource::Flags(limits) => Cow::Owned(limits.into()),
            LimitSource::Config(resources) => Cow::Borrowed(resources),
        }
    }

    /// How `value` was requested in `field` of `linux.resources`; `None`: it was not, and only
    /// follows from another value by docker's rules.
    pub fn words(&self, field: &str, value: &str) -> Option<String> {
        let LimitSource::Flags(limits) = self else { return Some(format!("{field} {value}")) };
        match field {
            "memory.limit" => limits.memory.map(|memory| format!("--memory {memory}")),
            "memory.swap" => limits.swap.map(|swap| format!("--memory-swap {swap}")),
            "cpu.quota" | "cpu.period" => limits.cpus.map(|cpus| format!("--cpus {cpus}")),
            "cpu.cpus" => limits.cpuset.as_ref().map(|cpuset| format!("--cpuset-cpus {cpuset}")),
            "pids.limit" => limits.pids.map(|pids| format!("--pids-limit {pids}")),
            _ => Some("--io".into()),
        }
    }
}

/// Reads a list of processors, `0-3,8`, into ranges (first, last), in the format of cpuset(7).
pub fn cpu_list(text: &str) -> Result<Vec<(u32, u32)>> {
    let wrong = |why: String| {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        Error::new(format!("CPU list \"{shown}\": {why}")).hint("write 0-3,8")
    };
    let number = |text: &str| {
        // `parse` would accept "+1".
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u32>() {
            Ok(cpu) if digits && cpu < MAX_CPUS => Ok(cpu),
            _ if digits => Err(wrong(format!("CPU numbers end at {}", MAX_CPUS - 1))),
            _ => Err(wrong("not a list of numbers and ranges".into())),
        }
    };
    text.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong(format!("the range {range} runs backwards")));
            }
            Ok((first, last))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(limits: Limits) -> String {
        limits.check().unwrap_err().to_string()
    }

    #[test]
    fn no_limit_is_the_default() {
        assert!(Limits::default().is_empty());
        assert!(Limits::default().check().is_ok());
        assert!(!Limits { pids: Some(1), ..Default::default() }.is_empty());
    }

    #[test]
    fn a_slip_is_refused_with_the_flag_and_a_right_spelling() {
        let memory = |bytes| Some(Size(bytes));
        assert_eq!(
            refused(Limits { memory: memory(256), ..Default::default() }),
            "--memory 256: too small to start a program; \
             a bare number is bytes: write 256m for 256 MiB"
        );
        let low = Limits { memory: memory(2 << 20), swap: memory(1 << 20), ..Default::default() };
        assert!(refused(low).contains("less than --memory 2m"));
        assert!(refused(Limits { swap: memory(1 << 20), ..Default::default() }).contains("needs"));
        for cpus in [0.0, -1.0, 0.001, f64::NAN, f64::INFINITY, 1e9] {
            assert!(refused(Limits { cpus: Some(cpus), ..Default::default() }).contains("--cpus"));
        }
        for pids in [0, u64::MAX] {
            refused(Limits { pids: Some(pids), ..Default::default() });
        }
    }

    #[test]
    fn processor_lists_are_numbers_and_ranges() {
        assert_eq!(cpu_list("0-3,8").unwrap(), [(0, 3), (8, 8)]);
        for text in ["", ",", "1,", "3-0", "a", "1-", "-1", "+1", "8192", "0-99999999999", "0 1"] {
            let limits = Limits { cpuset: Some(text.into()), ..Default::default() };
            assert!(refused(limits).starts_with("--cpuset-cpus: CPU list"), "{text}");
        }
    }

    #[test]
    fn swap_left_open_is_as_much_again_as_memory() {
        let mut limits = Limits { memory: Some(Size(1 << 20)), ..Default::default() };
        assert_eq!(limits.memory_and_swap(), Some(Size(2 << 20)));
        limits.swap = limits.memory;
        assert_eq!(limits.memory_and_swap(), Some(Size(1 << 20)));
        assert_eq!(Limits::default().memory_and_swap(), None);
        assert_eq!(Limits { cpus: Some(0.07), ..limits }.cpu_quota(), Some(7000));
    }
    #[test]
    fn flags_become_the_resources_of_config_json() {
        let limits = Limits {
            memory: Some(Size(1 << 20)),
            cpus: Some(1.5),
            cpuset: Some("0-1".into()),
            pids: Some(7),
            ..Default::default()
        };
        let resources = |limits: &Limits| serde_json::to_value(Resources::from(limits)).unwrap();
        assert_eq!(
            resources(&limits),
            serde_json::json!({
                "memory": { "limit": 1 << 20, "swap": 2 << 20 },
                "cpu": { "quota": 150_000, "period": 100_000, "cpus": "0-1" },
                "pids": { "limit": 7 },
            })
        );
        assert_eq!(resources(Limits::NONE), serde_json::json!({}));
        let swap = Limits { memory: limits.memory, swap: limits.memory, ..Default::default() };
        assert_eq!(resources(&swap)["memory"]["swap"], 1 << 20);
        let most = Limits { pids: Some(u64::MAX), ..Default::default() };
        assert_eq!(resources(&most)["pids"]["limit"], i64::MAX);
        // An error names what was written; what was not written has no name.
        let named = |limits: &Limits, field| LimitSource::Flags(limits).words(field, "9");
        assert_eq!(named(&limits, "memory.limit").unwrap(), "--memory 1m");
        assert_eq!(named(&limits, "memory.swap"), None);
        assert_eq!(named(&swap, "memory.swap").unwrap(), "--memory-swap 1m");
        assert_eq!(named(&limits, "cpu.period").unwrap(), "--cpus 1.5");
        let config = Resources::default();
        let words = LimitSource::Config(&config).words("memory.limit", "9");
        assert_eq!(words.unwrap(), "memory.limit 9");
    }
}
