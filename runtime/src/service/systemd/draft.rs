//! A service as it is being written: keys with comments, and what is to be said about it.

use std::fmt::Write;

/// What could not be carried over, or only in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportNote {
    /// The directive.
    pub directive: String,
    /// Why, and what to do instead.
    pub why: String,
    /// Whether the service does not work, or not as it should, until it is seen to.
    pub urgent: bool,
}

/// A table `[service.NAME]` with its comments.
#[derive(Debug, Default)]
pub struct Draft {
    lines: Vec<Line>,
    /// What was not carried over.
    pub notes: Vec<ImportNote>,
    /// Directives that ask for what every sandbox has.
    pub implied: Vec<String>,
    /// In which ways a sandbox confines more than the unit.
    pub stricter: Vec<String>,
    /// Comments before the table.
    pub head: Vec<String>,
}

#[derive(Debug)]
struct Line {
    key: &'static str,
    value: Value,
    why: String,
}

#[derive(Debug)]
enum Value {
    Text(String),
    True,
    /// One of a list.
    Item(String),
    /// A list that belongs together.
    List(Vec<String>),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::True => "true".to_owned(),
            Value::Text(value) | Value::Item(value) => quoted(value),
            Value::List(list) => list.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The keys in the order in which people read them, and whether they are lists.
const ORDER: [(&str, bool); 26] = [
    ("command", true),
    ("user", false),
    ("workdir", false),
    ("clear-env", false),
    ("env", true),
    ("env-file", true),
    ("network", false),
    ("rw", true),
    ("secret", true),
    ("run-dir", true),
    ("volume", true),
    ("tmpfs", true),
    ("rootfs", false),
    ("cap-add", true),
    ("cap-drop", true),
    ("umask", false),
    ("memory", false),
    ("memory-swap", false),
    ("cpus", false),
    ("cpuset-cpus", false),
    ("pids-limit", false),
    ("io", true),
    ("ulimit", true),
    ("restart", false),
    ("stop-signal", false),
    ("stop-timeout", false),
];

impl Draft {
    /// Sets a key, with the reason if it is not obvious.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>, why: impl Into<String>) {
        self.lines.push(Line { key, value: Value::Text(value.into()), why: why.into() });
    }

    /// Turns a key on.
    pub fn turn_on(&mut self, key: &'static str, why: impl Into<String>) {
        self.lines.push(Line { key, value: Value::True, why: why.into() });
    }

    /// Sets a list as a whole.
    pub fn set_list(&mut self, key: &'static str, list: &[String], why: impl Into<String>) {
        self.lines.push(Line { key, value: Value::List(list.to_vec()), why: why.into() });
    }

    /// Adds to a list, unless it is there already.
    pub fn push(&mut self, key: &'static str, value: impl Into<String>, why: impl Into<String>) {
        let value = value.into();
        if !self.has(key, &value) {
            self.lines.push(Line { key, value: Value::Item(value), why: why.into() });
        }
    }

    /// Whether a list has it.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.items(key).any(|item| item == value)
    }

    /// The items of a list.
    pub fn items<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |line| line.key == key).filter_map(|line| match &line.value {
            Value::Item(item) => Some(item.as_str()),
            _ => None,
        })
    }

    /// Says that a directive was not carried over.
    pub fn note(&mut self, directive: impl Into<String>, why: impl Into<String>) {
        let (directive, why) = (directive.into(), why.into());
        self.notes.push(ImportNote { directive, why, urgent: false });
    }

    /// Says what has to be seen to.
    pub fn urge(&mut self, directive: impl Into<String>, why: impl Into<String>) {
        let (directive, why) = (directive.into(), why.into());
        self.notes.push(ImportNote { directive, why, urgent: true });
    }

    /// The text of the table of the service `name`, with everything that is to be said.
    pub fn text(&self, name: &str) -> String {
        let mut text = String::new();
        self.head.iter().for_each(|line| comment(&mut text, line));
        let _ = write!(text, "\n[service.{}]\n", bare(name));
        for (key, list) in &ORDER {
            let lines: Vec<&Line> = self.lines.iter().filter(|line| *line.key == **key).collect();
            match (list, lines.as_slice()) {
                (_, []) => {}
                (false, [.., line]) => {
                    let line_text = format!("{key} = {}", line.value.text());
                    explained(&mut text, "", &line_text, &line.why);
                }
                (true, lines) => self.list(&mut text, key, lines),
            }
        }
        self.epilogue(&mut text);
        text
    }

    fn list(&self, text: &mut String, key: &str, lines: &[&Line]) {
        let value = |line: &Line| line.value.text();
        let explained_items = lines.iter().filter(|line| !line.why.is_empty()).count();
        let all: Vec<String> = lines.iter().map(|line| value(line)).collect();
        let line = format!("{key} = [{}]", all.join(", "));
        if lines.len() == 1 || (explained_items == 0 && line.len() <= WIDTH) {
            let why = lines.iter().map(|line| line.why.as_str()).collect::<String>();
            return explained(text, "", &line, &why);
        }
        let _ = writeln!(text, "{key} = [");
        for line in lines {
            explained(text, "    ", &format!("{},", value(line)), &line.why);
        }
        text.push_str("]\n");
    }

    fn epilogue(&self, text: &mut String) {
        if !self.implied.is_empty() {
            text.push('\n');
            comment(text, &format!("True of every sandbox: {}.", self.implied.join(", ")));
        }
        let mut say = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                text.push('\n');
                comment(text, title);
                items.iter().for_each(|item| wrapped(text, "# - ", "#   ", item));
            }
        };
        // One reason for several is said once.
        let notes = |urgent: bool| {
            let mut grouped: Vec<(String, &str)> = Vec::new();
            for note in self.notes.iter().filter(|note| note.urgent == urgent) {
                match grouped.iter_mut().find(|(_, why)| *why == note.why) {
                    Some((names, _)) => {
                        names.push_str(", ");
                        names.push_str(&note.directive);
                    }
                    None => grouped.push((note.directive.clone(), &note.why)),
                }
            }
            grouped.into_iter().map(|(names, why)| format!("{names}: {why}")).collect::<Vec<_>>()
        };
        say("To be seen to, or it does not work as it did:", notes(true));
        say("Stricter than the unit, if it makes use of it:", self.stricter.clone());
        say("Not carried over:", notes(false));
    }
}

const WIDTH: usize = 100;

/// A line with its comment: after it, or before it if that would be too long.
fn explained(text: &mut String, indent: &str, line: &str, why: &str) {
    let width = indent.len() + line.chars().count() + why.chars().count() + 4;
    if why.is_empty() {
        let _ = writeln!(text, "{indent}{line}");
    } else if width <= WIDTH {
        let _ = writeln!(text, "{indent}{line}  # {}", plain(why));
    } else {
        let mark = format!("{indent}# ");
        wrapped(text, &mark, &mark, why);
        let _ = writeln!(text, "{indent}{line}");
    }
}

fn comment(text: &mut String, words: &str) {
    wrapped(text, "# ", "# ", words);
}

pub fn wrapped(text: &mut String, first: &str, next: &str, words: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in plain(words).split(' ') {
        if !empty && line.chars().count() + word.chars().count() >= WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = next.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// Text that cannot end a comment.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A key of TOML.
fn bare(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(fine) { name.to_owned() } else { format!("\"{name}\"") }
}

/// A text of TOML, in which a dollar sign does not stand for a variable.
fn quoted(text: &str) -> String {
    let mut done = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => done.extend(['\\', c]),
            '$' => done.push_str("$$"),
            '\n' => done.push_str("\\n"),
            '\t' => done.push_str("\\t"),
            _ if c.is_control() => {
                let _ = write!(done, "\\u{:04x}", u32::from(c));
            }
            _ => done.push(c),
        }
    }
    done.push('"');
    done
}
