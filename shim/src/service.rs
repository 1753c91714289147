//! containerd's calls. Each finds its task and does little else.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCheckpointed, TaskPaused, TaskResumed};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim::oci;
use containerd_shim_protos::shim_async::Task as Calls;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use garth::config::oci::Resources;
use garth::container::{self, Changes, Checkpoint, Images, Targets};
use garth::{Container, Kind};
use tokio::sync::Notify;

use crate::message::{any, locked, timestamp};
use crate::metrics::metrics;
use crate::program::finished;
use crate::status::{Answer, Code, exists, failed, invalid, not_found, not_now, status};
use crate::task::{Shared, Task};
use crate::{VERSION, log, options};

/// SIGRTMAX.
const LAST_SIGNAL: i32 = 64;
/// Annotations of an update that change a rate.
const RATE: &str = "dev.garth.rate.";

/// A shim, for one container or for the containers of a pod.
#[derive(Debug)]
pub struct Shim {
    /// What its tasks share.
    pub shared: Arc<Shared>,
    /// The socket where it serves.
    pub socket: PathBuf,
    /// Told when there is nothing left to do.
    pub end: Notify,
    tasks: Mutex<BTreeMap<String, Option<Arc<Task>>>>,
    /// No task was ever asked for.
    new: AtomicBool,
}

impl Shim {
    /// One without tasks.
    pub fn new(shared: Arc<Shared>, socket: PathBuf) -> Shim {
        Shim {
            shared,
            socket,
            end: Notify::new(),
            tasks: Mutex::default(),
            new: AtomicBool::new(true),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Task>>>> {
        locked(&self.tasks)
    }

    /// Whether no task was ever asked for.
    pub fn is_new(&self) -> bool {
        self.new.load(Ordering::Relaxed)
    }

    /// Whether it has no tasks.
    pub fn is_idle(&self) -> bool {
        self.tasks().is_empty()
    }

    fn task(&self, id: &str) -> Answer<Arc<Task>> {
        match self.tasks().get(id) {
            Some(Some(task)) => Ok(task.clone()),
            Some(None) => Err(not_now(format_args!("container {id} is being created"))),
            None => Err(not_found(format_args!("container {id}"))),
        }
    }

    async fn create_task(
        self: Arc<Self>,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        let id = request.id.clone();
        if self.tasks().contains_key(&id) {
            return Err(exists(format_args!("container {id}")));
        }
        self.new.store(false, Ordering::Relaxed);
        self.tasks().insert(id.clone(), None);
        match Task::create(self.shared.clone(), request).await {
            Ok(task) => {
                let pid = task.init.pid() as u32;
                self.tasks().insert(id, Some(task));
                Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
            }
            Err(error) => {
                self.tasks().remove(&id);
                Err(error)
            }
        }
    }

    async fn delete_task(self: Arc<Self>, request: DeleteRequest) -> Answer<DeleteResponse> {
        let task = self.task(&request.id)?;
        let (pid, end) = if request.exec_id.is_empty() {
            let end = task.delete().await?;
            self.tasks().remove(&request.id);
            (task.init.pid(), Some(end))
        } else {
            let program = task.forget(&request.exec_id)?;
            (program.pid(), program.end())
        };
        Ok(DeleteResponse {
            pid: pid as u32,
            exit_status: end.map_or(0, |end| end.status),
            exited_at: MessageField::from_option(end.map(|end| timestamp(end.at))),
            ..DeleteResponse::default()
        })
    }
}

/// Goes on when the caller is gone: containerd may end, or give up, in the middle of a call.
async fn apart<T: Send + 'static>(
    call: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    let done = tokio::spawn(call).await;
    done.unwrap_or_else(|error| Err(status(Code::INTERNAL, error)))
}

/// The calls of a shim.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<Shim>);

#[async_trait]
impl Calls for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        apart(self.0.clone().create_task(request)).await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        let task = self.0.task(&request.id)?;
        let start = async move {
            match request.exec_id.as_str() {
                "" => task.start().await,
                exec_id => task.join(exec_id).await,
            }
        };
        let pid = apart(start).await? as u32;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        apart(self.0.clone().delete_task(request)).await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        self.0.task(&request.id)?.add(request)?;
        Ok(Empty::default())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        let task = self.0.task(&request.id)?;
        let program = task.program(&request.exec_id)?;
        let mut now = program.status();
        let paused = || {
            let container = Container::open(&task.journal, &task.id)?;
            Ok::<_, garth::Error>(container.record.resources.cgroup.is_frozen())
        };
        if now == Status::RUNNING && request.exec_id.is_empty() && paused().unwrap_or(false) {
            now = Status::PAUSED;
        }
        let end = program.end();
        Ok(StateResponse {
            id: if request.exec_id.is_empty() { request.id } else { request.exec_id.clone() },
            bundle: task.bundle.display().to_string(),
            pid: program.pid() as u32,
            status: now.into(),
            stdin: program.stdio.stdin.clone(),
            stdout: program.stdio.stdout.clone(),
            stderr: program.stdio.stderr.clone(),
            terminal: program.stdio.terminal,
            exit_status: end.map_or(0, |end| end.status),
            exited_at: MessageField::from_option(end.map(|end| timestamp(end.at))),
            exec_id: request.exec_id,
            ..StateResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        let task = self.0.task(&request.id)?;
        let pids =
            container::pids(&task.journal, &task.id).map_err(|error| failed("pids", &error))?;
        let joined = task.joined();
        let info = |pid: i32| {
            let program = joined.iter().find(|program| program.pid() == pid)?;
            let exec_id = program.exec_id.clone();
            let details = oci::ProcessDetails { exec_id, ..oci::ProcessDetails::default() };
            Some(any(&details))
        };
        let process = |pid: i32| ProcessInfo {
            pid: pid as u32,
            info: MessageField::from_option(info(pid)),
            ..ProcessInfo::default()
        };
        let processes = pids.into_iter().map(process).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Answer<Empty> {
        let task = self.0.task(&request.id)?;
        container::pause(&task.journal, &task.id).map_err(|error| failed("pause", &error))?;
        let event = TaskPaused { container_id: request.id, ..TaskPaused::default() };
        self.0.shared.events.send(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Answer<Empty> {
        let task = self.0.task(&request.id)?;
        container::resume(&task.journal, &task.id).map_err(|error| failed("resume", &error))?;
        let event = TaskResumed { container_id: request.id, ..TaskResumed::default() };
        self.0.shared.events.send(topics::TASK_RESUMED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        let task = self.0.task(&request.id)?;
        let program = task.program(&request.exec_id)?;
        let signal = i32::try_from(request.signal).ok().filter(|signal| *signal <= LAST_SIGNAL);
        let signal = signal.ok_or_else(|| {
            invalid(format_args!("signal {}: the last one is {LAST_SIGNAL}", request.signal))
        })?;
        if !request.exec_id.is_empty() {
            program.signal(signal)?;
            return Ok(Empty::default());
        }
        if !request.all && program.end().is_some() {
            return Err(finished());
        }
        let targets = if request.all { Targets::All } else { Targets::First };
        container::kill(&task.journal, &task.id, signal, targets).map_err(|error| {
            match error.get_kind() {
                // It ends just now.
                Kind::WrongState => finished(),
                _ => failed("kill", &error),
            }
        })?;
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let program = self.0.task(&request.id)?.program(&request.exec_id)?;
        let cells = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        match program.ends() {
            Some(ends) if program.end().is_none() => ends
                .resize(cells(request.width), cells(request.height))
                .map_err(|error| failed("resize", &error))?,
            // What has ended needs no size.
            _ => {}
        }
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let program = self.0.task(&request.id)?.program(&request.exec_id)?;
        if request.stdin {
            program.close_input();
        }
        Ok(Empty::default())
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> Answer<Empty> {
        let task = self.0.task(&request.id)?;
        let options = match request.options.as_ref() {
            Some(any) => options::checkpoint(any).map_err(invalid)?,
            None => oci::CheckpointOptions::default(),
        };
        let path = |own: &str, other: &std::path::Path| match own {
            "" if other.as_os_str().is_empty() => None,
            "" => Some(other.to_owned()),
            own => Some(own.into()),
        };
        let image_path = match request.path.as_str() {
            "" => path(&options.image_path, &task.options.criu_image_path),
            path => Some(path.into()),
        };
        let how = Checkpoint {
            images: Images {
                image_path,
                work_path: path(&options.work_path, &task.options.criu_work_path),
                tcp_established: options.open_tcp,
                ext_unix_sk: options.external_unix_sockets,
                shell_job: options.terminal,
                file_locks: options.file_locks,
                manage_cgroups: Some(options.cgroups_mode).filter(|mode| !mode.is_empty()),
                empty_ns: options.empty_namespaces,
                ..Images::default()
            },
            leave_running: !options.exit,
            ..Checkpoint::default()
        };
        let shared = self.0.shared.clone();
        let call = async move {
            let (journal, id) = (task.journal.clone(), task.id.clone());
            let work = move || {
                container::checkpoint(&journal, &id, &how, &log::library())
                    .map_err(|error| failed("checkpoint", &error))
            };
            shared.work("checkpoint", work).await?;
            if options.exit {
                task.init.await_end().await;
            }
            let event = TaskCheckpointed {
                container_id: request.id,
                checkpoint: request.path,
                ..TaskCheckpointed::default()
            };
            shared.events.send(topics::TASK_CHECKPOINTED_EVENT_TOPIC, &event);
            Ok(Empty::default())
        };
        apart(call).await
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        let task = self.0.task(&request.id)?;
        let resources = match request.resources.as_ref() {
            Some(any) if !any.value.is_empty() => Resources::parse(&any.value)
                .map_err(|error| invalid(format_args!("container {}: {error}", task.id)))?,
            _ => Resources::default(),
        };
        let rates = request.annotations.iter().filter_map(|(name, value)| {
            name.strip_prefix(RATE).map(|which| format!("{which}={value}"))
        });
        let rates = rates.collect::<Vec<_>>().join(",");
        let rate = match rates.is_empty() {
            true => None,
            false => Some(rates.parse().map_err(invalid)?),
        };
        let changes = Changes { resources, rate, ..Changes::default() };
        container::update(&task.journal, &task.id, &changes)
            .map_err(|error| failed("update", &error))?;
        Ok(Empty::default())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        let program = self.0.task(&request.id)?.program(&request.exec_id)?;
        let end = program.wait().await;
        Ok(WaitResponse {
            exit_status: end.status,
            exited_at: MessageField::some(timestamp(end.at)),
            ..WaitResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        let task = self.0.task(&request.id)?;
        let stats =
            container::stats(&task.journal, &task.id).map_err(|error| failed("stats", &error))?;
        Ok(StatsResponse { stats: MessageField::some(metrics(&stats)), ..StatsResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        // Asked for a shim as well, before there is a task.
        let pid = self.0.task(&request.id).map_or(0, |task| task.init.pid());
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: pid as u32,
            version: VERSION.to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Answer<Empty> {
        if self.0.is_idle() {
            // From now on a start with this name makes a new shim.
            let _ = std::fs::remove_file(&self.0.socket);
            self.0.end.notify_one();
        }
        Ok(Empty::default())
    }
}
