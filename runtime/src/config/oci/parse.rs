//! JSON to types: how much is read, and how an error names its place.

use serde::de::DeserializeOwned;

use super::strict::Strict;
use super::{Config, Process, Resources};
use crate::error::{Error, Result};

/// The most that is read of one file, in bytes. What engines write is about 20 kB.
pub const MAX_BYTES: usize = 16 << 20;

impl Config {
    /// Reads a `config.json`. Its contents are checked by [`Config::validate`].
    ///
    /// # Errors
    /// One line that names the place: `config.json: process.user.uid: invalid type: ...`.
    pub fn parse(json: &[u8]) -> Result<Config> {
        read(json, "config.json")
    }
}

impl Process {
    /// Reads what `exec --process` is given.
    ///
    /// # Errors
    /// See [`Config::parse`].
    pub fn parse(json: &[u8]) -> Result<Process> {
        read(json, "process.json")
    }
}

impl Resources {
    /// Reads what `update --resources` is given.
    ///
    /// # Errors
    /// See [`Config::parse`].
    pub fn parse(json: &[u8]) -> Result<Resources> {
        read(json, "resources")
    }
}

/// Checks that a file of this size would be read, before reading it.
///
/// # Errors
/// It is too large.
pub fn check_size(bytes: u64) -> Result<()> {
    match bytes <= MAX_BYTES as u64 {
        true => Ok(()),
        false => Err(Error::new(format!("{bytes} bytes, more than the maximum of {MAX_BYTES}"))),
    }
}

/// Reads one value; `what` names the file in errors. No string in it has a NUL byte: what follows
/// one would be lost on the way to the kernel.
fn read<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T> {
    check_size(json.len() as u64).map_err(|error| error.within(what))?;
    let refused = |offset: usize, cause: &str| {
        let place = place(json, offset);
        let colon = if place.is_empty() { "" } else { ": " };
        Error::new(format!("{what}: {place}{colon}{}", one_line(cause)))
    };
    if let Some(offset) = nul(json) {
        return Err(refused(offset, "a string contains a NUL byte"));
    }
    let mut from = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Strict(&mut from)).and_then(|value| from.end().map(|()| value));
    value.map_err(|error| {
        let line_start = match error.line() {
            0 | 1 => 0,
            line => json
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(line - 2)
                .map_or(0, |(at, _)| at + 1),
        };
        refused(line_start + error.column(), &error.to_string())
    })
}

/// Control characters escaped, and cut to a readable length.
fn one_line(text: &str) -> String {
    const LONG: usize = 300;
    let mut line = String::new();
    for character in text.chars() {
        if line.len() > LONG {
            // The place at the end matters more than the rest.
            let end = text.rfind(" at line ").filter(|at| *at > LONG);
            line.push_str("...");
            return line + end.map_or("", |at| &text[at..]);
        }
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// Finds the escape `\u0000`, the only way for a NUL byte into a string.
fn nul(json: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = json.get(at..)?.iter().position(|byte| *byte == b'\\') {
        at += found;
        if json[at..].starts_with(b"\\u0000") {
            return Some(at);
        }
        at += 2;
    }
    None
}

/// The keys and indices that lead to the value at `offset`: `mounts[2].options[0]`. A missing key
/// is found only at the end of its object, which is thus named as a whole.
fn place(json: &[u8], offset: usize) -> String {
    /// An object with the key last seen, or a list with the index.
    enum Level {
        Object { key: Option<String>, awaits_key: bool },
        List(usize),
    }
    let end = offset.min(json.len());
    let mut levels = Vec::new();
    let mut at = 0;
    while at < end {
        match json[at] {
            b'{' => levels.push(Level::Object { key: None, awaits_key: true }),
            b'[' => levels.push(Level::List(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object { awaits_key, .. }) => *awaits_key = true,
                Some(Level::List(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = start;
                while at < end && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(Level::Object { key, awaits_key }) = levels.last_mut()
                    && std::mem::take(awaits_key)
                {
                    let text = String::from_utf8_lossy(&json[start..at.min(end)]);
                    *key = Some(text.chars().filter(|c| !c.is_control()).take(64).collect());
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut place = String::new();
    // The start of the path is what a reader looks for.
    for level in levels.iter().take(16) {
        match level {
            Level::Object { key: Some(key), .. } => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(key);
            }
            Level::Object { key: None, .. } => {}
            Level::List(index) => place.push_str(&format!("[{index}]")),
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Config::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let json = r#"{"ociVersion":"1.0.0","process":{"args":["a","b\"{"],"user":{"uid":"x"}}}"#;
        assert_eq!(
            error(json),
            "config.json: process.user.uid: invalid type: string \"x\", expected u32 \
             at line 1 column 70"
        );
        let json = "{\n\"linux\": {\n\"namespaces\": [{\"type\":\"pid\"}, {\"type\":\"pdi\"}]}}";
        assert!(error(json).starts_with("config.json: linux.namespaces[1].type: unknown variant"));
        assert!(error(r#"{"mounts":[{"options":[1]}]}"#).contains(": mounts[0].options[0]: "));
        assert!(error(r#"{"process":{"args":{}}}"#).contains(": process.args: invalid type: map"));
    }

    #[test]
    fn a_missing_key_is_named_with_the_object_that_lacks_it() {
        let json = r#"{"linux":{"namespaces":[{"path":"/x"}]}}"#;
        assert!(error(json).starts_with("config.json: linux.namespaces[0]: missing field `type`"));
    }

    #[test]
    fn an_error_is_one_short_line_whatever_is_quoted() {
        let long =
            format!(r#"{{"linux":{{"namespaces":[{{"type":"a\nb{}"}}]}}}}"#, "x".repeat(9999));
        let error = error(&long);
        assert!(!error.contains('\n') && error.len() < 500, "{error}");
        assert!(error.contains("a\\nb") && error.contains(" at line 1 column "), "{error}");
    }

    #[test]
    fn truncated_and_foreign_files_are_errors() {
        for json in ["", "{", "[]", "null", "\u{feff}{}", "{}{}", "{\"process\":{\"args\":[\"a"] {
            assert!(Config::parse(json.as_bytes()).is_err(), "{json}");
        }
        assert!(Config::parse(b"{\"hostname\":\"\xff\"}").is_err());
        // However deep: unknown values are skipped without a call for each level.
        let deep = |key: &str| format!("{{\"{key}\":{}{}}}", "[".repeat(99999), "]".repeat(99999));
        assert!(Config::parse(deep("x").as_bytes()).is_ok());
        assert!(error(&deep("mounts")).contains("mounts[0]: invalid type: sequence"));
    }

    #[test]
    fn a_list_does_not_pass_for_an_object() {
        assert!(error(r#"{"process":{"user":[0,0]}}"#).contains("process.user: invalid type: seq"));
        assert!(error(r#"{"mounts":[["/proc"]]}"#).contains("mounts[0]: invalid type: sequence"));
        assert!(error(r#"{"linux":{"netDevices":{"e":[]}}}"#).contains("linux.netDevices.e: inv"));
        let profile = r#"{"linux":{"seccomp":["SCMP_ACT_ALLOW",null,[],[],null,null,[]]}}"#;
        assert!(error(profile).contains("linux.seccomp: invalid type: sequence"));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let json = vec![b' '; MAX_BYTES + 1];
        let error = Config::parse(&json).unwrap_err().to_string();
        assert_eq!(error, "config.json: 16777217 bytes, more than the maximum of 16777216");
    }

    #[test]
    fn a_nul_byte_in_any_string_is_an_error() {
        assert_eq!(
            error(r#"{"process":{"env":["A=b","C=\u0000d"]}}"#),
            "config.json: process.env[1]: a string contains a NUL byte"
        );
        let backslash = br#"{"hostname":"\\u0000"}"#;
        assert_eq!(Config::parse(backslash).unwrap().hostname.as_deref(), Some("\\u0000"));
    }

    #[test]
    fn null_and_empty_strings_are_absent_as_go_has_it() {
        let json = br#"{"ociVersion":"1.0.0","process":{"args":null,"user":null,"cwd":null,
            "capabilities":null,"terminal":null,"apparmorProfile":""},"mounts":null,"hostname":"",
            "hooks":{"prestart":null},"linux":{"resources":{"devices":null,"memory":{"limit":null}},
            "sysctl":null,"namespaces":[{"type":"pid","path":""}]},"annotations":null,"root":null}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!((config.hostname, config.root), (None, None));
        assert_eq!(config.linux.unwrap().namespaces[0].path, None);
        assert_eq!(config.process, Some(Process::default()));
    }

    #[test]
    fn keys_of_other_specifications_are_passed_over() {
        let json =
            br#"{"ociVersion":"1.9.0","windows":{"layerFolders":["x"]},"linux":{"new":[{}]}}"#;
        assert_eq!(Config::parse(json).unwrap().linux, Some(super::super::Linux::default()));
    }
}
