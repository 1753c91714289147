//! The badness score of a child that cannot set it itself: the files in /proc of a process that is out
//! of reach of debuggers are root's (proc(5)), so whoever is not root has them inherited instead.

use std::fs;

use crate::error::{Error, Result};
use crate::sys::file::read_kernel;

const FILE: &str = "/proc/self/oom_score_adj";

/// This process's score is another one until this is dropped.
#[derive(Debug)]
pub struct Score {
    before: String,
}

impl Score {
    /// # Errors
    /// EACCES: lower than the caller was given.
    pub fn set(score: i32) -> Result<Score> {
        let failed = |e| Error::io(format!("write {score} to {FILE}"), &e);
        let before = read_kernel(FILE).map_err(failed)?;
        fs::write(FILE, score.to_string()).map_err(failed)?;
        Ok(Score { before })
    }
}

impl Drop for Score {
    fn drop(&mut self) {
        // Back to what it was is no lower than what was given.
        let _ = fs::write(FILE, &self.before);
    }
}
