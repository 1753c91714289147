//! The names of entries.

use crate::config::name::{NAMES, is_name};
use crate::error::{Error, Result};

/// Whether it can be the name of a sandbox or service.
pub fn check_id(id: &str) -> Result<()> {
    if is_name(id) {
        return Ok(());
    }
    Err(Error::new(format!("{:?} is not a valid sandbox name", id.escape_debug().to_string()))
        .hint(NAMES))
}

/// The limited process's id and start time.
pub(super) fn check_limit_id(id: &str) -> Result<()> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match id.split_once('-') {
        Some((pid, start_time)) if number(pid) && number(start_time) && id.len() < 64 => Ok(()),
        _ => Err(Error::new(format!(
            "{:?} is not a valid limit name",
            id.escape_debug().to_string()
        ))),
    }
}

/// Same as runc's, and short enough for a file name with a few words around it.
pub(super) fn check_container_id(id: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
    if (1..=200).contains(&id.len()) && id.bytes().all(fine) && !id.starts_with(['.', '-']) {
        return Ok(());
    }
    let mut shown: String = id.escape_debug().take(80).collect();
    if shown.len() < id.len() {
        shown += "...";
    }
    Err(Error::new(format!("invalid container id {shown:?}"))
        .hint("use 1 to 200 letters, digits and _ . + -, not starting with a dot or dash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_and_a_host_name() {
        for good in ["web", "web-1.example", "_x", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", ".x", "-x", "a/b", "a b", "a\nb", "ä", &long] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
