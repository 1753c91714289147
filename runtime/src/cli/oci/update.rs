//! `garth update`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::config::limits::CPU_PERIOD;
use crate::config::oci::{BlockIo, Cpu, Memory, Pids, Resources};
use crate::config::rate::Change;
use crate::config::units::Size;
use crate::config::{Limits, Throttle};
use crate::container::{Changes, Schemata};
use crate::error::{Error, Result};
use crate::service;

/// Change the limits of a running sandbox or container
#[derive(Debug, Args)]
pub struct Update {
    /// Read the limits from a file in the format of `linux.resources` in config.json, or from
    /// standard input with `-`; other options are then ignored
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Limit I/O on the disk that holds PATH: read=50MB/s:PATH, also write=, riops=, wiops=; `none`
    /// removes a limit
    #[arg(long, value_name = "LIMITS")]
    io: Vec<String>,
    /// Number of CPUs, e.g. 1.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    cpus: Option<String>,
    /// CPU limit period in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPU time per period in microseconds; -1 for unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU time that may be accumulated for bursts, in microseconds
    #[arg(long, value_name = "N")]
    cpu_burst: Option<u64>,
    /// CPU shares (relative weight)
    #[arg(long, alias = "cpu-shares", value_name = "N")]
    cpu_share: Option<u64>,
    /// Real-time CPU limit period in microseconds
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time per period in microseconds
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Set to 1 to run only when the CPU is otherwise idle
    #[arg(long, value_name = "N")]
    cpu_idle: Option<i64>,
    /// CPUs to run on, e.g. 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, e.g. 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit, in bytes or e.g. 256m; -1 for unlimited
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory soft limit, in bytes or e.g. 256m
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap limit combined, in bytes or e.g. 256m; -1 for unlimited
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Kernel memory limit: accepted and ignored, obsolete since Linux 5.4
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    kernel_memory: Option<String>,
    /// Limit for TCP buffers, cgroup v1 only
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Maximum number of processes; -1 for unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// L3 cache allocation (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Memory bandwidth allocation (Intel RDT)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Network rates, e.g. up=10Mbit/s,down=none; a direction not given is left unchanged
    #[arg(long, value_name = "RATES")]
    rate: Option<String>,
    /// The sandbox or container
    id: String,
}

impl Update {
    pub(in crate::cli) fn id(&self) -> &str {
        &self.id
    }

    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let rate = self.rate.as_deref().map(str::parse::<Change>).transpose();
        let rate = rate.map_err(|error| error.within("--rate"))?;
        let mut disks = Vec::new();
        let resources = match &self.resources {
            Some(file) => {
                let (text, shown) = super::read_input(file.clone())?;
                serde_json::from_slice(&text).map_err(|e| Error::new(format!("{shown}: {e}")))?
            }
            None => {
                for text in &self.io {
                    disks.extend(Throttle::parse(text)?);
                }
                self.flags()?
            }
        };
        let schemata =
            Schemata { l3_cache: self.l3_cache_schema, memory_bandwidth: self.mem_bw_schema };
        let changes = Changes { resources, schemata, rate };
        service::update(&global.journal(), &self.id, &changes, &disks).map(|()| 0)
    }

    fn flags(&self) -> Result<Resources> {
        let cpus = self.cpus.as_deref().map(quota).transpose()?;
        // As in runc, 0 leaves a limit unchanged.
        let cpu = Cpu {
            shares: self.cpu_share.filter(|n| *n != 0),
            quota: cpus.or(self.cpu_quota).filter(|n| *n != 0),
            burst: self.cpu_burst,
            period: cpus.map(|_| CPU_PERIOD).or(self.cpu_period).filter(|n| *n != 0),
            realtime_runtime: self.cpu_rt_runtime,
            realtime_period: self.cpu_rt_period.filter(|n| *n != 0),
            cpus: self.cpuset_cpus.clone().filter(|list| !list.is_empty()),
            mems: self.cpuset_mems.clone().filter(|list| !list.is_empty()),
            idle: self.cpu_idle,
        };
        let memory = Memory {
            limit: size("memory", self.memory.as_deref())?,
            reservation: size("memory-reservation", self.memory_reservation.as_deref())?,
            swap: size("memory-swap", self.memory_swap.as_deref())?,
            kernel_tcp: size("kernel-memory-tcp", self.kernel_memory_tcp.as_deref())?,
            ..Memory::default()
        };
        let weight = self.blkio_weight.filter(|n| *n != 0);
        let pids = self.pids_limit;
        Ok(Resources {
            cpu: (cpu != Cpu::default()).then_some(cpu),
            memory: (memory != Memory::default()).then_some(memory),
            block_io: weight.map(|n| BlockIo { weight: Some(n), ..BlockIo::default() }),
            pids: pids.map(|n| Pids { limit: Some(n) }),
            ..Resources::default()
        })
    }
}

/// `--cpus`, as time in each period.
fn quota(text: &str) -> Result<i64> {
    let within = |error: Error| error.within(format_args!("--cpus {text}"));
    let cpus: f64 = text.parse().map_err(|_| within(Error::new("not a number")))?;
    let limits = Limits { cpus: Some(cpus), ..Limits::default() };
    limits.check()?;
    Ok(limits.cpu_quota().unwrap_or_default() as i64)
}

fn size(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    match text {
        None | Some("") => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => {
            let size: Size =
                text.parse().map_err(|error: Error| error.within(format_args!("--{flag}")))?;
            let bytes = i64::try_from(size.0);
            bytes.map(Some).map_err(|_| Error::new(format!("--{flag} {text}: too large")))
        }
    }
}
