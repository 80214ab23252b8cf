//! Subjects and subject patterns, checked when parsed. One bad subject makes a server refuse a
//! whole JWT, and a blank in one turns the rest into a queue name, so nothing but a [`Pattern`]
//! reaches a grant.

use std::fmt;
use std::str::FromStr;

/// The longest subject or pattern that is taken, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 512;

/// What is wrong with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct SubjectError(#[from] Flaw);

/// What a [`SubjectError`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Flaw {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_SUBJECT_BYTES`].
    #[error("it is longer than {MAX_SUBJECT_BYTES} bytes")]
    TooLong,
    /// A dot at either end, or two in a row.
    #[error("it has an empty token (a dot at an end, or two dots in a row)")]
    EmptyToken,
    /// Blanks and control characters separate words of the protocol.
    #[error("it holds a blank or a control character")]
    Blank,
    /// `*` is a token of its own.
    #[error("`*` must stand alone between dots")]
    Star,
    /// `>` is the last token, alone.
    #[error("`>` must stand alone as the last token")]
    Tail,
}

/// A legal subject, wildcards allowed: what a permission may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Everything.
    #[must_use]
    pub(crate) fn everything() -> Self {
        Self(">".into())
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the literal `subject` matches.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for want in self.0.split('.') {
            match (want, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(token)) if want == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether any subject matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(one), Some(two)) if one == two || one == "*" || two == "*" => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if text.is_empty() {
            return Err(Flaw::Empty.into());
        }
        if text.len() > MAX_SUBJECT_BYTES {
            return Err(Flaw::TooLong.into());
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Flaw::Blank.into());
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            match token {
                "" => return Err(Flaw::EmptyToken.into()),
                "*" => {}
                ">" if tokens.peek().is_none() => {}
                other if other.contains('>') => return Err(Flaw::Tail.into()),
                other if other.contains('*') => return Err(Flaw::Star.into()),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_nats_takes() {
        for legal in ["a", "a.b", "*", ">", "a.*", "*.a.>", "$JS.API.>", "orders.é", "a-b_c=d"] {
            assert!(legal.parse::<Pattern>().is_ok(), "{legal}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        use Flaw::{Blank, Empty, EmptyToken, Star, Tail, TooLong};
        let long = "a".repeat(MAX_SUBJECT_BYTES + 1);
        for (illegal, why) in [
            ("", Empty),
            (long.as_str(), TooLong),
            (".a", EmptyToken),
            ("a.", EmptyToken),
            ("a..b", EmptyToken),
            ("a b", Blank),
            ("user.> q.>", Blank),
            ("a\u{0}", Blank),
            ("a\u{2028}b", Blank),
            ("a*", Star),
            ("a.*b.c", Star),
            (">.a", Tail),
            ("a.>b", Tail),
            ("a.>.b", Tail),
        ] {
            let why = SubjectError(why);
            assert_eq!(illegal.parse::<Pattern>().unwrap_err(), why, "{illegal:?}");
        }
    }

    #[test]
    fn matches_as_nats_does() {
        let matches = |pattern: &str, subject| pattern.parse::<Pattern>().unwrap().matches(subject);
        assert!(matches("orders.*", "orders.created"));
        assert!(!matches("orders.*", "orders"));
        assert!(!matches("orders.*", "orders.item.added"));
        assert!(matches("orders.>", "orders.item.added"));
        assert!(!matches("orders.>", "orders"));
        assert!(matches("a.*.c", "a.b.c"));
        assert!(!matches("a.b.c", "a.b"));
    }
    #[test]
    fn overlaps_where_a_subject_matches_both() {
        for (one, two, overlap) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "*.b", true),
            ("a.*", "b.*", false),
            ("a.>", "a", false),
            ("a.>", "a.*", true),
            ("a.>", "*.b.c", true),
            (">", "a", true),
            (">", ">", true),
            ("*", "a.b", false),
            ("a.*.c", "a.>", true),
            ("a.*.c", "a.b.*.d", false),
            ("user.4.>", "user.42.>", false),
        ] {
            let [one, two] = [one, two].map(|text| text.parse::<Pattern>().unwrap());
            assert_eq!(one.overlaps(&two), overlap, "{one} {two}");
            assert_eq!(two.overlaps(&one), overlap, "{two} {one}");
        }
    }
}
