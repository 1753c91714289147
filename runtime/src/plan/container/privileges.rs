//! From the root of a container to its program: limits, ids, capabilities, filters.

use super::scheduling::{bit_list, io_priority, memory_policy, scheduler_attr};
use super::{Compiler, candidates, notifies, strings};
use crate::config::oci::Process;
use crate::config::{Capability, CapabilitySet};
use crate::error::{Error, Result};
use crate::plan::program::c_string;
use crate::plan::seccomp::Filter;
use crate::plan::step::Step;
use crate::sys::raw::CapSets;

impl Compiler<'_> {
    /// What is set before namespaces are entered, in the host's /proc and with the caller's rights.
    pub(super) fn outside(&mut self, process: &Process) -> Result<()> {
        if let Some(score) = process.oom_score_adj
            && score != self.surroundings.oom_score_adj
        {
            let path = c_string("/proc/self/oom_score_adj")?;
            let data = score.to_string().into_bytes();
            self.push(Step::Write { path, data }, "process.oomScoreAdj");
        }
        Ok(())
    }

    /// The processors of a joining process, before it is in its cgroup and from then on.
    pub(super) fn affinity(&mut self, list: Option<&String>) -> Result<()> {
        if let Some(list) = list {
            let step = Step::Affinity(bit_list(list, "process.execCPUAffinity")?);
            self.push(step, "process.execCPUAffinity");
        }
        Ok(())
    }

    /// The identity of the program, and everything else that can fail.
    pub(super) fn process(&mut self, process: &Process) -> Result<()> {
        self.scheduling(process)?;
        self.labels(process)?;
        if process.no_new_privileges {
            self.push(Step::NoNewPrivileges, "process.noNewPrivileges");
        }
        for limit in &process.rlimits {
            let resource = limit.kind.number();
            let step = Step::Rlimit { resource, soft: limit.soft, hard: limit.hard };
            self.push(step, "process.rlimits");
        }
        self.push(Step::StandardFiles { uid: process.user.uid, pipes: false }, "process.user");
        // No descriptor that leads to a directory may be open any more when a path chosen by others
        // is walked.
        self.close_all_but(Vec::new());
        // Before the ids: the program may begin in a directory that its user could not enter.
        self.push(Step::Directory(c_string(&process.cwd)?), "process.cwd");
        let sets = process.capabilities.clone().unwrap_or_default();
        let last = self.surroundings.last_capability;
        // The bounding set needs CAP_SETPCAP, which the change of ids takes away.
        let keep = self.bits(&sets.bounding);
        self.push(Step::Bounding { keep, last }, "process.capabilities");
        let user = &process.user;
        if let Some(groups) = self.groups(process) {
            self.push(Step::Groups(groups), "process.user");
        }
        let ids = Step::Ids { uid: user.uid, gid: user.gid, keep_capabilities: true };
        self.push(ids, "process.user");
        let wanted = CapSets {
            effective: self.bits(&sets.effective),
            permitted: self.bits(&sets.permitted),
            inheritable: self.bits(&sets.inheritable),
        };
        // A filter without no_new_privs needs CAP_SYS_ADMIN, until it is loaded.
        let late = self.surroundings.seccomp.is_some() && !process.no_new_privileges;
        let for_filter = if late { Capability::CAP_SYS_ADMIN.bitmask() } else { 0 };
        let now = CapSets {
            effective: wanted.effective | for_filter,
            permitted: wanted.permitted | for_filter,
            ..wanted
        };
        self.push(Step::Capabilities(now), "process.capabilities");
        // The kernel raises only what is both permitted and inheritable. Bundles made for runc ask
        // for more, which it ignores; the reader of the configuration warns about it.
        let ambient = self.bits(&sets.ambient) & wanted.permitted & wanted.inheritable;
        if ambient != 0 {
            self.push(Step::Ambient(ambient), "process.capabilities");
        }
        if !self.surroundings.no_keyring {
            // After the ids, so that the keyring belongs to the user. Without a name: another
            // container of this user could have planted one with the expected name.
            self.push(Step::Keyring, "always");
        }
        self.push(Step::Umask(user.umask.unwrap_or(0o022)), "process.user");
        let (name, paths) = candidates(process)?;
        self.push(Step::Find { name, paths }, "process.args");
        // The supervisor's descriptor must be taken while the parent is still there.
        if let Some(filter) = self.surroundings.seccomp.clone().filter(notifies) {
            self.push(Step::Seccomp(filter), "linux.seccomp");
        }
        Ok(())
    }

    /// The last steps: from the filter on, only capset and execve are needed.
    pub(super) fn execute(&mut self, process: &Process) -> Result<()> {
        if self.surroundings.seccomp.as_ref().is_some_and(Filter::kills_execve) {
            return Err(Error::new(
                "linux.seccomp: the profile kills execve, so no program can start",
            )
            .hint("allow execve in the profile"));
        }
        self.push(Step::Signals { ignored: 0, blocked: 0 }, "always");
        if let Some(filter) = self.surroundings.seccomp.clone().filter(|filter| !notifies(filter)) {
            self.push(Step::Seccomp(filter), "linux.seccomp");
        }
        if self.surroundings.seccomp.is_some() && !process.no_new_privileges {
            let sets = process.capabilities.clone().unwrap_or_default();
            let wanted = CapSets {
                effective: self.bits(&sets.effective),
                permitted: self.bits(&sets.permitted),
                inheritable: self.bits(&sets.inheritable),
            };
            self.push(Step::Capabilities(wanted), "process.capabilities");
        }
        let (name, mut paths) = candidates(process)?;
        // A program found through a PATH entry that is not absolute was refused by `Find`.
        let searched = !name.to_bytes().contains(&b'/');
        paths.retain(|path| !searched || path.to_bytes().starts_with(b"/"));
        let (argv, envp) = (strings(&process.args)?, strings(&process.env)?);
        self.push(Step::Exec { paths, argv, envp }, "process.args");
        Ok(())
    }

    fn scheduling(&mut self, process: &Process) -> Result<()> {
        if let Some(wanted) = &self.linux.personality {
            let domain = wanted.domain.number();
            self.push(Step::Personality(domain), "linux.personality");
        }
        if let Some(scheduler) = &process.scheduler {
            self.push(Step::Scheduler(scheduler_attr(scheduler)?), "process.scheduler");
        }
        if let Some(priority) = &process.io_priority {
            self.push(Step::IoPriority(io_priority(priority)?), "process.ioPriority");
        }
        if let Some(policy) = &self.linux.memory_policy {
            let (mode, nodes) = memory_policy(policy)?;
            self.push(Step::MemoryPolicy { mode, nodes }, "linux.memoryPolicy");
        }
        Ok(())
    }

    /// Labels take effect at the next execve.
    fn labels(&mut self, process: &Process) -> Result<()> {
        if let Some(profile) = &process.apparmor_profile {
            if !self.surroundings.kernel.apparmor {
                return Err(Error::new(format!(
                    "process.apparmorProfile {profile:?}: no AppArmor"
                ))
                .hint("it is not enabled in this kernel: leave out the profile"));
            }
            let step = Step::WriteOwn {
                file: c_string("attr/apparmor/exec")?,
                data: format!("exec {profile}").into_bytes(),
            };
            self.push(step, "process.apparmorProfile");
        }
        if let Some(label) = &process.selinux_label {
            if !self.surroundings.kernel.selinux {
                return Err(Error::new(format!("process.selinuxLabel {label:?}: no SELinux"))
                    .hint("it is not enabled in this kernel: leave out the label"));
            }
            let data = label.clone().into_bytes();
            let step = Step::WriteOwn { file: c_string("attr/exec")?, data };
            self.push(step, "process.selinuxLabel");
        }
        Ok(())
    }

    /// What cannot be granted is left out, with a warning (config.md, "Linux Process"). In a user
    /// namespace everything can be granted.
    fn bits(&self, names: &[String]) -> u64 {
        let held =
            if self.own_capabilities { u64::MAX } else { self.surroundings.held_capabilities };
        capability_bits(names, self.surroundings.last_capability) & held
    }

    /// `None` where they cannot be set and none are asked for: a user namespace whose group map was
    /// written without privilege.
    fn groups(&self, process: &Process) -> Option<Vec<u32>> {
        let groups = &process.user.additional_gids;
        (!groups.is_empty() || !self.surroundings.setgroups_denied).then(|| groups.clone())
    }
}

/// A name that the kernel does not know is ignored, with a warning when the file is read.
pub fn capability_bits(names: &[String], last: u8) -> u64 {
    CapabilitySet::named(names).0 & ((2u64 << last) - 1)
}
