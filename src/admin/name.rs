//! Names that a tenant or a user may have, checked when parsed: they are printed wherever they turn up.

use std::fmt;
use std::str::FromStr;

use crate::authn::certificate;
use crate::redact::{is_secret, without_secrets};

/// The longest, in characters.
const LONGEST: usize = 128;

/// A display name, a login or a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name `{}` {problem}; choose another", .name.escape_debug())]
pub struct InvalidName {
    name: String,
    problem: &'static str,
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let problem = if name.is_empty() {
            "is empty"
        } else if name.chars().count() > LONGEST {
            "has more than 128 characters"
        } else if name.chars().any(char::is_control) {
            "has a control character"
        } else if name.trim() != name {
            "begins or ends with a space"
        } else if is_secret(name) {
            "has the form of a secret, and names are printed"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(InvalidName { name: without_secrets(name).into_owned(), problem })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// A name in client certificates: an e-mail address, a DNS name, a URI, or the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName(String);

impl FromStr for CertificateName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if is_secret(name) {
            return Err("it has the form of a secret".to_owned());
        }
        certificate::name::check(name).map_err(|error| error.to_string())?;
        Ok(Self(name.to_owned()))
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0
    }
}
