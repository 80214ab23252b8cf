//! A TOML file that a person wrote: every mistake in it is noted with its line, and none of them ends
//! the reading.

use std::path::Path;

use toml::de::DeTable;

use crate::problem::{Origin, Problem};
use crate::spelling::nearest;

/// The file as it is read, and its mistakes so far.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: Vec::new() }
    }

    /// What is written, as far as it is TOML. `remedy` is for what is not.
    pub(crate) fn table(&mut self, remedy: &str) -> DeTable<'a> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or_default();
            let said = error.message().replace('\n', ", ");
            let key = self.text.get(span.clone()).unwrap_or_default();
            let (what, remedy) = match said.as_str() {
                "duplicate key" => (
                    format!("not TOML: duplicate key: {key} is written twice"),
                    "remove one of the two",
                ),
                _ => (format!("not TOML: {said}"), remedy),
            };
            self.problem(span.start, "", what, remedy);
        }
        table.into_inner()
    }

    /// The line at an offset.
    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    /// The line at an offset, or else the whole file.
    pub(crate) fn origin(&self, at: impl Into<Option<usize>>) -> Origin {
        let path = self.path.to_owned();
        match at.into() {
            Some(at) => Origin::Line(path, self.line(at)),
            None => Origin::File(path),
        }
    }

    /// Notes a mistake at an offset, or one of the whole file.
    pub(crate) fn problem(
        &mut self,
        at: impl Into<Option<usize>>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (at, key) = (self.origin(at), key.to_owned());
        self.problems.push(Problem { at, key, what: what.into(), remedy: remedy.into() });
    }
}

/// What to do about a key that there is not. `are` begins the list of those that there are.
pub(crate) fn instead_of(key: &str, known: &[&str], are: &str) -> String {
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{are} {}", known.join(", ")),
    }
}
