//! `garth wrap` and `garth explain wrap`.

use std::path::PathBuf;

use clap::Args;

use super::{Format, Global, caution, print, shown, tell, to_json};
use crate::error::{Error, Result};
use crate::service::{self, Resolved, Settings};
use crate::start;
use crate::start::relay::Caller;
use crate::sys::process::Signals;

/// Run a command or daemon in a sandbox
///
/// By default the command sees the host's files read-only, a private /tmp that is discarded when it
/// ends, no other processes, and no network.
#[derive(Debug, Args)]
pub struct Wrap {
    #[command(flatten)]
    settings: Settings,
    /// Pass standard input on, which is the default, or what is typed with -t
    #[arg(short, long)]
    interactive: bool,
    /// Run the sandbox in the background, and print its name
    #[arg(short, long)]
    detach: bool,
    /// With -d: append the command's output to this file [default: keep the last of it for wait and
    /// ps -a]
    #[arg(long, value_name = "FILE", requires = "detach")]
    log: Option<PathBuf>,
}

/// Print what `garth wrap` would do
#[derive(Debug, Args)]
pub struct ExplainWrap {
    #[command(flatten)]
    settings: Settings,
    /// Same as for wrap
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Same as for wrap
    #[arg(short, long, hide = true)]
    detach: bool,
    /// Same as for wrap
    #[arg(long, value_name = "FILE", hide = true)]
    log: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Resolves the settings, and reports what the sandbox has to do without.
fn resolve(settings: Settings, global: &Global) -> Result<Resolved> {
    let mut resolved = settings.resolve(global.root.clone())?;
    resolved.sandbox.systemd_cgroup = global.systemd_cgroup;
    resolved.cautions.iter().for_each(|without| tell(&without.to_string()));
    Ok(resolved)
}

impl Wrap {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let Resolved { sandbox, mut options, .. } = resolve(self.settings, global)?;
        if !self.detach {
            let caller = sandbox.terminal.then(Caller::at_stdin).transpose()?;
            options.window = caller.as_ref().map(Caller::window).unwrap_or_default();
            start::protect(&sandbox)?;
            let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
            let child = sandbox.spawn(&options)?;
            let spared = child.process().spared();
            spared.iter().for_each(|loss| caution(loss));
            service::cautions(&sandbox).iter().for_each(|line| global.log.warn(line));
            return service::supervise(child, caller.as_ref(), &signals, &super::warn)
                .map(service::end_as);
        }
        if self.interactive && !sandbox.terminal {
            return Err(Error::new("-i: with -d, nothing can be passed on from standard input")
                .hint("use -dt for a command that wants a terminal"));
        }
        options.window = Caller::at_stdin().map(|caller| caller.window()).unwrap_or_default();
        let background = sandbox.detach(&options, self.log.as_deref())?;
        background.spared.iter().for_each(|loss| caution(loss));
        print(&format!("{}\n", background.name));
        service::cautions(&sandbox).iter().for_each(|line| global.log.warn(line));
        Ok(0)
    }
}

impl ExplainWrap {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let Resolved { mut sandbox, options, .. } = resolve(self.settings, global)?;
        sandbox.die_with_parent = !self.detach;
        let explanation = sandbox.explain(&options)?;
        if self.json || self.format == Format::Json {
            let steps = explanation.plan.steps.iter().enumerate();
            let steps: Vec<_> = steps
                .map(|(number, planned)| {
                    serde_json::json!({
                        "number": number,
                        "step": planned.to_string(),
                        "origin": planned.origin,
                    })
                })
                .collect();
            let all = serde_json::json!({
                "outside": explanation.outside,
                "namespaces": crate::plan::namespaces(explanation.plan.namespaces),
                "steps": steps,
            });
            print(&to_json(&all)?);
        } else {
            for line in &explanation.outside {
                print(&format!("out  {}\n", shown(line)));
            }
            let plan = explanation.plan.to_string();
            plan.lines().for_each(|line| print(&format!("{}\n", shown(line))));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::FromArgMatches;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Flags of the verb, which are not settings of the sandbox.
    const VERBS: [&str; 3] = ["detach", "interactive", "log"];

    fn flags() -> clap::Command {
        Wrap::augment_args(clap::Command::new("wrap"))
    }

    fn of_flags(words: &[&str]) -> Settings {
        let matches = flags().try_get_matches_from([&["wrap"], words].concat()).unwrap();
        Settings::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn each_flag_is_a_key_and_each_key_a_flag() {
        let command = flags();
        let name = |arg: &clap::Arg| arg.get_long().unwrap_or(arg.get_id().as_str()).to_owned();
        let flags: BTreeSet<String> = command.get_arguments().map(name).collect();
        let Value::Object(keys) = serde_json::to_value(Settings::default()).unwrap() else {
            panic!("not an object")
        };
        let keys: BTreeSet<String> = keys.into_iter().map(|(key, _)| key).collect();
        let verbs = VERBS.map(String::from).into();
        assert_eq!(&flags - &verbs, keys);
    }

    /// One example for each kind of value, as flags and in a file.
    #[test]
    fn a_flag_and_its_key_take_the_same_values() {
        let command = flags();
        let mut file = Map::new();
        let mut words = Vec::new();
        for arg in command.get_arguments().filter(|arg| !VERBS.contains(&arg.get_id().as_str())) {
            let Some(long) = arg.get_long() else { continue };
            let takes = arg.get_action().takes_values();
            let text = match (takes, long) {
                (false, _) => {
                    words.push(format!("--{long}"));
                    file.insert(long.into(), true.into());
                    continue;
                }
                (true, "profile") => "compat",
                (true, _) => "5",
            };
            words.push(format!("--{long}={text}"));
            file.insert(long.into(), text.into());
        }
        words.extend(["--", "ls", "-l"].map(String::from));
        file.insert("command".into(), json!(["ls", "-l"]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let settings: Settings = serde_json::from_value(file.into()).unwrap();
        assert_eq!(settings, of_flags(&words));
        let written = serde_json::to_value(&settings).unwrap();
        assert_eq!(serde_json::from_value::<Settings>(written).unwrap(), settings);
    }

    #[test]
    fn a_file_may_spell_numbers_and_lists_as_they_are() {
        let file = json!({
            "memory": 65536, "cpus": 1.5, "pids-limit": 100, "publish": "80", "userns": true,
            "rw": ["/a", [47, 255]], "command": ["ls"],
        });
        let words = "--memory 65536 --cpus 1.5 --pids-limit 100 -p 80 --userns --rw /a -- ls";
        let mut expected = of_flags(&words.split(' ').collect::<Vec<_>>());
        expected.rw.push(std::os::unix::ffi::OsStringExt::from_vec(b"/\xff".to_vec()));
        assert_eq!(serde_json::from_value::<Settings>(file).unwrap(), expected);
        for (file, says) in [
            (json!({"memori": "1m"}), "unknown field `memori`"),
            (json!({"memory": true}), "expected text or a number"),
            (json!({"userns": 5}), "expected text, true or false"),
        ] {
            let error = serde_json::from_value::<Settings>(file).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
