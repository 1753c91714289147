//! `garth completions`: what clap_complete makes of the verbs and flags, and for the common shells
//! what the parser does not know: the names of sandboxes and containers (specs/completions).

use clap::{Arg, Args, Command, ValueHint};
use clap_complete::{Shell, generate};

use crate::cli::print;
use crate::error::Result;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(in crate::cli) fn run(self) -> Result<i32> {
        print(&script(self.shell));
        Ok(0)
    }
}

const BASH: &str = include_str!("../../../specs/completions/names.bash");
const FISH: &str = include_str!("../../../specs/completions/names.fish");
const ZSH: &str = include_str!("../../../specs/completions/names.zsh");

/// Verbs whose name or ID is that of something new.
const NEW: [&str; 3] = ["create", "run", "restore"];

fn script(shell: Shell) -> String {
    let mut command = super::command().mut_subcommands(hinted);
    let mut text = Vec::new();
    generate(shell, &mut command, "garth", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => text + &for_bash(&command),
        Shell::Fish => text + &FISH.replace("@NAMED@", &named(&command).join(" ")),
        // Only names have this hint.
        Shell::Zsh => text.replacen("\n\n", ZSH, 1).replace(":_hosts'", ":_garth_names'"),
        _ => text,
    }
}

/// Each list is a pattern for a verb, a space and a word after it.
fn for_bash(command: &Command) -> String {
    let join = |patterns: Vec<String>| patterns.join(" | ");
    let runs = command.get_subcommands().filter(|verb| runs_a_command(verb));
    let runs = runs.map(|verb| format!("\"{} --\"", verb.get_name())).collect();
    let mut valued: Vec<String> =
        valued(command, true).map(|flag| format!("*\" {flag}\"")).collect();
    for verb in command.get_subcommands() {
        let name = verb.get_name();
        valued.extend(self::valued(verb, false).map(|flag| format!("\"{name} {flag}\"")));
    }
    let named = named(command).iter().map(|verb| format!("\"{verb} \"*")).collect();
    let text = BASH.replace("@RUNS@", &join(runs)).replace("@VALUED@", &join(valued));
    text.replace("@NAMED@", &join(named))
}

/// The verbs whose first argument is the name of something that exists.
fn named(command: &Command) -> Vec<&str> {
    let is_name = |arg: &Arg| arg.is_positional() && arg.get_value_hint() == ValueHint::Hostname;
    let named = command.get_subcommands().filter(|verb| verb.get_arguments().any(is_name));
    named.map(Command::get_name).collect()
}

/// Whether a verb, or one below it, has a command at its end.
fn runs_a_command(verb: &Command) -> bool {
    let is_command = |arg: &Arg| arg.is_positional() && arg.get_id() == "command";
    verb.get_arguments().any(is_command) || verb.get_subcommands().any(runs_a_command)
}

/// The flags of a verb that take a value, as they are written: the global ones, or the verb's own.
fn valued(verb: &Command, global: bool) -> impl Iterator<Item = String> {
    let valued = move |arg: &&Arg| {
        let bare = arg.get_num_args().is_some_and(|values| values.min_values() == 0);
        let flag = arg.get_action().takes_values() && !bare && !arg.is_positional();
        flag && arg.is_global_set() == global
    };
    verb.get_arguments().filter(valued).flat_map(|arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        arg.get_short().map(|short| format!("-{short}")).into_iter().chain(long)
    })
}

/// With hints at what values are, and names of values without colons, which zsh takes for separators.
fn hinted(verb: Command) -> Command {
    let new = NEW.contains(&verb.get_name());
    let verb = verb.mut_args(|arg| {
        let positional = arg.is_positional();
        let named = arg.get_value_names().and_then(|names| names.first());
        let arg = match named.is_some_and(|name| name.contains(':')) {
            true => arg.value_name("VALUE"),
            false => arg,
        };
        match arg.get_id().as_str() {
            "command" if positional => arg.value_hint(ValueHint::CommandWithArguments),
            "name" | "names" | "id" if positional && !new => arg.value_hint(ValueHint::Hostname),
            "user" => arg.value_hint(ValueHint::Username),
            _ => arg,
        }
    });
    verb.mut_subcommands(hinted)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_knows_every_verb() {
        let command = super::super::command();
        for shell in Shell::value_variants() {
            let text = script(*shell);
            for verb in command.get_subcommands() {
                assert!(text.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
            assert!(text.contains("memory-swap"), "{shell}");
        }
    }

    #[test]
    fn names_are_completed_for_verbs_of_what_exists() {
        let text = script(Shell::Bash);
        for part in [
            "\"wrap --\" | \"explain --\"",
            "*\" --root\"",
            "\"kill -s\" | \"kill --signal\"",
            "\"kill \"*",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let parts =
            ["\"run \"*", "\"kill --all\"", "\"kill --root\"", "\"wrap --userns\"", "@NAMED@"];
        for part in parts {
            assert!(!text.contains(part), "{part}");
        }
        let zsh = script(Shell::Zsh);
        assert!(zsh.contains(":name -- The sandbox or container:_garth_names'"), "{zsh}");
        assert!(zsh.contains("]:VALUE:_users'"), "{zsh}");
        let fish = script(Shell::Fish);
        let names = fish.lines().find(|line| line.contains("garth ps --quiet")).unwrap();
        assert!(names.contains(" exec attach kill ") && !names.contains(" run "), "{names}");
    }
}
