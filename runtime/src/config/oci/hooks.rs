//! `hooks`: programs that are run at points of the life cycle.

use serde::{Deserialize, Serialize};

use super::checks::not_absolute;
use super::{is_default, or_null, refuse};
use crate::error::Result;

/// Six lists; order matters within each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated but still used: same as `create_runtime`, run before those.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// In `create`, in the runtime's namespaces, before pivot_root.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In `create`, in the container's namespaces, before pivot_root.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In `start`, in the container's namespaces, before the program.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// In `start`, in the runtime's namespaces, after the program has started.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// In `delete`, in the runtime's namespaces, after the container is gone.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The names of the six lists.
    pub const NAMES: &[&str] = &[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];

    /// The six lists with their names.
    pub fn lists(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    pub(super) fn check(&self) -> Result<()> {
        for (list, hooks) in self.lists() {
            for (at, hook) in hooks.iter().enumerate() {
                if !hook.path.starts_with('/') {
                    return refuse(format!("hooks.{list}[{at}].path"), not_absolute(&hook.path));
                }
                if let Some(seconds) = hook.timeout
                    && seconds <= 0
                {
                    let what = format!("{seconds} is not greater than 0");
                    return refuse(format!("hooks.{list}[{at}].timeout"), what);
                }
            }
        }
        Ok(())
    }
}

/// One program; it gets the state on its standard input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute.
    #[serde(deserialize_with = "or_null")]
    pub path: String,
    /// argv, from `argv[0]` on; empty: just the path.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// The whole environment; absent: that of the runtime's caller, or, for startContainer, that of
    /// the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed; greater than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
