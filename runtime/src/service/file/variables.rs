//! `${NAME}` and `${NAME:-default}` in the texts of a file; `$$` is a dollar sign.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

use super::place::SourceText;
use crate::error::Result;
use crate::service::settings::environment::is_variable;

/// Puts the variables in place, in all texts of `value`.
pub fn fill(
    value: &mut Spanned<DeValue<'_>>,
    place: &SourceText,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => {
            let filled = replace(text, variable).map_err(|what| place.at(span, &what))?;
            *text = Cow::Owned(filled);
            Ok(())
        }
        DeValue::Array(list) => list.iter_mut().try_for_each(|one| fill(one, place, variable)),
        DeValue::Table(table) => {
            table.iter_mut().try_for_each(|(_, one)| fill(one, place, variable))
        }
        _ => Ok(()),
    }
}

fn replace(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
            continue;
        }
        let Some((inside, after)) = rest.strip_prefix('{').and_then(|it| it.split_once('}')) else {
            return Err("a $ without {NAME} after it (a dollar sign is written $$)".into());
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable(name) {
            return Err(format!("${{{inside}}} does not name a variable"));
        }
        match variable(name).filter(|value| !value.is_empty()).or(default.map(str::to_owned)) {
            Some(value) => filled.push_str(&value),
            None => {
                return Err(format!(
                    "variable {name} is not set, and ${{{name}:-default}} is not written"
                ));
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> std::result::Result<String, String> {
        replace(text, &|name| match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_have_values_or_defaults() {
        for (text, is) in [
            ("${PORT}:80", "8080:80"),
            ("${PORT:-1}${NONE:-2}", "80802"),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-}", ""),
            ("cost $$5", "cost $5"),
            ("${NONE:-a:-b}", "a:-b"),
        ] {
            assert_eq!(filled(text).unwrap(), is, "{text}");
        }
    }

    #[test]
    fn what_is_odd_is_refused() {
        for (text, says) in [
            ("${NONE}", "variable NONE is not set"),
            ("$PORT", "a dollar sign is written $$"),
            ("${PORT", "a dollar sign is written $$"),
            ("${}", "${} does not name a variable"),
            ("${1A}", "does not name"),
            ("${A-B}", "does not name"),
        ] {
            assert!(filled(text).unwrap_err().contains(says), "{text}");
        }
    }
}
