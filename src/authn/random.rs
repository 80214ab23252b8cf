//! Secrets that this service makes up: random texts over an alphabet, each character equally
//! likely, out of the operating system's randomness.

use zeroize::{Zeroize, Zeroizing};

use crate::protocol::credentials::Secret;

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoRandomness;

/// Digits, upper case, lower case: in the order of their values as base62 digits.
pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const PASSWORD_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PASSWORD_LEN: usize = 24;

/// Makes a password: 24 characters of `[A-Za-z0-9_-]`, which are 144 random bits and need no
/// quoting in a shell or a URL. It begins with no `-`, which a command would take for an option.
pub(crate) fn generate_password() -> Result<Secret, NoRandomness> {
    loop {
        let password = text(PASSWORD_ALPHABET, PASSWORD_LEN)?;
        if !password.starts_with('-') {
            return Ok(Secret::new(String::clone(&password)));
        }
    }
}

pub(super) fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandomness)
}

/// `len` characters out of an ASCII `alphabet` of at most 256.
pub(crate) fn text(alphabet: &[u8], len: usize) -> Result<Zeroizing<String>, NoRandomness> {
    // Bytes from the incomplete last round of the alphabet would favour its first characters.
    let fair = 256 - 256 % alphabet.len().max(1);
    let mut text = Zeroizing::new(String::with_capacity(len));
    let mut bytes = [0; 64];
    while text.len() < len {
        fill(&mut bytes)?;
        let missing = len - text.len();
        let drawn = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < fair);
        text.extend(
            drawn
                .filter_map(|byte| alphabet.get(byte % alphabet.len()))
                .take(missing)
                .map(|&byte| char::from(byte)),
        );
    }
    bytes.zeroize();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_the_alphabet_is_equally_likely() {
        let drawn = text(BASE62, 62 * 2_000).unwrap();
        for character in BASE62 {
            let count = drawn.bytes().filter(|byte| byte == character).count();
            // Ten standard deviations; taking bytes modulo 62 would give 2,422 for eight of them.
            assert!((1_600..2_400).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_password_needs_no_quoting() {
        for _ in 0..200 {
            let password = generate_password().unwrap();
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            assert_eq!(password.expose().len(), PASSWORD_LEN);
            assert!(password.expose().bytes().all(legal));
            assert!(!password.expose().starts_with('-'));
        }
        assert_ne!(generate_password().unwrap(), generate_password().unwrap());
    }
}
