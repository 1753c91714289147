//! How a unit is started again and stopped, and after which others it is started.

use std::path::Path;
use std::time::Duration;

use crate::config::Span;
use crate::service::StopSignal;
use crate::service::systemd::command::commands;
use crate::service::systemd::reader::UnitReader;
use crate::service::systemd::values::time;

/// All directives about the life of a service.
pub fn lifecycle(r: &mut UnitReader<'_>) {
    restart(r);
    stop(r);
    order(r);
}

fn restart(r: &mut UnitReader<'_>) {
    let policy = r.last("Restart").unwrap_or_else(|| "no".into());
    let burst = r.last_of("Unit", "StartLimitBurst").or(r.last("StartLimitBurst"));
    let interval = [
        r.last_of("Unit", "StartLimitIntervalSec"),
        r.last_of("Unit", "StartLimitInterval"),
        r.last("StartLimitIntervalSec"),
        r.last("StartLimitInterval"),
    ];
    let interval = interval.into_iter().flatten().next();
    let limited =
        interval.as_deref().is_none_or(|text| !matches!(time(text), Ok(Some(Duration::ZERO))));
    let again = burst.as_deref().and_then(|text| text.parse::<u32>().ok());
    let again =
        again.and_then(|starts| starts.checked_sub(1)).filter(|again| *again > 0 && limited);
    match policy.as_str() {
        "no" => {}
        "on-failure" => match again {
            Some(again) => {
                let why = "StartLimitBurst= counts the first start; Garth counts failures in a row";
                r.draft.set("restart", format!("on-failure:{again}"), why);
            }
            None => r.draft.set("restart", "on-failure", ""),
        },
        "always" => r.draft.set("restart", "always", ""),
        "on-abnormal" | "on-abort" | "on-watchdog" => {
            r.draft.set("restart", "on-failure", format!("the nearest to Restart={policy}"));
        }
        other => r.draft.note(format!("Restart={other}"), "there is no such policy"),
    }
    if policy != "no" && (policy != "on-failure" || again.is_none()) && burst.is_some() {
        let why = "only on-failure has a limit; the pause between starts doubles up to a minute";
        r.draft.note("StartLimitBurst", why);
    }
    for key in ["RestartSec", "RestartSteps", "RestartMaxDelaySec"] {
        if r.last(key).is_some() {
            r.draft.note(key, "the pause doubles from 100 ms to a minute");
        }
    }
}

fn stop(r: &mut UnitReader<'_>) {
    let mut signal = r.last("KillSignal");
    let mut why = "";
    let mut lost = false;
    for value in r.list("ExecStop") {
        match sent(r, &value) {
            Some(name) => (signal, why) = (Some(name), "ExecStop= sends it"),
            None => lost = true,
        }
    }
    if lost {
        r.draft.note("ExecStop", "the command gets stop-signal instead");
    }
    if let Some(name) = signal {
        match name.parse::<StopSignal>() {
            Ok(StopSignal(libc::SIGTERM)) => {}
            Ok(signal) => r.draft.set("stop-signal", signal.to_string(), why),
            Err(error) => r.draft.note("KillSignal", error.to_string()),
        }
    }
    let both = r.last("TimeoutSec");
    let (timeout, why) = match r.last("TimeoutStopSec").or(both) {
        Some(text) => (text, ""),
        None => ("90".into(), "as systemd's default"),
    };
    match time(&timeout) {
        // Once, 0 was how to write infinity.
        Ok(None | Some(Duration::ZERO)) => {
            r.draft.set("stop-timeout", "1d", "the unit has no limit")
        }
        Ok(Some(span)) => r.draft.set("stop-timeout", Span(span).to_string(), why),
        Err(error) => r.draft.note("TimeoutStopSec", error.to_string()),
    }
    match r.last("KillMode").as_deref() {
        None | Some("mixed") => {}
        Some("control-group") => r.draft.implied.push("KillMode".into()),
        Some(mode) => r
            .draft
            .note(format!("KillMode={mode}"), "all processes of a sandbox end with its command"),
    }
    for value in r.list("ExecReload") {
        if let Some(signal) = sent(r, &value) {
            let name = r.name.of_service();
            let why = format!("garth kill {name} {}", signal.trim_start_matches("SIG"));
            r.draft.note("ExecReload", why);
        } else {
            r.draft.note(format!("ExecReload={value}"), "run it with garth exec");
        }
    }
}

/// The signal that `kill -HUP $MAINPID` sends.
fn sent(r: &UnitReader<'_>, value: &str) -> Option<String> {
    let found = commands(value, r.name).ok()?;
    let [command] = found.as_slice() else { return None };
    let (program, args) = command.words.split_first()?;
    let is_kill = Path::new(program).file_name()? == "kill";
    let of_main = args.iter().any(|arg| arg == "$MAINPID" || arg == "${MAINPID}");
    let words: Vec<&str> =
        args.iter().map(String::as_str).filter(|arg| !arg.contains("MAINPID")).collect();
    let signal = match words.as_slice() {
        [] => "TERM",
        ["-s", signal] | ["--signal", signal] | ["-n", signal] => *signal,
        [signal] => signal.strip_prefix('-')?,
        _ => return None,
    };
    (is_kill && of_main && signal.parse::<StopSignal>().is_ok()).then(|| signal.to_owned())
}

/// After=, Requires= and their like: names of units, not of services of the file.
fn order(r: &mut UnitReader<'_>) {
    let mut lines = Vec::new();
    for key in ["After", "Requires", "BindsTo", "Requisite", "Wants"] {
        let value = r.list_of("Unit", key).join(" ");
        if !value.is_empty() {
            lines.push(format!("{key}={value}"));
        }
    }
    if !lines.is_empty() {
        r.draft
            .note(lines.join(", "), "other services of this file can be named: after = [\"NAME\"]");
    }
}
