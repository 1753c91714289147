//! What a service manager passes to a command through its environment: the notification socket, the
//! sockets for socket activation, directories and credentials.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::config::{Access, Mount, MountKind, Root, Sandbox, variable};
use crate::error::{Error, Result};
use crate::journal::is_there;
use crate::sys::file;

/// The first descriptor of socket activation (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Passes what the environment names on to the command, if it was meant for this process. `state`
/// is the state directory, which no sandbox may write.
///
/// # Errors
/// LISTEN_FDS counts descriptors that are not open.
pub fn hand_down(sandbox: &mut Sandbox, state: &Path) -> Result<()> {
    sockets(sandbox)?;
    watchdog(sandbox);
    if sandbox.namespaces.mount.is_new() && sandbox.root != Root::Untouched {
        files(sandbox, state)?;
    }
    Ok(())
}

fn value<'a>(sandbox: &'a Sandbox, name: &str) -> Option<&'a OsStr> {
    variable(&sandbox.env, name)
}

fn number<T: std::str::FromStr>(sandbox: &Sandbox, name: &str) -> Option<T> {
    value(sandbox, name)?.to_str()?.parse().ok()
}

fn forget(sandbox: &mut Sandbox, names: &[&str]) {
    sandbox.env.retain(|(name, _)| !names.iter().any(|known| name == known));
}

fn is_ours(sandbox: &Sandbox, name: &str) -> bool {
    number(sandbox, name) == Some(std::process::id())
}

fn sockets(sandbox: &mut Sandbox) -> Result<()> {
    if value(sandbox, "LISTEN_PID").is_none() {
        return Ok(());
    }
    if !is_ours(sandbox, "LISTEN_PID") {
        forget(sandbox, &["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"]);
        return Ok(());
    }
    let count = number::<u16>(sandbox, "LISTEN_FDS").unwrap_or(0);
    if let Some(fd) = (FIRST..FIRST + i32::from(count)).find(|fd| !file::is_inherited(*fd)) {
        return Err(Error::new(format!("LISTEN_FDS={count}: descriptor {fd} is not open")).hint(
            "LISTEN_PID names this process, so the sockets were for it: see sd_listen_fds(3)",
        ));
    }
    // The child sets these two itself.
    forget(sandbox, &["LISTEN_PID", "LISTEN_FDS", "LISTEN_PIDFDID"]);
    sandbox.listen_fds = count;
    Ok(())
}

/// Without WATCHDOG_PID, the interval is for any process that reads it (sd_watchdog_enabled(3)).
fn watchdog(sandbox: &mut Sandbox) {
    match value(sandbox, "WATCHDOG_PID").is_none() {
        true => {}
        false if is_ours(sandbox, "WATCHDOG_PID") => forget(sandbox, &["WATCHDOG_PID"]),
        false => forget(sandbox, &["WATCHDOG_PID", "WATCHDOG_USEC"]),
    }
}

/// Paths below /run and the like, of which the sandbox has its own. Others are visible anyway.
fn files(sandbox: &mut Sandbox, state: &Path) -> Result<()> {
    // Not what a flag sets to a path of the sandbox: the same path outside is something else.
    let handed =
        |name| value(sandbox, name).filter(|it| std::env::var_os(name).as_deref() == Some(*it));
    let mut wanted: Vec<(PathBuf, bool, &str)> = Vec::new();
    for name in ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"] {
        wanted.extend(handed(name).map(|path| (path.into(), true, name)));
    }
    let name = "RUNTIME_DIRECTORY";
    let dirs = below_run(handed(name).unwrap_or_default(), state);
    wanted.extend(dirs.into_iter().map(|dir| (dir, false, name)));
    for (path, read_only, name) in wanted {
        let named = sandbox.mounts.iter().any(|mount| mount.target == path);
        // An abstract socket has no path, and belongs to a network namespace.
        if !path.is_absolute() || named || !is_there(&path).map_err(|error| error.within(name))? {
            continue;
        }
        sandbox.mounts.push(Mount {
            target: path.clone(),
            kind: MountKind::Bind { source: path, recursive: false },
            access: Access { read_only, nosuid: true, nodev: true, noexec: true },
            optional: false,
            origin: name.into(),
        });
    }
    Ok(())
}

/// The directories of a colon-separated list that may be made writable. A directory that contains
/// the state directory, or is inside it, would be a way out.
fn below_run(list: &OsStr, state: &Path) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let state = real(state);
    let may = |dir: &PathBuf| {
        let real = real(dir);
        let plain =
            dir.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let below = dir.starts_with("/run") && dir != Path::new("/run");
        plain && below && !state.starts_with(&real) && !real.starts_with(&state)
    };
    let dirs = list.as_bytes().split(|byte| *byte == b':').map(OsStr::from_bytes);
    dirs.map(PathBuf::from).filter(may).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn with(env: &[(&str, &str)]) -> Sandbox {
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Sandbox { env: env.collect(), ..Sandbox::default() }
    }

    fn handed(env: &[(&str, &str)], state: &str) -> Sandbox {
        let mut sandbox = with(env);
        hand_down(&mut sandbox, Path::new(state)).unwrap();
        sandbox
    }

    #[test]
    fn what_is_for_another_process_is_left_out() {
        let env = [
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "a:b:c"),
            ("WATCHDOG_PID", "1"),
            ("WATCHDOG_USEC", "5"),
            ("X", "y"),
        ];
        let sandbox = handed(&env, "/run/garth");
        assert_eq!((sandbox.env, sandbox.listen_fds), (with(&[("X", "y")]).env, 0));
    }

    #[test]
    fn the_watchdog_is_the_commands() {
        let pid = std::process::id().to_string();
        let sandbox = handed(&[("WATCHDOG_PID", &pid), ("WATCHDOG_USEC", "5")], "/run/garth");
        assert_eq!(sandbox.env, with(&[("WATCHDOG_USEC", "5")]).env);
    }

    #[test]
    fn a_state_directory_is_never_handed_down() {
        for (list, state, expected) in [
            ("/run/a", "/run/garth", vec!["/run/a"]),
            ("/run/a:/run/b/c", "/run/garth", vec!["/run/a", "/run/b/c"]),
            ("/run/a", "/run/a/garth", vec![]),
            ("/run/garth/sandboxes/x", "/run/garth", vec![]),
            ("/run/garth", "/run/garth", vec![]),
            ("/run:/run/../etc:/etc::a", "/run/garth", vec![]),
        ] {
            let dirs = below_run(OsStr::new(list), Path::new(state));
            assert_eq!(dirs, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{list}");
        }
    }
}
