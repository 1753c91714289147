//! The machine that was measured, as far as it explains figures.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::sys::file::read_kernel;

/// A line of /proc/meminfo, in bytes; 0: it has none.
pub(super) fn memory(name: &str) -> u64 {
    let text = read_kernel("/proc/meminfo").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// What figures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchMachine {
    /// The processor, as it names itself.
    pub processor: String,
    /// How many there are for this process.
    pub processors: usize,
    /// Whether it has instructions for AES.
    pub aes: bool,
    /// Memory, in bytes.
    pub memory: u64,
    /// The kernel's release, without what distributions add.
    pub kernel: String,
    /// Whether it is a virtual machine, as far as the processor tells.
    pub virtual_machine: bool,
    /// How the frequency is chosen, where that is known.
    pub governor: Option<String>,
    /// When memory is in huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
}

impl BenchMachine {
    /// This one.
    pub fn read() -> BenchMachine {
        let text = |path: &str| read_kernel(path).unwrap_or_default();
        let processors = text("/proc/cpuinfo");
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let has = |flag: &str| flags.split(' ').any(|one| one == flag);
        let release = text("/proc/sys/kernel/osrelease");
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        // `always [madvise] never`
        let huge = text("/sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = huge.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        BenchMachine {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            aes: has("aes"),
            memory: memory("MemTotal"),
            kernel: release.split(['-', '\n']).next().unwrap_or_default().to_owned(),
            virtual_machine: has("hypervisor"),
            governor: governor.ok().map(|text| text.trim().to_owned()),
            huge_pages: chosen.map(|(word, _)| word.to_owned()),
        }
    }

    /// In one line.
    pub fn words(&self) -> String {
        let mut words = format!(
            "{} × {}, {:.0} GB, Linux {}",
            self.processors,
            self.processor,
            self.memory as f64 / f64::from(1 << 30),
            self.kernel
        );
        if self.virtual_machine {
            words += ", in a virtual machine";
        }
        if let Some(governor) = &self.governor {
            words += &format!(", frequency: {governor}");
        }
        words
    }
}
