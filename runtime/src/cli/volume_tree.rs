//! How a RAID volume is, as a tree.

use std::fmt::Write;
use std::io::stdout;

use super::output::{CAUTION, FAILURE, GOOD, styled};
use super::shown;
use crate::config::Size;
use crate::volume::place::Losses;
use crate::volume::record::VolumePhase;
use crate::volume::status::{
    ArrayStatus, MemberHealth, MemberStatus, SyncStatus, VolumeHealth, VolumeStatus,
};

pub(super) fn code(health: VolumeHealth) -> i32 {
    match health {
        VolumeHealth::Healthy => 0,
        VolumeHealth::Degraded => 1,
        VolumeHealth::Stopped | VolumeHealth::Failed => 2,
    }
}

pub(super) fn word(health: VolumeHealth, phase: VolumePhase) -> &'static str {
    match (phase, health) {
        (VolumePhase::Destroying, _) => "being destroyed",
        (VolumePhase::Ready, VolumeHealth::Healthy) => "healthy",
        (VolumePhase::Ready, VolumeHealth::Degraded) => "degraded",
        (VolumePhase::Ready, VolumeHealth::Stopped) => "stopped",
        (VolumePhase::Ready, VolumeHealth::Failed) => "FAILED",
        _ => "being created",
    }
}

pub(super) fn tree(volume: &VolumeStatus) -> String {
    let out = stdout();
    let style = match volume.health {
        VolumeHealth::Healthy => GOOD,
        VolumeHealth::Degraded => CAUTION,
        VolumeHealth::Stopped | VolumeHealth::Failed => FAILURE,
    };
    let mut text = format!("{}  ", shown(&volume.name));
    text += &styled(word(volume.health, volume.phase), style, &out);
    let size = volume.size.map_or(String::new(), |size| format!("  {}", Size(size)));
    let device = volume.device.as_deref().unwrap_or("no device");
    let _ = writeln!(text, "{size}  {device}");
    let broken = volume.arrays.iter().any(|array| array.broken);
    let may_lose = match (volume.health, volume.phase, volume.may_lose) {
        (VolumeHealth::Stopped, VolumePhase::Ready, _) => {
            format!("garth volume assemble {} starts it", volume.name)
        }
        (_, VolumePhase::Destroying, _) => {
            format!("garth volume destroy {} finishes it", volume.name)
        }
        (VolumeHealth::Stopped, ..) => format!(
            "its creation was interrupted: the same command continues it, garth volume destroy {} \
             undoes it",
            volume.name
        ),
        (_, _, Some(may_lose)) => still(volume, may_lose),
        (_, _, None) if broken => format!(
            "it had lost too much, and refuses writes: unmount it, garth volume stop {0}, then \
             assemble {0}",
            volume.name
        ),
        (_, _, None) => "some of its data cannot be reached".into(),
    };
    let _ = writeln!(text, "   {}", shown(&may_lose));
    let mut lead = String::new();
    if volume.striped {
        let _ = writeln!(text, "└─ stripe over {} arrays", volume.arrays.len());
        lead.push_str("   ");
    }
    for (number, array) in volume.arrays.iter().enumerate() {
        let last = number + 1 == volume.arrays.len();
        let (branch, below) = if last { ("└─", "   ") } else { ("├─", "│  ") };
        let _ = writeln!(text, "{lead}{branch} {}", of_array(number, array, volume));
        for (slot, member) in array.members.iter().enumerate() {
            let branch = if slot + 1 == array.members.len() { "└─" } else { "├─" };
            let _ = writeln!(
                text,
                "{lead}{below}{branch} {}",
                of_member(member, array.device.is_some())
            );
        }
    }
    text
}

fn of_array(number: usize, array: &ArrayStatus, volume: &VolumeStatus) -> String {
    let whole = array.members.iter().filter(|member| member.counts()).count();
    let mut text = format!("array {}  {}", number + 1, volume.layout);
    if volume.copies > 1 {
        let _ = write!(text, " of {} copies", volume.copies);
    }
    let state = match (array.device.as_deref(), array.running) {
        (None, _) => "not assembled",
        (Some(_), false) if array.broken => "FAILED",
        (Some(_), false) => "does not run",
        (Some(_), true) if whole == array.members.len() => "healthy",
        (Some(_), true) => "degraded",
    };
    let device = array.device.as_deref().unwrap_or("-");
    let _ = write!(text, "  {device}  {state}, {whole} of {} members", array.members.len());
    if let Some(progress) = &array.progress {
        let _ = write!(text, "; {}", bar(progress));
    }
    if array.mismatches > 0 {
        let _ = write!(text, "; {} sectors differed in the last check", array.mismatches);
    }
    text
}

/// How far a copy or a check is.
pub(super) fn bar(progress: &SyncStatus) -> String {
    let mut text = progress.action.clone();
    match progress.permille {
        Some(permille) => {
            let filled = "#".repeat(permille as usize / 50);
            let _ = write!(text, " [{filled:<20}] {}.{} %", permille / 10, permille % 10);
        }
        None => text += ", not begun yet",
    }
    if let Some(speed) = progress.speed.filter(|speed| *speed > 0) {
        let _ = write!(text, ", {} MiB/s", speed >> 20);
    }
    if let Some(seconds) = progress.seconds_left {
        let _ = write!(text, ", {} left", time(seconds));
    }
    text
}

fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What may still be lost, and what changes that.
pub(super) fn still(volume: &VolumeStatus, may_lose: Losses) -> String {
    let text = format!("may still lose {may_lose}");
    let members = || volume.arrays.iter().flat_map(|array| &array.members);
    let Some(made_for) = volume.made_for.filter(|made_for| *made_for != may_lose) else {
        return text;
    };
    let rebuilt =
        |member: &MemberStatus| member.counts() || member.state == MemberHealth::Rebuilding;
    if members().all(rebuilt) {
        let arrays = volume.arrays.iter().filter_map(|array| array.progress.as_ref());
        let left = arrays.filter_map(|progress| progress.seconds_left).max();
        let when = left.map_or(String::new(), |left| format!(", in {}", time(left)));
        return format!("{text}; {made_for} when all members are built{when}");
    }
    format!("{text}; garth volume repair {} brings members back", volume.name)
}

fn of_member(member: &MemberStatus, assembled: bool) -> String {
    let out = stdout();
    let (word, style) = match (member.state, member.connected) {
        (MemberHealth::InSync, Some(false)) => ("no connection", FAILURE),
        (MemberHealth::InSync, _) => ("in sync", GOOD),
        (MemberHealth::Rebuilding, _) => ("rebuilding", CAUTION),
        (MemberHealth::Spare, _) => ("spare", CAUTION),
        (MemberHealth::Faulty, _) => ("faulty", FAILURE),
        (MemberHealth::Missing, Some(false)) => ("no connection", FAILURE),
        (MemberHealth::Missing, _) if !assembled => ("not assembled", CAUTION),
        (MemberHealth::Missing, _) => ("missing", FAILURE),
    };
    let address = member.address.to_string();
    let mut text = format!("{}  ", styled(word, style, &out));
    let _ = write!(text, "{}", shown(&address));
    if let Some(device) = member.device.as_ref().filter(|device| **device != address) {
        let _ = write!(text, "  {device}");
    }
    let _ = write!(text, "  on {}", shown(member.server.as_deref().unwrap_or("this machine")));
    if member.errors > 0 {
        let _ = write!(text, "; {} read errors corrected", member.errors);
    }
    if member.given_up {
        text += "; what it has was given up";
    }
    if let Some(old) = &member.replaces {
        let _ = write!(text, "; takes the place of {}", of_member(old, assembled));
    }
    text
}
