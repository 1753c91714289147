//! RAID volumes: block devices of servers and of this machine, mirrored across servers and striped,
//! as something that a sandbox mounts.
//!
//! A volume is a short program, like a sandbox. What was asked for ([`layout`], [`device`]) becomes
//! [`place`], which device is the member of which array, and [`record`], what is written down before
//! anything is done; [`program`] is what each verb does, a flat list of [`step`]s that is explained
//! or executed. All of that is pure. What there is, is read from sysfs where sysfs says it
//! ([`mod@array`], [`session`]), and from mdadm and libblkid where only they know ([`mdadm`],
//! [`signature`]); [`mdstat`] is for waiting. [`perform`] executes the steps, with what [`host`] finds
//! and by the programs that [`tools`] runs; [`verbs`] are the operations, which [`mod@explain`] shows, and [`status`] says how a
//! volume is. [`usage`] is a volume as a resource of a sandbox or container, with its [`mod@mount`]
//! and what is on record of its [`users`]; [`watch`] tells
//! what happens to its members meanwhile. [`available`] is what this machine has for all that.

pub mod array;
pub mod available;
pub mod braces;
pub mod chap;
pub mod command;
pub mod connect;
pub mod device;
pub mod explain;
pub mod grow;
pub mod host;
pub mod iscsiadm;
pub mod layout;
pub mod mdadm;
pub mod mdstat;
pub mod mend;
pub mod mount;
pub mod names;
pub mod nbd;
pub mod nodes;
pub mod perform;
pub mod place;
pub mod program;
pub mod quiet;
pub mod record;
pub mod seen;
pub mod session;
pub mod signature;
pub mod status;
pub mod step;
pub mod tools;
pub mod upkeep;
pub mod usage;
pub mod users;
pub mod verbs;
pub mod watch;

#[cfg(test)]
mod tests;
