//! What `state` prints and hooks read (runtime.md, "State").

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::or_null;

/// Where a container is in its life cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created; what the hooks of `create` see.
    #[default]
    Creating,
    /// Created; the program has not started.
    Created,
    /// The program runs.
    Running,
    /// Running, and its cgroup is frozen. Not in the specification; runc's word.
    Paused,
    /// The program has ended.
    Stopped,
}

impl Status {
    /// The word in the state.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification that the state complies with.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Where it is in its life cycle.
    pub status: Status,
    /// Its first process, as the runtime sees it; 0 when there is none.
    #[serde(default)]
    pub pid: i32,
    /// The bundle, absolute.
    pub bundle: String,
    /// The annotations of the configuration.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a seccomp agent gets beside the descriptors (config-linux.md, "The Container Process
/// State").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompState {
    /// The version of the specification.
    pub oci_version: String,
    /// The names of the descriptors, in the order in which they are sent: `seccompFd`.
    pub fds: Vec<String>,
    /// The process that the filter is on, as the runtime sees it.
    pub pid: i32,
    /// `linux.seccomp.listenerMetadata`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The container.
    pub state: State,
}
