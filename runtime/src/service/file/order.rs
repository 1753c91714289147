//! Which service is started when.

use std::collections::{BTreeMap, BTreeSet};

use super::ServiceFile;
use crate::config::did_you_mean;
use crate::error::{Error, Result};

impl ServiceFile {
    /// The services in the order in which they are started: those of one level at the same time.
    ///
    /// # Errors
    /// `after` or `reaches` names a service that does not exist, or services wait for each other.
    pub fn levels(&self) -> Result<Vec<Vec<&str>>> {
        let mut waiting: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, service) in &self.services {
            let rules = &service.rules;
            for (key, others) in [("after", &rules.after), ("reaches", &rules.reaches)] {
                if let Some(other) = others.iter().find(|other| !self.services.contains_key(*other))
                {
                    let error = Error::new(format!(
                        "service {name}: {key}: no service {other:?} in the file"
                    ));
                    let names = self.services.keys().map(String::as_str);
                    return Err(did_you_mean(error, other, names));
                }
            }
            waiting.insert(name, service.rules.after.iter().map(String::as_str).collect());
        }
        let mut levels = Vec::new();
        while !waiting.is_empty() {
            let ready = waiting.iter().filter(|(_, before)| before.is_empty());
            let level: Vec<&str> = ready.map(|(name, _)| *name).collect();
            if level.is_empty() {
                return Err(Error::new(format!(
                    "services wait for each other: {}",
                    cycle(&waiting)
                )));
            }
            waiting.retain(|name, _| !level.contains(name));
            for before in waiting.values_mut() {
                before.retain(|name| !level.contains(name));
            }
            levels.push(level);
        }
        Ok(levels)
    }
}

/// One circle among services that all wait: `a after b after a`.
fn cycle(waiting: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let mut path: Vec<&str> = Vec::new();
    let mut at = waiting.keys().next().copied();
    while let Some(name) = at {
        if let Some(start) = path.iter().position(|one| *one == name) {
            return [&path[start..], &[name]].concat().join(" after ");
        }
        path.push(name);
        at = waiting.get(name).and_then(|before| before.iter().next()).copied();
    }
    path.join(" after ")
}
