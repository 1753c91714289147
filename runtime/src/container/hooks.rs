//! The hooks that run in the runtime's namespaces (config.md, "POSIX-platform Hooks").

use std::ffi::CString;

use crate::error::{Error, Result};
use crate::spec::oci::{Hook, State};
use crate::sys::CStrings;
use crate::sys::fork::{self, Outcome};

/// Runs hooks in their order, each with the state on its standard input.
///
/// # Errors
/// The first that fails; those after it are not run.
pub fn run(hooks: &[Hook], list: &str, state: &State) -> Result<()> {
    let mut each = hooks.iter().enumerate();
    each.try_for_each(|(index, hook)| run_one(hook, &format!("{list}[{index}]"), state))
}

/// Runs one, which is at `place` in the configuration's hooks.
///
/// # Errors
/// How it failed.
pub fn run_one(hook: &Hook, place: &str, state: &State) -> Result<()> {
    one(hook, &to_json(state)?).map_err(|error| error.within(format_args!("hooks.{place}")))
}

fn one(hook: &Hook, state: &[u8]) -> Result<()> {
    let string = |text: &str| {
        CString::new(text).map_err(|_| Error::new(format!("{text:?} holds a NUL byte")))
    };
    let strings = |texts: &[String]| -> Result<CStrings> {
        Ok(CStrings::new(texts.iter().map(|text| string(text)).collect::<Result<_>>()?))
    };
    let path = string(&hook.path)?;
    let argv = match hook.args.as_slice() {
        [] => CStrings::new(vec![path.clone()]),
        args => strings(args)?,
    };
    let envp = strings(&hook.env)?;
    let timeout = match hook.timeout {
        Some(seconds) => i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX),
        None => -1,
    };
    let failed = |how: String| Error::new(format!("hook {}: {how}", hook.path));
    match fork::run(&path, &argv, &envp, &[state], timeout) {
        Ok(Outcome::Success) => Ok(()),
        Ok(Outcome::Code(code)) => Err(failed(format!("exited with code {code}"))),
        Ok(Outcome::Signal(signal)) => Err(failed(format!("killed by signal {signal}"))),
        Ok(Outcome::Late) => Err(failed("killed, as it had not ended in time".into())),
        Err(errno) => Err(Error::os(format!("run hook {}", hook.path), errno)),
    }
}

/// The state as hooks read it.
pub fn to_json(state: &State) -> Result<Vec<u8>> {
    serde_json::to_vec(state).map_err(|e| Error::new(format!("write the state: {e}")))
}

/// The state of a process that is not there yet: what comes before its id, and what behind it.
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
