//! Parsing a verb as if it were the only one. The parser builds a description of every verb, with a
//! copy of the global options in each, which takes longer than much of a start; so the most
//! frequent verbs are first tried alone. If that fails, the arguments are parsed again with all
//! verbs, for the right error message.

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches};

use super::{Global, Verb};

/// The global options and those of verb `name`; `None` if the arguments are anything else.
pub fn parse<V: Args>(
    name: &'static str,
    args: &[OsString],
    verb: fn(V) -> Verb,
) -> Option<(Global, Verb)> {
    let command = Command::new("garth").args_override_self(true);
    let command = Global::augment_args(command).subcommand(V::augment_args(Command::new(name)));
    let matches = command.try_get_matches_from(args).ok()?;
    let (_, of_verb) = matches.subcommand()?;
    let global = Global::from_arg_matches(&matches).ok()?;
    V::from_arg_matches(of_verb).ok().map(|options| (global, verb(options)))
}

#[cfg(test)]
mod tests {
    use super::super::{help, parse};
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn alone_or_among_all_a_verb_means_the_same() {
        for line in [
            "garth wrap -- ls -l",
            "garth wrap --detach --log /tmp/out -- ls",
            "garth --root /tmp/r run --bundle /b --pid-file=/p --detach name",
            "garth run --root /tmp/r name --bundle /a --bundle /b",
            "garth --log /l --log-format json --systemd-cgroup create -b /b name",
            "garth --rootless true start name",
            "garth state name",
            "garth exec -u 1:2 -e A=b name sh -c true",
            "garth kill --all name KILL",
            "garth delete -f name",
        ] {
            let args = words(line);
            let all = help::parse(&args).unwrap();
            assert_eq!(format!("{:?}", parse(&args).unwrap()), format!("{all:?}"), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_the_parser_of_all_verbs() {
        for line in
            ["garth run --bundel /b name", "garth run --help", "garth -v run x", "garth rum"]
        {
            let args = words(line);
            let all = help::parse(&args).unwrap_err().to_string();
            assert_eq!(parse(&args).unwrap_err().to_string(), all, "{line}");
        }
    }
}
