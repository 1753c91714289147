//! Output for people and programs, on standard output and standard error.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Mutex;

use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Style};

use crate::error::Error;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const CAUTION: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const FAILURE: Style = AnsiColor::Red.on_default().bold();

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
    say(FAILURE, &error.to_string());
}

/// Prints a warning.
pub(super) fn warn(error: Error) {
    caution(&error.to_string());
}

/// Prints a warning.
pub(super) fn caution(line: &str) {
    say(CAUTION, &format!("warning: {line}"));
}

/// Prints a line on standard error that is neither an error nor a warning.
pub(super) fn tell(line: &str) {
    say(Style::new(), line);
}

fn say(style: Style, line: &str) {
    let mut stderr = std::io::stderr();
    let name = styled("garth:", style, &stderr);
    let _ = writeln!(stderr, "{name} {}", shown(line));
}

/// `text` in this style where `stream` is coloured. It must be safe to print.
pub(super) fn styled(text: &str, style: Style, stream: &impl IsTerminal) -> String {
    match is_coloured(stream) {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    }
}

/// A text of the parser, such as a help text, as it is printed on `stream`.
pub(super) fn rendered(text: &StyledStr, stream: &impl IsTerminal) -> String {
    match is_coloured(stream) {
        true => text.ansi().to_string(),
        false => text.to_string(),
    }
}

/// Whether what is printed on `stream` is coloured: on a terminal that has colours, unless the
/// environment says otherwise (no-color.org, bixense.com/clicolors).
fn is_coloured(stream: &impl IsTerminal) -> bool {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    wants_colour(variable, stream.is_terminal())
}

fn wants_colour(variable: impl Fn(&str) -> Option<OsString>, terminal: bool) -> bool {
    if variable("NO_COLOR").is_some() {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let refused = variable("CLICOLOR").is_some_and(|value| value == "0");
    terminal && !refused && variable("TERM").is_some_and(|kind| kind != "dumb")
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
    fn colour_is_for_terminals_unless_the_environment_says_otherwise() {
        for (set, on_a_terminal, elsewhere) in [
            ("TERM=xterm", true, false),
            ("", false, false),
            ("TERM=dumb", false, false),
            ("TERM=xterm NO_COLOR=1", false, false),
            ("TERM=xterm NO_COLOR=0", false, false),
            ("TERM=xterm CLICOLOR=0", false, false),
            ("TERM=xterm CLICOLOR=1", true, false),
            ("CLICOLOR_FORCE=1", true, true),
            ("TERM=xterm CLICOLOR_FORCE=0", true, false),
            ("TERM=dumb CLICOLOR_FORCE=1 CLICOLOR=0", true, true),
            ("CLICOLOR_FORCE=1 NO_COLOR=1", false, false),
        ] {
            let variable = |name: &str| {
                let mut all = set.split(' ').filter_map(|pair| pair.split_once('='));
                all.find(|(set, _)| *set == name).map(|(_, value)| value.into())
            };
            assert_eq!(wants_colour(variable, true), on_a_terminal, "on a terminal: {set}");
            assert_eq!(wants_colour(variable, false), elsewhere, "elsewhere: {set}");
        }
    }

    #[test]
    fn what_would_steer_a_terminal_is_spelled_out() {
        assert_eq!(shown("/srv/über x"), "/srv/über x");
        assert_eq!(shown("a\x1b]0;b\x07\nc\u{9b}2J"), r"a\u{1b}]0;b\u{7}\nc\u{9b}2J");
    }
}
