//! What must exist outside the sandbox and be released: cgroup, network, and the journal in which
//! they are written down first. And the facts of the host that a plan depends on.

pub mod bandwidth;
pub mod cgroup;
pub mod dbus;
pub mod facts;
pub mod gc;
mod identity;
pub mod idmap;
pub mod journal;
pub mod mountinfo;
pub mod network;
pub mod plugin;
pub mod rdt;
pub mod record;
pub mod resolver;
pub mod resource;
pub mod resources;
pub mod score;
pub mod seal;
pub mod systemd;
pub mod trace;
pub mod users;
