//! The syntax of settings in files: the same values as for the flags. A number stands for its text
//! (`memory = 65536`), and for a flag that may be repeated, a single value for a list of one.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::os_path;

/// Text, or a number as its text; with `flag`, `true` is a flag without its value.
struct Word {
    flag: bool,
}

impl<'de> Visitor<'de> for Word {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.flag { "text, true or false" } else { "text or a number" })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.number(number.to_string(), de::Unexpected::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.number(number.to_string(), de::Unexpected::Signed(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.number(number.to_string(), de::Unexpected::Float(number))
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
        match self.flag {
            true => Ok(on.then(String::new)),
            false => Err(E::invalid_type(de::Unexpected::Bool(on), &self)),
        }
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl Word {
    fn number<E: de::Error>(
        self,
        text: String,
        found: de::Unexpected<'_>,
    ) -> Result<Option<String>, E> {
        if self.flag { Err(E::invalid_type(found, &self)) } else { Ok(Some(text)) }
    }
}

/// Text, or a number as its text.
pub mod word {
    use super::{Deserializer, Serialize, Serializer, Word};

    pub fn serialize<S: Serializer>(word: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        word.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_any(Word { flag: false })
    }
}

/// A flag with an optional value: `true`, or the value.
pub mod optional {
    use super::{Deserializer, Serialize, Serializer, Word};

    pub fn serialize<S: Serializer>(word: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        word.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_any(Word { flag: true })
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text or a list of text")]
enum Written<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> Written<T> {
    fn list(self) -> Vec<T> {
        match self {
            Written::One(one) => vec![one],
            Written::Several(list) => list,
        }
    }
}

/// A list of words.
pub mod words {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Written};

    pub fn serialize<S: Serializer>(words: &[String], to: S) -> Result<S::Ok, S::Error> {
        words.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(Written::deserialize(from)?.list())
    }
}

/// A list of strings that need not be UTF-8.
pub mod paths {
    use std::path::{Path, PathBuf};

    use super::{Deserialize, Deserializer, Serializer, Written, os_path};

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct One(#[serde(with = "os_path")] PathBuf);

    pub fn serialize<S: Serializer>(paths: &[impl AsRef<Path>], to: S) -> Result<S::Ok, S::Error> {
        os_path::list::serialize(paths, to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: From<PathBuf>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Written::<One>::deserialize(from)?
            .list()
            .into_iter()
            .map(|One(path)| path.into())
            .collect())
    }
}
