//! The OOM score of a child that cannot set its own: the /proc files of a process that is not
//! dumpable belong to root (proc(5)), so without root the score is inherited instead.

use std::fs;

use crate::error::{Error, Result};
use crate::sys::file::read_kernel;

const FILE: &str = "/proc/self/oom_score_adj";

/// Changes this process's score until dropped.
#[derive(Debug)]
pub struct Score {
    before: String,
}

impl Score {
    /// # Errors
    /// EACCES: lower than the caller may set it.
    pub fn set(score: i32) -> Result<Score> {
        let failed = |e| Error::io(format!("write {score} to {FILE}"), &e);
        let before = read_kernel(FILE).map_err(failed)?;
        fs::write(FILE, score.to_string()).map_err(failed)?;
        Ok(Score { before })
    }
}

impl Drop for Score {
    fn drop(&mut self) {
        // The former score is always allowed.
        let _ = fs::write(FILE, &self.before);
    }
}
