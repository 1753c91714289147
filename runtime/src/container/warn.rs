//! What a caller is told beside a result.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan;

/// Who is told what is odd but no error, and what else there is to know; by default nobody.
#[derive(Clone, Default)]
pub struct Warn {
    tell: Option<Arc<Tell>>,
    debug: bool,
}

type Tell = dyn Fn(Level, &str) + Send + Sync;

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Level {
    /// It is odd, but no error.
    Warning,
    /// What hooks have written.
    Note,
    /// What is done, step by step.
    Debug,
}

impl Warn {
    /// Calls this for each; with `debug` also for what is done.
    pub fn by(debug: bool, tell: impl Fn(Level, &str) + Send + Sync + 'static) -> Warn {
        Warn { tell: Some(Arc::new(tell)), debug }
    }

    /// Tells a warning.
    pub fn tell(&self, warning: &str) {
        self.at(Level::Warning, warning);
    }

    /// Tells what is no warning.
    pub fn note(&self, text: &str) {
        self.at(Level::Note, text);
    }

    /// Is what is done told?
    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// Tells what is done.
    pub fn debug(&self, text: &str) {
        if self.debug {
            self.at(Level::Debug, text);
        }
    }

    /// Tells the steps of a plan that is about to be run.
    pub fn steps(&self, plan: &plan::Plan) {
        if self.debug {
            plan.to_string().lines().for_each(|step| self.debug(step.trim()));
        }
    }

    /// Tells whatever it is.
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
