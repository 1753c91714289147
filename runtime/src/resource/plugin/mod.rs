//! External plugins: the operator's executables that create something for a sandbox, and release
//! it. The protocol is documented in docs/plugins.md, and its schema is specs/schema/plugin.json.
//!
//! Each plugin gets at most three kinds of calls in a sandbox's life: `add` when the namespaces
//! exist (or, for one found among the providers, `provide` before anything else is created),
//! `check` while it runs, and `del` when the processes are dead. What it creates derives from the
//! id and the configuration, both on record before the first call, so `del` does not need the
//! answer of `add`, and is called again until it succeeds.

mod call;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::oci::DeviceType;
use crate::config::units::Span;
use crate::config::{self, Provided, ProvidedDevice};
use crate::journal::resource::{Owner, Resource};
use crate::journal::{Journal, ProcessId};
use crate::sys::process;
use crate::{Error, Result};
use call::{NamedDevice, PROTOCOL, Response};

/// Where plugins are looked for without `GARTH_PLUGIN_PATH`: the administrator's, then those of the
/// distribution. Executables that other programs run, and that users do not run by name, belong in
/// libexec (FHS 3.0, 4.7).
const DIRECTORIES: [&str; 2] = ["/usr/local/libexec/garth/plugins", "/usr/libexec/garth/plugins"];

/// The subdirectory for plugins that provide mounts and devices.
const PROVIDERS: &str = "providers";

/// The extension of a plugin's note, beside its directory.
const NOTE: &str = "json";

/// A plugin that was found: the record of what it is asked to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPlugin {
    /// What was requested.
    #[serde(flatten)]
    pub asked: config::Plugin,
    /// The executable.
    pub program: PathBuf,
    /// Whether it provides mounts and devices.
    #[serde(default)]
    pub provides: bool,
    /// How long a call may take.
    pub timeout: Span,
}

/// What a plugin reads from its standard input.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    protocol: u32,
    garth_version: &'static str,
    verb: Verb,
    plugin: &'a str,
    kind: &'static str,
    id: &'a str,
    directory: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
    config: &'a BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Provide,
    Add,
    Check,
    Del,
}

#[derive(Debug, Serialize)]
struct Process {
    pid: i32,
    netns: String,
}

impl FoundPlugin {
    /// Finds the executables of the requested plugins.
    ///
    /// # Errors
    /// One does not exist, cannot be executed, or may be changed by others.
    pub fn find_all(asked: &[config::Plugin]) -> Result<Vec<FoundPlugin>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let timeout = timeout()?;
        let directories = directories();
        let find = |asked: &config::Plugin| {
            let (program, provides) = find(&directories, &asked.name)?;
            Ok(FoundPlugin { asked: asked.clone(), program, provides, timeout })
        };
        asked.iter().map(find).collect()
    }

    /// The plugins of an owner whose record is lost: each has a note of its own in the entry.
    ///
    /// # Errors
    /// A note cannot be read.
    pub fn noted(journal: &Journal, id: &str) -> Result<Vec<FoundPlugin>> {
        let directory = journal.file(id, "plugins");
        let failed =
            |path: &Path, e: &std::io::Error| Error::io(format!("read {}", path.display()), e);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| failed(&directory, &e))?,
        };
        let mut noted = Vec::new();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_some_and(|extension| extension == NOTE) {
                let text = fs::read(&path).map_err(|e| failed(&path, &e))?;
                let plugin = serde_json::from_slice(&text)
                    .map_err(|e| Error::new(format!("{}: {e}", path.display())))?;
                noted.push(plugin);
            }
        }
        Ok(noted)
    }

    fn name(&self) -> &str {
        &self.asked.name
    }

    /// A directory for the plugin's own files, which is removed with the owner's record.
    fn directory(&self, owner: &Owner) -> PathBuf {
        owner.journal.file(owner.id, "plugins").join(self.name())
    }

    /// Creates the directory, and a note in case the record gets damaged.
    fn note(&self, owner: &Owner) -> Result<()> {
        let directory = self.directory(owner);
        let failed = |e: &std::io::Error| Error::io(format!("create {}", directory.display()), e);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|e| failed(&e))?;
        let text = serde_json::to_vec(self).map_err(|e| Error::new(e.to_string()))?;
        // Plugin names have no dots, so these never collide with the directory of another.
        let (new, note) = (directory.with_extension("new"), directory.with_extension(NOTE));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &note))
            .map_err(|e| Error::io(format!("write {}", note.display()), &e))
    }

    fn call(&self, owner: &Owner, verb: Verb, pid: Option<i32>) -> Result<Response> {
        let process = pid.map(|pid| Process { pid, netns: format!("/proc/{pid}/ns/net") });
        let request = Request {
            protocol: PROTOCOL,
            garth_version: env!("CARGO_PKG_VERSION"),
            verb,
            plugin: self.name(),
            kind: owner.journal.kind(),
            id: owner.id,
            directory: self.directory(owner),
            process,
            config: &self.asked.config,
        };
        let text = serde_json::to_vec(&request).map_err(|e| Error::new(e.to_string()));
        let called = text.and_then(|text| call::call(&self.program, &text, self.timeout.0));
        let must = matches!(verb, Verb::Check | Verb::Provide);
        let verb = format!("{verb:?}").to_lowercase();
        let within = |error: Error| error.within(format_args!("plugin {}: {verb}", self.name()));
        called.and_then(|answer| call::read(must, &answer)).map_err(within)
    }
}

/// Its number is the current one of the host's file.
fn provided_device(NamedDevice { path, source }: NamedDevice) -> Result<ProvidedDevice> {
    let source = source.unwrap_or_else(|| path.clone());
    if let Some(odd) = [&path, &source].into_iter().find(|path| !path.is_absolute()) {
        return Err(Error::new(format!("device {odd:?} is not an absolute path")));
    }
    let file = fs::metadata(&source)
        .map_err(|e| Error::io(format!("stat device {}", source.display()), &e))?;
    let kind = match file.file_type() {
        kind if kind.is_block_device() => DeviceType::Block,
        kind if kind.is_char_device() => DeviceType::Char,
        _ => return Err(Error::new(format!("{} is not a device", source.display()))),
    };
    let number = (libc::major(file.rdev()), libc::minor(file.rdev()));
    Ok(ProvidedDevice { path, source, kind, number })
}

impl Resource for FoundPlugin {
    fn provide(&self, owner: &Owner) -> Result<Option<Provided>> {
        self.note(owner)?;
        if !self.provides {
            return Ok(None);
        }
        let response = self.call(owner, Verb::Provide, None)?;
        let origin = format!("plugin {}", self.name());
        let devices = response.devices.into_iter().map(provided_device).collect::<Result<_>>();
        let devices = devices.map_err(|error| error.within(&origin))?;
        Ok(Some(Provided { origin, mounts: response.mounts, devices, ..Provided::default() }))
    }

    fn connect(&self, owner: &Owner, pid: i32) -> Result<()> {
        match self.provides {
            true => Ok(()),
            false => self.call(owner, Verb::Add, Some(pid)).map(drop),
        }
    }

    fn release(&self, owner: &Owner) -> Result<()> {
        // Even if it was never called: only the plugin knows what it may have created.
        self.call(owner, Verb::Del, None).map(drop)
    }

    fn inspect(&self, owner: &Owner) -> Result<Vec<String>> {
        let process = owner.journal.process(owner.id)?;
        let lives = process.as_ref().map_or(Ok(None), ProcessId::open)?.is_some();
        let pid = process.filter(|_| lives).map(|process| process.pid);
        let lines = self.call(owner, Verb::Check, pid)?.there;
        Ok(lines.into_iter().map(|line| format!("plugin {}: {line}", self.name())).collect())
    }

    fn describe(&self, _: &Owner) -> Vec<String> {
        let verb = if self.provides { "provide mounts and devices for" } else { "add" };
        vec![format!("call {} to {verb} {}", self.program.display(), self.asked)]
    }
}

/// The directories in which plugins are looked for.
pub fn directories() -> Vec<PathBuf> {
    match std::env::var_os("GARTH_PLUGIN_PATH") {
        // A relative one would depend on the caller's working directory.
        Some(path) => std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
        None => DIRECTORIES.map(PathBuf::from).to_vec(),
    }
}

/// How long a call may take: ten seconds, or what `GARTH_PLUGIN_TIMEOUT` says.
fn timeout() -> Result<Span> {
    let name = "GARTH_PLUGIN_TIMEOUT";
    let Ok(text) = std::env::var(name) else { return Ok(Span(Duration::from_secs(10))) };
    let span: Span = text.parse().map_err(|e: Error| e.within(name))?;
    match span.0.is_zero() {
        true => Err(Error::new(format!("{name} {text}: must be greater than 0"))),
        false => Ok(span),
    }
}

/// The executable of this name, and whether it is among the providers.
fn find(directories: &[PathBuf], name: &str) -> Result<(PathBuf, bool)> {
    let places = |directory: &PathBuf| [directory.join(name), directory.join(PROVIDERS).join(name)];
    let places =
        directories.iter().flat_map(|directory| places(directory).map(|at| (directory, at)));
    for (directory, program) in places {
        let provides = program.parent() != Some(directory);
        let found = match fs::metadata(&program) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            found => found
                .map_err(|e| Error::io(format!("plugin {name}: stat {}", program.display()), &e))?,
        };
        let wrong = |why| Error::new(format!("plugin {name}: {} {why}", program.display()));
        if !found.is_file() || found.mode() & 0o111 == 0 {
            return Err(wrong("is not executable").hint("run chmod +x on it"));
        }
        // It runs with the rights of the user who runs garth.
        let mut files = vec![found];
        for directory in program.ancestors().skip(1).take(1 + usize::from(provides)) {
            let held = fs::metadata(directory);
            files.push(held.map_err(|e| Error::io(format!("stat {}", directory.display()), &e))?);
        }
        if files.iter().any(is_open_to_others) {
            return Err(wrong("or its directory can be changed by other users")
                .hint("both must belong to root or to you, without write permission for others"));
        }
        return Ok((program, provides));
    }
    let places: Vec<String> = directories.iter().map(|dir| dir.display().to_string()).collect();
    let places = if places.is_empty() { "any directory".into() } else { places.join(" or ") };
    Err(Error::new(format!("plugin {name}: not found in {places}"))
        .hint("set GARTH_PLUGIN_PATH for other directories"))
}

fn is_open_to_others(file: &Metadata) -> bool {
    let (own, _) = process::effective_ids();
    (file.uid() != 0 && file.uid() != own) || file.mode() & 0o022 != 0
}

#[cfg(test)]
mod tests;
