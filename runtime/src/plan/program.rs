//! The program that is executed: the places where it may be, and the step that tries them.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::step::Step;
use crate::config::variable;
use crate::error::{Error, Result};
use crate::sys::CStrings;

/// Where to look for a command that is not a path, without PATH in its environment.
pub const SEARCH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The paths that a program may have, in the order in which they are tried (execvp(3)): the name
/// itself if it has a slash, otherwise one in each directory of `search`. An empty directory is the
/// working directory; an empty name or an empty search yields none.
pub fn candidates(program: &OsStr, search: &OsStr) -> Vec<PathBuf> {
    let name = program.as_bytes();
    if name.contains(&b'/') {
        return vec![program.into()];
    }
    let join = |dir: &[u8]| {
        let length = dir.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let dir = if dir.is_empty() { b"." } else { &dir[..length] };
        PathBuf::from(OsString::from_vec([dir, b"/", name].concat()))
    };
    let dirs = search.as_bytes().split(|byte| *byte == b':');
    dirs.filter(|_| !name.is_empty() && !search.is_empty()).map(join).collect()
}

/// Arguments of a program.
///
/// # Errors
/// When one holds a NUL byte.
pub fn words(command: &[OsString]) -> Result<CStrings> {
    command.iter().map(|arg| c_os(arg)).collect::<Result<_>>().map(CStrings::new)
}

/// The last step of a sandbox. `pid` names an environment variable that holds the program's own
/// process id.
///
/// # Errors
/// The command is empty or holds a NUL byte.
pub fn exec(command: &[OsString], env: &[(OsString, OsString)], pid: Option<&str>) -> Result<Step> {
    let Some(program) = command.first() else {
        return Err(Error::new("no command to run").hint("write it after --"));
    };
    let argv = words(command)?;
    let mut envp = Vec::with_capacity(env.len());
    for (key, value) in env {
        let mut pair = key.clone();
        pair.push("=");
        pair.push(value);
        envp.push(c_os(&pair)?);
    }
    let envp = match pid {
        Some(name) => CStrings::with_pid(envp, name),
        None => CStrings::new(envp),
    };
    let paths = candidates(program, variable(env, "PATH").unwrap_or(OsStr::new(SEARCH)));
    let paths = paths.iter().map(|path| c_path(path)).collect::<Result<_>>()?;
    Ok(Step::Exec { paths, argv, envp })
}

pub(super) fn c_string(text: &str) -> Result<CString> {
    c_os(OsStr::new(text))
}

pub(super) fn c_path(path: &Path) -> Result<CString> {
    c_os(path.as_os_str())
}

pub(super) fn c_os(text: &OsStr) -> Result<CString> {
    CString::new(text.to_os_string().into_vec())
        .map_err(|_| Error::new(format!("{text:?} contains a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_each_directory_and_a_path_is_itself() {
        let found = |program: &str, search: &str| -> Vec<String> {
            let paths = candidates(OsStr::new(program), OsStr::new(search));
            paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(found("sh", "/bin:/usr//:/::x"), ["/bin/sh", "/usr/sh", "/sh", "./sh", "x/sh"]);
        assert_eq!(found("./sh", "/bin"), ["./sh"]);
        assert_eq!(found("", "/bin"), [""; 0]);
        assert_eq!(found("sh", ""), [""; 0]);
    }
}
