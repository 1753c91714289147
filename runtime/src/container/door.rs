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
    /// Makes a container of this configuration; its program waits for [`Container::start`]. Paths that
    /// are relative begin at the bundle in `options`. `journal` is that of containers
    /// ([`Journal::containers`]).
    ///
    /// # Errors
    /// What failed; nothing is left then.
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
    /// When it was started already, or the step that failed.
    pub fn start(&self) -> Result<()> {
        start(&self.journal, self.id(), &Warn::default())
    }

    /// Waits until its program has ended. How it has ended is known to its parent alone.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn wait(&self) -> Result<()> {
        let Some((_, pidfd)) = self.process()? else { return Ok(()) };
        let ended = process::readable([pidfd.as_fd()], None);
        ended.map(drop).map_err(|errno| Error::os(format!("wait for {}", self.id()), errno))
    }

    /// Runs a program in it. When this returns, it has been executed.
    ///
    /// # Errors
    /// When the container does not run, or the step that failed.
    pub fn exec(&self, program: &theirs::Process) -> Result<Joined> {
        let program = oci::Process::try_from(program)?;
        exec(&self.journal, self.id(), &Exec { program, ..Exec::default() })
    }

    /// Sends a signal to its first process, or to all.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, signal: i32, targets: Targets) -> Result<()> {
        kill(&self.journal, self.id(), signal, targets)
    }

    /// Stops every process of it where it is.
    ///
    /// # Errors
    /// When it does not run, or has no cgroup.
    pub fn pause(&self) -> Result<()> {
        pause(&self.journal, self.id())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self) -> Result<()> {
        resume(&self.journal, self.id())
    }

    /// Gives it other limits; what is absent stays.
    ///
    /// # Errors
    /// When it has ended, or what the kernel refused.
    pub fn update(&self, resources: &theirs::LinuxResources) -> Result<()> {
        let resources = oci::Resources::try_from(resources)?;
        update(&self.journal, self.id(), &Changes { resources, ..Changes::default() })
    }

    /// Releases what it had, and forgets it; with `force` it is ended first.
    ///
    /// # Errors
    /// When it runs, or what could not be released.
    pub fn delete(self, force: bool) -> Result<()> {
        delete(&self.journal, self.id(), force, &Warn::default())
    }

    /// Its configuration, with what [`Container::update`] has changed.
    ///
    /// # Errors
    /// What cannot be said in these types.
    pub fn spec(&self) -> Result<theirs::Spec> {
        (&self.record.asked.config).try_into()
    }

    /// Its state.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn oci_state(&self) -> Result<theirs::State> {
        (&self.state()?).try_into()
    }

    /// What is implemented, whatever the machine.
    ///
    /// # Errors
    /// What cannot be said in these types.
    pub fn features() -> Result<theirs::Features> {
        (&oci::features()).try_into()
    }
}
