//! A unit of anybody's, imported: an answer or an error in one line, never a panic. What is written
//! is read as one service, in which comments and texts stay what they are.
#![no_main]

use std::path::Path;

use garth::Result;
use garth::service::ServiceFile;
use garth::service::systemd::{PathKind, UnitMachine, MadeAtBoot, UnitFile, UnitName, import};
use libfuzzer_sys::fuzz_target;

const SEED: &str = include_str!("../seeds/unit/everything.service");

/// A machine on which everything is there and nothing known: its files are what is read.
struct Mirror<'a>(&'a str);

impl UnitMachine for Mirror<'_> {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        Ok(match path.as_os_str().len() % 3 {
            0 => PathKind::Absent,
            1 => PathKind::Directory,
            _ => PathKind::Other,
        })
    }

    fn read(&self, path: &Path) -> Result<Option<(String, bool)>> {
        let length = path.as_os_str().len();
        Ok((length % 3 != 0).then(|| (self.0.to_owned(), length % 2 == 0)))
    }

    fn made_at_boot(&self) -> Result<Vec<MadeAtBoot>> {
        let made = |line: &str| MadeAtBoot {
            path: line.to_owned(),
            owner: "web".into(),
            file: "app".into(),
        };
        Ok(self.0.lines().map(made).collect())
    }

    fn user(&self, _: &str) -> Option<garth::facts::users::UserEntry> {
        None
    }
}

fuzz_target!(|text: &str| {
    // A name, then lines that replace those of the seed.
    let (name, text) = text.split_once('\n').unwrap_or(("app", text));
    let name = UnitName::parse(name)
        .or_else(|_| UnitName::parse("app@a-b\\x2dc"))
        .expect("that is a name");
    for unit in [text.to_owned(), format!("{SEED}\n[Service]\n{text}")] {
        let imported = UnitFile::parse(&unit)
            .and_then(|unit| import(&name, &unit, "the fuzzer", &Mirror(text)));
        match imported {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(import) => {
                let file = ServiceFile::parse(&import.text, Path::new("x"), &|_| None)
                    .expect("what is written is read");
                assert_eq!(file.services.len(), 1);
                assert_eq!(file.services[&import.name], import.service);
            }
        }
    }
});
