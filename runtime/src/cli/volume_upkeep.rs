//! `garth volume repair`, `fail` and `replace`: what keeps a volume whole.

use std::io::{IsTerminal, stderr};

use clap::Args;

use super::tell;
use super::volume_tree::{bar, code};
use crate::error::Result;
use crate::journal::Journal;
use crate::volume::explain::VolumeAction;
use crate::volume::status::{MemberStatus, VolumeStatus};
use crate::volume::upkeep;

/// Bring members of a RAID volume back, and wait until it is whole
///
/// Servers that are back are connected again, and what is out of its arrays becomes a member again:
/// only what was written in between is copied. Devices that are not there are left out. It may be
/// interrupted and repeated; the copying goes on. The exit status is that of `status` at the end.
#[derive(Debug, Args)]
pub struct Repair {
    /// Do not wait until all is copied
    #[arg(long)]
    no_wait: bool,
    /// Also overwrite members whose data was given up by `assemble --stale`
    #[arg(long)]
    force: bool,
    /// The volume
    name: String,
}

/// Take a member of a RAID volume out of service
///
/// It is refused if that is the only copy of some data. `repair` takes it into service again.
#[derive(Debug, Args)]
pub struct Fail {
    /// The volume
    name: String,
    /// The member, as it was given, or its block device
    device: String,
}

/// Put another device in the place of a member of a RAID volume, and wait until it is up to date
///
/// The old one stays in service until then, if it is; then its superblock is removed. If that is
/// interrupted, the same command or `repair` continues it. Before the new one has been written to,
/// the reverse command takes it back. A device that has come back empty replaces itself.
#[derive(Debug, Args)]
pub struct Replace {
    /// Do not wait; `repair` finishes it
    #[arg(long)]
    no_wait: bool,
    /// Also if there is something on the new device, which is then lost
    #[arg(long)]
    force: bool,
    /// The volume
    name: String,
    /// The member, as it was given, or its block device
    old: String,
    /// The other device, written as for `create`
    new: String,
}

/// Compare the members of a RAID volume, in the background of its use
///
/// The exit status is 1 if anything differed. A disk that returns other data than was written shows
/// so; so do writes to memory that is being written out, as of swap, without harm. It may be
/// interrupted: the same command goes on with it, as long as the volume is not stopped.
#[derive(Debug, Args)]
pub struct Scrub {
    /// Also make what differs the same: as the first member of each array has it
    #[arg(long, conflicts_with = "stop")]
    repair: bool,
    /// Interrupt it
    #[arg(long, conflicts_with = "no_wait")]
    stop: bool,
    /// Do not wait for its end; `status` shows how far it is
    #[arg(long)]
    no_wait: bool,
    /// The volume
    name: String,
}

/// Make a RAID volume as large as its devices allow, after all of them have grown
///
/// The file system grows too. A volume with one array may stay mounted; md does not resize a stripe
/// that is in use, nor arrays of layout far. It may be interrupted and repeated.
#[derive(Debug, Args)]
pub struct Grow {
    /// The volume
    name: String,
}

impl Repair {
    pub(super) fn asked(self) -> (String, VolumeAction) {
        (self.name, VolumeAction::Repair { force: self.force })
    }
}

impl Fail {
    pub(super) fn asked(self) -> (String, VolumeAction) {
        (self.name, VolumeAction::Fail { device: self.device })
    }
}

impl Replace {
    pub(super) fn asked(self) -> (String, VolumeAction) {
        let action = VolumeAction::Replace { old: self.old, new: self.new, force: self.force };
        (self.name, action)
    }
}

impl Grow {
    pub(super) fn run(self, journal: &Journal) -> Result<i32> {
        crate::volume::grow::grow(journal, &self.name, &|line| tell(line))?;
        Ok(0)
    }
}

impl Scrub {
    /// What md is told.
    fn action(&self) -> &'static str {
        match (self.stop, self.repair) {
            (true, _) => "idle",
            (_, true) => "repair",
            _ => "check",
        }
    }

    pub(super) fn asked(self) -> (String, VolumeAction) {
        let action = VolumeAction::Scrub(self.action());
        (self.name, action)
    }

    pub(super) fn run(self, journal: &Journal) -> Result<i32> {
        upkeep::scrub(journal, &self.name, self.action(), &|line| tell(line))?;
        if self.stop || self.no_wait {
            return Ok(0);
        }
        let status = waited(journal, &self.name)?;
        let mut differed = 0;
        for (number, array) in status.arrays.iter().enumerate() {
            let out = array.members.iter().filter(|member| !member.counts()).count();
            if out > 0 {
                tell(&format!(
                    "array {}: {out} of its members are out, and not compared",
                    number + 1
                ));
            }
            if array.mismatches > 0 {
                let sectors = array.mismatches;
                tell(&format!("array {}: up to {sectors} sectors differed", number + 1));
                differed += sectors;
            }
        }
        Ok(i32::from(differed > 0 && !self.repair))
    }
}

impl Repair {
    pub(super) fn run(self, journal: &Journal) -> Result<i32> {
        upkeep::repair(journal, &self.name, self.force, &|line| tell(line))?;
        if self.no_wait {
            return now(journal, &self.name);
        }
        finish(journal, &self.name, self.force)
    }
}

impl Fail {
    pub(super) fn run(self, journal: &Journal) -> Result<i32> {
        upkeep::fail(journal, &self.name, &self.device, &|line| tell(line))?;
        Ok(0)
    }
}

impl Replace {
    pub(super) fn run(self, journal: &Journal) -> Result<i32> {
        let devices = (self.old.as_str(), self.new.as_str());
        upkeep::replace(journal, &self.name, devices, self.force, &|line| tell(line))?;
        if self.no_wait {
            return now(journal, &self.name);
        }
        finish(journal, &self.name, false)
    }
}

fn now(journal: &Journal, name: &str) -> Result<i32> {
    Ok(code(crate::volume::verbs::status(journal, name)?.health))
}

/// Waits until all is copied, and lets those go that were replaced.
fn finish(journal: &Journal, name: &str, force: bool) -> Result<i32> {
    let mut status = waited(journal, name)?;
    let replaces = |member: &MemberStatus| member.replaces.is_some() && member.counts();
    // Again, as one may be up to date a moment before the other is out of service.
    for _ in 0..3 {
        if !status.arrays.iter().flat_map(|array| &array.members).any(replaces) {
            break;
        }
        upkeep::repair(journal, name, force, &|line| tell(line))?;
        status = waited(journal, name)?;
    }
    Ok(code(status.health))
}

/// Waits until nothing is copied or checked any more, with a line that says how far it is: on a
/// terminal the same one all the time, otherwise one for each tenth.
pub(super) fn waited(journal: &Journal, name: &str) -> Result<VolumeStatus> {
    let terminal = stderr().is_terminal();
    let mut last = None;
    let status = upkeep::wait(journal, name, &mut |now| {
        let all = now.arrays.iter().enumerate();
        let mut busy = all.filter_map(|(number, array)| Some((number, array.progress.as_ref()?)));
        // Those that have not begun wait for the first.
        let busy = busy.clone().find(|(_, progress)| progress.permille.is_some()).or(busy.next());
        let Some((number, progress)) = busy else { return };
        let line = format!("array {}: {}", number + 1, bar(progress));
        let tenth = (number, progress.action.clone(), progress.permille.map(|part| part / 100));
        if terminal {
            eprint!("\r\x1b[K{line}");
        } else if last.as_ref() != Some(&tenth) {
            tell(&line);
        }
        last = Some(tenth);
    });
    if terminal && last.is_some() {
        eprint!("\r\x1b[K");
    }
    status
}
