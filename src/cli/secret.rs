//! The secrets that commands make or take: passwords, their hashes, tokens. The only file of the
//! command line that knows how they are made.

use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::Usage;
use crate::authn::token::Token;
use crate::authn::{hashing, random};
use crate::store::{PasswordHash, TokenHash};

/// The longest password that is taken: bcrypt's limit does not apply, an attacker's patience does.
const MAX_PASSWORD_BYTES: usize = 1_024;

/// A JWT may be longer than any password.
const MAX_CREDENTIAL_BYTES: usize = 8_192;

/// A new random password, which does not look like an option.
pub(super) fn generate_password() -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(random::generate_password()?.expose().to_owned()))
}

/// The first line of stdin.
pub(super) fn password_from_stdin() -> anyhow::Result<Zeroizing<String>> {
    read_password(std::io::stdin().lock())
}

/// The first line of stdin, as a password or token that is only tried.
pub(super) fn credential_from_stdin() -> anyhow::Result<Zeroizing<String>> {
    read_line(std::io::stdin().lock(), MAX_CREDENTIAL_BYTES)
}

fn read_password(input: impl std::io::Read) -> anyhow::Result<Zeroizing<String>> {
    let password = read_line(input, MAX_PASSWORD_BYTES)?;
    if Token::parse(&password).is_some() {
        bail!(Usage(
            "the password on stdin is a token, which would be looked up as one; choose another"
                .to_owned()
        ));
    }
    Ok(password)
}

fn read_line(input: impl std::io::Read, most: usize) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(most + 2));
    let limit = u64::try_from(most)? + 2;
    std::io::BufReader::new(input.take(limit))
        .read_line(&mut line)
        .context("cannot read a password from stdin")?;
    let password = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() {
        bail!(Usage("the password on stdin is empty; write it there as one line".to_owned()));
    }
    if password.len() > most {
        bail!(Usage(format!("the password on stdin has more than {most} bytes")));
    }
    Ok(password)
}

/// The hash that is stored of a password.
pub(super) async fn hash_password(password: &Zeroizing<String>) -> anyhow::Result<PasswordHash> {
    let password = password.clone();
    tokio::task::spawn_blocking(move || hashing::hash(&password))
        .await
        .context("hashing was interrupted")?
        .context("cannot hash the password")
}

/// A new token, and the hash that is stored of it.
pub(super) fn generate_token() -> anyhow::Result<(Zeroizing<String>, TokenHash)> {
    let token = Token::generate()?;
    Ok((Zeroizing::new(token.expose().to_owned()), token.hash()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_stdin() {
        let read = |text: &str| read_password(text.as_bytes()).map(|it| it.to_string());
        assert_eq!(read("secret\nmore\n").unwrap(), "secret");
        assert_eq!(read(" with spaces \r\n").unwrap(), " with spaces ");
        assert_eq!(read("no newline").unwrap(), "no newline");
        for text in ["", "\n", "\r\n", &"x".repeat(2_000)] {
            assert!(read(text).unwrap_err().is::<Usage>());
        }
    }
}
