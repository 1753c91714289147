//! The settings of a sandbox as text: the flags of `garth wrap`, and the keys of a service file
//! with the same names and values. [`Settings::resolve`] is the one place that interprets them,
//! wherever they came from.

pub(super) mod environment;
pub(super) mod keys;
mod resolve;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) use keys::{given, key_names};
pub use resolve::Resolved;

/// The starting point for the other settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Base {
    /// New namespaces, the host's files read-only, few privileges
    #[default]
    Default,
    /// Only a private /tmp, with the mount table otherwise unchanged
    Compat,
}

// These doc comments are also the help texts of `garth wrap`, hence the brackets; one on the struct
// would become the description of the verb.
#[allow(missing_docs, rustdoc::broken_intra_doc_links, reason = "see above")]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Publish a port: [IP:]HOST:CONTAINER[/udp], on loopback unless IP is given
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "PORTS"))]
    #[serde(with = "keys::Texts")]
    pub publish: Vec<String>,
    /// Network: private (own address, outgoing NAT), internal (own address, no way out), none, host or ns:PATH [default: none; with -p:
    /// private]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NETWORK"))]
    pub network: Option<String>,
    /// IPv4 pool for private networks [default: a range the host has no route to]
    #[cfg_attr(feature = "cli", arg(long, value_name = "CIDR"))]
    pub pool4: Option<String>,
    /// IPv6 pool for private networks
    #[cfg_attr(feature = "cli", arg(long, value_name = "CIDR"))]
    pub pool6: Option<String>,
    /// Limit the private network, e.g. up=10Mbit/s,down=2MB/s, or one rate for both directions
    #[cfg_attr(feature = "cli", arg(long, value_name = "RATES"))]
    #[serde(with = "keys::Text")]
    pub rate: Option<String>,
    /// Share a rate limit with other sandboxes, e.g. office:up=100Mbit/s,down=50Mbit/s,share=2
    #[cfg_attr(feature = "cli", arg(long, value_name = "GROUP"))]
    pub rate_group: Option<String>,
    /// User and group to run the command as, by name or number
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "USER[:GROUP]"))]
    #[serde(with = "keys::Text")]
    pub user: Option<String>,
    /// Memory limit, e.g. 256m or 2g
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(with = "keys::Text")]
    pub memory: Option<String>,
    /// Memory and swap limit combined, e.g. 512m
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    #[serde(with = "keys::Text")]
    pub memory_swap: Option<String>,
    /// Number of CPUs, e.g. 1.5
    #[cfg_attr(feature = "cli", arg(long, value_name = "NUMBER"))]
    #[serde(with = "keys::Text")]
    pub cpus: Option<String>,
    /// CPUs to run on, e.g. 0-2,4
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIST"))]
    #[serde(with = "keys::Text")]
    pub cpuset_cpus: Option<String>,
    /// Maximum number of processes and threads
    #[cfg_attr(feature = "cli", arg(long, value_name = "NUMBER"))]
    #[serde(with = "keys::Text")]
    pub pids_limit: Option<String>,
    /// Limit I/O on the disk that holds PATH: read=50MB/s:PATH, also write=, riops=, wiops=
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIMITS"))]
    #[serde(with = "keys::Texts")]
    pub io: Vec<String>,
    /// Set up a resource with a plugin: NAME[:key=value,...]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PLUGIN"))]
    #[serde(with = "keys::Texts")]
    pub plugin: Vec<String>,
    /// Make a host path writable
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    #[serde(with = "keys::Paths")]
    pub rw: Vec<OsString>,
    /// Bind-mount a host file or directory: SOURCE:TARGET[:ro,noexec,...]; a SOURCE without a slash is
    /// the name of a volume: a RAID volume, or a directory made at first use and kept
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "MOUNT"))]
    #[serde(with = "keys::Paths")]
    pub volume: Vec<OsString>,
    /// Mount a tmpfs: TARGET[:size=64m,mode=1777,...]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MOUNT"))]
    #[serde(with = "keys::Paths")]
    pub tmpfs: Vec<OsString>,
    /// A file that only the command finds, below /run/secrets: FILE[:NAME]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(with = "keys::Paths")]
    pub secret: Vec<OsString>,
    /// Create a directory below /run owned by the command's user, like systemd's RuntimeDirectory=
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    #[serde(with = "keys::Paths")]
    pub run_dir: Vec<PathBuf>,
    /// Use this directory as the root file system instead of a view of the host's
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    #[serde(with = "keys::OnePath")]
    pub rootfs: Option<PathBuf>,
    /// With --rootfs: mount it read-only
    #[cfg_attr(feature = "cli", arg(long))]
    pub read_only: bool,
    /// Starting point for the other flags
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "default"))]
    pub profile: Base,
    /// Add capabilities: a list, or `all`
    #[cfg_attr(feature = "cli", arg(long, value_name = "CAPS"))]
    #[serde(with = "keys::Texts")]
    pub cap_add: Vec<String>,
    /// Drop capabilities: a list, or `all`
    #[cfg_attr(feature = "cli", arg(long, value_name = "CAPS"))]
    #[serde(with = "keys::Texts")]
    pub cap_drop: Vec<String>,
    /// Seccomp profile: an OCI or Firecracker (seccompiler) JSON file, `unconfined`, or `log`
    /// (allow but log what the default profile refuses)
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub seccomp: Option<String>,
    /// Allow creating set-user-ID and set-group-ID files, which grant their owner's rights on the
    /// host
    #[cfg_attr(feature = "cli", arg(long))]
    pub allow_suid: bool,
    /// Host name in the sandbox, also added to its /etc/hosts [default: the sandbox's name]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub hostname: Option<String>,
    /// Working directory in the sandbox [default: the current one, if accessible there]
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "DIR"))]
    #[serde(with = "keys::OnePath")]
    pub workdir: Option<PathBuf>,
    /// Give the command a terminal of its own, connected to the caller's unless detached
    #[cfg_attr(feature = "cli", arg(short, long))]
    pub tty: bool,
    /// Set an environment variable, or pass it through
    #[cfg_attr(feature = "cli", arg(short, long, value_name = "NAME[=VALUE]"))]
    #[serde(with = "keys::Paths")]
    pub env: Vec<OsString>,
    /// Set environment variables from a file of NAME=VALUE lines
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    #[serde(with = "keys::Paths")]
    pub env_file: Vec<PathBuf>,
    /// Start with an empty environment, except for PATH
    #[cfg_attr(feature = "cli", arg(long))]
    pub clear_env: bool,
    /// Name of the sandbox for ps, exec, kill and delete
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub name: Option<String>,
    /// Run the command as pid 1, without an init that reaps zombies and forwards signals
    #[cfg_attr(feature = "cli", arg(long))]
    pub as_pid_1: bool,
    /// Set a resource limit, e.g. nofile=1024:2048
    #[cfg_attr(feature = "cli", arg(long, value_name = "LIMIT"))]
    #[serde(with = "keys::Texts")]
    pub ulimit: Vec<String>,
    /// Set a namespaced kernel parameter, e.g. net.core.somaxconn=1024
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME=VALUE"))]
    #[serde(with = "keys::Texts")]
    pub sysctl: Vec<String>,
    /// File mode creation mask, e.g. 027
    #[cfg_attr(feature = "cli", arg(long, value_name = "MASK"))]
    pub umask: Option<String>,
    /// Hide other users' processes in /proc
    #[cfg_attr(feature = "cli", arg(long))]
    pub hidepid: bool,
    /// Use a user namespace even as root, with root's ID range in /etc/subuid or the given host IDs
    #[cfg_attr(feature = "cli", arg(long, value_name = "FIRST:COUNT", num_args = 0..=1,
        require_equals = true, default_missing_value = ""))]
    #[serde(with = "keys::OptionalText")]
    pub userns: Option<String>,
    /// Use a time namespace
    #[cfg_attr(feature = "cli", arg(long))]
    pub timens: bool,
    /// The command and its arguments
    #[cfg_attr(feature = "cli", arg(trailing_var_arg = true, value_name = "COMMAND"))]
    #[serde(with = "keys::Paths")]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests;
