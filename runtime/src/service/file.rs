//! Service files: sandboxes that belong together, in TOML.
//!
//! A table `[service.NAME]` has the keys of [`Settings`], which are the flags of `garth wrap`, and those of
//! [`Rules`]. `${NAME}` in a text is a variable of the environment.

mod extends;
mod order;
mod place;
mod variables;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::rules::Rules;
use super::settings::{Settings, given, key_names};
use crate::config::did_you_mean;
use crate::error::{Error, Result};
use crate::sys::process;
use place::SourceText;

/// The usual name of a service file.
pub const NAME: &str = "garth.toml";

/// What one file asks for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceFile {
    /// Where it was read.
    pub path: PathBuf,
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// Where they, and their keys, are in the file: for errors.
    #[serde(skip)]
    places: BTreeMap<(String, Option<String>), String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its sandbox.
    pub settings: Settings,
    /// How it is run.
    pub rules: Rules,
}

impl Service {
    /// Its keys that are not at their defaults, with their values.
    pub fn values(&self) -> Map<String, Value> {
        // What was read from text can be written.
        let settings = given(&self.settings).unwrap_or_default();
        let rules = given(&self.rules).unwrap_or_default();
        let all = settings.into_iter().chain(rules);
        all.filter(|(key, _)| !NOT_OF_FILES.contains(&key.as_str())).collect()
    }

    /// The same without a key of its settings, or with a command that always works; `None` for any
    /// other key.
    pub fn without(&self, key: &str) -> Option<Service> {
        let mut settings = serde_json::to_value(&self.settings).ok()?;
        settings.as_object_mut()?.remove(key)?;
        if key == "command" {
            settings[key] = serde_json::json!(["/bin/true"]);
        }
        let settings = Settings::deserialize(settings).ok()?;
        Some(Service { settings, rules: self.rules.clone() })
    }
}

/// Keys of [`Settings`] that a file does not have: a service's name is that of its table.
pub const NOT_OF_FILES: [&str; 1] = ["name"];

impl ServiceFile {
    /// Reads a file, or the `garth.toml` in a directory, with the variables of this process's
    /// environment.
    ///
    /// # Errors
    /// It cannot be read, others may write it, or something in it is wrong: with line and column.
    pub fn read(path: &Path) -> Result<ServiceFile> {
        let whole = fs::canonicalize(path)
            .map_err(|e| Error::io(format!("read {}", path.display()), &e))?;
        let path = if whole.is_dir() { whole.join(NAME) } else { whole };
        ServiceFile::parse(&text_of(&path)?, &path, &|name| std::env::var(name).ok())
    }

    /// Parses the text of the file `path`. `variable` knows the environment.
    ///
    /// # Errors
    /// The first mistake, with line and column.
    pub fn parse(
        text: &str,
        path: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<ServiceFile> {
        let place = SourceText::new(path, text);
        let table = DeTable::parse(text).map_err(|error| place.of(&error))?.into_inner();
        let (mut services, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in table {
            if key.get_ref() != "service" {
                return Err(place.unknown(&key, "key", ["service"].into_iter()));
            }
            for (name, value) in tables(value, &place)? {
                check_name(&name, &place)?;
                let span = name.span();
                let name = name.into_inner().into_owned();
                places.insert((name.clone(), None), place.line_of(span));
                let mut note = |key: &str, span| {
                    places.insert((name.clone(), Some(key.to_owned())), place.line_of(span));
                };
                let reading = Reading { variable, trail: vec![(path.to_owned(), name.clone())] };
                let span = value.span();
                let service = service(value, &name, &place, &reading, &mut note)?;
                if service.settings.command.is_empty() {
                    return Err(place
                        .at(span, "no command")
                        .hint("write command = [\"PROGRAM\", \"ARGUMENT\"]"));
                }
                services.insert(name, service);
            }
        }
        if services.is_empty() {
            return Err(Error::new(format!("{}: no services in it", path.display()))
                .hint("write a table [service.NAME] with a command"));
        }
        let file = ServiceFile { path: path.to_owned(), services, places };
        file.levels().map_err(|error| error.within(path.display()))?;
        Ok(file)
    }

    /// The service of this name.
    ///
    /// # Errors
    /// There is none; the error says which there are.
    pub fn service(&self, name: &str) -> Result<&Service> {
        let names: Vec<&str> = self.services.keys().map(String::as_str).collect();
        self.services.get(name).ok_or_else(|| {
            let error = Error::new(format!("{}: no service {name:?} in it", self.path.display()))
                .hint(format!("there are: {}", names.join(", ")));
            did_you_mean(error, name, names.iter().copied())
        })
    }

    /// An error about a service, or one of its keys, with its place in the file.
    pub(super) fn at(&self, service: &str, key: Option<&str>, error: Error) -> Error {
        let place =
            |key: Option<&str>| self.places.get(&(service.to_owned(), key.map(str::to_owned)));
        match place(key).or_else(|| place(None)) {
            Some(place) => error.within(format_args!("{place}: service {service}")),
            None => error.within(format_args!("service {service}")),
        }
    }
}

/// The text of a file that nobody but root and the caller can have written.
fn text_of(path: &Path) -> Result<String> {
    let shown = path.display().to_string();
    let failed = |e: &std::io::Error| Error::io(format!("read {shown}"), e);
    let metadata = fs::metadata(path).map_err(|e| failed(&e))?;
    if !metadata.is_file() {
        return Err(Error::new(format!("{shown}: not a regular file")));
    }
    // Its commands run with the rights of the user who runs garth.
    let (own, _) = process::effective_ids();
    if (metadata.uid() != 0 && metadata.uid() != own) || metadata.mode() & 0o022 != 0 {
        return Err(Error::new(format!("{shown}: can be changed by other users"))
            .hint("it must belong to root or to you, without write permission for others"));
    }
    fs::read_to_string(path).map_err(|e| failed(&e))
}

type Entry<'a> = (Spanned<Cow<'a, str>>, Spanned<DeValue<'a>>);

fn tables<'a>(value: Spanned<DeValue<'a>>, place: &SourceText) -> Result<Vec<Entry<'a>>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(table.into_iter().collect()),
        other => {
            let found = other.type_str();
            Err(place
                .at(span, &format!("a table is expected, not {found}"))
                .hint("write [service.NAME]"))
        }
    }
}

fn check_name(name: &Spanned<Cow<'_, str>>, place: &SourceText) -> Result<()> {
    crate::journal::check_id(name.get_ref()).map_err(|error| place.within(name.span(), error))
}

/// How a file is read.
struct Reading<'a> {
    /// The environment.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// The services that led here, each by `extends` of the one before.
    trail: Vec<(PathBuf, String)>,
}

impl Reading<'_> {
    /// The same, for a service that the last one extends.
    fn after(&self, path: &Path, name: &str) -> Result<Reading<'_>> {
        let next = (path.to_owned(), name.to_owned());
        let mut trail = self.trail.clone();
        let is_circle = trail.contains(&next);
        trail.push(next);
        if is_circle {
            let names: Vec<&str> = trail.iter().map(|(_, name)| name.as_str()).collect();
            return Err(Error::new(format!("in a circle: {}", names.join(" extends "))));
        }
        Ok(Reading { variable: self.variable, trail })
    }
}

/// A key that is neither of the sandbox nor of the rules.
const EXTENDS: &str = "extends";

/// The keys of one service, divided into those of its sandbox and the others.
fn service(
    value: Spanned<DeValue<'_>>,
    name: &str,
    place: &SourceText<'_>,
    reading: &Reading<'_>,
    note: &mut dyn FnMut(&str, std::ops::Range<usize>),
) -> Result<Service> {
    let span = value.span();
    let (of_settings, of_rules) = (key_names::<Settings>(), key_names::<Rules>());
    let (mut settings, mut rules) = (DeTable::new(), DeTable::new());
    let mut extends = None;
    for (key, mut value) in tables(value, place)? {
        variables::fill(&mut value, place, reading.variable)?;
        note(key.get_ref(), key.span());
        let known = |keys: &[&str]| keys.contains(&&**key.get_ref());
        if key.get_ref() == EXTENDS {
            let span = value.span();
            match value.get_ref() {
                DeValue::String(text) => extends = Some((text.to_string(), span)),
                other => {
                    let what = format!("text is expected, not {}", other.type_str());
                    return Err(place.at(span, &what).hint("write extends = \"FILE#SERVICE\""));
                }
            }
        } else if known(of_rules) {
            rules.insert(key, value);
        } else if known(of_settings) && !NOT_OF_FILES.contains(&&**key.get_ref()) {
            settings.insert(key, value);
        } else {
            let keys = of_settings.iter().chain(of_rules).copied().chain([EXTENDS]);
            return Err(place.unknown(&key, "key", keys.filter(|key| !NOT_OF_FILES.contains(key))));
        }
    }
    let names = |table: &DeTable<'_>| -> Vec<String> {
        table.keys().map(|key| key.get_ref().to_string()).collect()
    };
    let (own_settings, own_rules) = (names(&settings), names(&rules));
    let of = |table| ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
    let settings = Settings::deserialize(of(settings)).map_err(|error| place.of(&error))?;
    let health = rules.get("health").map(Spanned::span);
    let rules = Rules::deserialize(of(rules)).map_err(|error| place.of(&error))?;
    if let (Some(health), Some(span)) = (&rules.health, health) {
        health.check().map_err(|error| place.within(span, error))?;
    }
    let own = Service { settings, rules };
    let Some(extends) = extends else { return Ok(own) };
    let base = extends::base(&extends.0, extends.1, name, place, reading)?;
    Ok(Service {
        settings: extends::over(&base.settings, &own.settings, &own_settings)?,
        rules: extends::over(&base.rules, &own.rules, &own_rules)?,
    })
}

#[cfg(test)]
mod tests;
