//! The syntax of unit files (systemd.syntax(7)), read strictly: what systemd would ignore with a
//! warning is an error here.

use crate::error::{Error, Result};

/// The assignments of a unit and its drop-ins, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitFile {
    assignments: Vec<Assignment>,
}

/// One line `KEY=VALUE` of a section.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub section: String,
    pub key: String,
    pub value: String,
}

impl UnitFile {
    /// Reads the text of a unit file or a drop-in.
    ///
    /// # Errors
    /// The first line that is none of a section, an assignment and a comment.
    pub fn parse(text: &str) -> Result<UnitFile> {
        let mut unit = UnitFile::default();
        let mut section = None;
        for (number, line) in logical_lines(text) {
            let wrong = |what: &str| {
                let shown: String = line.chars().take(60).flat_map(char::escape_debug).collect();
                Error::new(format!("line {number}: {shown}: {what}"))
            };
            if line.contains('\0') {
                return Err(wrong("a zero byte"));
            }
            if let Some(name) = line.strip_prefix('[') {
                let name = name.strip_suffix(']').filter(|name| !name.is_empty());
                section = Some(name.ok_or_else(|| wrong("not a section"))?.to_owned());
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| wrong("no = in it"))?;
            let key = key.trim_end();
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(wrong("not the name of a directive before the ="));
            }
            let section = section.clone().ok_or_else(|| wrong("no section before it"))?;
            let (key, value) = (key.to_owned(), value.trim().to_owned());
            unit.assignments.push(Assignment { section, key, value });
        }
        Ok(unit)
    }

    /// Adds the assignments of a drop-in.
    pub fn add(&mut self, drop_in: UnitFile) {
        self.assignments.extend(drop_in.assignments);
    }

    /// All assignments.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.iter()
    }

    /// Everything that is assigned to a directive, in order, with the empty assignments.
    pub fn raw<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
        let is = move |one: &&Assignment| one.section == section && one.key == key;
        self.assignments.iter().filter(is).map(|one| one.value.as_str())
    }

    /// The values of a directive that may be repeated: an empty one forgets those before it.
    pub fn list(&self, section: &str, key: &str) -> Vec<String> {
        let mut list = Vec::new();
        for value in self.raw(section, key) {
            match value {
                "" => list.clear(),
                _ => list.push(value.to_owned()),
            }
        }
        list
    }

    /// The value of a directive of which the last assignment counts; an empty one unsets it.
    pub fn last(&self, section: &str, key: &str) -> Option<String> {
        self.raw(section, key).last().filter(|value| !value.is_empty()).map(str::to_owned)
    }
}

/// Lines without comments, those that end with a backslash joined with the next; with the number of
/// the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with(['#', ';']) || (start.is_empty() && !continued) {
            continue;
        }
        let (part, more) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| continued) {
            Some((_, whole)) => {
                whole.push(' ');
                whole.push_str(part);
            }
            None => lines.push((number + 1, part.to_owned())),
        }
        continued = more;
    }
    let lines = lines.into_iter().map(|(number, line)| (number, line.trim().to_owned()));
    lines.filter(|(_, line)| !line.is_empty()).collect()
}

/// The words of a value: separated by white space, perhaps quoted, with the escapes of C.
///
/// # Errors
/// A quote is not closed, or an escape stands for no text.
pub fn words(value: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = value;
    while let Some((word, after)) = first_word(rest)? {
        words.push(word);
        rest = after;
    }
    Ok(words)
}

/// The first word, and what follows it.
///
/// # Errors
/// As for [`words`].
pub fn first_word(text: &str) -> Result<Option<(String, &str)>> {
    let text = text.trim_start();
    if text.is_empty() {
        return Ok(None);
    }
    let mut word = String::new();
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.push_str(&escape(&mut rest)?),
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (_, None) if c.is_whitespace() => break,
            _ => word.push(c),
        }
    }
    match quote {
        Some(_) => Err(Error::new("a quote is not closed")),
        None => Ok(Some((word, rest.as_str()))),
    }
}

/// What the characters after a backslash stand for; an unknown escape stands for itself.
fn escape(rest: &mut std::str::Chars<'_>) -> Result<String> {
    let mut number = |digits: usize, base: u32| {
        let text = rest.as_str();
        let text = text.get(..digits).filter(|text| text.chars().all(|c| c.is_digit(base)))?;
        let value = u32::from_str_radix(text, base).ok()?;
        *rest = rest.as_str()[digits..].chars();
        Some(value)
    };
    if let Some(octal) = number(3, 8) {
        return character(octal, 0x7f);
    }
    let Some(c) = rest.next() else { return Ok("\\".into()) };
    let mut number = |digits: usize| {
        let text = rest.as_str().get(..digits);
        let value = text.filter(|text| text.chars().all(|c| c.is_ascii_hexdigit()));
        let value = value.and_then(|text| u32::from_str_radix(text, 16).ok());
        if value.is_some() {
            *rest = rest.as_str()[digits..].chars();
        }
        value.ok_or_else(|| Error::new(format!("\\{c} without {digits} hexadecimal digits")))
    };
    Ok(match c {
        'a' => "\x07".into(),
        'b' => "\x08".into(),
        'f' => "\x0c".into(),
        'n' => "\n".into(),
        'r' => "\r".into(),
        't' => "\t".into(),
        'v' => "\x0b".into(),
        's' => " ".into(),
        '\\' | '"' | '\'' => c.to_string(),
        'x' => character(number(2)?, 0x7f)?,
        'u' => character(number(4)?, u32::MAX)?,
        'U' => character(number(8)?, u32::MAX)?,
        _ => format!("\\{c}"),
    })
}

/// Bytes above 127 would have to be put together to characters.
fn character(value: u32, most: u32) -> Result<String> {
    let found = char::from_u32(value).filter(|_| (1..=most).contains(&value));
    let found = found.ok_or_else(|| Error::new(format!("an escape for {value:#x}: not text")))?;
    Ok(found.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_continue_and_comments_are_left_out() {
        let unit = UnitFile::parse(
            "# first\n[Service]\nExecStart=/bin/a \\\n# between\n  b \\\n c\n ; also\n\nUser = x \n",
        )
        .unwrap();
        let words = words(&unit.last("Service", "ExecStart").unwrap()).unwrap();
        assert_eq!(words, ["/bin/a", "b", "c"]);
        assert_eq!(unit.last("Service", "User").unwrap(), "x");
    }

    #[test]
    fn an_empty_assignment_forgets_those_before() {
        let mut unit = UnitFile::parse("[Service]\nA=1\nA=2\nA=\nA=3\nB=1\nB=").unwrap();
        assert_eq!(unit.list("Service", "A"), ["3"]);
        assert_eq!(unit.last("Service", "B"), None);
        assert_eq!(unit.last("Unit", "A"), None);
        unit.add(UnitFile::parse("[Service]\nA=\n").unwrap());
        assert!(unit.list("Service", "A").is_empty());
    }

    #[test]
    fn what_is_no_line_of_a_unit_is_refused_by_its_number() {
        for (text, says) in [
            ("A=1", "line 1: A=1: no section before it"),
            ("[Service\n", "line 1: [Service: not a section"),
            ("[Service]\n\nUser\n", "line 3: User: no = in it"),
            ("[Service]\nUser x=1\n", "line 2: User x=1: not the name"),
            ("[Service]\n=1\n", "not the name"),
            ("[Service]\nA=\0\n", "a zero byte"),
        ] {
            let error = UnitFile::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn words_are_quoted_and_escaped() {
        for (text, expected) in [
            ("a  b\tc", vec!["a", "b", "c"]),
            (r#""a b" 'c "d"' e"f g"h"#, vec!["a b", "c \"d\"", "ef gh"]),
            (r"a\x20b \u00e9 \101 \s\t\\ \d", vec!["a b", "é", "A", " \t\\", r"\d"]),
            (r#""" x"#, vec!["", "x"]),
            ("", vec![]),
            ("a\\", vec!["a\\"]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for text in ["\"a", "'", r"\xg0", r"\xff", r"\x00", r"\ud800", r"\u12é"] {
            assert!(words(text).is_err(), "{text}");
        }
    }
}
