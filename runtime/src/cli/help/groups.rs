//! The verbs in groups by use, for `garth --help`, since the parser knows only one list of them; and
//! the flags of `wrap` by topic.

use std::fmt::Write;

use clap::Command;

/// Every verb, by use. A new verb belongs into one of these lists; help shows them in this order.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Sandboxes",
        &[
            "wrap", "explain", "exec", "attach", "update", "kill", "wait", "delete", "check",
            "limit",
        ],
    ),
    ("Services", &["up", "down", "ps", "stats", "top", "logs", "config", "import", "export"]),
    (
        "Containers (OCI)",
        &[
            "create",
            "start",
            "run",
            "state",
            "list",
            "pause",
            "resume",
            "events",
            "mounts",
            "checkpoint",
            "restore",
            "spec",
            "features",
        ],
    ),
    ("Host", &["volume", "metrics", "bench", "doctor", "gc", "completions", "man"]),
];

/// Flags of `wrap`, by topic. The others are listed as `Options`.
const TOPICS: [(&str, &[&str]); 5] = [
    ("Network", &["publish", "network", "pool4", "pool6", "rate", "rate-group"]),
    ("Files", &["rw", "volume", "tmpfs", "secret", "run-dir", "rootfs", "read-only", "umask"]),
    (
        "Privileges",
        &["user", "profile", "cap-add", "cap-drop", "seccomp", "allow-suid", "userns", "hidepid"],
    ),
    ("Limits", &["memory", "memory-swap", "cpus", "cpuset-cpus", "pids-limit", "io", "ulimit"]),
    (
        "Environment",
        &["env", "env-file", "clear-env", "workdir", "hostname", "sysctl", "timens", "as-pid-1"],
    ),
];

const FOOT: &str = "`garth help VERB` shows the options and examples of a verb.";

/// With the groups as its help text.
pub fn added(command: Command) -> Command {
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, verbs) in groups(&command) {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for (name, about) in verbs {
            let _ =
                writeln!(text, "  {literal}{name}{literal:#}{:1$}{about}", "", WIDTH - name.len());
        }
    }
    let _ = write!(text, "\n{header}Options:{header:#}\n{{options}}{{after-help}}");
    command.help_template(text).after_help(FOOT).subcommand_value_name("VERB")
}

/// With the flags of `wrap` by topic, if this is that verb or one above it.
pub fn of_flags(verb: Command) -> Command {
    let verb = verb.mut_subcommands(of_flags);
    if verb.get_name() != "wrap" {
        return verb;
    }
    verb.mut_args(|arg| {
        let name = arg.get_long().unwrap_or_default();
        match TOPICS.iter().find(|(_, flags)| flags.contains(&name)) {
            Some((topic, _)) => arg.help_heading(*topic),
            None => arg,
        }
    })
}

/// Where the descriptions begin: after the longest name and two spaces.
const WIDTH: usize = "completions".len() + 2;

/// The groups that have verbs, with each verb's name and description.
pub fn groups(command: &Command) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let verb = |name: &'static str| {
        let verb = command.find_subcommand(name)?;
        Some((name, verb.get_about().map(ToString::to_string).unwrap_or_default()))
    };
    let groups = GROUPS.iter();
    groups
        .map(|(title, names)| (*title, names.iter().filter_map(|name| verb(name)).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn every_verb_is_in_one_group_and_a_group_has_nothing_else() {
        let command = command();
        let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let mut visible: Vec<&str> = visible.map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        visible.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, visible, "the verbs of GROUPS, and those there are");
    }

    #[test]
    fn a_flag_of_wrap_has_one_topic_at_most() {
        let command = command();
        let wrap = command.find_subcommand("wrap").unwrap();
        let flags: Vec<&str> = wrap.get_arguments().filter_map(clap::Arg::get_long).collect();
        let mut named: Vec<&str> = TOPICS.iter().flat_map(|(_, flags)| *flags).copied().collect();
        assert!(named.iter().all(|flag| flags.contains(flag)), "not a flag: {named:?} {flags:?}");
        let before = named.len();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len(), before);
    }

    #[test]
    fn a_verb_and_its_description_fit_on_a_line() {
        for (name, about) in groups(&command()).into_iter().flat_map(|(_, verbs)| verbs) {
            assert!(name.len() + 2 <= WIDTH, "{name}: raise WIDTH");
            let line = WIDTH + 2 + about.len();
            assert!(!about.is_empty() && line <= 80, "garth {name}: {line} columns: {about}");
        }
    }
}
