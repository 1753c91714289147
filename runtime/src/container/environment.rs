//! What is added to a program's environment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::config::oci::{Config, Process};
use crate::facts::users;

/// If a name has several values, the last counts. Then adds HOME, from the container's passwd(5),
/// unless it is set, and, if sockets are passed on (sd_listen_fds(3)), their number.
pub fn complete(program: &mut Process, sockets: u32, home: impl FnOnce(u32) -> String) {
    keep_last(&mut program.env);
    let home_is_set = |pair: &String| pair.strip_prefix("HOME=").is_some_and(|v| !v.is_empty());
    if !program.env.iter().any(home_is_set) {
        program.env.retain(|pair| pair != "HOME=");
        program.env.push(format!("HOME={}", home(program.user.uid)));
    }
    if sockets > 0 {
        program.env.retain(|p| !p.starts_with("LISTEN_FDS=") && !p.starts_with("LISTEN_PID="));
        program.env.push(format!("LISTEN_FDS={sockets}"));
        program.env.push("LISTEN_PID=1".into());
    }
}

/// Keeps each name once, at its first position, with its last value.
fn keep_last(env: &mut Vec<String>) {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<String> = Vec::with_capacity(env.len());
    for pair in env.drain(..) {
        // Anything that is not an assignment is left alone.
        let name = pair.split_once('=').map(|(name, _)| name.to_owned());
        match name.as_ref().and_then(|name| places.get(name)) {
            Some(place) => kept[*place] = pair,
            None => {
                name.map(|name| places.insert(name, kept.len()));
                kept.push(pair);
            }
        }
    }
    *env = kept;
}

/// The home of a user in a container that does not exist yet: its files are in the root file
/// system, or in what will be bound over them.
pub fn home_in_bundle(config: &Config, uid: u32) -> String {
    let lookup = || {
        let (dir, file) = passwd_of(config)?;
        let dir = File::open(dir).ok()?;
        users::home(uid, dir.as_fd(), &file)
    };
    lookup().unwrap_or_else(|| "/".into())
}

/// The directory to treat as `/`, and the path of passwd in it.
fn passwd_of(config: &Config) -> Option<(PathBuf, PathBuf)> {
    let passwd = Path::new("/etc/passwd");
    for mount in config.mounts.iter().rev() {
        let Ok(rest) = passwd.strip_prefix(Path::new("/").join(&mount.destination)) else {
            continue;
        };
        let bound = mount.kind.as_deref() == Some("bind")
            || mount.options.iter().any(|option| option == "bind" || option == "rbind");
        let source = mount.source.as_deref().filter(|_| bound)?;
        if rest.as_os_str().is_empty() {
            let file = fs::canonicalize(source).ok()?;
            return Some((file.parent()?.to_owned(), file.file_name()?.into()));
        }
        return Some((source.into(), rest.into()));
    }
    Some((config.root.as_ref()?.path.clone().into(), "etc/passwd".into()))
}

/// The home of a user in a running container.
pub fn home_in_container(pid: i32, uid: u32) -> String {
    let root = File::open(format!("/proc/{pid}/root"));
    let home = root.ok().and_then(|root| users::home(uid, root.as_fd(), "etc/passwd".as_ref()));
    home.unwrap_or_else(|| "/".into())
}

/// How many sockets the first start of this program was given.
static OF_FIRST_START: OnceLock<u32> = OnceLock::new();

/// In a second start: LISTEN_PID names the first, whose order says how many sockets there are.
pub fn take_over(sockets: u32) {
    let _ = OF_FIRST_START.set(sockets);
}

/// sd_listen_fds(3): how many sockets this process was given; the program gets them. The variables
/// of a parent service that did not unset its own are not meant for us: those descriptor numbers
/// are something else here.
pub fn listen_fds() -> u32 {
    if let Some(sockets) = OF_FIRST_START.get() {
        return *sockets;
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// How many descriptors, from 3 on, a program gets: these, plus the sockets of LISTEN_FDS.
pub fn passed(preserve: u32) -> u32 {
    preserve.saturating_add(listen_fds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::oci::{Mount, Root};

    #[test]
    fn home_is_looked_up_only_where_it_is_not_given() {
        let with = |env: &[&str]| {
            let env = env.iter().map(|pair| (*pair).to_owned()).collect();
            let mut program = Process { env, ..Process::default() };
            complete(&mut program, 0, |uid| format!("/home/{uid}"));
            program.env
        };
        assert_eq!(with(&["A=b"]), ["A=b", "HOME=/home/0"]);
        assert_eq!(with(&["HOME=/x", "A=b"]), ["HOME=/x", "A=b"]);
        assert_eq!(with(&["HOME="]), ["HOME=/home/0"]);
        assert_eq!(with(&["HOMER=x"]), ["HOMER=x", "HOME=/home/0"]);
        assert_eq!(with(&["HOME=/x", "HOME="]), ["HOME=/home/0"]);
        assert_eq!(with(&["HOME=", "A=1", "HOME=/x"]), ["HOME=/x", "A=1"]);
    }

    #[test]
    fn of_a_name_that_is_given_twice_the_last_value_counts() {
        let env = ["A=1", "HOME=/", "B=2", "A=3", "odd", "odd", "A="].map(String::from).to_vec();
        let mut program = Process { env, ..Process::default() };
        complete(&mut program, 0, |_| String::new());
        assert_eq!(program.env, ["A=", "HOME=/", "B=2", "odd", "odd"]);
    }

    #[test]
    fn sockets_are_counted_once() {
        let env = vec!["HOME=/".into(), "LISTEN_FDS=7".into()];
        let mut program = Process { env, ..Process::default() };
        complete(&mut program, 2, |_| String::new());
        assert_eq!(program.env, ["HOME=/", "LISTEN_FDS=2", "LISTEN_PID=1"]);
    }

    #[test]
    fn the_last_mount_over_passwd_is_the_one_that_counts() {
        let mount = |destination: &str, options: &[&str]| Mount {
            destination: destination.into(),
            source: Some("/source".into()),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Mount::default()
        };
        let root = Some(Root { path: "/root".into(), ..Root::default() });
        let mut config = Config { root, ..Config::default() };
        let is = |config: &Config, dir: &str, file: &str| {
            assert_eq!(passwd_of(config), Some((dir.into(), file.into())));
        };
        config.mounts = vec![mount("/etc/hosts", &["bind"])];
        is(&config, "/root", "etc/passwd");
        config.mounts.push(mount("/etc", &["rbind"]));
        is(&config, "/source", "passwd");
        config.mounts.push(mount("etc/", &["nosuid"]));
        assert_eq!(passwd_of(&config), None, "a fresh file system has no file");
    }
}
