//! Output for people and programs, on standard output and standard error.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::sync::Mutex;

use crate::error::Error;

/// The first error in writing to standard output.
static UNWRITTEN: Mutex<Option<Error>> = Mutex::new(None);

/// Prints to standard output. A broken pipe is not an error; anything else is reported at the end,
/// by [`exit_code`].
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            let error = Error::io("write to standard output", &error);
            if let Ok(mut first) = UNWRITTEN.lock() {
                first.get_or_insert(error);
            }
        }
    }
}

/// The exit code: `code`, or `failed` if that is 0 and output could not be written.
pub(super) fn exit_code(code: i32, failed: i32) -> i32 {
    let unwritten = UNWRITTEN.lock().ok().and_then(|mut first| first.take());
    match unwritten {
        None => code,
        Some(error) => {
            complain(&error);
            if code == 0 { failed } else { code }
        }
    }
}

/// Prints an error as one line on standard error.
pub(super) fn complain(error: &Error) {
    tell(&error.to_string());
}

/// Prints a warning.
pub(super) fn warn(error: Error) {
    tell(&format!("warning: {error}"));
}

pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "garth: {}", shown(line));
}

/// Text that is safe to print: control characters, which could move the cursor, set colours or
/// titles, or begin another line, are escaped.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        false => Cow::Borrowed(text),
        true => {
            let spelled = |c: char| match c.is_control() {
                true => c.escape_default().to_string(),
                false => c.to_string(),
            };
            Cow::Owned(text.chars().map(spelled).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_spelled_out() {
        assert_eq!(shown("/srv/über x"), "/srv/über x");
        assert_eq!(shown("a\x1b]0;b\x07\nc\u{9b}2J"), r"a\u{1b}]0;b\u{7}\nc\u{9b}2J");
    }
}
