//! What the parser's description of the verbs does not have by itself: examples, and groups of verbs
//! by use. All of it is only added when arguments are parsed among all verbs ([`command`]), not when
//! a verb is parsed alone.

mod complete;
mod examples;
mod groups;
mod man;

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches};

pub use complete::Completions;
pub use man::Man;

use super::{Cli, Global, Verb, habits};

/// Parses the arguments among all verbs.
pub fn parse(args: &[OsString]) -> Result<(Global, Verb), clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches_mut(&mut matches);
    cli.map(|cli| (cli.global, cli.verb)).map_err(|error| error.format(&mut command))
}

/// The verb that is most like the one that an error is about. Where there is a tip of the parser's
/// own, that counts; it has none for `garth help VERB`.
pub fn nearest(error: &clap::Error) -> Option<String> {
    let word = habits::unknown_verb(error)?;
    let command = command();
    let likeness = |verb: &Command| strsim::jaro(verb.get_name(), word);
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let best = verbs.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) > 0.7).then(|| best.get_name().to_owned())
}

/// The description of all verbs, with everything that `--help` shows.
fn command() -> Command {
    let command = Cli::command()
        .mut_args(|arg| match arg.is_global_set() {
            true => arg.help_heading("Global options"),
            false => arg,
        })
        .mut_subcommands(|verb| examples::added(verb, "garth"));
    groups::added(command.mut_subcommands(groups::of_flags))
}

/// Each verb, and each verb below one, by its path, such as `garth explain wrap`.
#[cfg(test)]
fn each(command: &Command, path: &str, all: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        each(verb, &path, all);
        all.push((path, verb.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_nearly_a_verb_leads_to_it() {
        for (line, verb) in [
            ("garth help wrp", Some("wrap")),
            ("garth help doktor", Some("doctor")),
            ("garth help xyzzy", None),
            ("garth ps --jsn", None),
        ] {
            let args: Vec<_> = line.split(' ').map(Into::into).collect();
            let error = parse(&args).unwrap_err();
            assert_eq!(nearest(&error).as_deref(), verb, "{line}");
        }
    }
}
