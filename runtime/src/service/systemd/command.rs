//! Command lines of units (systemd.service(5)).

use super::name::UnitName;
use super::unit::{first_word, words};
use crate::error::{Error, Result};

/// One command of `ExecStart=` and the like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommandLine {
    /// The program and its arguments; variables are not replaced yet.
    pub words: Vec<String>,
    /// `argv[0]`, with the prefix `@`.
    pub argv0: Option<String>,
    /// Its prefixes.
    pub prefixes: String,
}

/// The commands of one assignment, which are separated by semicolons.
///
/// # Errors
/// No program, a wrong quote or escape, or a specifier that cannot be resolved.
pub fn commands(value: &str, name: &UnitName) -> Result<Vec<CommandLine>> {
    let mut found = Vec::new();
    let mut command = CommandLine::default();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let alone = |text: &str| text.is_empty() || text.starts_with(char::is_whitespace);
        if let Some(after) = rest.strip_prefix(';').filter(|after| alone(after)) {
            found.push(std::mem::take(&mut command));
            rest = after.trim_start();
            continue;
        }
        if let Some(after) = rest.strip_prefix("\\;").filter(|after| alone(after)) {
            command.words.push(";".into());
            rest = after.trim_start();
            continue;
        }
        let Some((word, after)) = first_word(rest)? else { break };
        rest = after.trim_start();
        if command.words.is_empty() && command.prefixes.is_empty() {
            let path = word.trim_start_matches(['-', '@', ':', '+', '!', '|']);
            command.prefixes = word[..word.len() - path.len()].to_owned();
            if path.is_empty() {
                return Err(Error::new(format!("{value}: no program")));
            }
            command.words.push(name.expand(path)?);
        } else if command.prefixes.contains('@') && command.argv0.is_none() {
            command.argv0 = Some(name.expand(&word)?);
        } else {
            command.words.push(name.expand(&word)?);
        }
    }
    found.push(command);
    found.retain(|command| !command.words.is_empty());
    match found.is_empty() {
        true => Err(Error::new(format!("{value:?}: no command"))),
        false => Ok(found),
    }
}

impl CommandLine {
    /// The program and its arguments with the values of variables, and the names of those that are
    /// not set: `$NAME` as a word of its own becomes any number of words, `${NAME}` is replaced
    /// within a word, and `$$` is a dollar sign.
    ///
    /// # Errors
    /// A value with a quote that is not closed.
    pub fn filled(
        &self,
        value: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let mut unset = Vec::new();
        let mut filled = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            if at == 0 || self.prefixes.contains(':') {
                filled.push(word.clone());
                continue;
            }
            let whole = word.strip_prefix('$').filter(|rest| !rest.starts_with(['$', '{']));
            match whole {
                Some(name) if !name.is_empty() => match value(name) {
                    Some(text) => filled.extend(words(&text)?),
                    None => unset.push(name.to_owned()),
                },
                _ => filled.push(within(word, value, &mut unset)),
            }
        }
        Ok((filled, unset))
    }
}

fn within(word: &str, value: &dyn Fn(&str) -> Option<String>, unset: &mut Vec<String>) -> String {
    let mut done = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            match value(name) {
                Some(text) => done.push_str(&text),
                None => unset.push(name.to_owned()),
            }
            rest = after;
        } else {
            done.push('$');
        }
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<CommandLine>> {
        commands(text, &UnitName::parse("app@one").unwrap())
    }

    #[test]
    fn a_command_has_prefixes_and_words() {
        for (text, prefixes, words) in [
            ("/bin/a b", "", vec!["/bin/a", "b"]),
            ("-/bin/a \"b c\" %i", "-", vec!["/bin/a", "b c", "one"]),
            ("+!:/bin/a \\; \";\" a;b", "+!:", vec!["/bin/a", ";", ";", "a;b"]),
        ] {
            let command = &parse(text).unwrap()[0];
            assert_eq!(
                (&*command.prefixes, &command.words),
                (prefixes, &words.into_iter().map(String::from).collect())
            );
        }
        let command = &parse("@-/bin/a zero one").unwrap()[0];
        assert_eq!((command.argv0.as_deref(), command.words.len()), (Some("zero"), 2));
        assert_eq!(parse("/bin/a b ; /bin/c").unwrap().len(), 2);
        for text in ["", "-", " ; ", "/bin/a \"b", "/bin/a %m"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_as_systemd_does() {
        let value = |name: &str| match name {
            "ONE" => Some("a".to_owned()),
            "TWO" => Some("b 'c d'".to_owned()),
            "NONE" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("x $ONE $TWO", vec!["x", "a", "b", "c d"]),
            ("x ${ONE}${TWO} y$ONE", vec!["x", "ab 'c d'", "y$ONE"]),
            ("x $NONE ${NONE} $GONE ${GONE}", vec!["x", "", ""]),
            ("x $$ONE a$$b $ ${", vec!["x", "$ONE", "a$b", "$", "${"]),
            (":x $ONE", vec!["x", "$ONE"]),
        ] {
            let (words, unset) = parse(text).unwrap()[0].filled(&value).unwrap();
            assert_eq!(words, expected, "{text}");
            assert_eq!(!unset.is_empty(), text.contains("GONE"));
        }
    }
}
