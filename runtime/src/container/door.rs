//! Containers for Rust programs, in the types of the crate `oci-spec`.

use std::os::fd::AsFd;

use oci_spec::runtime as theirs;

use super::{
    Changes, Container, CreateOptions, Exec, Joined, Targets, Warn, create, delete, exec, kill,
    pause, resume, start, update,
};
use crate::config::oci::{self, Config};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::process;

impl Container {
    /// Creates a container with this configuration; its program waits for [`Container::start`].
    /// Relative paths start at the bundle in `options`. `journal` is the one of containers
    /// ([`Journal::containers`]).
    ///
    /// # Errors
    /// The step that failed; nothing is left behind.
    pub fn create(
        journal: &Journal,
        id: &str,
        spec: &theirs::Spec,
        options: &CreateOptions,
    ) -> Result<Container> {
        let config = Some(Box::new(Config::try_from(spec)?));
        create(journal, id, &CreateOptions { config, ..options.clone() })?;
        Container::open(journal, id)
    }

    /// Starts its program.
    ///
    /// # Errors
    /// It was already started, or a step failed.
    pub fn start(&self) -> Result<()> {
        start(&self.journal, self.id(), &Warn::default())
    }

    /// Waits until its program has ended. Only the program's parent learns how it ended.
    ///
    /// # Errors
    /// The process cannot be examined.
    pub fn wait(&self) -> Result<()> {
        let Some((_, pidfd)) = self.process()? else { return Ok(()) };
        let ended = process::readable([pidfd.as_fd()], None);
        ended.map(drop).map_err(|errno| Error::os(format!("wait for {}", self.id()), errno))
    }

    /// Runs a program in it. When this returns, the program has been executed.
    ///
    /// # Errors
    /// The container does not run, or a step failed.
    pub fn exec(&self, program: &theirs::Process) -> Result<Joined> {
        let program = oci::Process::try_from(program)?;
        exec(&self.journal, self.id(), &Exec { program, ..Exec::default() })
    }

    /// Sends a signal to its first process, or to all of them.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, signal: i32, targets: Targets) -> Result<()> {
        kill(&self.journal, self.id(), signal, targets)
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// It does not run, or has no cgroup.
    pub fn pause(&self) -> Result<()> {
        pause(&self.journal, self.id())
    }

    /// Resumes it.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&self) -> Result<()> {
        resume(&self.journal, self.id())
    }

    /// Changes its limits; absent ones stay as they are.
    ///
    /// # Errors
    /// It has ended, or the kernel refused a limit.
    pub fn update(&self, resources: &theirs::LinuxResources) -> Result<()> {
        let resources = oci::Resources::try_from(resources)?;
        update(&self.journal, self.id(), &Changes { resources, ..Changes::default() })
    }

    /// Releases what it had, and deletes its record; with `force`, kills it first.
    ///
    /// # Errors
    /// It runs, or something could not be released.
    pub fn delete(self, force: bool) -> Result<()> {
        delete(&self.journal, self.id(), force, &Warn::default())
    }

    /// Its configuration, including the changes of [`Container::update`].
    ///
    /// # Errors
    /// Something cannot be expressed in these types.
    pub fn spec(&self) -> Result<theirs::Spec> {
        (&self.record.asked.config).try_into()
    }

    /// Its state.
    ///
    /// # Errors
    /// The state cannot be determined.
    pub fn oci_state(&self) -> Result<theirs::State> {
        (&self.state()?).try_into()
    }

    /// What is implemented, regardless of the machine.
    ///
    /// # Errors
    /// Something cannot be expressed in these types.
    pub fn features() -> Result<theirs::Features> {
        (&oci::features()).try_into()
    }
}
