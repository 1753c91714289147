//! From a service of a service file to a unit that runs it by `garth wrap`.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::draft::{plain, wrapped};
use super::flags::{flags, quoted};
use crate::config::Span;
use crate::error::Result;
use crate::service::{LogPlace, Restart, Rules, Service, Settings, StopSignal};

/// A service as a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What the file of the unit should be called.
    pub unit: String,
    /// The unit.
    pub text: String,
    /// What it does not say, and why.
    pub notes: Vec<String>,
}

/// When systemd takes it for started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// When `garth wrap` has been executed.
    Executed,
    /// When the command says so (sd_notify(3)).
    Notifies,
}

/// Exports service `name` of the file `source`; `garth` is the program that the unit starts.
///
/// # Errors
/// A setting that no flag can express.
pub fn export(
    (name, service): (&str, &Service),
    (garth, source): (&Path, &Path),
    starts: Starts,
) -> Result<Export> {
    let Service { settings, rules } = service;
    let mut settings = Settings { name: Some(name.to_owned()), ..settings.clone() };
    let mut notes = lost(name, service);
    if starts == Starts::Notifies && settings.clear_env {
        settings.clear_env = false;
        notes.push("clear-env: it would hide NOTIFY_SOCKET; systemd's environment is small".into());
    }
    let mut unit = vec![format!("Description={name}, in a sandbox of Garth")];
    let mut lines = vec![match starts {
        Starts::Executed => "Type=exec".to_owned(),
        Starts::Notifies => "Type=notify".to_owned(),
    }];
    if starts == Starts::Notifies {
        lines.push("# Not Garth notifies, but its command.".into());
        lines.push("NotifyAccess=all".into());
    }
    lines.push(exec_start(garth, &flags(&settings)?));
    let dir = source.parent().filter(|dir| dir.is_absolute()).unwrap_or(Path::new("/"));
    lines.push("# Where relative paths begin.".into());
    lines.push(format!("WorkingDirectory={}", dir.display().to_string().replace('%', "%%")));
    if is_limited(&settings) || starts == Starts::Notifies {
        lines.push("# Its cgroup is below the unit's.".into());
        lines.push("Delegate=yes".into());
    }
    stop(rules, &mut lines);
    restart(rules.restart, &mut unit, &mut lines);
    order(rules, &mut unit);
    let file = format!("garth-{name}.service");
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Service {name} of {}, by garth export systemd.",
        plain(&source.display().to_string())
    );
    let _ = writeln!(text, "# Save it as /etc/systemd/system/{file}, then:");
    let _ = writeln!(text, "# systemctl daemon-reload; systemctl enable --now garth-{name}");
    if !notes.is_empty() {
        text.push_str("#\n# Not in this unit:\n");
        notes.iter().for_each(|note| wrapped(&mut text, "# - ", "#   ", note));
    }
    let _ = writeln!(text, "\n[Unit]\n{}", unit.join("\n"));
    let _ = writeln!(text, "\n[Service]\n{}", lines.join("\n"));
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    Ok(Export { unit: file, text, notes })
}

fn exec_start(garth: &Path, words: &[OsString]) -> String {
    let mut text = format!("ExecStart={} wrap", quoted(garth.as_os_str()));
    let mut width = text.len();
    for word in words.iter().map(|word| quoted(word)) {
        if width + word.len() > 96 {
            text.push_str(" \\\n    ");
            width = 4;
        } else {
            text.push(' ');
        }
        width += word.len() + 1;
        text.push_str(&word);
    }
    text
}

fn is_limited(settings: &Settings) -> bool {
    let texts = [
        &settings.memory,
        &settings.memory_swap,
        &settings.cpus,
        &settings.cpuset_cpus,
        &settings.pids_limit,
    ];
    texts.iter().any(|text| text.is_some()) || !settings.io.is_empty()
}

fn stop(rules: &Rules, lines: &mut Vec<String>) {
    lines.push("# Garth passes the signal on; what is left is killed.".into());
    lines.push("KillMode=mixed".into());
    let StopSignal(signal) = rules.stop_signal;
    if signal != libc::SIGTERM {
        lines.push(format!("KillSignal={}", with_prefix(rules.stop_signal)));
        // systemd takes an end by these for success anyway.
        if ![libc::SIGHUP, libc::SIGINT, libc::SIGPIPE].contains(&signal) {
            lines.push(format!("SuccessExitStatus={}", with_prefix(rules.stop_signal)));
        }
    }
    // 0 would be no limit.
    let Span(timeout) = rules.stop_timeout;
    let timeout = timeout.max(Duration::from_millis(1)).as_micros();
    let timeout = Duration::from_micros(u64::try_from(timeout).unwrap_or(u64::MAX));
    lines.push(format!("TimeoutStopSec={}", Span(timeout)));
}

fn with_prefix(signal: StopSignal) -> String {
    let name = signal.to_string();
    if name.starts_with("SIG") { name } else { format!("SIG{name}") }
}

fn restart(policy: Restart, unit: &mut Vec<String>, lines: &mut Vec<String>) {
    let word = match policy {
        Restart::No => return,
        Restart::OnFailure(_) => "on-failure",
        // systemctl stop is never followed by a start.
        Restart::Always | Restart::UnlessStopped => "always",
    };
    lines.push(format!("Restart={word}"));
    lines.push("# Garth's own pause doubles from 100 ms to a minute.".into());
    lines.push("RestartSec=1s".into());
    match policy {
        Restart::OnFailure(Some(times)) => {
            // The first start counts; whoever runs for ten seconds has begun anew.
            let starts = u64::from(times) + 1;
            unit.push(format!("StartLimitBurst={starts}"));
            unit.push(format!("StartLimitIntervalSec={}s", starts * 11));
        }
        _ => unit.push("StartLimitIntervalSec=0".into()),
    }
}

fn order(rules: &Rules, unit: &mut Vec<String>) {
    let others: Vec<String> =
        rules.after.iter().map(|other| format!("garth-{other}.service")).collect();
    let mut after = vec!["network-online.target".to_owned()];
    after.extend(others.iter().cloned());
    unit.push("Wants=network-online.target".into());
    unit.push(format!("After={}", after.join(" ")));
    if !others.is_empty() {
        unit.push(format!("Requires={}", others.join(" ")));
    }
}

/// What a unit cannot say.
fn lost(name: &str, service: &Service) -> Vec<String> {
    let Service { settings, rules } = service;
    let usual = Rules::default();
    let mut notes = Vec::new();
    if rules.health.is_some() {
        notes.push(format!(
            "health: systemd checks nothing; garth exec {name} -- COMMAND can, from a timer"
        ));
    }
    for other in &rules.after {
        notes.push(format!(
            "after {other}: export it too; systemd waits until it runs, not until it is healthy"
        ));
    }
    let named: Vec<&str> = rules.after.iter().chain(&rules.reaches).map(String::as_str).collect();
    if !named.is_empty() {
        notes.push(format!("{}: not reached by name", named.join(", ")));
    }
    if (rules.log_size, rules.log_count) != (usual.log_size, usual.log_count) {
        notes.push("log-size, log-count: the output goes to the journal".into());
    }
    if rules.log == LogPlace::Files {
        notes.push("log: the output goes to the journal".into());
    }
    let passed = settings.env.iter().filter(|one| !one.to_string_lossy().contains('='));
    let passed: Vec<_> = passed.map(|one| one.to_string_lossy()).collect();
    if !passed.is_empty() {
        let passed = passed.join(", ");
        notes.push(format!("env {passed}: passed on if the unit sets it, by Environment="));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::command::commands;
    use super::super::name::UnitName;
    use super::super::unit::UnitFile;
    use super::*;
    use crate::service::ServiceFile;

    fn exported(text: &str, starts: Starts) -> (Service, Export) {
        let path = Path::new("/srv/app/garth.toml");
        let file = ServiceFile::parse(text, path, &|_| None).unwrap();
        let service = file.services["web"].clone();
        let export =
            export(("web", &service), (Path::new("/usr/bin/garth"), path), starts).unwrap();
        (service, export)
    }

    fn value(export: &Export, section: &str, key: &str) -> Option<String> {
        UnitFile::parse(&export.text).unwrap().last(section, key)
    }

    fn command(export: &Export) -> Vec<OsString> {
        let text = value(export, "Service", "ExecStart").unwrap();
        let name = UnitName::parse(&export.unit).unwrap();
        let found = commands(&text, &name).unwrap();
        assert_eq!(found.len(), 1, "{text}");
        let (words, unset) = found[0].filled(&|_| None).unwrap();
        assert!(unset.is_empty(), "{text}");
        words.into_iter().map(OsString::from).collect()
    }

    #[test]
    fn a_service_is_a_command_with_flags() {
        let (service, export) = exported(
            r#"
            [service.db]
            command = ["x"]
            [service.web]
            command = ["nginx", "-g", "daemon off;"]
            publish = ["8080:80"]
            memory = "256m"
            after = ["db"]
            restart = "on-failure:4"
            stop-signal = "QUIT"
            stop-timeout = "1m30s"
            health = { tcp = 80 }
            "#,
            Starts::Executed,
        );
        assert_eq!(export.unit, "garth-web.service");
        let settings = Settings { name: Some("web".into()), ..service.settings };
        let expected = flags(&settings).unwrap();
        let words = command(&export);
        assert_eq!(words[..2], ["/usr/bin/garth", "wrap"]);
        assert_eq!(words[2..], expected);
        for (section, key, expected) in [
            ("Unit", "After", "network-online.target garth-db.service"),
            ("Unit", "Requires", "garth-db.service"),
            ("Unit", "StartLimitBurst", "5"),
            ("Service", "Type", "exec"),
            ("Service", "Delegate", "yes"),
            ("Service", "Restart", "on-failure"),
            ("Service", "KillSignal", "SIGQUIT"),
            ("Service", "SuccessExitStatus", "SIGQUIT"),
            ("Service", "KillMode", "mixed"),
            ("Service", "TimeoutStopSec", "1m30s"),
            ("Service", "WorkingDirectory", "/srv/app"),
            ("Install", "WantedBy", "multi-user.target"),
        ] {
            assert_eq!(value(&export, section, key).as_deref(), Some(expected), "{key}");
        }
        for note in ["health:", "after db:"] {
            assert!(export.notes.iter().any(|said| said.starts_with(note)), "{export:?}");
            assert!(export.text.contains(&format!("# - {note}")), "{}", export.text);
        }
    }

    #[test]
    fn what_a_unit_would_take_apart_is_quoted() {
        let (service, export) = exported(
            r#"
            [service.web]
            command = ["sh", "-c", "echo $$HOME 100% \"a\\b\"; 'x' \n\t", "", ";", "-x", "a\u0001é"]
            rw = ["/a b", [47, 255]]
            env = ["A=$${B} %n"]
            "#,
            Starts::Executed,
        );
        // Bytes that are not text are escaped too, which only systemd reads.
        assert!(export.text.contains("\"--rw=/\\xff\""), "{}", export.text);
        let text = export.text.replace("\\xff", "?");
        let words = command(&Export { text, ..export });
        let after = words.iter().position(|word| word == "--").unwrap();
        assert_eq!(words[after + 1..], service.settings.command);
        assert!(words.contains(&"--rw=/a b".into()) && words.contains(&"--env=A=${B} %n".into()));
    }

    #[test]
    fn a_command_that_notifies_may() {
        let text = "[service.web]\ncommand = \"x\"\nclear-env = true\nrestart = \"always\"\n";
        let (_, export) = exported(text, Starts::Notifies);
        assert_eq!(value(&export, "Service", "NotifyAccess").as_deref(), Some("all"));
        assert_eq!(value(&export, "Unit", "StartLimitIntervalSec").as_deref(), Some("0"));
        assert!(!command(&export).contains(&"--clear-env".into()));
        assert!(export.notes[0].starts_with("clear-env:"));
        let (_, export) = exported(text, Starts::Executed);
        assert!(command(&export).contains(&"--clear-env".into()) && export.notes.is_empty());
    }
}
