//! `process`: the program, and what it is allowed to do. Also what `exec --process` reads.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::checks::not_absolute;
use super::words::{IoClass, RlimitType, SchedulerFlag, SchedulerPolicy};
use super::{is_default, or_null, refuse, text};
use crate::config::Capability;
use crate::error::Result;

/// The program, and what it is allowed to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// It has a terminal of its own.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub terminal: bool,
    /// The size of that terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// The user it runs as.
    #[serde(deserialize_with = "or_null")]
    pub user: User,
    /// The program and its arguments.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=value`, verbatim.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory inside, absolute.
    #[serde(deserialize_with = "or_null")]
    pub cwd: String,
    /// Capabilities; absent: none are changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// no_new_privs (prctl(2)).
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub no_new_privileges: bool,
    /// The AppArmor profile from the execve on.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// oom_score_adj (proc(5)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The SELinux label from the execve on.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// I/O priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// How it is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Processors of a process that joins by `exec`.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Lines.
    #[serde(deserialize_with = "or_null")]
    pub height: u32,
    /// Columns.
    #[serde(deserialize_with = "or_null")]
    pub width: u32,
}

/// The user the program runs as, in ids of the container's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User.
    #[serde(deserialize_with = "or_null")]
    pub uid: u32,
    /// Group.
    #[serde(deserialize_with = "or_null")]
    pub gid: u32,
    /// File mode creation mask; absent: inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// The five sets of capabilities(7), by names such as `CAP_NET_RAW`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the kernel's names")]
pub struct Capabilities {
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// One resource limit; `u64::MAX` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    #[serde(rename = "type")]
    pub kind: RlimitType,
    /// The ceiling for the soft limit.
    #[serde(default, deserialize_with = "or_null")]
    pub hard: u64,
    /// The limit in effect.
    #[serde(default, deserialize_with = "or_null")]
    pub soft: u64,
}

/// ioprio_set(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoClass,
    /// 0 (first) to 7 within the class.
    #[serde(default, deserialize_with = "or_null")]
    pub priority: i32,
}

/// sched_setattr(2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// -20 to 19, for the usual policies.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub nice: i32,
    /// 1 to 99, for the real-time policies.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Flags.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
    /// Nanoseconds of work, for SCHED_DEADLINE.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub runtime: u64,
    /// Nanoseconds until it must be done.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub deadline: u64,
    /// Nanoseconds until it recurs.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub period: u64,
}

/// Processors of a joining process, as lists like `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// Until it is in the container's cgroup.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// From then on.
    #[serde(deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub r#final: Option<String>,
}

impl Capabilities {
    /// The five lists with their names.
    pub fn lists(&self) -> [(&'static str, &[String]); 5] {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
    }
}

impl Process {
    /// Checks what the types cannot; places are named relative to here: `args`, `rlimits[1]`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        if self.args.is_empty() {
            return refuse("args", "missing or empty; the first is the program");
        }
        if !self.cwd.starts_with('/') {
            return refuse("cwd", not_absolute(&self.cwd));
        }
        self.user.check()?;
        let mut seen = BTreeSet::new();
        for (at, limit) in self.rlimits.iter().enumerate() {
            if !seen.insert(limit.kind) {
                return refuse(format!("rlimits[{at}]"), format!("duplicate {}", limit.kind));
            }
            if limit.soft > limit.hard {
                let what = format!("{}: soft {} > hard {}", limit.kind, limit.soft, limit.hard);
                return refuse(format!("rlimits[{at}]"), what);
            }
        }
        if let Some(score) = self.oom_score_adj
            && !(-1000..=1000).contains(&score)
        {
            return refuse("oomScoreAdj", format!("{score} is not between -1000 and 1000"));
        }
        if let Some(io) = &self.io_priority
            && !(0..=7).contains(&io.priority)
        {
            return refuse(
                "ioPriority.priority",
                format!("{} is not between 0 and 7", io.priority),
            );
        }
        if let Some(size) = self.console_size
            && size.height.max(size.width) > u32::from(u16::MAX)
        {
            return refuse("consoleSize", "more than 65535 characters");
        }
        if let Some(scheduler) = &self.scheduler {
            scheduler.check().map_err(|error| error.within("scheduler"))?;
        }
        match &self.exec_cpu_affinity {
            Some(affinity) => affinity.check(),
            None => Ok(()),
        }
    }

    /// Capabilities unknown here: they are left out, with a warning.
    pub fn warnings(&self) -> Vec<String> {
        let mut unknown: BTreeSet<&str> = BTreeSet::new();
        for (_, names) in self.capabilities.iter().flat_map(Capabilities::lists) {
            let unheard = |name: &&str| name.parse::<Capability>().is_err();
            unknown.extend(names.iter().map(String::as_str).filter(unheard));
        }
        let word = |name| format!("process.capabilities: unknown capability {name:?} ignored");
        unknown.into_iter().map(word).collect()
    }
}

impl User {
    fn check(&self) -> Result<()> {
        let groups = self.additional_gids.iter().map(|gid| ("additionalGids", *gid));
        let ids = [("uid", self.uid), ("gid", self.gid)].into_iter().chain(groups);
        for (key, id) in ids {
            // setuid(2) and the like take it for "do not change".
            if id == u32::MAX {
                return refuse(format!("user.{key}"), "4294967295 is not a valid id");
            }
        }
        match self.umask {
            Some(umask) if umask > 0o777 => {
                refuse("user.umask", format!("{umask} is more than 511 (0777)"))
            }
            _ => Ok(()),
        }
    }
}

impl Scheduler {
    /// The rules of sched_setattr(2).
    fn check(&self) -> Result<()> {
        use SchedulerPolicy::{Deadline, Fifo, Rr};
        let real_time = matches!(self.policy, Fifo | Rr);
        if !(-20..=19).contains(&self.nice) {
            return refuse("nice", format!("{} is not between -20 and 19", self.nice));
        }
        if real_time && !(1..=99).contains(&self.priority) {
            let what = format!("{} is not between 1 and 99 for {}", self.priority, self.policy);
            return refuse("priority", what);
        }
        if !real_time && self.priority != 0 {
            return refuse("priority", format!("not allowed for {}", self.policy));
        }
        if self.policy == Deadline {
            // A period of 0 means the deadline.
            let period = if self.period == 0 { self.deadline } else { self.period };
            if self.runtime == 0 || self.runtime > self.deadline || self.deadline > period {
                return refuse("runtime", "must satisfy 0 < runtime <= deadline <= period");
            }
        } else if self.runtime != 0 || self.deadline != 0 || self.period != 0 {
            return refuse("runtime, deadline, period", format!("not allowed for {}", self.policy));
        }
        Ok(())
    }
}
