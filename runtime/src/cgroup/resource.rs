//! A cgroup as one of the resources that a sandbox or container has.

use std::os::fd::OwnedFd;

use super::claim::{Claim, MARK};
use super::hierarchy::{Controller, Version};
use super::record::Cgroup;
use crate::Result;
use crate::config::LimitSource;
use crate::journal::is_there;
use crate::journal::resource::{Held, Owner, Resource};

impl Cgroup {
    /// Creates it, and marks it as the owner's before a process can be in it. systemd creates a
    /// scope only around process `pid`.
    fn create(&self, owner: &Owner, pid: Option<i32>) -> Result<Claim> {
        let claim = self.make(owner.limits, pid)?;
        if !self.is_empty() {
            self.mark(&claim, &owner.file(MARK))?;
        }
        Ok(claim)
    }

    /// What a start will do, one line each, for `garth explain`.
    pub(super) fn describe_making(&self, source: LimitSource) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(unit) = self.unit() {
            lines.push(format!("ask systemd for {} in {}", unit.name, unit.slice));
        }
        for dir in &self.dirs {
            lines.push(format!("create {}", self.path(dir).display()));
            if dir.version == Version::V1 && dir.controllers.contains(&Controller::Cpuset) {
                let shared = self.shared(dir);
                lines.push(format!("copy cpuset.cpus and cpuset.mems from {}", shared.display()));
            }
            if dir.version == Version::V2 && !dir.controllers.is_empty() {
                let names: Vec<String> =
                    dir.controllers.iter().map(|c| format!("+{}", c.name())).collect();
                let names = names.join(" ");
                for above in [dir.top(), &self.shared(dir)] {
                    let file = above.join("cgroup.subtree_control");
                    lines.push(format!("write \"{names}\" to {}", file.display()));
                }
            }
        }
        for disk in &self.disks {
            lines.push(format!("limit {} as {}", disk.name, disk.words));
        }
        // A value that no kernel accepts has been refused before.
        for (own, _, settings) in self.settings(source).unwrap_or_default() {
            for item in settings {
                let condition =
                    if item.optional { ", if the kernel has swap accounting" } else { "" };
                let file = own.join(&item.file);
                lines.push(format!("write \"{}\" to {}{condition}", item.value, file.display()));
            }
        }
        lines
    }
}

impl Resource for Cgroup {
    fn acquire(&self, owner: &Owner, held: &mut Held) -> Result<()> {
        // A scope is created only around a process.
        if self.is_scope() {
            return Ok(());
        }
        let claim = self.create(owner, None)?;
        // For the life of the sandbox: where its processes are not visible, the lock is.
        held.extend(claim.into_files().map(OwnedFd::from));
        Ok(())
    }

    fn admit(&self, owner: &Owner, pid: i32) -> Result<()> {
        match self.is_scope() {
            // The process is already in it: that alone shows others that it is in use.
            true => self.create(owner, Some(pid)).map(drop),
            false => Ok(()),
        }
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        self.give_up(&owner.file(MARK), owner.may_kill)
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for dir in &self.owned(&owner.file(MARK))?.dirs {
            let own = self.path(dir);
            if is_there(&own)? {
                there.push(format!("cgroup {}", own.display()));
            }
        }
        Ok(there)
    }

    fn describe(&self, owner: &Owner) -> Vec<String> {
        self.describe_making(owner.limits)
    }
}
