//! What of the host's files a unit may read and write.

use std::path::Path;

use super::program::UnitOwner;
use crate::config::mount;
use crate::error::Result;
use crate::service::systemd::command::commands;
use crate::service::systemd::reader::{MadeAtBoot, PathKind, UnitReader};
use crate::service::systemd::values::boolean;

/// Where a package keeps what its daemon writes.
const DATA: [&str; 4] = ["/var/lib", "/var/log", "/var/cache", "/var/spool"];

/// All directives about files.
pub fn files(r: &mut UnitReader<'_>, owner: &UnitOwner, command: &[String]) -> Result<()> {
    let system = r.last("ProtectSystem");
    let strict = system.as_deref() == Some("strict");
    let asked = system.filter(|value| boolean(value) != Some(false));
    r.draft.implied.extend(asked.map(|value| format!("ProtectSystem={value}")));
    root(r);
    directories(r)?;
    writable(r)?;
    prepared(r, owner)?;
    let names = names(r, owner, command);
    made_at_boot(r, owner, &names)?;
    pid_file(r);
    if !strict {
        guesses(r, owner, &names)?;
        r.draft.stricter.push(
            "no ProtectSystem=strict: it could write everywhere, and now only where rw says; what \
             else does it write?"
                .into(),
        );
    }
    hidden(r)?;
    binds(r)?;
    temporary(r);
    credentials(r);
    if r.flag("PrivateTmp") == Some(true) {
        r.draft.implied.push("PrivateTmp".into());
    } else {
        let text = "no PrivateTmp: /tmp is private (for a shared directory: volume)";
        r.draft.stricter.push(text.into());
    }
    Ok(())
}

/// A path of a directive: without its prefixes, and whether it may be missing.
fn path(r: &mut UnitReader<'_>, key: &str, word: &str) -> Option<(String, bool)> {
    let text = word.trim_start_matches(['-', '+', '!']);
    if !text.starts_with('/') {
        r.draft.note(format!("{key}={word}"), "not an absolute path");
        return None;
    }
    let clean = mount::clean(Path::new(text));
    let text = clean.to_str()?;
    let text = match text.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => text.to_owned(),
    };
    Some((text, word.starts_with('-') || word.starts_with("+-")))
}

fn kind(r: &UnitReader<'_>, path: &str) -> Result<PathKind> {
    r.machine.kind(Path::new(path))
}

fn is_below(path: &str, above: &str) -> bool {
    Path::new(path).starts_with(above)
}

/// Whether it is writable already.
fn covered(r: &UnitReader<'_>, path: &str) -> bool {
    r.draft.items("rw").any(|above| is_below(path, above))
        || r.draft.items("run-dir").any(|name| is_below(path, &format!("/run/{name}")))
        || r.draft.items("tmpfs").any(|it| is_below(path, it.split(':').next().unwrap_or(it)))
        || ["/tmp", "/var/tmp"].iter().any(|private| is_below(path, private))
}

fn root(r: &mut UnitReader<'_>) {
    if let Some(dir) = r.last("RootDirectory") {
        r.draft.set("rootfs", dir, "");
    }
}

/// RuntimeDirectory= and its like.
fn directories(r: &mut UnitReader<'_>) -> Result<()> {
    for word in r.words("RuntimeDirectory") {
        let name = word.split(':').next().unwrap_or_default();
        r.draft.push("run-dir", name, "private: for clients outside, rw a directory of the host");
    }
    for (key, above) in [
        ("StateDirectory", "/var/lib"),
        ("CacheDirectory", "/var/cache"),
        ("LogsDirectory", "/var/log"),
    ] {
        for word in r.words(key) {
            let name = word.split(':').next().unwrap_or_default();
            let path = format!("{above}/{name}");
            if kind(r, &path)? == PathKind::Absent {
                r.draft.urge(
                    format!("{key}={name}"),
                    format!("{path} does not exist, and Garth does not make it: install -d -o USER {path}"),
                );
            }
            r.draft.push("rw", path, key);
        }
    }
    r.list("ConfigurationDirectory");
    Ok(())
}

/// ReadWritePaths=, ReadOnlyPaths=.
fn writable(r: &mut UnitReader<'_>) -> Result<()> {
    for key in ["ReadWritePaths", "ReadWriteDirectories"] {
        for word in r.words(key) {
            let Some((path, optional)) = path(r, key, &word) else { continue };
            let directive = format!("{key}={word}");
            if covered(r, &path) {
                continue;
            }
            if path == "/" {
                r.draft
                    .urge(directive, "not everything can be made writable: name the directories");
            } else if path == "/run" {
                r.draft
                    .note(directive, "/run is private and writable for root; run-dir for others");
            } else if ["/proc", "/sys", "/dev"].iter().any(|system| is_below(&path, system)) {
                r.draft.note(directive, "what is below /proc, /sys and /dev stays as it is");
            } else if kind(r, &path)? != PathKind::Absent {
                r.draft.push("rw", path, "");
            } else if optional {
                r.draft.note(directive, "it does not exist now");
            } else {
                r.draft.urge(directive, "it does not exist");
                r.draft.push("rw", path, "");
            }
        }
    }
    let mut implied = false;
    for key in ["ReadOnlyPaths", "ReadOnlyDirectories"] {
        for word in r.words(key) {
            let Some((path, _)) = path(r, key, &word) else { continue };
            if covered(r, &path) && kind(r, &path)? != PathKind::Absent {
                let path = escaped(&path);
                r.draft.push("volume", format!("{path}:{path}:ro"), "");
            } else {
                implied = true;
            }
        }
    }
    if implied {
        r.draft.implied.push("ReadOnlyPaths".into());
    }
    Ok(())
}

/// Directories that ExecStartPre= makes and gives away: as they are on the host, or, below /run, in
/// the sandbox.
fn prepared(r: &mut UnitReader<'_>, owner: &UnitOwner) -> Result<()> {
    let (mut made, mut given, mut others) = (Vec::new(), Vec::new(), 0);
    for value in r.list("ExecStartPre") {
        let Ok(found) = commands(&value, r.name) else {
            others += 1;
            continue;
        };
        for command in found {
            let program = command.words.first().map(|word| Path::new(word).file_name());
            let program = program.flatten().and_then(|name| name.to_str()).unwrap_or_default();
            let paths = command.words.iter().skip(1).filter(|word| word.starts_with('/'));
            let paths: Vec<String> = paths.cloned().collect();
            match program {
                "mkdir" => made.extend(paths),
                "install" if command.words.iter().any(|word| word == "-d") => {
                    if command.words.iter().any(|word| word == "-o") {
                        given.extend(paths.clone());
                    }
                    made.extend(paths);
                }
                "chown" => given.extend(paths),
                "chmod" => {}
                _ => others += 1,
            }
        }
    }
    for word in made.iter().chain(&given) {
        let Some((path, _)) = path(r, "ExecStartPre", word) else { continue };
        if covered(r, &path) {
            continue;
        }
        match path.strip_prefix("/run/") {
            Some(name) => {
                let others = owner.is_root && given.contains(word);
                private(r, name, others, "ExecStartPre= makes it");
            }
            None if kind(r, &path)? != PathKind::Absent => {
                r.draft.push("rw", path, "ExecStartPre= makes it");
            }
            None => r.draft.urge(
                "ExecStartPre",
                format!("it makes {path}, which does not exist now: make it, and add it as rw"),
            ),
        }
    }
    if others > 0 {
        r.draft.note("ExecStartPre", "run it before garth up, or write a script that does both");
    }
    Ok(())
}

/// PIDFile= says in which directory the daemon writes.
fn pid_file(r: &mut UnitReader<'_>) {
    let Some(text) = r.last("PIDFile") else { return };
    let absolute = if text.starts_with('/') { text } else { format!("/run/{text}") };
    let Some((file, _)) = path(r, "PIDFile", &absolute) else { return };
    let dir = Path::new(&file).parent().and_then(Path::to_str).unwrap_or("/");
    if let Some(name) = dir.strip_prefix("/run/")
        && !covered(r, dir)
    {
        r.draft.push("run-dir", name, "PIDFile= is in it");
    }
}

/// Directories below /run of the service's name or user: those that tmpfiles.d(5) makes on the
/// host, where its clients look, or private ones where there is no systemd.
fn made_at_boot(r: &mut UnitReader<'_>, owner: &UnitOwner, names: &[String]) -> Result<()> {
    let user = owner.entry.as_ref().filter(|_| !owner.is_root).map(|user| user.name.clone());
    for MadeAtBoot { path: made, owner: of, file } in r.machine.made_at_boot()? {
        let Some((path, _)) = path(r, "tmpfiles.d", &made) else { continue };
        let Some(name) = path.strip_prefix("/run/") else { continue };
        let first = name.split('/').next().unwrap_or(name);
        let is_its =
            names.iter().any(|name| name == first || *name == file) || user.as_ref() == Some(&of);
        if !is_its || covered(r, &path) {
            continue;
        }
        if kind(r, &path)? == PathKind::Directory {
            r.draft.push("rw", path, "tmpfiles.d makes it");
        } else {
            let others = owner.is_root && of != "root";
            private(r, name, others, "as tmpfiles.d would make it");
        }
    }
    Ok(())
}

/// A directory below the private /run; `others` if the command changes to another user first.
fn private(r: &mut UnitReader<'_>, name: &str, others: bool, why: &str) {
    match others {
        true => {
            let why = format!("{why}, for another user");
            r.draft.push("tmpfs", format!("/run/{}:mode=1777", escaped(name)), why);
        }
        false => r.draft.push("run-dir", name, why),
    }
}

/// The names by which a package may call its directories.
fn names(r: &UnitReader<'_>, owner: &UnitOwner, command: &[String]) -> Vec<String> {
    const SHARED: [&str; 6] = ["root", "nobody", "daemon", "www-data", "sh", "private"];
    let program = command.first().and_then(|word| Path::new(word).file_name()?.to_str());
    let user = owner.entry.as_ref().filter(|_| !owner.is_root);
    let mut names = vec![r.name.prefix().to_owned()];
    names.extend(r.name.prefix().strip_suffix("-server").map(str::to_owned));
    names.extend(program.map(str::to_owned));
    names.extend(user.map(|user| user.name.clone()));
    names.retain(|name| !SHARED.contains(&name.as_str()) && !name.starts_with('.'));
    names.dedup();
    names
}

/// A unit that may write everywhere does not say what it writes: directories of these names.
fn guesses(r: &mut UnitReader<'_>, owner: &UnitOwner, names: &[String]) -> Result<()> {
    for name in names {
        for above in DATA {
            let dir = format!("{above}/{name}");
            if !covered(r, &dir) && kind(r, &dir)? == PathKind::Directory {
                r.draft.push("rw", dir, "a guess by its name");
            }
        }
        let log = format!("/var/log/{name}.log");
        if kind(r, &log)? == PathKind::Other {
            r.draft.push("rw", log, "a guess by its name");
        }
    }
    let home = owner.entry.as_ref().filter(|_| !owner.is_root).map(|user| user.home.clone());
    let home = home.filter(|home| {
        DATA.iter().any(|above| is_below(home, above) && home != above) && !covered(r, home)
    });
    if let Some(home) = home
        && kind(r, &home)? == PathKind::Directory
    {
        r.draft.push("rw", home, "a guess: its user's home");
    }
    Ok(())
}

/// ProtectHome=, InaccessiblePaths=.
fn hidden(r: &mut UnitReader<'_>) -> Result<()> {
    let home = r.last("ProtectHome").unwrap_or_default();
    match home.as_str() {
        "read-only" => r.draft.implied.push("ProtectHome=read-only".into()),
        "yes" | "true" | "1" | "on" | "tmpfs" => {
            for dir in ["/home", "/root"] {
                r.draft.push("tmpfs", format!("{dir}:ro"), "");
            }
        }
        _ => {}
    }
    for key in ["InaccessiblePaths", "InaccessibleDirectories"] {
        for word in r.words(key) {
            let Some((path, optional)) = path(r, key, &word) else { continue };
            let text = escaped(&path);
            match kind(r, &path)? {
                _ if path == "/" => r.draft.note(format!("{key}={word}"), "nothing would be left"),
                PathKind::Directory => r.draft.push("tmpfs", format!("{text}:ro"), ""),
                PathKind::Other => r.draft.push("volume", format!("/dev/null:{text}:ro"), ""),
                PathKind::Absent if optional => {}
                PathKind::Absent => r.draft.note(format!("{key}={word}"), "it does not exist"),
            }
        }
    }
    Ok(())
}

/// BindPaths=, BindReadOnlyPaths=.
fn binds(r: &mut UnitReader<'_>) -> Result<()> {
    for (key, mode) in [("BindPaths", ""), ("BindReadOnlyPaths", ":ro")] {
        for word in r.words(key) {
            let mut parts = word.splitn(3, ':');
            let source = parts.next().unwrap_or_default();
            let target = parts.next().filter(|target| !target.is_empty());
            let flat = parts.next() == Some("norbind");
            let Some((source, optional)) = path(r, key, source) else { continue };
            let target = match target {
                None => source.clone(),
                Some(target) => match path(r, key, target) {
                    Some((target, _)) => target,
                    None => continue,
                },
            };
            if kind(r, &source)? == PathKind::Absent {
                let why = "it does not exist now; later, add it as volume";
                match optional {
                    true => r.draft.note(format!("{key}={word}"), why),
                    false => r.draft.urge(format!("{key}={word}"), why),
                }
                continue;
            }
            let (source, target) = (escaped(&source), escaped(&target));
            let mode = match (mode, flat) {
                (mode, false) => mode.to_owned(),
                ("", true) => ":norec".into(),
                (mode, true) => format!("{mode},norec"),
            };
            r.draft.push("volume", format!("{source}:{target}{mode}"), "");
        }
    }
    Ok(())
}

/// TemporaryFileSystem=.
fn temporary(r: &mut UnitReader<'_>) {
    for word in r.words("TemporaryFileSystem") {
        let (target, options) = word.split_once(':').unwrap_or((&word, ""));
        let Some((target, _)) = path(r, "TemporaryFileSystem", target) else { continue };
        let mut text = escaped(&target);
        let known = |option: &&str| {
            ["ro", "rw", "exec", "noexec", "dev", "nodev", "suid", "nosuid"].contains(option)
                || option.starts_with("mode=")
                || option.strip_prefix("size=").is_some_and(|size| !size.ends_with('%'))
        };
        let options = options.split(',').filter(|option| !option.is_empty());
        let (kept, lost): (Vec<&str>, Vec<&str>) = options.partition(known);
        if !kept.is_empty() {
            text = format!("{text}:{}", kept.join(","));
        }
        if mount::Mount::tmpfs(&text).is_err() || !lost.is_empty() {
            r.draft.note(format!("TemporaryFileSystem={word}"), "its options, in part");
        }
        if mount::Mount::tmpfs(&text).is_ok() {
            r.draft.push("tmpfs", text, "");
        }
    }
}

/// LoadCredential=: a copy for the unit's user, where $CREDENTIALS_DIRECTORY is.
fn credentials(r: &mut UnitReader<'_>) {
    for value in r.list("LoadCredential") {
        let Some(text) = r.expanded("LoadCredential", &value) else { continue };
        match text.split_once(':') {
            Some((name, file)) if file.starts_with('/') && !name.contains('/') => {
                r.draft.push("secret", format!("{file}:{name}"), "LoadCredential=");
            }
            _ => r.draft.urge(
                format!("LoadCredential={value}"),
                "not a file by its absolute path: secret = [\"FILE:NAME\"]",
            ),
        }
    }
}

/// A path in a mount, where a colon separates.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}
