//! Values as units spell them (systemd.syntax(7), systemd.time(7), systemd.exec(5)).

use std::time::Duration;

use crate::error::{Error, Result};
use crate::service::settings::environment::is_variable;

/// `yes`, `true`, `on`, `1` and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// `5min 20s`, `90`; `None` is `infinity`.
///
/// # Errors
/// Not a time.
pub fn time(text: &str) -> Result<Option<Duration>> {
    let wrong = || Error::new(format!("{text:?} is not a time"));
    if text == "infinity" {
        return Ok(None);
    }
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let micros: u64 = match unit {
            "us" | "usec" | "µs" | "μs" => 1,
            "ms" | "msec" => 1_000,
            "" | "s" | "sec" | "second" | "seconds" => 1_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000,
            "d" | "day" | "days" => 86_400_000_000,
            "w" | "week" | "weeks" => 604_800_000_000,
            _ => return Err(wrong()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(micros));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    Ok(Some(Duration::from_micros(total)))
}

/// `512M` with the units of this base, 1024 for memory and 1000 for disks; `None` is `infinity`.
///
/// # Errors
/// Not a size.
pub fn size(text: &str, base: u64) -> Result<Option<u64>> {
    let wrong = || Error::new(format!("{text:?} is not a size"));
    if text == "infinity" {
        return Ok(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim_start() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return Err(wrong()),
    };
    let scale = base.checked_pow(power).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(scale).map(Some).ok_or_else(wrong)
}

/// `150%` as a number of processors, `1.5`.
///
/// # Errors
/// Not a percentage.
pub fn processors(text: &str) -> Result<String> {
    let wrong = || Error::new(format!("{text:?} is not a percentage"));
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let padded = format!("{whole:0>3}");
    let (before, after) = padded.split_at(padded.len() - 2);
    let text = format!("{}.{after}{fraction}", before.trim_start_matches('0'));
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "" => Err(wrong()),
        text if text.starts_with('.') => Ok(format!("0{text}")),
        text => Ok(text.to_owned()),
    }
}

/// `0-3 5,7` with commas only.
///
/// # Errors
/// Not a list of numbers and ranges.
pub fn number_list(text: &str) -> Result<String> {
    let parts = text.split([' ', '\t', ',']).filter(|part| !part.is_empty());
    let list = parts.collect::<Vec<_>>().join(",");
    match list.is_empty()
        || !list.bytes().all(|byte| byte.is_ascii_digit() || b"-,".contains(&byte))
    {
        true => Err(Error::new(format!("{text:?} is not a list of numbers"))),
        false => Ok(list),
    }
}

/// The variables of a file for EnvironmentFile=: one assignment a line, perhaps quoted.
pub fn environment_file(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let mut name = String::new();
        // A line: its name up to the =, then the value up to the end of the line.
        let mut ended = false;
        for c in rest.by_ref() {
            match c {
                '=' => break,
                '\n' => {
                    ended = true;
                    break;
                }
                _ => name.push(c),
            }
        }
        let name = name.trim().to_owned();
        let is_comment = name.starts_with(['#', ';']);
        if ended || is_comment {
            if !ended {
                rest.by_ref().take_while(|c| *c != '\n').for_each(drop);
            }
            continue;
        }
        let mut value = String::new();
        // White space is left out at the end, unless it was quoted.
        let mut solid = 0;
        let mut quote = None;
        // A quote opens only where no plain text is before it.
        let mut may_open = true;
        while let Some(c) = rest.next() {
            match (c, quote) {
                ('\n', None) => break,
                ('\\', None | Some('"')) => match rest.next() {
                    Some('\n') | None => {}
                    Some(next) => {
                        if quote.is_some() && !"\"\\`$".contains(next) {
                            value.push('\\');
                        }
                        value.push(next);
                        solid = value.len();
                        may_open &= quote.is_some();
                    }
                },
                (_, Some(open)) if c == open => quote = None,
                ('"' | '\'', None) if may_open => {
                    quote = Some(c);
                    solid = value.len();
                }
                (_, None) if c.is_whitespace() && value.is_empty() => {}
                _ => {
                    value.push(c);
                    if quote.is_some() || !c.is_whitespace() {
                        solid = value.len();
                    }
                    may_open &= quote.is_some() || c.is_whitespace();
                }
            }
        }
        value.truncate(solid);
        if is_variable(&name) {
            variables.push((name, value));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let seconds = |text| time(text).unwrap().map(|time| time.as_millis());
        assert_eq!(seconds("90"), Some(90_000));
        assert_eq!(seconds("5min 20s"), Some(320_000));
        assert_eq!(seconds("1h30min"), Some(5_400_000));
        assert_eq!(seconds("500ms"), Some(500));
        assert_eq!(seconds("infinity"), None);
        for text in ["", "x", "5 parsecs", "-1", "99999999999999999999", "5é"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_shares_are_read() {
        assert_eq!(size("512M", 1024).unwrap(), Some(512 << 20));
        assert_eq!(size("5K", 1000).unwrap(), Some(5000));
        assert_eq!(size("infinity", 1024).unwrap(), None);
        for text in ["", "50%", "1X", "99999999999E", "M"] {
            assert!(size(text, 1024).is_err(), "{text}");
        }
        let shares = [("150%", "1.5"), ("20%", "0.2"), ("400%", "4"), ("5%", "0.05")];
        for (text, expected) in shares.into_iter().chain([("12.5%", "0.125")]) {
            assert_eq!(processors(text).unwrap(), expected);
        }
        for text in ["", "%", "0%", "x%", "50", "1.2.3%", "-5%"] {
            assert!(processors(text).is_err(), "{text}");
        }
        assert_eq!(number_list("0-3 5,7").unwrap(), "0-3,5,7");
        assert!(number_list("a").is_err() && number_list(" ").is_err());
    }

    #[test]
    fn files_of_variables_are_quoted_as_in_a_shell() {
        let text = "# x=1\n\nA=1\n B = two words  \nC=\"a \\\" b\" \nD='$x'\n;E=1\nF=a\\\nb\n\
            not a line\n5=1\nG=\nH=\"-de -m 16\"\nI=it's\nJ=-a 'b c'\n";
        let read = environment_file(text);
        let read: Vec<_> = read.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected = [("A", "1"), ("B", "two words"), ("C", "a \" b"), ("D", "$x"), ("F", "ab")];
        assert_eq!(read[..5], expected);
        let expected = [("G", ""), ("H", "-de -m 16"), ("I", "it's"), ("J", "-a 'b c'")];
        assert_eq!(read[5..], expected);
        environment_file("A=\\");
        environment_file("=");
        environment_file("A='");
    }
}
