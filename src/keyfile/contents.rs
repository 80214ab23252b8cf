//! Whether a file that nobody lists may be a secret, by what it holds.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use super::{MAX_BYTES, is_public};
use crate::redact::{may_be_encoded, without_likely_secrets, without_secrets};

/// How the names of key files end.
const ENDINGS: [&str; 5] = ["nk", "creds", "seed", "key", "secret"];

/// Whether it is a key by its name, or holds a seed, a creds file, a private key, a token, or one word that
/// looks random. What cannot be read here is nothing that all can read.
pub(super) fn may_be_secret(path: &Path) -> bool {
    let is_short = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= MAX_BYTES);
    if !is_short || is_public(path) {
        return false;
    }
    if path.extension().is_some_and(|it| ENDINGS.iter().any(|ending| it == *ending)) {
        return true;
    }
    let Ok(bytes) = fs::read(path).map(Zeroizing::new) else { return false };
    match std::str::from_utf8(&bytes) {
        Ok(text) => is_secret_text(text),
        Err(_) => is_der_key(&bytes),
    }
}

fn is_secret_text(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let one = words.next().filter(|_| words.next().is_none());
    let is_random = one.is_some_and(|it| may_be_encoded(it) || without_likely_secrets(it) != it);
    let has = |part: &str| text.contains(part);
    let is_jwk = has("\"kty\"") && (has("\"d\"") || has("\"k\""));
    is_random || has("PRIVATE KEY-----") || is_jwk || without_secrets(text) != text
}

/// Whether it begins as a private key or a PKCS #12 file does: with a sequence that begins with a version, which
/// a certificate does not.
fn is_der_key(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let [SEQUENCE, length, rest @ ..] = bytes else { return false };
    let more = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(more) == Some(&INTEGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_der() {
        assert!(is_der_key(&[0x30, 0x82, 0x04, 0xa4, 0x02, 0x01, 0x00]));
        assert!(is_der_key(&[0x30, 0x2e, 0x02, 0x01, 0x00, 0xff]));
        assert!(!is_der_key(&[0x30, 0x82, 0x01, 0xa4, 0x30, 0x82]), "a certificate");
        assert!(!is_der_key(&[0x30]) && !is_der_key(&[0xff, 0xfe, 0x02]));
    }
}
