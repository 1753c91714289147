//! The syntax of settings in files: the same values as for the flags. A number stands for its text
//! (`memory = 65536`), and for a flag that may be repeated, a single value for a list of one.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

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

/// Text, or a number as its text. This and the other types here are for `#[serde(with = ...)]`, and
/// name the form of a key in the schema of service files.
pub struct Text;

impl Text {
    pub fn serialize<S: Serializer>(word: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        word.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_any(Word { flag: false })
    }
}

/// A flag with an optional value: `true`, or the value.
pub struct OptionalText;

impl OptionalText {
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
    // First: an empty list is no path without bytes.
    Several(Vec<T>),
    One(T),
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
pub struct Texts;

impl Texts {
    pub fn serialize<S: Serializer>(words: &[String], to: S) -> Result<S::Ok, S::Error> {
        words.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(Written::deserialize(from)?.list())
    }
}

/// A string that need not be UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct OsText(#[serde(with = "os_path")] PathBuf);

/// A list of strings that need not be UTF-8.
pub struct Paths;

impl Paths {
    pub fn serialize<S: Serializer>(paths: &[impl AsRef<Path>], to: S) -> Result<S::Ok, S::Error> {
        os_path::list::serialize(paths, to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: From<PathBuf>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let list = Written::<OsText>::deserialize(from)?.list();
        Ok(list.into_iter().map(|OsText(path)| path.into()).collect())
    }
}

/// A path that need not be UTF-8.
pub struct OnePath;

impl OnePath {
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.clone().map(OsText).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<OsText>::deserialize(from)?.map(|OsText(path)| path))
    }
}

/// The names of a struct's keys, as it is deserialized.
pub fn key_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Names<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            Err(de::Error::custom("only its names are wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
            unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut names));
    names
}

/// The keys that are not at their defaults, with their values.
pub fn given<T: Serialize + Default>(value: &T) -> serde_json::Result<Map<String, Value>> {
    let keys = |value: &T| serde_json::from_value::<Map<_, _>>(serde_json::to_value(value)?);
    let (mut given, usual) = (keys(value)?, keys(&T::default())?);
    given.retain(|key, value| usual.get(key) != Some(value));
    Ok(given)
}
