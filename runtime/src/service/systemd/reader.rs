//! A unit that is being imported: which of its directives were read, and the service so far.

use std::collections::BTreeSet;
use std::path::Path;

use super::draft::Draft;
use super::name::UnitName;
use super::unit::{UnitFile, words};
use super::values;
use crate::error::Result;
use crate::facts::users::UserEntry;

/// What must be known about the machine.
pub trait UnitMachine {
    /// What is at a path.
    ///
    /// # Errors
    /// It cannot be inspected.
    fn kind(&self, path: &Path) -> Result<PathKind>;

    /// The text of a file, and whether other users may read it; `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &Path) -> Result<Option<(String, bool)>>;

    /// The directories that tmpfiles.d(5) makes at boot.
    ///
    /// # Errors
    /// Its files cannot be read.
    fn made_at_boot(&self) -> Result<Vec<MadeAtBoot>>;

    /// The user and group of `USER[:GROUP]`, if they exist.
    fn user(&self, spec: &str) -> Option<UserEntry>;
}

/// A directory that is made at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeAtBoot {
    /// Where it is.
    pub path: String,
    /// The user it belongs to.
    pub owner: String,
    /// The name of the file that says so, without `.conf`: mostly that of a package or a unit.
    pub file: String,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// Something else.
    Other,
}

/// The unit, and what became of it.
pub struct UnitReader<'a> {
    pub name: &'a UnitName,
    pub machine: &'a dyn UnitMachine,
    pub draft: Draft,
    unit: &'a UnitFile,
    taken: BTreeSet<(&'static str, &'static str)>,
}

impl<'a> UnitReader<'a> {
    pub fn new(
        name: &'a UnitName,
        unit: &'a UnitFile,
        machine: &'a dyn UnitMachine,
    ) -> UnitReader<'a> {
        UnitReader { name, machine, unit, draft: Draft::default(), taken: BTreeSet::new() }
    }

    /// The value of a directive of [Service], with its specifiers replaced.
    pub fn last(&mut self, key: &'static str) -> Option<String> {
        self.last_of("Service", key)
    }

    /// The same for another section.
    pub fn last_of(&mut self, section: &'static str, key: &'static str) -> Option<String> {
        self.taken.insert((section, key));
        let value = self.unit.last(section, key)?;
        self.expanded(key, &value)
    }

    /// A directive that is yes or no; what is neither is noted.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.last(key)?;
        let flag = values::boolean(&value);
        if flag.is_none() {
            self.draft.note(format!("{key}={value}"), "neither yes nor no");
        }
        flag
    }

    /// The assignments of a directive, without those that an empty one has reset.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
        self.list_of("Service", key)
    }

    /// The same for another section.
    pub fn list_of(&mut self, section: &'static str, key: &'static str) -> Vec<String> {
        self.taken.insert((section, key));
        self.unit.list(section, key)
    }

    /// All assignments, with the empty ones.
    pub fn raw(&mut self, key: &'static str) -> Vec<String> {
        self.taken.insert(("Service", key));
        self.unit.raw("Service", key).map(str::to_owned).collect()
    }

    /// The words of all assignments, with their specifiers replaced.
    pub fn words(&mut self, key: &'static str) -> Vec<String> {
        let mut all = Vec::new();
        for value in self.list(key) {
            match words(&value) {
                Ok(found) => all.extend(found.iter().filter_map(|word| self.expanded(key, word))),
                Err(error) => self.draft.urge(format!("{key}={value}"), error.to_string()),
            }
        }
        all
    }

    /// Replaces specifiers; one that cannot be resolved is noted.
    pub fn expanded(&mut self, key: &str, text: &str) -> Option<String> {
        match self.name.expand(text) {
            Ok(done) => Some(done),
            Err(error) => {
                self.draft.urge(format!("{key}={text}"), error.to_string());
                None
            }
        }
    }

    /// The directives that nothing has read, as (section, directive, its last value).
    pub fn untaken(&self) -> Vec<(String, String, String)> {
        let mut found: Vec<(String, String, String)> = Vec::new();
        for one in self.unit.assignments() {
            if self.taken.contains(&(one.section.as_str(), one.key.as_str())) {
                continue;
            }
            let same = |(section, key, _): &(String, String, String)| {
                *section == one.section && *key == one.key
            };
            match found.iter_mut().find(|other| same(other)) {
                Some((_, _, value)) => value.clone_from(&one.value),
                None => found.push((one.section.clone(), one.key.clone(), one.value.clone())),
            }
        }
        found.retain(|(_, _, value)| !value.is_empty());
        found
    }
}
