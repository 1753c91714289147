//! What a unit runs, as which user, with which environment.

use std::path::Path;

use crate::config::secret::SECRETS;
use crate::error::{Error, Result};
use crate::facts::users::UserEntry;
use crate::service::settings::environment::is_variable;
use crate::service::systemd::command::{CommandLine, commands};
use crate::service::systemd::reader::UnitReader;
use crate::service::systemd::values::environment_file;

/// The user of the unit.
pub struct UnitOwner {
    /// Whether it is root.
    pub is_root: bool,
    /// Its entry, if it exists here.
    pub entry: Option<UserEntry>,
}

/// User=, Group=, DynamicUser=.
pub fn owner(r: &mut UnitReader<'_>) -> UnitOwner {
    let dynamic = r.flag("DynamicUser") == Some(true);
    let (user, group) = (r.last("User"), r.last("Group"));
    let entry = user.as_deref().and_then(|user| r.machine.user(user));
    let mut spec = match (&user, &group) {
        (None, None) => None,
        (Some(user), None) => Some(user.clone()),
        (user, Some(group)) => {
            let user = user.as_deref().unwrap_or("root");
            let both = format!("{user}:{group}");
            // With its own group, a user keeps its supplementary ones.
            let gid = r.machine.user(&both).map(|entry| entry.gid);
            let own = entry.as_ref().map(|entry| entry.gid);
            Some(if gid.is_some() && gid == own { user.to_owned() } else { both })
        }
    };
    let mut why = "";
    if dynamic && entry.is_none() {
        r.draft.urge(
            "DynamicUser",
            "Garth makes no users: nobody is shared with others; make a user for this service",
        );
        (spec, why) = (Some("nobody".into()), "instead of DynamicUser=");
    } else if let (Some(user), None) = (&user, &entry)
        && user.parse::<u32>().is_err()
    {
        r.draft.urge(format!("User={user}"), "there is no such user here");
    }
    let is_root = match (&entry, &spec) {
        (Some(entry), _) => entry.uid == 0,
        (None, Some(spec)) => ["root", "0"].contains(&spec.split(':').next().unwrap_or_default()),
        (None, None) => true,
    };
    if let Some(spec) = spec {
        r.draft.set("user", spec, why);
    }
    UnitOwner { is_root, entry }
}

/// ExecStart=, Type=, WorkingDirectory=, and the environment; returns the words of the command.
pub fn command(r: &mut UnitReader<'_>, owner: &UnitOwner) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for value in r.list("ExecStart") {
        all.extend(commands(&value, r.name).map_err(|error| error.within("ExecStart"))?);
    }
    let kind = r.last("Type").unwrap_or_else(|| "simple".into());
    let [command] = all.as_slice() else {
        return Err(match all.len() {
            0 => Error::new(format!("{}: no ExecStart=", r.name.file()))
                .hint("a unit without a command only groups others"),
            count => Error::new(format!("{}: {count} commands in ExecStart=", r.name.file()))
                .hint("a service has one: write a script that runs them in turn"),
        });
    };
    let variables = environment(r, owner)?;
    let value = |name: &str| {
        let found = variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let (mut words, unset) = command.filled(&value).map_err(|error| error.within("ExecStart"))?;
    let mut why = Vec::new();
    if words != command.words && !command.words.iter().skip(1).all(|word| !word.contains('$')) {
        why.push("variables are filled in with their values of today".to_owned());
    }
    if !unset.is_empty() {
        why.push(format!("not set and left out: {}", unset.join(", ")));
    }
    prefixes(r, command);
    match kind.as_str() {
        "simple" | "exec" | "idle" => {}
        "notify" | "notify-reload" => r.draft.note(
            format!("Type={kind}"),
            "nothing waits for READY=1; a health check says when it works, e.g. health.tcp = 80",
        ),
        "dbus" => bus(r),
        "forking" => match foreground(r, &mut words) {
            Some(what) => {
                why.push(format!("Type=forking: {what}, as a sandbox ends with its command"))
            }
            None => r.draft.urge(
                "Type=forking",
                "the command goes to the background, and a sandbox ends with its command: add the \
                 daemon's own flag for the foreground",
            ),
        },
        "oneshot" => r.draft.note("Type=oneshot", "it has ended when its command has"),
        other => {
            r.draft.note(format!("Type={other}"), "not known; the command is started as it is")
        }
    }
    r.draft.set_list("command", &words, why.join("; "));
    directory(r, owner);
    Ok(words)
}

fn prefixes(r: &mut UnitReader<'_>, command: &CommandLine) {
    if command.argv0.is_some() {
        r.draft.note("ExecStart=@", "the program is called by its own path");
    }
    if command.prefixes.contains('-') {
        r.draft.note("ExecStart=-", "a failure of the command is one");
    }
    if command.prefixes.contains(['+', '!']) {
        r.draft.note(
            format!("ExecStart={}", command.prefixes),
            "the command has the user and the privileges of the sandbox",
        );
    }
}

/// Daemons whose units start them in the background, and that can stay in the foreground.
fn foreground(r: &mut UnitReader<'_>, words: &mut Vec<String>) -> Option<&'static str> {
    let program = Path::new(words.first()?).file_name()?.to_str()?.to_owned();
    match program.as_str() {
        "nginx" => {
            let old = words.iter_mut().find(|word| word.contains("daemon on;"));
            match old {
                Some(word) => *word = word.replace("daemon on;", "daemon off;"),
                None => words.extend(["-g".into(), "daemon off;".into()]),
            }
            Some("daemon off")
        }
        "pg_ctlcluster" if words.iter().any(|word| word == "start") => {
            words.insert(1, "--foreground".into());
            Some("--foreground")
        }
        // The script would wait for the daemon, and not pass on signals.
        "apachectl" | "apache2ctl" if words.get(1).is_some_and(|word| word == "start") => {
            let script = ". /etc/apache2/envvars && exec /usr/sbin/apache2 -D FOREGROUND";
            *words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            r.draft.push("run-dir", "apache2", "the script makes it");
            Some("-D FOREGROUND")
        }
        "dnsmasq" => {
            words.push("-k".into());
            Some("-k")
        }
        _ => None,
    }
}

fn bus(r: &mut UnitReader<'_>) {
    const SOCKET: &str = "/run/dbus/system_bus_socket";
    r.draft.push("volume", format!("{SOCKET}:{SOCKET}"), "Type=dbus: it has a name on the bus");
}

fn directory(r: &mut UnitReader<'_>, owner: &UnitOwner) {
    match r.last("WorkingDirectory") {
        None => r.draft.set("workdir", "/", "where a unit starts"),
        Some(text) => {
            let path = text.trim_start_matches('-');
            match (path, &owner.entry) {
                ("~", Some(entry)) => r.draft.set("workdir", entry.home.clone(), "its user's home"),
                ("~", None) => r.draft.urge("WorkingDirectory=~", "the user's home is not known"),
                _ => r.draft.set("workdir", path, ""),
            }
        }
    }
}

/// Environment=, EnvironmentFile=, PassEnvironment=, UnsetEnvironment=; returns all variables that
/// the command line may name.
fn environment(r: &mut UnitReader<'_>, owner: &UnitOwner) -> Result<Vec<(String, String)>> {
    r.draft.turn_on("clear-env", "a unit does not get the caller's environment");
    let mut own: Vec<(String, String)> = Vec::new();
    for word in r.words("Environment") {
        match word.split_once('=') {
            Some((name, value)) if is_variable(name) => own.push((name.into(), value.into())),
            _ => r.draft.note(format!("Environment={word}"), "not NAME=VALUE"),
        }
    }
    let (mut known, mut files) = (of_systemd(r, owner), Vec::new());
    for text in r.list("EnvironmentFile") {
        let Some(path) = r.expanded("EnvironmentFile", &text) else { continue };
        file(r, &path, &mut files)?;
    }
    let gone = r.words("UnsetEnvironment");
    let kept = |name: &str| !gone.iter().any(|gone| gone == name);
    for (name, value) in &own {
        let in_file = files.iter().any(|(other, _)| other == name);
        if kept(name) && !in_file {
            r.draft.push("env", format!("{name}={value}"), "");
        }
    }
    for name in r.words("PassEnvironment") {
        r.draft.push("env", name, "PassEnvironment=: if it is set when garth is called");
    }
    known.extend(own);
    known.extend(files);
    known.retain(|(name, _)| kept(name));
    Ok(known)
}

/// What systemd sets itself.
fn of_systemd(r: &mut UnitReader<'_>, owner: &UnitOwner) -> Vec<(String, String)> {
    let mut known = Vec::new();
    if let Some(entry) = &owner.entry {
        for (name, value) in [
            ("HOME", &entry.home),
            ("USER", &entry.name),
            ("LOGNAME", &entry.name),
            ("SHELL", &entry.shell),
        ] {
            known.push((name.to_owned(), value.clone()));
        }
    }
    for (key, variable, above) in [
        ("RuntimeDirectory", "RUNTIME_DIRECTORY", "/run"),
        ("StateDirectory", "STATE_DIRECTORY", "/var/lib"),
        ("CacheDirectory", "CACHE_DIRECTORY", "/var/cache"),
        ("LogsDirectory", "LOGS_DIRECTORY", "/var/log"),
        ("ConfigurationDirectory", "CONFIGURATION_DIRECTORY", "/etc"),
    ] {
        let names = r.words(key);
        if names.is_empty() {
            continue;
        }
        let name = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
        let list: Vec<String> =
            names.iter().map(|text| format!("{above}/{}", name(text))).collect();
        let list = list.join(":");
        r.draft.push("env", format!("{variable}={list}"), "");
        known.push((variable.to_owned(), list));
    }
    if !r.list("LoadCredential").is_empty() {
        r.draft.push("env", format!("CREDENTIALS_DIRECTORY={SECRETS}"), "where its secrets are");
        known.push(("CREDENTIALS_DIRECTORY".into(), SECRETS.into()));
    }
    known
}

/// A file of variables: named, if Garth reads the same from it as systemd; otherwise its values
/// are copied, unless they may be secret.
fn file(r: &mut UnitReader<'_>, text: &str, all: &mut Vec<(String, String)>) -> Result<()> {
    let path = text.strip_prefix('-').unwrap_or(text);
    let directive = format!("EnvironmentFile={text}");
    if !path.starts_with('/') || path.contains(['*', '?', '[']) {
        r.draft.note(directive, "not the path of one file");
        return Ok(());
    }
    let Some((content, readable)) = r.machine.read(Path::new(path))? else {
        match path == text {
            true => {
                r.draft.push("env-file", path, "");
                r.draft.urge(directive, "it does not exist");
            }
            false => r.draft.note(directive, "it does not exist now; later, add it as env-file"),
        }
        return Ok(());
    };
    let variables = environment_file(&content);
    if variables.is_empty() {
        r.draft.note(directive, "it sets nothing now; later, add it as env-file");
    } else if plain(&content).as_ref() == Some(&variables) {
        r.draft.push("env-file", path, "");
    } else if readable {
        let why = format!("from {path}, whose quotes env-file would keep");
        for (name, value) in &variables {
            r.draft.push("env", format!("{name}={value}"), why.as_str());
        }
    } else {
        r.draft.urge(
            directive,
            "its values are in quotes, which env-file would keep, and not for all eyes, so they \
             are not copied: write it without quotes and add it as env-file",
        );
    }
    all.extend(variables);
    Ok(())
}

/// The same file as read for `env-file`.
fn plain(text: &str) -> Option<Vec<(String, String)>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').map(|(name, value)| (name.into(), value.into())))
        .collect()
}
