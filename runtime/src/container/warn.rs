//! Messages to the caller besides the result.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan;

/// Receives warnings and other messages; by default nothing does.
#[derive(Clone, Default)]
pub struct Warn {
    tell: Option<Arc<Tell>>,
    debug: bool,
}

type Tell = dyn Fn(Level, &str) + Send + Sync;

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Level {
    /// Unexpected, but not an error.
    Warning,
    /// Output of hooks.
    Note,
    /// What is done, step by step.
    Debug,
}

impl Warn {
    /// Calls `tell` for each message; with `debug`, also for each step.
    pub fn by(debug: bool, tell: impl Fn(Level, &str) + Send + Sync + 'static) -> Warn {
        Warn { tell: Some(Arc::new(tell)), debug }
    }

    /// Sends a warning.
    pub fn tell(&self, warning: &str) {
        self.at(Level::Warning, warning);
    }

    /// Sends a note.
    pub fn note(&self, text: &str) {
        self.at(Level::Note, text);
    }

    /// Are steps reported?
    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// Reports a step.
    pub fn debug(&self, text: &str) {
        if self.debug {
            self.at(Level::Debug, text);
        }
    }

    /// Reports the steps of a plan about to be run.
    pub fn steps(&self, plan: &plan::Plan) {
        if self.debug {
            plan.to_string().lines().for_each(|step| self.debug(step.trim()));
        }
    }

    /// Sends a message of this level.
    pub(super) fn at(&self, level: Level, text: &str) {
        if let Some(tell) = &self.tell {
            tell(level, text);
        }
    }
}

impl std::fmt::Debug for Warn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warn").finish_non_exhaustive()
    }
}
