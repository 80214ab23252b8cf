//! Passwords that users are given, and the hashes that are stored of them.

use std::fmt::Display;

use super::{AdminError, Error, Result};
use crate::authn::token::Token;
use crate::authn::{hashing, random};
use crate::protocol::credentials::Secret;
use crate::store::PasswordHash;

/// A password that a user may have. Shown by no `Debug`.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// Why a text cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than 1,024 bytes.
    #[error("has more than {} bytes", Password::MAX_BYTES)]
    TooLong,
    /// A token would be looked up as one, whatever the user's hash is.
    #[error("is a token, which would be looked up as one; choose another")]
    Token,
}

impl Password {
    /// The longest: bcrypt's limit does not apply, an attacker's patience does.
    pub(crate) const MAX_BYTES: usize = 1_024;

    /// Takes what somebody has chosen.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        match text {
            "" => Err(PasswordError::Empty),
            text if text.len() > Self::MAX_BYTES => Err(PasswordError::TooLong),
            text if Token::parse(text).is_some() => Err(PasswordError::Token),
            text => Ok(Self(Secret::new(text.to_owned()))),
        }
    }

    /// A new random one, which does not look like an option.
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self(random::generate_password()?))
    }

    /// The text, which is shown to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The hash that is stored of it.
    pub(crate) async fn hash(&self) -> Result<PasswordHash> {
        let password = self.clone();
        tokio::task::spawn_blocking(move || hashing::hash(password.expose()))
            .await
            .map_err(failed("hashing was interrupted"))?
            .map_err(failed("cannot hash the password"))
    }
}

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| AdminError::Deployment(format!("{what}: {error}").into()).into()
}
