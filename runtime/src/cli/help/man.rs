//! `garth man`: manual pages, from the same description of the verbs as `--help`. What it does not
//! know is in specs/man: the end of garth(1), garth(8), the beginning of garth.toml(5).

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Args, Command};
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{examples, groups};
use crate::cli::{print, shown};
use crate::error::{Error, Result};
use crate::service::{NOT_OF_FILES, Settings};

/// Write manual pages into a directory: man1, man5 and man8 below it
#[derive(Debug, Args)]
pub struct Man {
    /// Directory of manual pages, such as those that manpath(1) prints
    dir: PathBuf,
}

impl Man {
    pub(in crate::cli) fn run(self) -> Result<i32> {
        let failed = |path: &Path, e| Error::io(format!("write {}", path.display()), &e);
        let pages = pages();
        for Page { name, section, text } in &pages {
            let dir = self.dir.join(format!("man{section}"));
            fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
            let path = dir.join(format!("{name}.{section}"));
            fs::write(&path, text).map_err(|e| failed(&path, e))?;
        }
        print(&format!("{} pages in {}\n", pages.len(), shown(&self.dir.to_string_lossy())));
        Ok(0)
    }
}

/// When the texts of specs/man last changed.
const DATE: &str = "2026-11-29";

const SOURCE: &str = concat!("Garth ", env!("CARGO_PKG_VERSION"));

const ROOT_END: &str = include_str!("../../../specs/man/garth.1");
const ADMINISTRATION: &str = include_str!("../../../specs/man/garth.8");
const SERVICE_FILE: &str = include_str!("../../../specs/man/garth.toml.5");

/// The keys of a service besides those of its sandbox: name, value and meaning.
const KEYS_OF_A_SERVICE: &[(&str, &str, &str)] = &[
    (
        "extends",
        "\"FILE#SERVICE\"",
        "Keys that are missing here are those of another service: of another file, where it has the \
         same name unless one is given, or \"#SERVICE\" of the same file. A key that is here takes the \
         place of the other's, lists as a whole; relative paths start where they are written",
    ),
    (
        "after",
        "[\"SERVICE\", ...]",
        "Services that must be running, and healthy if they have a health check, before this one is \
         started; this one may also connect to them, by their names",
    ),
    (
        "reaches",
        "[\"SERVICE\", ...]",
        "Other services to which this one may connect, by their names. What names others or is named \
         has at least --network internal",
    ),
    (
        "restart",
        "\"no\" | \"on-failure[:N]\" | \"always\" | \"unless-stopped\"",
        "Whether it is started again after its end; N: this often in a row at most [default: no]",
    ),
    (
        "health",
        "{ command = [\"PROGRAM\", ...] | tcp = PORT | http = \":PORT/PATH\", interval = \"TIME\", \
         timeout = \"TIME\", retries = N, start-period = \"TIME\" }",
        "How to find out whether it works",
    ),
    ("stop-signal", "\"SIGNAL\"", "The signal that asks it to end [default: TERM]"),
    (
        "stop-timeout",
        "\"TIME\"",
        "How long it may take to end after that; then it is killed [default: 10s]",
    ),
    (
        "log",
        "\"auto\" | \"journal\" | \"files\"",
        "Where its output goes: to the host's journal (systemd-journald), or to files; auto: to the \
         journal if there is one, for a service of root without a terminal [default: auto]",
    ),
    (
        "log-size",
        "\"SIZE\"",
        "A file of its log is closed, and a new one begun, when it has this size [default: 10m]",
    ),
    ("log-count", "N", "How many files of its log are kept [default: 5]"),
];

struct Page {
    name: String,
    section: u8,
    text: String,
}

fn pages() -> Vec<Page> {
    let mut command = plain(super::command()).disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut add = |name: &str, section, text| pages.push(Page { name: name.into(), section, text });
    add("garth", 1, of_all(&command));
    add("garth", 8, title("garth", 8) + ADMINISTRATION);
    add("garth.toml", 5, of_service_files());
    below(&command, "garth", &mut |verb, path| {
        add(&path.replace(' ', "-"), 1, of_verb(verb, path));
    });
    pages
}

/// Calls `each` for every verb, and every verb below one, with its path.
fn below(command: &Command, path: &str, each: &mut dyn FnMut(&Command, &str)) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let path = format!("{path} {}", verb.get_name());
        each(verb, &path);
        below(verb, &path, each);
    }
}

/// With apostrophes for the backquotes of help texts, which roff prints as an opening quote.
fn plain(mut command: Command) -> Command {
    let text = |styled: &dyn ToString| styled.to_string().replace('`', "'");
    if let Some(about) = command.get_about().map(|about| text(about)) {
        command = command.about(about);
    }
    if let Some(about) = command.get_long_about().map(|about| text(about)) {
        command = command.long_about(about);
    }
    let arg = |mut arg: Arg| {
        if let Some(help) = arg.get_help().map(|help| text(help)) {
            arg = arg.help(help);
        }
        if let Some(help) = arg.get_long_help().map(|help| text(help)) {
            arg = arg.long_help(help);
        }
        arg
    };
    command.mut_args(arg).mut_subcommands(plain)
}

/// A page about `verb`, with `middle` before its options and `end` after them.
fn page(verb: &Command, path: &str, middle: &str, end: &str) -> String {
    // The usage of the help text: a synopsis would otherwise be a list of all options.
    let usage = verb.clone().render_usage().to_string();
    let verb = verb.clone().override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let man = clap_mangen::Man::new(verb);
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = man.render_name_section(&mut text);
    let _ = man.render_synopsis_section(&mut text);
    let _ = man.render_description_section(&mut text);
    text.extend(middle.as_bytes());
    let _ = man.render_options_section(&mut text);
    // Without the empty line before the values of an option, which is not good roff.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.br\n");
    title(&path.replace(' ', "-"), 1) + &text + end
}

fn title(name: &str, section: u8) -> String {
    let section = section.to_string();
    Roff::new().control("TH", [&name.to_uppercase(), &section, DATE, SOURCE, "Garth"]).to_roff()
}

/// garth(1).
fn of_all(command: &Command) -> String {
    let mut verbs = Roff::new();
    verbs.control("SH", ["COMMANDS"]);
    for (title, group) in groups::groups(command) {
        verbs.control("SS", [title]);
        group.iter().for_each(|(name, about)| verb_in_list(&mut verbs, name, about));
    }
    page(command, "garth", &verbs.render(), ROOT_END)
}

/// The page of a verb, which may have others below it.
fn of_verb(verb: &Command, path: &str) -> String {
    let mut verbs = Roff::new();
    if verb.has_subcommands() {
        verbs.control("SH", ["COMMANDS"]);
        let name = path.trim_start_matches("garth ").replace(' ', "-");
        for below in verb.get_subcommands() {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            verb_in_list(&mut verbs, &format!("{name}-{}", below.get_name()), &about);
        }
    }
    let mut end = Roff::new();
    end.control("SH", ["EXAMPLES"]);
    for (what, line) in examples::of(path) {
        end.control("TP", []).text([roman(format!("{what}:"))]).text([bold(line)]);
    }
    end.control("SH", ["EXIT STATUS"]).text([roman("See "), bold("garth"), roman("(1).")]);
    end.control("SH", ["SEE ALSO"]);
    if let Some((parent, _)) = path.rsplit_once(' ').filter(|(parent, _)| *parent != "garth") {
        end.text([bold(parent.replace(' ', "-")), roman("(1),")]);
    }
    end.text([bold("garth"), roman("(1), "), bold("garth"), roman("(8)")]);
    page(verb, path, &verbs.render(), &end.render())
}

fn verb_in_list(roff: &mut Roff, name: &str, about: &str) {
    roff.control("TP", []).text([bold(format!("garth-{name}")), roman("(1)")]);
    roff.text([roman(about)]);
}

/// garth.toml(5): the flags of `wrap` as keys, then those of a service.
fn of_service_files() -> String {
    let mut roff = Roff::new();
    for flag in Settings::augment_args(Command::new("garth")).get_arguments() {
        let key = flag.get_long().unwrap_or(flag.get_id().as_str());
        if NOT_OF_FILES.contains(&key) {
            continue;
        }
        let name = flag.get_value_names().and_then(|names| names.first());
        let name = name.map_or_else(|| key.to_uppercase(), ToString::to_string);
        let may_be_bare = flag.get_num_args().is_some_and(|values| values.min_values() == 0);
        let value = match flag.get_action() {
            ArgAction::SetTrue => "true".to_owned(),
            ArgAction::Append => format!("[\"{name}\", ...]"),
            _ if may_be_bare => format!("true | \"{name}\""),
            _ => format!("\"{name}\""),
        };
        let values = flag.get_possible_values();
        let values: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
        let values = match flag.get_action().takes_values() && !values.is_empty() {
            true => format!(": {}", values.join(", ")),
            false => String::new(),
        };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default().replace('`', "'");
        key_in_list(&mut roff, key, &value, &(help + &values));
    }
    roff.control("SH", ["KEYS OF A SERVICE"]);
    for (key, value, help) in KEYS_OF_A_SERVICE {
        key_in_list(&mut roff, key, value, help);
    }
    roff.control("SH", ["SEE ALSO"]).text([
        bold("garth-wrap"),
        roman("(1), "),
        bold("garth"),
        roman("(1)"),
    ]);
    title("garth.toml", 5) + SERVICE_FILE + &roff.render()
}

fn key_in_list(roff: &mut Roff, key: &str, value: &str, help: &str) {
    roff.control("TP", []).text([bold(key), roman(" = "), italic(value)]).text([roman(help)]);
}

#[cfg(test)]
mod tests {
    use super::super::{command, each};
    use super::*;

    #[test]
    fn every_verb_has_a_page_with_its_options_and_examples() {
        let pages = pages();
        let mut verbs = Vec::new();
        each(&command(), "garth", &mut verbs);
        assert!(verbs.len() > 25, "the verbs were not found");
        for (path, verb) in verbs {
            let name = path.replace(' ', "-");
            let page = pages.iter().find(|page| page.name == name);
            let text = &page.unwrap_or_else(|| panic!("no page {name}")).text;
            let flags = verb.get_arguments().filter(|arg| !arg.is_hide_set());
            for long in flags.filter_map(Arg::get_long) {
                assert!(
                    text.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))),
                    "{name}: {long}"
                );
            }
            for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\"SEE ALSO\""] {
                assert_eq!(
                    text.matches(&format!("\n.SH {heading}\n")).count(),
                    1,
                    "{name}: {heading}"
                );
            }
        }
        let index = &pages[0].text;
        assert!(index.contains(".SS Sandboxes\n") && index.contains("garth\\-wrap"), "{index}");
    }

    #[test]
    fn a_service_file_has_the_keys_of_a_service() {
        let keys = serde_json::to_value(crate::service::Rules::default()).unwrap();
        let mut keys: Vec<String> = keys.as_object().unwrap().keys().cloned().collect();
        // Not written where there is none.
        keys.push("health".into());
        // It is gone once the file has been read.
        keys.push("extends".into());
        keys.sort_unstable();
        let mut told: Vec<&str> = KEYS_OF_A_SERVICE.iter().map(|(key, _, _)| *key).collect();
        told.sort_unstable();
        assert_eq!(told, keys);
    }

    #[test]
    fn a_service_file_has_the_flags_of_wrap_as_keys() {
        let text = of_service_files();
        for flag in Settings::augment_args(Command::new("garth")).get_arguments() {
            let key = flag.get_long().unwrap_or(flag.get_id().as_str());
            let line = format!("\n\\fB{}\\fR = ", key.replace('-', "\\-"));
            assert_eq!(text.contains(&line), !NOT_OF_FILES.contains(&key), "{key}");
        }
        for line in [
            "publish\\fR = \\fI[\"PORTS\", ...]",
            "memory\\fR = \\fI\"SIZE\"",
            "hidepid\\fR = \\fItrue",
            "userns\\fR = \\fItrue | \"FIRST:COUNT\"",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
