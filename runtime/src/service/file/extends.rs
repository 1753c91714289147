//! `extends = "FILE#SERVICE"`: what another service has, where this one says nothing of its own.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::place::SourceText;
use super::{Reading, Service, service, tables, text_of};
use crate::config::did_you_mean;
use crate::error::{Error, Result};

/// The service that `text` names, in the file of `place` or in another: `FILE#SERVICE`, `FILE` for
/// the one of the same name, `#SERVICE` for one of the same file. Its relative paths start where it
/// is written.
pub fn base(
    text: &str,
    span: Range<usize>,
    name: &str,
    place: &SourceText<'_>,
    reading: &Reading<'_>,
) -> Result<Service> {
    let (file, other) = text.split_once('#').unwrap_or((text, name));
    let dir = place.path().parent().unwrap_or(Path::new("/"));
    let within = |error: Error| place.within(span.clone(), error.within("extends"));
    let (path, text): (PathBuf, Cow<'_, str>) = match file {
        "" => (place.path().to_owned(), place.text().into()),
        file => {
            let path = dir.join(file);
            let path = path.canonicalize().map_err(|e| within(Error::io(path.display(), &e)))?;
            let text = text_of(&path).map_err(within)?;
            (path, text.into())
        }
    };
    let reading = reading.after(&path, other).map_err(within)?;
    let there = SourceText::new(&path, &text);
    let table = DeTable::parse(&text).map_err(|error| there.of(&error))?.into_inner();
    let mut names = Vec::new();
    for (key, value) in table {
        if key.get_ref() != "service" {
            return Err(there.unknown(&key, "key", ["service"].into_iter()));
        }
        for (key, value) in tables(value, &there)? {
            if key.get_ref() == other {
                let mut found = service(value, other, &there, &reading, &mut |_, _| {})?;
                found.settings.start_paths_at(path.parent().unwrap_or(Path::new("/")));
                return Ok(found);
            }
            names.push(key.into_inner().into_owned());
        }
    }
    let error = Error::new(format!("no service {other:?} in {}", path.display()));
    Err(within(did_you_mean(error, other, names.iter().map(String::as_str))))
}

/// `base`, with the values of these keys from `own`.
pub fn over<T: Serialize + DeserializeOwned>(base: &T, own: &T, keys: &[String]) -> Result<T> {
    let failed = |e: serde_json::Error| Error::new(format!("extends: {e}"));
    let mut merged = serde_json::to_value(base).map_err(failed)?;
    let mut own = serde_json::to_value(own).map_err(failed)?;
    for key in keys {
        // A key that is not written out is at its default.
        merged[key] = own[key].take();
    }
    serde_json::from_value(merged).map_err(failed)
}
