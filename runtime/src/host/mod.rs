//! What must exist outside the sandbox and be released: journal, cgroup, network.

pub mod network;
