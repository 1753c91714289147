//! `garth import systemd` and `garth export systemd`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::services::From;
use super::{Global, caution, print};
use crate::error::{Error, Result};
use crate::service::systemd::{self, Starts};

/// What `garth import` understands.
#[derive(Debug, Subcommand)]
pub enum Import {
    Systemd(ImportSystemd),
}

/// Print a service file made from a systemd unit
///
/// The comments say what could not be carried over, and why. systemd need not be running.
#[derive(Debug, Args)]
pub struct ImportSystemd {
    /// A unit's name, e.g. nginx or postgresql@15-main, or the path of its file
    unit: String,
}

/// Print a systemd unit that runs a service of a service file with `garth wrap`
///
/// The comments say what a unit cannot express.
#[derive(Debug, Args)]
pub struct ExportSystemd {
    /// The name of the service
    service: String,
    #[command(flatten)]
    from: From,
    /// The command says when it is ready (sd_notify): Type=notify
    #[arg(long)]
    notify: bool,
}

impl Import {
    pub(super) fn run(self, _: &Global) -> Result<i32> {
        let Import::Systemd(verb) = self;
        let import = systemd::import_unit(&verb.unit)?;
        print(&import.text);
        let (urgent, others): (Vec<_>, Vec<_>) = import.notes.iter().partition(|it| it.urgent);
        for note in urgent {
            caution(&format!("{}: {}", note.directive, note.why));
        }
        if !others.is_empty() {
            let mut names: Vec<&str> = others
                .iter()
                .flat_map(|note| note.directive.split(", "))
                .map(|directive| directive.split('=').next().unwrap_or_default())
                .collect();
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(*name));
            let names = names.join(", ");
            caution(&format!("not carried over (the comments say why): {names}"));
        }
        Ok(0)
    }
}

impl ExportSystemd {
    pub(super) fn run(self) -> Result<i32> {
        let file = self.from.read()?;
        let service = file.service(&self.service)?;
        let garth = std::env::current_exe().map_err(|e| Error::io("find garth's own file", &e))?;
        let starts = if self.notify { Starts::Notifies } else { Starts::Executed };
        let export = systemd::export((&self.service, service), (&garth, &file.path), starts)?;
        print(&export.text);
        export.notes.iter().for_each(|note| caution(&format!("not in the unit: {note}")));
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use clap::FromArgMatches;

    use super::*;
    use crate::service::Settings;

    fn of_flags(words: &[OsString]) -> Settings {
        let command = Settings::augment_args(clap::Command::new("wrap"));
        let words = [OsString::from("wrap")].into_iter().chain(words.iter().cloned());
        Settings::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    /// A generator of numbers: xorshift.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, most: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % most
        }

        fn word(&mut self, bytes: bool) -> OsString {
            const PARTS: [&str; 14] =
                ["a", "-", "--", "=", " ", "\"", "'", "$", "%", "\\", "\n", "é", ",", ":"];
            let mut word = Vec::new();
            for _ in 0..=self.below(5) {
                word.extend(PARTS[self.below(PARTS.len() as u64) as usize].bytes());
            }
            if bytes && self.below(3) == 0 {
                word.push(0xff);
            }
            OsString::from_vec(word)
        }
    }

    /// Flags of every kind, with odd values: as settings, as flags again, as settings again.
    #[test]
    fn settings_are_the_same_after_they_were_flags() {
        let command = Settings::augment_args(clap::Command::new("wrap"));
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let bytes =
            ["rw", "volume", "tmpfs", "secret", "run-dir", "rootfs", "workdir", "env", "env-file"];
        let mut several = 0;
        for _ in 0..2000 {
            let mut words = Vec::new();
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|_| numbers.below(3) == 0) else { continue };
                let takes_many = matches!(arg.get_action(), clap::ArgAction::Append);
                for _ in 0..if takes_many { 1 + numbers.below(3) } else { 1 } {
                    let mut word = OsString::from(format!("--{long}"));
                    let alone = !arg.get_action().takes_values()
                        || (long == "userns" && numbers.below(2) == 0);
                    if !alone {
                        word.push("=");
                        word.push(match long {
                            "profile" => "compat".into(),
                            _ => numbers.word(bytes.contains(&long)),
                        });
                    }
                    words.push(word);
                }
            }
            words.push("--".into());
            words.extend((0..=numbers.below(3)).map(|_| numbers.word(true)));
            let settings = of_flags(&words);
            let again = systemd::flags(&settings).unwrap();
            assert_eq!(of_flags(&again), settings, "{words:?}\n{again:?}");
            several = several.max(again.len());
        }
        assert!(several > 20, "the generator makes next to nothing");
    }
}
