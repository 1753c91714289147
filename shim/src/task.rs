//! A container of a pod, as containerd sees it: a task, with the programs in it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest, Status};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use garth::config::oci::{Config, NamespaceType, Process as Wanted};
use garth::container::{
    self, ChildProgram, CreateOptions, Exec, Images, Restore, StandardFiles, Targets,
};
use garth::{Container, Error, Journal, Process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::events::Events;
use crate::message::{locked, timestamp};
use crate::options::Options;
use crate::program::{End, Program};
use crate::reaper::Reaper;
use crate::status::{
    Answer, Code, exists, failed, failed_as, invalid, not_found, not_now, status, unimplemented,
    unusable,
};
use crate::stdio::{Opened, Stdio, Whose};
use crate::watched::watched;
use crate::{log, rootfs};

/// How long the programs that joined a container may take to be reaped after its first has ended.
const OTHERS: Duration = Duration::from_secs(2);

/// What all tasks of a shim share.
#[derive(Debug)]
pub struct Shared {
    /// containerd's namespace.
    pub namespace: String,
    /// Where events are put.
    pub events: Events,
    /// Who reaps what.
    pub reaper: Reaper,
}

impl Shared {
    /// Runs something that may take a while, such as a hook, beside everything else.
    ///
    /// # Errors
    /// Of `operation`.
    pub async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &str,
        operation: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let busy = self.reaper.busy();
        let done = tokio::task::spawn_blocking(operation).await;
        drop(busy);
        done.unwrap_or_else(|error| Err(status(Code::INTERNAL, format_args!("{doing}: {error}"))))
    }
}

/// A container.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its state directory.
    pub journal: Journal,
    /// Its first program.
    pub init: Arc<Program>,
    /// How it was asked to be run.
    pub options: Options,
    /// The directory of a checkpoint, from which it is restored when it is started.
    checkpoint: Option<PathBuf>,
    execs: Mutex<BTreeMap<String, Arc<Program>>>,
    shared: Arc<Shared>,
}

impl Task {
    /// Makes the container; its program waits for [`Task::start`].
    ///
    /// # Errors
    /// The step that failed; nothing is left behind.
    pub async fn create(shared: Arc<Shared>, request: CreateTaskRequest) -> Answer<Arc<Task>> {
        if request.terminal && !request.checkpoint.is_empty() {
            return Err(unimplemented(format_args!(
                "container {}: restore with a terminal",
                request.id
            )));
        }
        if !request.checkpoint.is_empty() && !Path::new(&request.checkpoint).is_dir() {
            return Err(not_found(format_args!(
                "container {}: checkpoint {}",
                request.id, request.checkpoint
            )));
        }
        let options = match request.options.as_ref() {
            Some(any) => Options::read(any).map_err(invalid)?,
            None => Options::default(),
        };
        if !options.binary_name.is_empty() {
            log::warn(format_args!(
                "option BinaryName {:?} is ignored: no runtime is executed",
                options.binary_name
            ));
        }
        let journal = Journal::at(options.state(&shared.namespace)).containers();
        journal.check_id(&request.id).map_err(invalid)?;
        // Of another shim, or of one that was killed.
        if journal.has(&request.id).map_err(|error| failed("create", &error))? {
            return Err(exists(format_args!("container {}", request.id)));
        }
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let task = Arc::new(Task {
            id: request.id.clone(),
            bundle: bundle(&request.bundle)?,
            journal,
            init: Arc::new(Program::new(String::new(), stdio, None)),
            options,
            checkpoint: Some(request.checkpoint).filter(|path| !path.is_empty()).map(PathBuf::from),
            execs: Mutex::default(),
            shared,
        });
        let (for_work, mounts) = (task.clone(), request.rootfs.clone());
        let made = task.shared.work("create", move || for_work.make(&mounts)).await;
        let child = made.inspect_err(|_| drop(rootfs::release(&task.bundle)))?;
        let first = match child {
            Some(child) => Some(task.has_first(child, "create").await?),
            None => None,
        };
        let mut io = TaskIO::new();
        (io.stdin, io.stdout, io.stderr, io.terminal) =
            (request.stdin, request.stdout, request.stderr, request.terminal);
        let event = TaskCreate {
            container_id: task.id.clone(),
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: MessageField::some(io),
            pid: task.init.pid() as u32,
            ..TaskCreate::default()
        };
        task.shared.events.send(topics::TASK_CREATE_EVENT_TOPIC, &event);
        if let Some(first) = first {
            task.watch_first(first);
        }
        Ok(task)
    }

    /// The first program has a process.
    async fn has_first(
        self: &Arc<Self>,
        (opened, child): (Opened, ChildProgram),
        doing: &str,
    ) -> Answer<(Process, AsyncFd<OwnedFd>)> {
        let ChildProgram { process, terminal } = child;
        match self.init.has(&process, opened, terminal) {
            Ok(end) => Ok((process, end)),
            Err(error) => {
                self.undo(process, true).await;
                Err(failed(doing, &error))
            }
        }
    }

    fn watch_first(self: &Arc<Self>, (process, end): (Process, AsyncFd<OwnedFd>)) {
        self.clone().watch(self.init.clone(), process, end);
        self.clone().watch_memory();
    }

    /// Makes the container, unless it is to be restored.
    fn make(
        &self,
        mounts: &[containerd_shim_protos::api::Mount],
    ) -> Answer<Option<(Opened, ChildProgram)>> {
        let create_failed = |error: Error| failed("create", &error);
        self.options.write(&self.bundle).map_err(create_failed)?;
        rootfs::provide(mounts, &self.bundle).map_err(create_failed)?;
        if self.checkpoint.is_some() {
            return Ok(None);
        }
        let opened = self.init.stdio.open(self.whose(), self.init.input_is_closed());
        let mut opened = opened.map_err(|error| unusable("create", &error))?;
        let options = self.create_options();
        let child = container::create_child(&self.journal, &self.id, &options, &files(&mut opened));
        let child = child.map_err(|error| match config_fault(&self.bundle) {
            Some(code) => failed_as(code, "create", &error),
            None => create_failed(error),
        })?;
        self.shared.reaper.add(child.process.pid());
        Ok(Some((opened, child)))
    }

    fn create_options(&self) -> CreateOptions {
        CreateOptions {
            bundle: self.bundle.clone(),
            no_pivot: self.options.no_pivot_root,
            no_new_keyring: self.options.no_new_keyring,
            systemd_cgroup: self.options.systemd_cgroup,
            warn: log::library(),
            ..CreateOptions::default()
        }
    }

    /// Makes the container from a checkpoint; it runs at once.
    fn restore(&self, images: &Path) -> Answer<(Opened, ChildProgram)> {
        let opened = self.init.stdio.open(self.whose(), self.init.input_is_closed());
        let mut opened = opened.map_err(|error| unusable("restore", &error))?;
        let work = &self.options.criu_work_path;
        let how = Restore {
            images: Images {
                image_path: Some(images.to_owned()),
                work_path: Some(work.clone()).filter(|path| !path.as_os_str().is_empty()),
                ..Images::default()
            },
            options: self.create_options(),
            ..Restore::default()
        };
        let process = container::restore_child(&self.journal, &self.id, &how, &files(&mut opened));
        let process = process.map_err(|error| failed("restore", &error))?;
        self.shared.reaper.add(process.pid());
        Ok((opened, ChildProgram { process, terminal: None }))
    }

    fn whose(&self) -> Whose<'_> {
        let owner = (self.options.io_uid, self.options.io_gid);
        Whose { namespace: &self.shared.namespace, id: &self.id, owner }
    }

    /// Runs its program.
    ///
    /// # Errors
    /// A step failed; the container has ended then.
    pub async fn start(self: &Arc<Self>) -> Answer<i32> {
        let starting = self.init.starting.lock().await;
        let task = self.clone();
        let restored = match &self.checkpoint {
            None => {
                let start = move || {
                    container::start(&task.journal, &task.id, &log::library())
                        .map_err(|error| failed("start", &error))
                };
                if let Err(error) = self.shared.work("start", start).await {
                    drop(starting);
                    if self.init.status() == Status::CREATED {
                        self.init.await_end().await;
                    }
                    return Err(error);
                }
                None
            }
            Some(_) if self.init.pid() > 0 => {
                return Err(not_now(format_args!("container {} has been started", self.id)));
            }
            Some(images) => {
                let images = images.clone();
                let child = self.shared.work("restore", move || task.restore(&images)).await?;
                Some(self.has_first(child, "restore").await?)
            }
        };
        self.init.has_started();
        let event = TaskStart {
            container_id: self.id.clone(),
            pid: self.init.pid() as u32,
            ..TaskStart::default()
        };
        self.shared.events.send(topics::TASK_START_EVENT_TOPIC, &event);
        drop(starting);
        if let Some(first) = restored {
            self.watch_first(first);
        }
        Ok(self.init.pid())
    }

    /// Notes a program that will join.
    ///
    /// # Errors
    /// The id is taken, or the program cannot be understood.
    pub fn add(&self, request: ExecProcessRequest) -> Answer<()> {
        if request.exec_id.is_empty() {
            return Err(invalid(format_args!("exec in container {}: no id", self.id)));
        }
        let wanted = Wanted::parse(&request.spec.value)
            .map_err(|error| invalid(format_args!("exec {}: {error}", request.exec_id)))?;
        let wanted = Wanted { terminal: request.terminal, ..wanted };
        let (stdin, stdout, stderr) = (request.stdin, request.stdout, request.stderr);
        let stdio = Stdio { stdin, stdout, stderr, terminal: request.terminal };
        let program = Program::new(request.exec_id.clone(), stdio, Some(wanted));
        let mut execs = self.execs();
        if execs.contains_key(&request.exec_id) {
            return Err(exists(format_args!("exec {}", request.exec_id)));
        }
        execs.insert(request.exec_id.clone(), Arc::new(program));
        let event = TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: request.exec_id,
            ..TaskExecAdded::default()
        };
        self.shared.events.send(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Starts a program that joins.
    ///
    /// # Errors
    /// A step failed.
    pub async fn join(self: &Arc<Self>, exec_id: &str) -> Answer<i32> {
        let program = self.program(exec_id)?;
        let starting = program.starting.lock().await;
        if program.pid() > 0 {
            return Err(not_now(format_args!("exec {exec_id} has been started")));
        }
        if self.init.end().is_some() {
            return Err(not_now(format_args!(
                "container {}: its first process is not running",
                self.id
            )));
        }
        let (task, joins) = (self.clone(), program.clone());
        let work = move || task.enter(&joins);
        let (opened, ChildProgram { process, terminal }) = self.shared.work("exec", work).await?;
        let end = match program.has(&process, opened, terminal) {
            Ok(end) => end,
            Err(error) => {
                self.undo(process, false).await;
                return Err(failed("exec", &error));
            }
        };
        program.has_started();
        let event = TaskExecStarted {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            pid: process.pid() as u32,
            ..TaskExecStarted::default()
        };
        self.shared.events.send(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
        drop(starting);
        let pid = process.pid();
        self.clone().watch(program, process, end);
        Ok(pid)
    }

    fn enter(&self, program: &Program) -> Answer<(Opened, ChildProgram)> {
        let opened = program.stdio.open(self.whose(), program.input_is_closed());
        let mut opened = opened.map_err(|error| unusable("exec", &error))?;
        let exec = Exec {
            program: program.wanted.clone().unwrap_or_default(),
            detached: true,
            warn: log::library(),
            ..Exec::default()
        };
        let child = container::exec_child(&self.journal, &self.id, &exec, &files(&mut opened));
        let child = child.map_err(|error| failed("exec", &error))?;
        self.shared.reaper.add(child.process.pid());
        Ok((opened, child))
    }

    /// Ends a process that was started and cannot be watched, and if it is the first, the container.
    async fn undo(self: &Arc<Self>, process: Process, is_first: bool) {
        let (task, pid) = (self.clone(), process.pid());
        let end = move || {
            process.kill();
            process.wait()?;
            if is_first {
                container::delete(&task.journal, &task.id, true, &log::library())?;
                rootfs::release(&task.bundle)?;
            }
            Ok(())
        };
        let end = move || end().map_err(|error| failed("undo", &error));
        if let Err(error) = self.shared.work("undo", end).await {
            log::warn(format_args!("container {}: {error}", self.id));
        }
        self.shared.reaper.remove(pid);
    }

    /// A program of it: the first, if `exec_id` is empty.
    ///
    /// # Errors
    /// There is none.
    pub fn program(&self, exec_id: &str) -> Answer<Arc<Program>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        self.execs().get(exec_id).cloned().ok_or_else(|| not_found(format_args!("exec {exec_id}")))
    }

    /// The programs that have joined it.
    pub fn joined(&self) -> Vec<Arc<Program>> {
        self.execs().values().cloned().collect()
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Program>>> {
        locked(&self.execs)
    }

    /// Forgets a program that has joined and ended, or was never started.
    ///
    /// # Errors
    /// There is none, or it runs.
    pub fn forget(&self, exec_id: &str) -> Answer<Arc<Program>> {
        let program = self.program(exec_id)?;
        if program.lives() {
            return Err(not_now(format_args!(
                "exec {exec_id} must be stopped before it is deleted"
            )));
        }
        self.execs().remove(exec_id);
        // Who waits for one that was never started need not wait for ever.
        if program.end().is_none() {
            program.has_ended(End { status: 0, at: SystemTime::now() });
        }
        Ok(program)
    }

    /// Removes the container, which has ended or was never started.
    ///
    /// # Errors
    /// It runs, or something of it cannot be released.
    pub async fn delete(self: &Arc<Self>) -> Answer<End> {
        if self.init.lives() && self.init.status() != Status::CREATED {
            return Err(not_now(format_args!(
                "container {} must be stopped before it is deleted",
                self.id
            )));
        }
        let task = self.clone();
        let remove = move || {
            container::delete(&task.journal, &task.id, true, &log::library())?;
            rootfs::release(&task.bundle)
        };
        let remove = move || remove().map_err(|error| failed("delete", &error));
        self.shared.work("delete", remove).await?;
        if self.init.pid() == 0 {
            // It was not restored.
            self.init.has_ended(End { status: 0, at: SystemTime::now() });
        }
        let end = self.init.wait().await;
        let event = TaskDelete {
            container_id: self.id.clone(),
            pid: self.init.pid() as u32,
            exit_status: end.status,
            exited_at: MessageField::some(timestamp(end.at)),
            ..TaskDelete::default()
        };
        self.shared.events.send(topics::TASK_DELETE_EVENT_TOPIC, &event);
        Ok(end)
    }

    /// Waits for the end of a program, and reports it.
    fn watch(self: Arc<Self>, program: Arc<Program>, process: Process, end: AsyncFd<OwnedFd>) {
        tokio::spawn(async move {
            // An error is that of a runtime that ends.
            let _ = end.readable().await;
            let end = match process.wait().map(End::now) {
                Ok(end) => end,
                Err(error) => {
                    log::warn(format_args!("wait for process {}: {error}", process.pid()));
                    End { status: 255, at: SystemTime::now() }
                }
            };
            self.shared.reaper.remove(process.pid());
            if program.exec_id.is_empty() {
                self.end_others().await;
            }
            if let Some(ends) = program.ends() {
                ends.settle().await;
            }
            let _starting = program.starting.lock().await;
            let event = TaskExit {
                container_id: self.id.clone(),
                id: if program.exec_id.is_empty() {
                    self.id.clone()
                } else {
                    program.exec_id.clone()
                },
                pid: process.pid() as u32,
                exit_status: end.status,
                exited_at: MessageField::some(timestamp(end.at)),
                ..TaskExit::default()
            };
            self.shared.events.send(topics::TASK_EXIT_EVENT_TOPIC, &event);
            program.has_ended(end);
        });
    }

    /// When the first program has ended: in a pid namespace of its own all others have, too. Otherwise they are killed.
    /// Either way their ends are reported first.
    async fn end_others(self: &Arc<Self>) {
        let task = self.clone();
        let kill = move || {
            let config = Container::open(&task.journal, &task.id)?.record.asked.config;
            let own = config.linux.is_some_and(|linux| linux.is_new(NamespaceType::Pid));
            if own { Ok(()) } else { container::kill(&task.journal, &task.id, 9, Targets::All) }
        };
        let kill = move || kill().map_err(|error| failed("kill", &error));
        if let Err(error) = self.shared.work("kill", kill).await {
            log::debug(format_args!("container {}: {error}", self.id));
        }
        let end = tokio::time::Instant::now() + OTHERS;
        for program in self.joined().into_iter().filter(|program| program.lives()) {
            let _ = tokio::time::timeout_at(end, program.wait()).await;
        }
    }

    /// Reports when the kernel kills for lack of memory.
    fn watch_memory(self: Arc<Self>) {
        let watch = || {
            let container = Container::open(&self.journal, &self.id)?;
            container.record.resources.cgroup.notify_oom()
        };
        // Without a memory controller there is nothing to be watched.
        let Ok(oom) = watch() else { return };
        tokio::spawn(async move {
            let Ok(mut oom) = watched(oom, Interest::READABLE) else { return };
            loop {
                tokio::select! {
                    _ = self.init.wait() => return,
                    ready = oom.readable_mut() => {
                        let Ok(mut ready) = ready else { return };
                        ready.clear_ready();
                        match ready.get_inner_mut().news() {
                            Ok(garth::cgroup::OomEvent::Oom) => {
                                let event = TaskOOM { container_id: self.id.clone(), ..TaskOOM::default() };
                                self.shared.events.send(topics::TASK_OOM_EVENT_TOPIC, &event);
                            }
                            Ok(garth::cgroup::OomEvent::Nothing) => {}
                            Ok(garth::cgroup::OomEvent::Gone) | Err(_) => return,
                        }
                    }
                }
            }
        });
    }
}

fn files(opened: &mut Opened) -> StandardFiles {
    match opened.files.take() {
        Some(files) => StandardFiles::Given(Arc::new(files)),
        None => StandardFiles::NewTerminal,
    }
}

/// A directory that is there.
fn bundle(path: &str) -> Answer<PathBuf> {
    let bundle = PathBuf::from(path);
    if !bundle.is_absolute() {
        return Err(invalid(format_args!("bundle {path:?}: not an absolute path")));
    }
    match bundle.metadata() {
        Ok(file) if file.is_dir() => Ok(bundle),
        Ok(_) => Err(invalid(format_args!("bundle {path}: not a directory"))),
        Err(error) => Err(unusable("create", &Error::io(format!("bundle {path}"), &error))),
    }
}

/// Why no container can be made from this bundle, if its configuration is at fault.
fn config_fault(bundle: &Path) -> Option<Code> {
    let file = bundle.join("config.json");
    match file.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Code::NOT_FOUND),
        Ok(kind) if kind.is_file() => {
            let config = Config::parse(&std::fs::read(file).ok()?);
            config.and_then(|config| config.validate()).is_err().then_some(Code::INVALID_ARGUMENT)
        }
        Ok(_) => Some(Code::INVALID_ARGUMENT),
        Err(_) => None,
    }
}
