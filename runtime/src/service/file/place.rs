//! Where in a file something is wrong.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use crate::config::did_you_mean;
use crate::error::Error;

/// A file that is being read.
#[derive(Debug)]
pub struct SourceText<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> SourceText<'a> {
    pub fn new(path: &'a Path, text: &'a str) -> SourceText<'a> {
        SourceText { path, text }
    }

    pub fn path(&self) -> &'a Path {
        self.path
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    /// `FILE:LINE:COLUMN: the line: what is wrong`. Columns count characters, from 1.
    pub fn at(&self, span: Range<usize>, what: &str) -> Error {
        let (number, column, line) = self.line(span.start);
        Error::new(format!("{}:{number}:{column}: {line}: {what}", self.path.display()))
    }

    /// `FILE:LINE`.
    pub fn line_of(&self, span: Range<usize>) -> String {
        format!("{}:{}", self.path.display(), self.line(span.start).0)
    }

    /// An error that has its own words.
    pub fn within(&self, span: Range<usize>, error: Error) -> Error {
        let (number, column, _) = self.line(span.start);
        error.within(format_args!("{}:{number}:{column}", self.path.display()))
    }

    /// What the parser says. It also quotes the file, over several lines: that is left out.
    pub fn of(&self, error: &toml::de::Error) -> Error {
        let what = error.message().lines().next().unwrap_or("invalid").to_owned();
        match error.span() {
            Some(span) => self.at(span, &what),
            None => Error::new(format!("{}: {what}", self.path.display())),
        }
    }

    /// A key or name that does not exist.
    pub fn unknown(
        &self,
        key: &Spanned<Cow<'_, str>>,
        kind: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Error {
        let error = self.at(key.span(), &format!("unknown {kind} {:?}", key.get_ref()));
        did_you_mean(error, key.get_ref(), known)
    }

    fn line(&self, at: usize) -> (usize, usize, String) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let number = before.matches('\n').count() + 1;
        let column = before[start..].chars().count() + 1;
        let line = self.text[start..].lines().next().unwrap_or_default().trim();
        let shown: String = line.chars().take(60).collect();
        (number, column, shown.replace(char::is_control, " "))
    }
}
