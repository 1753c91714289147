//! What happens to the members of volumes while something uses them: the kernel says when to look
//! (poll(2) on /proc/mdstat, md(4)), and two looks are compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::status::{MemberHealth, MemberStatus, VolumeStatus};
use super::usage::VolumeUse;
use crate::error::{Error, Result};

const MDSTAT: &str = "/proc/mdstat";

/// What a member was worth when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberSeen {
    /// It has its data.
    Whole,
    /// Its data is being copied.
    Rebuilding,
    /// It is not there.
    Lost,
}

/// The members of a volume by their addresses, as they were seen.
pub type VolumeSeen = BTreeMap<String, MemberSeen>;

/// Volumes as they were seen, by name.
pub type VolumesSeen = BTreeMap<String, VolumeSeen>;

/// Volumes that are watched.
#[derive(Debug)]
pub struct VolumeWatch {
    mdstat: File,
    volumes: Vec<VolumeUse>,
    /// As they were seen last.
    pub seen: VolumesSeen,
}

impl VolumeWatch {
    /// Looks at them for the first time; `None`: there are none.
    ///
    /// # Errors
    /// It cannot be determined how they are.
    pub fn begin(volumes: &[VolumeUse]) -> Result<Option<VolumeWatch>> {
        if volumes.is_empty() {
            return Ok(None);
        }
        let mdstat = File::open(MDSTAT);
        let mdstat = mdstat.map_err(|error| Error::io(format!("open {MDSTAT}"), &error))?;
        let seen = VolumesSeen::new();
        let mut watch = VolumeWatch { mdstat, volumes: volumes.to_vec(), seen };
        watch.look()?;
        Ok(Some(watch))
    }

    /// What can be waited for (POLLPRI).
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.mdstat.as_fd()
    }

    /// The same, to be kept.
    pub fn into_fd(self) -> OwnedFd {
        self.mdstat.into()
    }

    /// Looks again: what has happened since, in lines.
    ///
    /// # Errors
    /// It cannot be determined how they are.
    pub fn look(&mut self) -> Result<Vec<String>> {
        // From here on, it can be waited for what comes next.
        let failed = |error| Error::io(format!("read {MDSTAT}"), &error);
        self.mdstat.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.mdstat.read_to_end(&mut Vec::new()).map_err(failed)?;
        compare(&self.volumes, &mut self.seen)
    }
}

/// What has happened to volumes since they were `seen`, which is brought up to date.
///
/// # Errors
/// It cannot be determined how they are.
pub fn compare(volumes: &[VolumeUse], seen: &mut VolumesSeen) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for volume in volumes {
        let status = volume.status()?;
        let now = members(&status);
        if let Some(before) = seen.get(&volume.name) {
            lines.extend(changes(before, &status));
        }
        seen.insert(volume.name.clone(), now);
    }
    Ok(lines)
}

/// The members of a volume, as they are seen now.
pub fn members(status: &VolumeStatus) -> VolumeSeen {
    let members = status.arrays.iter().flat_map(|array| &array.members);
    members.map(|member| (member.address.to_string(), worth(member))).collect()
}

fn worth(member: &MemberStatus) -> MemberSeen {
    match member.state {
        MemberHealth::InSync if member.counts() => MemberSeen::Whole,
        MemberHealth::Rebuilding | MemberHealth::Spare => MemberSeen::Rebuilding,
        MemberHealth::InSync | MemberHealth::Faulty | MemberHealth::Missing => MemberSeen::Lost,
    }
}

/// What has happened to the members since they were seen as in `before`: a line for each server and
/// kind.
pub fn changes(before: &VolumeSeen, now: &VolumeStatus) -> Vec<String> {
    let mut groups: BTreeMap<(MemberSeen, &str), Vec<String>> = BTreeMap::new();
    for member in now.arrays.iter().flat_map(|array| &array.members) {
        let address = member.address.to_string();
        let is = worth(member);
        if before.get(&address).is_some_and(|was| *was != is) {
            let server = member.server.as_deref().unwrap_or("this machine");
            groups.entry((is, server)).or_default().push(address);
        }
    }
    let line = |((is, server), members): ((MemberSeen, &str), Vec<String>)| {
        let (who, verb) = match &members[..] {
            [one] => (one.clone(), "is"),
            more => (format!("{} members on {server}", more.len()), "are"),
        };
        let what = match is {
            MemberSeen::Whole => "back",
            MemberSeen::Rebuilding => "being rebuilt",
            MemberSeen::Lost => "lost",
        };
        format!("RAID volume {}: {who} {verb} {what}; it {}", now.name, now.in_words())
    };
    groups.into_iter().map(line).collect()
}
