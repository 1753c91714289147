//! Where in the unified tree the cgroup of a sandbox may be created.
//!
//! The tree has a single writer at each place. Where systemd manages it, that is systemd, except
//! for what it has delegated: so a sandbox's cgroup is below the caller's own, if that was
//! delegated (`Delegate=` in the unit), and otherwise in a scope that systemd creates for it.
//! Elsewhere it is at the root of the tree for root, and for other users in the closest directory
//! that is theirs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::directory::{pids_in, write};
use super::hierarchy::{self, Controller, Hierarchy, Unfit, controllers, fit};
use super::systemd::{self, Unit};
use crate::facts;
use crate::sys::{process, xattr};
use crate::{Error, Result};

/// Where the processes of a delegated cgroup are moved, the launcher among them: a cgroup that has
/// processes cannot pass controllers on. systemd 254 can do this itself (`DelegateSubgroup=`).
const LEAF: &str = "garth.launcher";

/// What manages the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TreeTop {
    /// The tree has no manager: each program creates directories where it may.
    Free,
    /// systemd has delegated this directory to the caller.
    Delegated(String),
    /// systemd creates the scope; the directory shows which controllers it can have.
    Scope(Unit, String),
}

impl TreeTop {
    /// The place for sandbox `id`. Creates nothing.
    ///
    /// # Errors
    /// systemd manages the tree, and this caller cannot ask it.
    pub(super) fn find(host: &Hierarchy, id: &str) -> Result<TreeTop> {
        let Some(mount) = host.v2().filter(|_| host.systemd || host.scope) else {
            return Ok(TreeTop::Free);
        };
        let own = mount.own.as_deref().unwrap_or("");
        let own = own.strip_suffix(LEAF).map_or(own, |above| above.trim_end_matches('/'));
        // Root, too, has a user manager, besides the system's.
        let user = !host.privileged || facts::confined() || own.contains("/user@0.service/");
        if !host.scope && is_delegated(&mount.point, own, user)? {
            return Ok(TreeTop::Delegated(format!("{}{own}", mount.point)));
        }
        let (unit, manager) = Unit::beside(own, id, user)?;
        Ok(TreeTop::Scope(unit, format!("{}{manager}", mount.point)))
    }

    /// The directory to create `<parent>/<id>` in, so that it has `needed`.
    pub(super) fn top(&self, host: &Hierarchy, needed: &[Controller]) -> Result<String, Unfit> {
        match self {
            TreeTop::Free => host.v2_top(needed),
            TreeTop::Delegated(top) => fit(top, needed, true).map(|()| top.clone()),
            TreeTop::Scope(unit, manager) => {
                let mount = host.v2().ok_or(Unfit::NotMounted)?;
                let there = controllers(&format!("{manager}/cgroup.controllers"));
                if mount.read_only {
                    return Err(Unfit::NotWritable(mount.point.clone(), libc::EROFS));
                }
                if let Some(missing) = needed.iter().find(|one| !there.contains(one)) {
                    return Err(Unfit::Lacks(manager.clone(), missing.name()));
                }
                Ok(format!("{}{}", mount.point, unit.path))
            }
        }
    }

    /// What would provide a missing controller.
    pub(super) fn hint(&self, host: &Hierarchy, lacking: &str) -> Option<String> {
        let all = "Delegate=cpu cpuset io memory pids";
        match self {
            TreeTop::Delegated(top) => Some(format!(
                "Delegate= of {} lacks {lacking}: use Delegate=yes",
                systemd::innermost(top).unwrap_or("the unit")
            )),
            // The system's systemd has all controllers that the kernel has.
            TreeTop::Scope(_, top) if host.v2().is_none_or(|mount| mount.point != *top) => Some(
                format!("as root run `systemctl edit user@.service` and add {all} to [Service]"),
            ),
            _ => None,
        }
    }
}

/// Where the cgroups of sandboxes are in the unified tree, and what creates them.
///
/// # Errors
/// Same as for a start.
pub fn place_in_words(host: &Hierarchy) -> Result<String> {
    Ok(match TreeTop::find(host, "NAME")? {
        TreeTop::Delegated(top) => format!("below {top}, delegated by systemd"),
        TreeTop::Scope(unit, _) => format!("in scopes created by systemd in {}", unit.slice),
        TreeTop::Free => match host.v2_top(&[]) {
            Ok(top) => format!("in {top}"),
            Err(_) if host.v2().is_none() => "in the cgroup v1 hierarchies".into(),
            Err(_) => {
                return Err(Error::new("no cgroup of the unified hierarchy is writable here"));
            }
        },
    })
}

/// Whether the unit of cgroup `own` has delegated it to the payload. The system's systemd marks it
/// with an xattr, readable by all since 251 and by root since 244, and gives it to the unit's user.
/// A user's systemd is asked, as everything it has is the user's.
fn is_delegated(point: &str, own: &str, user: bool) -> Result<bool> {
    if user && systemd::is_of_user(own) {
        return systemd::delegates_to_caller();
    }
    let end = systemd::innermost(own).and_then(|unit| Some(own.rfind(unit)? + unit.len()));
    let dir = PathBuf::from(format!("{point}{}", &own[..end.unwrap_or(0)]));
    let marked = |name| xattr::text(&dir, name).is_ok_and(|value| value == "1");
    let given = || fs::metadata(&dir).is_ok_and(|meta| meta.uid() == process::effective_ids().0);
    Ok(marked("user.delegate") || marked("trusted.delegate") || (user && given()))
}

/// Moves the processes in `top` itself to a leaf in it, so that it can pass controllers on.
pub(super) fn vacate(top: &Path) -> Result<()> {
    if pids_in(top)?.is_empty() {
        return Ok(());
    }
    let leaf = top.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("create cgroup {}", leaf.display()), &error));
        }
        _ => {}
    }
    // Children forked meanwhile are moved in the next round.
    for _ in 0..100 {
        let pids = pids_in(top)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match write(&leaf.join("cgroup.procs"), &pid.to_string()) {
                Err(error) if error.errno().is_none_or(|errno| errno.0 != libc::ESRCH) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }
    Err(Error::new(format!("new processes keep appearing in {}", top.display())))
}

/// Whether this caller, which is in `own`, may move a process of its own into `path`: the common
/// ancestor must be writable for it.
pub(super) fn may_move(host: &Hierarchy, path: &Path) -> bool {
    let Some(mount) = host.v2() else { return true };
    let own = PathBuf::from(format!("{}{}", mount.point, mount.own.as_deref().unwrap_or("")));
    let above = path.ancestors().find(|above| own.starts_with(above));
    above.is_none_or(|above| {
        hierarchy::writable(&above.join("cgroup.procs").to_string_lossy()).is_ok()
    }) || process::effective_ids().0 == 0
}
