//! The settings of a sandbox as text: the flags of `garth wrap`, and the keys of a service file
//! with the same names and values. [`Settings::resolve`] is the one place that interprets them,
//! wherever they came from.

pub(super) mod environment;
mod keys;
mod resolve;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use resolve::Resolved;

/// The starting point that the other settings change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Base {
    /// Everything private that can be; the host's files read-only; few privileges.
    #[default]
    Default,
    /// Only a private /tmp, over an otherwise untouched mount table.
    Compat,
}

// These doc comments are also the help texts of `garth wrap`, hence the brackets; one on the struct
// would become the description of the verb.
#[allow(missing_docs, rustdoc::broken_intra_doc_links, reason = "see above")]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Publish a port: [IP:]HOST:CONTAINER[/udp]; without an address on loopback only
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "PORTS"))]
    #[serde(with = "keys::words")]
    pub publish: Vec<String>,
    /// private (an address and a way out), none, host, or ns:PATH [default: none; with -p: private]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NETWORK"))]
    pub network: Option<String>,
    /// Addresses of private networks [default: a range that the host has no route to]
    #[cfg_attr(feature = "cli", arg(long, value_name = "CIDR"))]
    pub pool4: Option<String>,
    /// IPv6 addresses of private networks
    #[cfg_attr(feature = "cli", arg(long, value_name = "CIDR"))]
    pub pool6: Option<String>,
    /// How fast the private network may be: up=10Mbit/s,down=2MB/s, or one rate for both ways
    #[cfg_attr(feature = "cli", arg(long, value_name = "RATES"))]
    #[serde(with = "keys::word")]
    pub rate: Option<String>,
    /// A budget shared with the other sandboxes of that name:
    /// office:up=100Mbit/s,down=50Mbit/s,share=2
    #[cfg_attr(feature = "cli", arg(long, value_name = "GROUP"))]
    pub rate_group: Option<String>,
    /// User and group that the command runs as: names or numbers
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "USER[:GROUP]"))]
    #[serde(with = "keys::word")]
    pub user: Option<String>,
    /// Memory limit, as 256m or 2g
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(with = "keys::word")]
    pub memory: Option<String>,
    /// Memory and swap together
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(with = "keys::word")]
    pub memory_swap: Option<String>,
    /// Processors' worth of time, as 1.5
    #[cfg_attr(feature = "cli", arg(long, value_name = "NUMBER"))]
    #[serde(with = "keys::word")]
    pub cpus: Option<String>,
    /// Processors to run on, as 0-2,4
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIST"))]
    #[serde(with = "keys::word")]
    pub cpuset_cpus: Option<String>,
    /// Processes and threads
    #[cfg_attr(feature = "cli", arg(long, value_name = "NUMBER"))]
    #[serde(with = "keys::word")]
    pub pids_limit: Option<String>,
    /// How fast it may use the disk that PATH is on: read=50MB/s:PATH; also write=, riops=, wiops=
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIMITS"))]
    #[serde(with = "keys::words")]
    pub io: Vec<String>,
    /// Ask a plugin to make something for the sandbox: NAME[:key=value,...]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLUGIN"))]
    #[serde(with = "keys::words")]
    pub plugin: Vec<String>,
    /// Make a path of the host writable
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    #[serde(with = "keys::paths")]
    pub rw: Vec<OsString>,
    /// Mount a file or directory of the host: SOURCE:TARGET[:ro,noexec,...]
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "MOUNT"))]
    #[serde(with = "keys::paths")]
    pub volume: Vec<OsString>,
    /// Mount an empty directory in memory: TARGET[:size=64m,mode=1777,...]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MOUNT"))]
    #[serde(with = "keys::paths")]
    pub tmpfs: Vec<OsString>,
    /// Make a directory below /run that belongs to the command's user, as systemd's
    /// RuntimeDirectory=
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    #[serde(with = "keys::paths")]
    pub run_dir: Vec<PathBuf>,
    /// Use this directory as the root, instead of a view of the host's
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub rootfs: Option<PathBuf>,
    /// With --rootfs: nothing in it can be written
    #[cfg_attr(feature = "cli", arg(long))]
    pub read_only: bool,
    /// The starting point that the other flags change
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "default"))]
    pub profile: Base,
    /// Give capabilities, by name, or all
    #[cfg_attr(feature = "cli", arg(long, value_name = "CAPS"))]
    #[serde(with = "keys::words")]
    pub cap_add: Vec<String>,
    /// Take capabilities away, by name, or all
    #[cfg_attr(feature = "cli", arg(long, value_name = "CAPS"))]
    #[serde(with = "keys::words")]
    pub cap_drop: Vec<String>,
    /// A seccomp profile of OCI or a filter as Firecracker has it, unconfined, or log (allow, but
    /// log what the default would refuse)
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub seccomp: Option<String>,
    /// Let set-user-ID and set-group-ID files be made: outside they give their owner's rights
    #[cfg_attr(feature = "cli", arg(long))]
    pub allow_suid: bool,
    /// Host name inside, with an address in its /etc/hosts [default: the sandbox's name]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub hostname: Option<String>,
    /// Working directory inside [default: the current one, if it is there and may be entered]
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "DIR"))]
    pub workdir: Option<PathBuf>,
    /// Set an environment variable, or pass one through
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "NAME[=VALUE]"))]
    #[serde(with = "keys::paths")]
    pub env: Vec<OsString>,
    /// Set environment variables from a file of NAME=VALUE lines
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(with = "keys::paths")]
    pub env_file: Vec<PathBuf>,
    /// Begin with an empty environment (but for PATH)
    #[cfg_attr(feature = "cli", arg(long))]
    pub clear_env: bool,
    /// A name by which ps, exec, kill and delete know the sandbox
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub name: Option<String>,
    /// Let the command be pid 1 itself, without an init that reaps and forwards signals
    #[cfg_attr(feature = "cli", arg(long))]
    pub as_pid_1: bool,
    /// A resource limit, as nofile=1024:2048
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIMIT"))]
    #[serde(with = "keys::words")]
    pub ulimit: Vec<String>,
    /// A kernel setting of the sandbox's own namespaces, as net.core.somaxconn=1024
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=VALUE"))]
    #[serde(with = "keys::words")]
    pub sysctl: Vec<String>,
    /// File mode creation mask, as 027
    #[cfg_attr(feature = "cli", arg(long, value_name = "MASK"))]
    pub umask: Option<String>,
    /// Hide the processes of other users in /proc
    #[cfg_attr(feature = "cli", arg(long))]
    pub hidepid: bool,
    /// Have a user namespace, also for root, with ids of its own: those that /etc/subuid gives
    /// root, or these of the host
    #[cfg_attr(feature = "cli", arg(long, value_name = "FIRST:COUNT", num_args = 0..=1,
        require_equals = true, default_missing_value = ""))]
    #[serde(with = "keys::optional")]
    pub userns: Option<String>,
    /// Have a time namespace
    #[cfg_attr(feature = "cli", arg(long))]
    pub timens: bool,
    /// The command and its arguments
    #[cfg_attr(feature = "cli", arg(trailing_var_arg = true, value_name = "COMMAND"))]
    #[serde(with = "keys::paths")]
    pub command: Vec<OsString>,
}
