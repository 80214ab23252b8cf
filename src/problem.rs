//! A mistake in what a person wrote: the configuration's and the policies' alike have a place, a
//! key and a remedy, and are reported all at once.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::hidden::in_a_line;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of the file, counted from 1.
    Line(PathBuf, usize),
    /// The file, in which something is missing.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", shown_file(path)),
            Self::File(path) => f.write_str(&shown_file(path)),
            Self::Env(name) => f.write_str(&in_a_line(name)),
        }
    }
}

/// A file's path in one line: its name may hold anything.
pub(crate) fn shown_file(path: &Path) -> String {
    in_a_line(&path.to_string_lossy()).into_owned()
}

/// One mistake. Its text is one line, whatever the file holds that it repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) at: Origin,
    /// The key, as `[section] key`; empty for a mistake of syntax or of the whole file.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", in_a_line(&self.key))?;
        }
        f.write_str(&in_a_line(&self.what))?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", in_a_line(&self.remedy))?;
        }
        Ok(())
    }
}

/// All of them, one a line, below a line with their number. `of` says what has them.
pub(crate) fn list(problems: &[Problem], of: &str) -> String {
    let mut text = match problems.len() {
        1 => format!("1 mistake in {of}:"),
        n => format!("{n} mistakes in {of}:"),
    };
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line() {
        let problem = |at| Problem {
            at,
            key: "[account] k\ny".to_owned(),
            what: "`x\nFAKE` is none".to_owned(),
            remedy: "write a\r\u{1b}b".to_owned(),
        };
        let said = r"[account] k\ny: `x\nFAKE` is none; write a\r\u{1b}b";
        for (at, place) in [
            (Origin::Line("a\nb.toml".into(), 2), r"a\nb.toml:2"),
            (Origin::File("a\nb.toml".into()), r"a\nb.toml"),
            (Origin::Env("A\nB".to_owned()), r"A\nB"),
        ] {
            assert_eq!(problem(at).to_string(), format!("{place}: {said}"));
        }
    }
}
