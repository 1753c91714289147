//! What the command may do: limits, capabilities, ids, and what Landlock lets it write.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use super::Plan;
use super::compile::Compiler;
use super::step::{Otherwise, Step};
use crate::config::{Network, Rlimit, Root};
use crate::sys::raw::CapSets;

impl Compiler<'_> {
    fn rlimits(&self, plan: &mut Plan) {
        for limit in &self.sandbox.rlimits {
            let Rlimit { resource, soft, hard } = *limit;
            plan.push(Step::Rlimit { resource, soft, hard }, "--ulimit");
        }
    }

    pub(super) fn privileges(&self, plan: &mut Plan) {
        let (sandbox, user) = (self.sandbox, &self.facts.user);
        let keep = self.capabilities;
        if sandbox.no_new_privileges {
            plan.push(Step::NoNewPrivileges, "default");
        }
        if sandbox.landlock && self.facts.landlock > 0 {
            self.landlock(plan);
        }
        if self.facts.privileged && user.uid != self.facts.caller.0 && !sandbox.terminal {
            // Only its owner, the caller, can open a pipe.
            plan.push(Step::StandardFiles { uid: user.uid, pipes: true }, "-u");
        }
        // After the steps that open files, as the number of open files may be limited; before the
        // loss of the capability that can raise a limit.
        self.rlimits(plan);
        // The bounding set and the securebits need CAP_SETPCAP, which the change of ids takes away.
        if keep.0 == 0 {
            // Not even an execve by user 0 regains a capability, and this cannot be undone: NOROOT,
            // NO_SETUID_FIXUP, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each with its lock.
            const NOROOT: u32 = 0b11;
            const NO_SETUID_FIXUP: u32 = 0b11 << 2;
            const KEEP_CAPS_OFF: u32 = 0b10 << 4;
            const NO_CAP_AMBIENT_RAISE: u32 = 0b11 << 6;
            let bits = NOROOT | NO_SETUID_FIXUP | KEEP_CAPS_OFF | NO_CAP_AMBIENT_RAISE;
            plan.push(Step::Securebits(bits), "default");
        }
        let last = self.facts.last_capability;
        plan.push(Step::Bounding { keep: keep.0, last }, "capabilities");
        if !self.userns || self.facts.privileged {
            // Before the ids: setgroups(2) needs CAP_SETGID.
            let origin = sandbox.user.as_ref().map_or("caller".into(), |user| format!("-u {user}"));
            let otherwise = match (&sandbox.user, self.facts.confined) {
                // A caller that may not set groups cannot drop those it has, either.
                (None, true) => Otherwise::Without(None),
                _ => Otherwise::Fail,
            };
            plan.push_or(Step::Groups(user.groups.clone()), origin.clone(), otherwise);
            plan.push(
                Step::Ids { uid: user.uid, gid: user.gid, keep_capabilities: keep.0 != 0 },
                origin,
            );
        }
        let sets = CapSets { effective: keep.0, permitted: keep.0, inheritable: 0 };
        if keep.0 != 0 && user.uid != 0 {
            // For a user other than root only ambient capabilities survive execve.
            plan.push(Step::Capabilities(CapSets { inheritable: keep.0, ..sets }), "--cap-add");
            plan.push(Step::Ambient(keep.0), "--cap-add");
        } else {
            plan.push(Step::Capabilities(sets), "capabilities");
        }
        // After the ids, so that the keyring belongs to the user.
        plan.push(Step::Keyring, "always");
    }

    /// Allows writing to the writable mounts only, once more, by another mechanism.
    fn landlock(&self, plan: &mut Plan) {
        const WRITE_FILE: u64 = 1 << 1;
        const TRUNCATE: u64 = 1 << 14;
        const MAKE_DEVICES: u64 = 1 << 6 | 1 << 11;
        // REMOVE_DIR to MAKE_SYM (bits 4 to 12); REFER since ABI 2, TRUNCATE since ABI 3.
        let mut handled = WRITE_FILE | 0x1ff0;
        if self.facts.landlock >= 2 {
            handled |= 1 << 13;
        }
        if self.facts.landlock >= 3 {
            handled |= TRUNCATE;
        }
        const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
        // A new network namespace has its own abstract sockets.
        let foreign_sockets = matches!(self.sandbox.network, Network::Host | Network::Join(_));
        let scoped = match (foreign_sockets, self.facts.landlock >= 6) {
            (true, true) => SCOPE_ABSTRACT_UNIX_SOCKET,
            _ => 0,
        };
        let allowed = handled & !MAKE_DEVICES;
        let writable_root = match &self.sandbox.root {
            Root::Host => false,
            Root::Dir { read_only, .. } => !read_only,
            Root::Untouched => true,
        };
        let mut rules = Vec::new();
        if writable_root {
            rules.push((c"/".into(), allowed));
        } else {
            for mount in self.sandbox.mounts.iter().filter(|mount| !mount.access.read_only) {
                let target = mount.target.as_os_str().as_bytes();
                rules.push((CString::new(target).unwrap_or_default(), allowed));
            }
        }
        plan.push(Step::Landlock { handled, scoped, rules }, "default");
    }
}
