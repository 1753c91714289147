//! The steps of which the programs of a volume consist, and how they are worded.

use std::fmt;
use std::path::PathBuf;

use super::device::{Portal, VolumeDevice};
use super::mdadm::ArrayUuid;
use super::nbd;
use super::record::VolumePhase;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeStep {
    /// The volume's record is written, and synced, before anything that follows.
    Record {
        /// The volume.
        volume: String,
        /// What is begun.
        phase: VolumePhase,
    },
    /// The record is removed.
    Forget {
        /// The volume.
        volume: String,
    },
    /// A server accepts connections.
    Reach {
        /// Where.
        portal: Portal,
        /// Within so many seconds.
        seconds: u32,
    },
    /// A command succeeds.
    Run(VolumeCommand),
    /// There is a node record of open-iscsi for a target.
    Node {
        /// Where the target is.
        portal: Portal,
        /// The target.
        target: String,
        /// A target that has one, which may be copied: to have it made costs a process.
        like: Option<(Portal, String)>,
    },
    /// The node record of a target has these settings, and the account of a file: iscsiadm(8)
    /// takes both as arguments, which costs a process for each target, and which everyone reads.
    Configure {
        /// Where the target is.
        portal: Portal,
        /// The target.
        target: String,
        /// Their names and values.
        settings: &'static [(&'static str, &'static str)],
        /// The file with the account.
        chap: Option<PathBuf>,
    },
    /// There are sessions with these targets.
    Login {
        /// Where they are, and their names.
        targets: Vec<(Portal, String)>,
    },
    /// The block device of a device is there.
    Await {
        /// The unit.
        device: VolumeDevice,
        /// Within so many seconds.
        seconds: u32,
    },
    /// An NBD export has a device, and a connection.
    Connect {
        /// The export.
        device: VolumeDevice,
    },
    /// An NBD export has none.
    Disconnect {
        /// The export.
        device: VolumeDevice,
    },
    /// A file has a loop device (LOOP_CONFIGURE, direct I/O).
    Attach {
        /// The file.
        device: VolumeDevice,
    },
    /// A file has none.
    Detach {
        /// The file.
        device: VolumeDevice,
    },
    /// udev has done what it had to do, and leaves these devices alone until the program ends; what it
    /// has assembled of them and does not run is stopped.
    Quiet {
        /// Those of them that are there.
        devices: Vec<VolumeDevice>,
    },
    /// A value of a block device in sysfs.
    Set {
        /// The device.
        device: VolumeDevice,
        /// The file, below the device's directory.
        file: &'static str,
        /// The value.
        value: String,
    },
    /// The size of a device is read, and all signatures on it: with one, it is refused unless that
    /// was insisted on.
    Inspect {
        /// The device.
        what: VolumeWord,
        /// It was insisted on.
        force: bool,
        /// A superblock of this array is no reason: it is what an interrupted creation has left.
        own: Option<ArrayUuid>,
    },
    /// The superblock of a device is that of this array, or it is no member.
    Identify {
        /// The device.
        device: VolumeDevice,
        /// The array.
        array: ArrayUuid,
    },
    /// One of the members of an array that were identified has the latest state that is known of
    /// it, or it is refused to take it up.
    Judge {
        /// The number of the array, from 0.
        array: usize,
        /// It was insisted on: what others have, which are not there, is given up.
        stale: bool,
    },
    /// Which members are up to date is noted, for [`VolumeStep::Judge`].
    Remember,
    /// The members of an array are compared, in the background.
    Scrub {
        /// The number of the array, from 0.
        array: usize,
        /// The kernel's word for it: `check`, `repair`, or `idle` to interrupt that.
        action: &'static str,
    },
    /// The size of a device is looked at anew.
    Rescan {
        /// The device.
        device: VolumeDevice,
    },
    /// It is recorded that a device that takes another's place has a superblock.
    Joined {
        /// The device.
        device: VolumeDevice,
    },
    /// It is recorded that a device has left the volume.
    Left {
        /// The device.
        device: VolumeDevice,
    },
    /// It is recorded that what a device had, and was given up, is overwritten.
    Rebuilt {
        /// The device.
        device: VolumeDevice,
    },
}

/// A command, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeCommand {
    /// The program and its arguments.
    pub words: Vec<VolumeWord>,
    /// The exit codes, beside 0, that say that it was so already.
    pub done: &'static [i32],
    /// Whether it is needed.
    pub when: RunWhen,
}

/// iscsiadm's ISCSI_ERR_SESS_EXISTS, of a login.
pub const LOGGED_IN: &[i32] = &[15];

/// The command that makes a session with a target.
pub fn login(portal: &Portal, target: &str) -> VolumeCommand {
    of_target(portal, target, &["--login"], LOGGED_IN, RunWhen::Always)
}

/// The command that makes the node record of a target.
pub fn new_node(portal: &Portal, target: &str) -> VolumeCommand {
    of_target(portal, target, &["-o", "new"], &[], RunWhen::Always)
}

/// A command of iscsiadm(8) for one target; its exit codes `done` say that it was so already.
pub fn of_target(
    portal: &Portal,
    target: &str,
    rest: &[&str],
    done: &'static [i32],
    when: RunWhen,
) -> VolumeCommand {
    let portal = portal.to_string();
    let words = ["iscsiadm", "-m", "node", "-T", target, "-p", &portal];
    let words = words.iter().chain(rest).map(|word| VolumeWord::Text((*word).to_owned())).collect();
    VolumeCommand { words, done, when }
}

/// When a command is needed; it is left out otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunWhen {
    /// Always.
    Always,
    /// This array does not run.
    Stopped(ArrayUuid),
    /// This array runs.
    Running(ArrayUuid),
    /// The device among its words is no member of this array, which runs.
    Absent(ArrayUuid),
    /// The device among its words is a member of this array, and out of service.
    Faulty(ArrayUuid),
    /// The device among its words is a member of this array, and in service.
    Serving(ArrayUuid),
    /// The last device among its words is a spare of this array, and the first a member in service.
    Replaceable(ArrayUuid),
    /// This array has members whose disks are gone: the same address has another disk now.
    Detached(ArrayUuid),
    /// No other volume that runs has a disk of the target among its words.
    Unshared,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeWord {
    /// As it is.
    Text(String),
    /// The block device of a device: known when it is connected.
    Device(VolumeDevice),
    /// The device of an array, /dev/mdN: found by its UUID, not by this name for it, which may be
    /// that of an array that was stopped.
    Array {
        /// The array.
        uuid: ArrayUuid,
        /// Its name below /dev/md.
        name: String,
    },
    /// What depends on devices that were not seen yet; only in explanations.
    Later(String),
}

impl VolumeWord {
    /// The device whose block device is meant.
    pub fn device(&self) -> Option<&VolumeDevice> {
        match self {
            VolumeWord::Device(device) => Some(device),
            _ => None,
        }
    }
}

impl fmt::Display for VolumeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./:=,@%+-".contains(&b))
        };
        match self {
            VolumeWord::Text(text) if plain(text) => f.write_str(text),
            VolumeWord::Text(text) => write!(f, "'{}'", text.replace('\'', r"'\''")),
            VolumeWord::Device(VolumeDevice::Block(path)) => write!(f, "{}", path.display()),
            VolumeWord::Device(device) => write!(f, "<{device}>"),
            VolumeWord::Array { name, .. } => write!(f, "/dev/md/{name}"),
            VolumeWord::Later(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for VolumeCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{word}")?;
        }
        match self.when {
            RunWhen::Always => Ok(()),
            RunWhen::Stopped(_) => f.write_str("  (unless it runs)"),
            RunWhen::Running(_) => f.write_str("  (if it runs)"),
            RunWhen::Absent(_) => f.write_str("  (unless it is a member)"),
            RunWhen::Faulty(_) => f.write_str("  (if it is faulty)"),
            RunWhen::Serving(_) => f.write_str("  (if it is in service)"),
            RunWhen::Replaceable(_) => f.write_str("  (unless it has begun)"),
            RunWhen::Detached(_) => f.write_str("  (if a member's disk is gone)"),
            RunWhen::Unshared => f.write_str("  (unless another volume uses it)"),
        }
    }
}

impl fmt::Display for VolumeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeStep::Record { volume, phase } => {
                let phase = match phase {
                    VolumePhase::Connecting => "connecting",
                    VolumePhase::Creating => "creating",
                    VolumePhase::Formatting => "formatting",
                    VolumePhase::Ready => "ready",
                    VolumePhase::Destroying => "destroying",
                };
                write!(f, "record volume {volume} as {phase}")
            }
            VolumeStep::Forget { volume } => write!(f, "remove the record of volume {volume}"),
            VolumeStep::Reach { portal, seconds } => {
                write!(f, "connect to {portal} within {seconds}s")
            }
            VolumeStep::Run(command) => command.fmt(f),
            VolumeStep::Node { portal, target, like } => {
                new_node(portal, target).fmt(f)?;
                match like {
                    Some((_, like)) => write!(f, "  (or a copy of the record of {like})"),
                    None => Ok(()),
                }
            }
            VolumeStep::Configure { portal, target, settings, chap } => {
                let settings: Vec<String> =
                    settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "set {}", settings.join(" "))?;
                if let Some(file) = chap {
                    write!(f, " and the account in {}", file.display())?;
                }
                write!(f, " in the node record of {target} at {portal}")
            }
            VolumeStep::Login { targets } => {
                if let [(portal, target)] = &targets[..] {
                    return login(portal, target).fmt(f);
                }
                // One command for all of them would also make sessions with others' targets.
                f.write_str("iscsiadm -m node --login, or where it knows others, for each of")?;
                targets.iter().try_for_each(|(portal, target)| write!(f, " {portal},{target}"))
            }
            VolumeStep::Await { device, seconds } => {
                write!(f, "wait for the disk of {device}, up to {seconds}s")
            }
            VolumeStep::Connect { device } => write!(
                f,
                "connect {device} to a free NBD device (netlink); a request fails after {}s",
                nbd::REQUEST
            ),
            VolumeStep::Disconnect { device } => write!(f, "disconnect {device} (netlink)"),
            VolumeStep::Attach { device } => write!(f, "attach {device} to a loop device"),
            VolumeStep::Detach { device } => write!(f, "detach {device} from its loop device"),
            VolumeStep::Quiet { devices } => write!(
                f,
                "wait for udev, lock the {} devices that are there against it, and stop what it left \
                 half assembled",
                devices.len()
            ),
            VolumeStep::Set { device, file, value } => {
                write!(f, "write {value} to {file} of {device} in /sys/block")
            }
            VolumeStep::Inspect { what, force: false, own: None } => {
                write!(f, "read the size and the signatures of {what}; with any, refuse")
            }
            VolumeStep::Inspect { what, force: false, own: Some(own) } => {
                write!(f, "read the size and the signatures of {what}; with any but {own}, refuse")
            }
            VolumeStep::Inspect { what, force: true, .. } => {
                write!(f, "read the size of {what}, and name the signatures that will be lost")
            }
            VolumeStep::Identify { device, array } => {
                write!(f, "read the superblock of {device}: a member of {array}, or left out")
            }
            VolumeStep::Judge { array, stale: false } => {
                write!(f, "refuse if all members of array {} are older than known", array + 1)
            }
            VolumeStep::Judge { array, stale: true } => {
                write!(f, "if all members of array {} are older than known, give up ", array + 1)?;
                f.write_str("what those have that are not there")
            }
            VolumeStep::Scrub { array, action } => {
                write!(f, "write {action} to sync_action of array {} in /sys/block", array + 1)
            }
            VolumeStep::Rescan { device } => write!(f, "look how large {device} is now"),
            VolumeStep::Joined { device } => write!(f, "record that {device} has joined"),
            VolumeStep::Left { device } => write!(f, "record that {device} has left"),
            VolumeStep::Rebuilt { device } => write!(f, "record that {device} is rebuilt"),
            VolumeStep::Remember => f.write_str("note which members are up to date"),
        }
    }
}
