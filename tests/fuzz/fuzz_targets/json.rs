//! Changes of JSON that leave it JSON. Of bytes changed at random next to none come through a
//! parser; here a document is changed where it has values, with the keys and values that stand in
//! the same places of the seeds, and with those at the edges of their types. One change in eight is
//! libFuzzer's own, of bytes, for the parser's sake.
//!
//! The seeds need not be in the corpus: what is no JSON becomes one of them.

use std::collections::BTreeMap;

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Map, Value, json};

/// The seeds, and what stands where in them.
pub struct Seeds {
    texts: Vec<&'static str>,
    /// By the key of an object: its keys with their values. The items of a list are of the list's
    /// key.
    fields: BTreeMap<String, Vec<(String, Value)>>,
    /// By the key of a list: its items.
    items: BTreeMap<String, Vec<Value>>,
    /// Every string there is.
    words: Vec<String>,
}

impl Seeds {
    pub fn new(texts: &[&'static str]) -> Seeds {
        let texts = texts.to_vec();
        let mut seeds =
            Seeds { texts, fields: BTreeMap::new(), items: BTreeMap::new(), words: Vec::new() };
        for text in seeds.texts.clone() {
            seeds.learn("", &serde_json::from_str(text).expect("a seed is JSON"));
        }
        seeds.words.sort_unstable();
        seeds.words.dedup();
        seeds
    }

    fn learn(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let field = (name.clone(), value.clone());
                    self.fields.entry(key.to_owned()).or_default().push(field);
                    self.words.push(name.clone());
                    self.learn(name, value);
                }
            }
            Value::Array(list) => {
                for item in list {
                    self.items.entry(key.to_owned()).or_default().push(item.clone());
                    self.learn(key, item);
                }
            }
            Value::String(text) => self.words.push(text.clone()),
            _ => {}
        }
    }

    /// What `fuzz_mutator!` wants: changes `data[..size]`, and returns the new size.
    pub fn mutate(&self, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
        let mut random = Random(u64::from(seed) << 1 | 1);
        let parsed = match random.below(8) {
            0 => return fuzzer_mutate(data, size, max_size),
            _ => serde_json::from_slice(&data[..size]),
        };
        let fits: Vec<_> = self.texts.iter().filter(|text| text.len() <= max_size).collect();
        let mut document: Value = match (parsed, fits.is_empty()) {
            (Ok(value @ Value::Object(_)), _) => value,
            (_, true) => return fuzzer_mutate(data, size, max_size),
            (_, false) => {
                let text = random.of(&fits);
                serde_json::from_str(text).expect("a seed is JSON")
            }
        };
        for _ in 0..=random.below(4) {
            self.change(&mut document, &mut random);
        }
        let text = document.to_string();
        if text.len() > max_size {
            return fuzzer_mutate(data, size, max_size);
        }
        data[..text.len()].copy_from_slice(text.as_bytes());
        text.len()
    }

    /// One change somewhere in it.
    fn change(&self, document: &mut Value, random: &mut Random) {
        let mut left = random.below(count(document));
        let (key, value) = nth("", document, &mut left).expect("it was counted");
        match (value, random.below(12)) {
            (Value::Object(map), 0..7) => self.change_object(key, map, random),
            (Value::Array(list), 0..7) => self.change_list(key, list, random),
            (value, 7) => *value = self.like(key, random),
            (value, 8) => *value = random.odd(),
            (Value::String(text), _) => *text = self.change_text(text, random),
            (value @ Value::Number(_), _) => *value = random.number(),
            (Value::Bool(yes), _) => *yes = !*yes,
            (value, _) => *value = self.like(key, random),
        }
    }

    fn change_object(&self, key: &str, map: &mut Map<String, Value>, random: &mut Random) {
        let names: Vec<String> = map.keys().cloned().collect();
        match (self.fields.get(key), random.below(4)) {
            (_, 0) if !names.is_empty() => drop(map.remove(random.of(&names))),
            // A value under another name.
            (Some(fields), 1) if !names.is_empty() => {
                let value = map.remove(random.of(&names)).unwrap_or_default();
                map.insert(random.of(fields).0.clone(), value);
            }
            (Some(fields), _) => {
                let (name, value) = random.of(fields);
                map.insert(name.clone(), value.clone());
            }
            (None, _) => {
                map.insert(random.of(&self.words).clone(), random.odd());
            }
        }
    }

    fn change_list(&self, key: &str, list: &mut Vec<Value>, random: &mut Random) {
        let at = random.below(list.len().max(1));
        match random.below(5) {
            0 if !list.is_empty() => drop(list.remove(at)),
            1 if !list.is_empty() => list.insert(at, list[at].clone()),
            2 if !list.is_empty() => {
                let other = random.below(list.len());
                list.swap(at, other);
            }
            // Long, but not so that one run takes as long as a thousand others.
            3 if (1..200).contains(&list.len()) => {
                let item = list[at].clone();
                list.extend(std::iter::repeat_n(item, 1 << random.below(7)));
            }
            _ => match self.items.get(key) {
                Some(items) => list.insert(at, random.of(items).clone()),
                None => list.push(random.odd()),
            },
        }
    }

    /// A value as the seeds have it there, or just any.
    fn like(&self, key: &str, random: &mut Random) -> Value {
        match (self.items.get(key), random.below(3)) {
            (Some(items), 0 | 1) => random.of(items).clone(),
            _ => {
                let fields: Vec<_> = self.fields.values().flatten().collect();
                let same: Vec<_> = fields.iter().filter(|(name, _)| name == key).collect();
                match same.is_empty() || random.below(8) == 0 {
                    true => random.of(&fields).1.clone(),
                    false => random.of(&same).1.clone(),
                }
            }
        }
    }

    fn change_text(&self, text: &str, random: &mut Random) -> String {
        let word = random.of(&self.words);
        match random.below(8) {
            0..3 => word.clone(),
            3 => format!("{text}{word}"),
            4 => format!("{text}/{word}"),
            5 => format!("{text}={word}"),
            6 => {
                const ODD: [&str; 20] = [
                    "",
                    "/",
                    "//",
                    ".",
                    "..",
                    "/..",
                    "/../../etc",
                    "a/./b/../c/",
                    " ",
                    "\n",
                    "\u{7f}",
                    "\0",
                    "\u{202e}",
                    "=",
                    ":",
                    "-1",
                    "0-8191",
                    "1,1,1",
                    "%s",
                    "../../../proc/self",
                ];
                let odd = random.of(&ODD);
                match random.below(3) {
                    0 => (*odd).to_owned(),
                    1 => format!("{odd}{text}"),
                    _ => odd.repeat(1 << random.below(9)),
                }
            }
            _ => {
                let mut bytes = text.as_bytes().to_vec();
                let size = bytes.len();
                bytes.resize(size + 16, 0);
                let room = bytes.len();
                let size = fuzzer_mutate(&mut bytes, size, room);
                String::from_utf8_lossy(&bytes[..size]).into_owned()
            }
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(list) => list.iter().map(count).sum(),
        _ => 0,
    }
}

/// The value with this number, and the key that it, or the list that it is in, stands under.
fn nth<'a>(
    key: &'a str,
    value: &'a mut Value,
    left: &mut usize,
) -> Option<(&'a str, &'a mut Value)> {
    if *left == 0 {
        return Some((key, value));
    }
    *left -= 1;
    match value {
        Value::Object(map) => map.iter_mut().find_map(|(key, value)| nth(key, value, left)),
        Value::Array(list) => list.iter_mut().find_map(|item| nth(key, item, left)),
        _ => None,
    }
}

/// xorshift64: the same seed, the same changes.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn number(&mut self) -> Value {
        let edge = *self.of(&[0, 7, 8, 15, 16, 31, 32, 33, 53, 62, 63, 64]);
        let number = (1_i128 << edge) + self.below(3) as i128 - 1;
        match self.below(8) {
            0 => json!(*self.of(&[0.5, -0.0, 1e19, -1e300])),
            1 => json!(i64::try_from(-number).unwrap_or(i64::MIN)),
            2 => json!(self.below(100)),
            _ => json!(u64::try_from(number).unwrap_or(u64::MAX)),
        }
    }

    /// Something that most places have no use for.
    fn odd(&mut self) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => json!([]),
            2 => json!({}),
            3 => json!(true),
            4 => json!(""),
            5 => json!([{}]),
            6 => json!("x".repeat(1 << self.below(13))),
            _ => self.number(),
        }
    }
}
