//! The hooks that run in the runtime's namespaces (config.md, "POSIX-platform Hooks").

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Warn;
use crate::config::oci::{Hook, State};
use crate::error::{Error, Result};
use crate::start::HookOutput;
use crate::sys::CStrings;
use crate::sys::fork::{self, Outcome};

/// Runs hooks in order, each with the state on its standard input, in the bundle's directory. Their
/// output is logged as a note.
///
/// # Errors
/// The first hook that fails; the rest are not run.
pub fn run(hooks: &[Hook], list: &str, state: &State, warn: &Warn) -> Result<()> {
    let mut each = hooks.iter().enumerate();
    each.try_for_each(|(index, hook)| run_one(hook, &format!("{list}[{index}]"), state, warn))
}

/// Runs one hook; `place` is its position in the configuration's hooks.
///
/// # Errors
/// How it failed.
pub fn run_one(hook: &Hook, place: &str, state: &State, warn: &Warn) -> Result<()> {
    warn.debug(&format!("run hook {} (hooks.{place})", hook.path));
    one(hook, state, warn).map_err(|error| error.within(format_args!("hooks.{place}")))
}

fn one(hook: &Hook, state: &State, warn: &Warn) -> Result<()> {
    let string = |text: &OsStr| {
        CString::new(text.as_bytes())
            .map_err(|_| Error::new(format!("{text:?} contains a NUL byte")))
    };
    let strings = |texts: &[String]| -> Result<CStrings> {
        let strings = texts.iter().map(|text| string(text.as_ref()));
        Ok(CStrings::new(strings.collect::<Result<_>>()?))
    };
    let path = string(hook.path.as_ref())?;
    let argv = match hook.args.as_slice() {
        [] => CStrings::new(vec![path.clone()]),
        args => strings(args)?,
    };
    let envp = match &hook.env {
        Some(env) => strings(env)?,
        None => {
            let own = own_environment().into_iter().map(|pair| string(&pair));
            CStrings::new(own.collect::<Result<_>>()?)
        }
    };
    let directory = string(state.bundle.as_ref())?;
    let timeout = match hook.timeout {
        Some(seconds) => i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX),
        None => -1,
    };
    let program = fork::Program {
        path: &path,
        argv: &argv,
        envp: &envp,
        directory: Some(&directory),
        filter: None,
        timeout,
    };
    let tell = |line: &str| warn.note(line);
    let mut output = HookOutput::new(&tell);
    output.begin(hook.path.as_bytes());
    let outcome =
        fork::run(&program, &[&to_json(state)?], &mut |fd, text| output.receive(fd, text));
    output.end();
    let failed =
        |how: String| Err(output.because(Error::new(format!("hook {}: {how}", hook.path))));
    match outcome {
        Ok(Outcome::Success) => Ok(()),
        Ok(Outcome::Code(code)) => failed(format!("exited with code {code}")),
        Ok(Outcome::Signal(signal)) => failed(format!("killed by signal {signal}")),
        Ok(Outcome::Late) => failed("timed out and was killed".into()),
        Ok(Outcome::NotExecuted(errno)) | Err(errno) => {
            Err(Error::os(format!("run hook {}", hook.path), errno))
        }
    }
}

/// The environment of a hook that has none of its own: ours, inherited from the caller.
pub fn own_environment() -> Vec<OsString> {
    let pair = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    std::env::vars_os().map(pair).collect()
}

/// The state as hooks read it.
pub fn to_json(state: &State) -> Result<Vec<u8>> {
    serde_json::to_vec(state).map_err(|e| Error::new(format!("write the state: {e}")))
}

/// The state of a process that does not exist yet: the text before its id, and the text after it.
pub fn around_pid(state: &State) -> Result<[Vec<u8>; 2]> {
    // No process has this id (/proc/sys/kernel/pid_max is at most 2^22).
    const NOBODY: i32 = i32::MAX;
    let text = to_json(&State { pid: NOBODY, ..state.clone() })?;
    let mark = format!("\"pid\":{NOBODY}");
    let at = text.windows(mark.len()).position(|window| window == mark.as_bytes());
    let at = at.ok_or_else(|| Error::new("write the state: it has no pid"))?;
    let end = at + mark.len();
    Ok([text[..at + "\"pid\":".len()].to_vec(), text[end..].to_vec()])
}
