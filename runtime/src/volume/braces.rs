//! `vol{1..5}` and `{a,b}`, as bash(1) expands them: shells leave them alone inside quotes, and
//! other shells altogether.

use crate::error::{Error, Result};

/// More than that is a slip of the finger: an array has at most 1920 members.
const MOST: usize = 4096;

/// The texts that a text stands for, in bash's order; without braces, itself. Braces with neither a
/// comma nor a range in them are only braces.
///
/// # Errors
/// Braces within braces, a range that is none, or too many texts.
pub fn expand(text: &str) -> Result<Vec<String>> {
    let mut found = vec![String::new()];
    let mut rest = text;
    while let Some((before, inside, after)) = next_group(rest) {
        let words = words(inside).map_err(|why| {
            Error::new(format!("{text:?}: {{{inside}}}: {why}")).hint("write {1..5} or {a,b,c}")
        })?;
        if found.len().saturating_mul(words.len()) > MOST {
            return Err(Error::new(format!("{text:?} stands for more than {MOST} devices")));
        }
        let product = |word: &String| {
            let word = format!("{before}{word}");
            found.iter().map(move |text| format!("{text}{word}")).collect::<Vec<_>>()
        };
        // The last group changes fastest.
        let columns: Vec<Vec<String>> = words.iter().map(product).collect();
        found =
            (0..found.len()).flat_map(|row| columns.iter().map(move |c| c[row].clone())).collect();
        rest = after;
    }
    Ok(found.into_iter().map(|text| text + rest).collect())
}

/// Splits at the first braces that are an expansion: before, inside, after.
fn next_group(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        let close = open + text[open..].find('}')?;
        let inside = &text[open + 1..close];
        if inside.contains(',') || inside.contains("..") {
            return Some((&text[..open], inside, &text[close + 1..]));
        }
        from = open + 1;
    }
}

fn words(inside: &str) -> Result<Vec<String>, &'static str> {
    if inside.contains('{') {
        return Err("braces within braces");
    }
    if inside.contains(',') {
        return Ok(inside.split(',').map(str::to_owned).collect());
    }
    let (from, to) = inside.split_once("..").ok_or("not a range")?;
    let number = |text: &str| -> Result<usize, &'static str> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits && text.len() <= 9);
        number.ok_or("not a range of numbers")
    };
    let (first, last) = (number(from)?, number(to)?);
    // A leading zero gives all of them the same width.
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let width = if padded(from) || padded(to) { from.len().max(to.len()) } else { 0 };
    if first.abs_diff(last) >= MOST {
        return Err("too many");
    }
    let word = |number: usize| format!("{number:0width$}");
    Ok(match first <= last {
        true => (first..=last).map(word).collect(),
        false => (last..=first).rev().map(word).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_expanded_as_in_bash() {
        let all = |text| expand(text).unwrap().join(" ");
        assert_eq!(all("vol{1..5}"), "vol1 vol2 vol3 vol4 vol5");
        assert_eq!(all("{3..1}x"), "3x 2x 1x");
        assert_eq!(all("d{08..11}"), "d08 d09 d10 d11");
        assert_eq!(all("s{1..2}.vol{a,b}"), "s1.vola s1.volb s2.vola s2.volb");
        assert_eq!(all("/x{,.old}"), "/x /x.old");
        assert_eq!(all("plain"), "plain");
        // No expansion, and none in bash.
        assert_eq!(all("/srv/{b}/{1..2}"), "/srv/{b}/1 /srv/{b}/2");
        assert_eq!(all("a{b"), "a{b");
        assert_eq!(all("}{"), "}{");
    }

    #[test]
    fn what_is_no_range_is_refused_in_one_line() {
        for text in ["{a..c}", "{1..}", "{..}", "{1..9..2}", "{-1..2}", "{1..99999}", "{{1,2},3}"] {
            let refused = expand(text).unwrap_err().to_string();
            assert!(!refused.contains('\n') && refused.contains("write {1..5}"), "{refused}");
        }
        assert!(expand(&"{1..9}".repeat(9)).unwrap_err().to_string().contains("more than 4096"));
    }
}
