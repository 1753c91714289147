//! Settings as the flags of `garth wrap`: the inverse of what the command line does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::service::Settings;
use crate::service::settings::given;

/// The arguments after `garth wrap`, with the command after `--`. The key of each setting is the
/// name of its flag.
///
/// # Errors
/// A setting that no flag can express.
pub fn flags(settings: &Settings) -> Result<Vec<OsString>> {
    let wrong = |key: &str| Error::new(format!("{key}: not the value of a flag"));
    let keys = given(settings).map_err(|error| Error::new(format!("write settings: {error}")))?;
    let mut words = Vec::new();
    for (key, value) in keys.iter().filter(|(key, _)| *key != "command") {
        let flag = |value: &OsStr| {
            let mut flag = OsString::from(format!("--{key}="));
            flag.push(value);
            flag
        };
        match value {
            Value::Bool(true) => words.push(format!("--{key}").into()),
            // The flag without its value.
            Value::String(text) if text.is_empty() && key == "userns" => {
                words.push(format!("--{key}").into());
            }
            Value::String(text) => words.push(flag(text.as_ref())),
            Value::Array(list) => {
                // A single path that is not UTF-8 is a list of numbers.
                if let Some(path) = text(value) {
                    words.push(flag(&path));
                    continue;
                }
                for one in list {
                    words.push(flag(&text(one).ok_or_else(|| wrong(key))?));
                }
            }
            _ => return Err(wrong(key)),
        }
    }
    words.push("--".into());
    words.extend(settings.command.iter().cloned());
    Ok(words)
}

/// A text, or the bytes of one that is not UTF-8.
fn text(value: &Value) -> Option<OsString> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            bytes.iter().map(byte).collect::<Option<Vec<u8>>>().map(OsString::from_vec)
        }
        _ => None,
    }
}

/// A word of an ExecStart= that is neither taken apart nor replaced.
pub fn quoted(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@+=:,./-".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut done = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => done.extend(['\\', c]),
                '$' | '%' => done.extend([c, c]),
                '\n' => done.push_str("\\n"),
                '\t' => done.push_str("\\t"),
                _ if c.is_ascii_control() => done.push_str(&format!("\\x{:02x}", u32::from(c))),
                _ if c.is_control() => done.push_str(&format!("\\u{:04x}", u32::from(c))),
                _ => done.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| done.push_str(&format!("\\x{byte:02x}")));
    }
    done.push('"');
    done
}
