//! What must exist outside the sandbox and be released: journal, cgroup, network.

pub mod cgroup;
pub mod users;
pub mod network;
