//! `garth doctor`.
use super::Global;
use crate::error::Result;
use clap::Args;
/// Tell what this host can do.
#[derive(Debug, Args)]
pub struct Doctor {}
impl Doctor {
    pub(super) fn run(self, _: &Global) -> Result<i32> {
        Ok(0)
    }
}
