//! Whether a file that nobody lists may be a secret, by what it holds.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use super::{MAX_BYTES, is_public};
use crate::protocol::credentials::TOKEN_PREFIX;
use crate::redact::{may_be_encoded, without_likely_secrets, without_secrets};

/// How the names of key files end.
const ENDINGS: [&str; 5] = ["nk", "creds", "seed", "key", "secret"];

/// How the names of source code and of pages end, which are long words and much that looks random.
const SOURCES: [&str; 14] =
    ["c", "css", "go", "h", "html", "java", "js", "map", "md", "ps1", "py", "rs", "sh", "ts"];

/// The characters of a seed, of a token behind its beginning, and the least of a private key in base64.
const SEED_LEN: usize = 58;
const TOKEN_LEN: usize = 38;
const KEY_LEAST: usize = 32;

/// So much may stand between the first line of a private key and the key, where code holds it: quotes, a plus.
const BETWEEN: usize = 40;

/// How sure it is that a file holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// A seed, a private key or a token of this service is in it.
    Certain,
    /// It looks like one: by its name, or by what it holds.
    Likely,
}

/// Whether it holds a seed, a creds file, a private key or a token, or is a key by its name, or one word that
/// looks random. A README and source code are none by their looks. What cannot be read here is nothing that all
/// can read.
pub(super) fn of_secret(path: &Path) -> Option<Likeness> {
    let is_short = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= MAX_BYTES);
    if !is_short || is_public(path) {
        return None;
    }
    let is_key = has_ending(path, &ENDINGS);
    let likely = |looks: bool| looks.then_some(Likeness::Likely);
    let Ok(bytes) = fs::read(path).map(Zeroizing::new) else { return likely(is_key) };
    match std::str::from_utf8(&bytes) {
        Ok(text) if is_certain(text) => Some(Likeness::Certain),
        Ok(_) if is_prose(path) => None,
        Ok(text) => likely(is_key || is_secret_text(text)),
        Err(_) => likely(is_key || is_der_key(&bytes)),
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|it| endings.iter().any(|ending| it.eq_ignore_ascii_case(ending)))
}

/// Whether it is a README or source code, by its name.
fn is_prose(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    first.eq_ignore_ascii_case("readme") || has_ending(path, &SOURCES)
}

/// Whether no other text has the form of what is in it.
fn is_certain(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| is_seed(word) || is_token(word)) || has_pem_key(text) || has_jwk_key(text)
}

fn is_seed(word: &str) -> bool {
    word.len() == SEED_LEN && nkeys::decode_seed(word).is_ok()
}

fn is_token(word: &str) -> bool {
    let random = word.split_once(TOKEN_PREFIX).map(|(_, random)| random);
    random
        .is_some_and(|it| it.len() == TOKEN_LEN && it.bytes().all(|it| it.is_ascii_alphanumeric()))
}

/// Whether behind the first line of a private key there is one: code that reads keys has that line alone.
fn has_pem_key(text: &str) -> bool {
    text.split("PRIVATE KEY-----").skip(1).any(|rest| {
        let rest: String = rest.replace("\\n", " ").chars().take(BETWEEN + KEY_LEAST).collect();
        // A sequence in DER, or OpenSSH's own form.
        let is_key = |word: &str| word.starts_with('M') || word.starts_with("b3BlbnNzaC1rZXk");
        let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c));
        words.any(|word| word.len() >= KEY_LEAST && is_key(word))
    })
}

/// Whether it is a JWK with a private or secret part, and not code that has these words.
fn has_jwk_key(text: &str) -> bool {
    let is_key = |rest: &str| {
        let rest = rest.trim_start().strip_prefix(':').unwrap_or_default().trim_start();
        let value = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
        value.is_some_and(|it| it.len() >= KEY_LEAST && !it.contains(char::is_whitespace))
    };
    text.contains("\"kty\"")
        && ["\"d\"", "\"k\""].iter().any(|part| text.split(part).skip(1).any(is_key))
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

    #[test]
    fn what_is_certain_and_what_code_has_too() {
        let seed = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY";
        let pem = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
        for text in [
            format!("const seed = '{seed}';"),
            "token = \"nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT\"".to_owned(),
            format!("-----BEGIN PRIVATE KEY-----\n{pem}\n"),
            format!("key = '-----BEGIN PRIVATE KEY-----\\n' +\n    '{pem}\\n'"),
            format!("{{\"kty\":\"OKP\", \"d\" : \"{}\"}}", &pem[..43]),
        ] {
            assert!(is_certain(&text), "{text}");
        }
        for text in [
            "const pem = `-----BEGIN PRIVATE KEY-----\n${wrapped}\n-----END PRIVATE KEY-----`;",
            "if (jwk[\"kty\"] === \"RSA\" && jwk[\"d\"]) { distinct_id = punct_1 }",
            "replace(`^${gtlt}\\s*$`, \"$1$2$3\")",
            "//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0=",
        ] {
            assert!(!is_certain(text), "{text}");
        }
    }

    #[test]
    fn source_code_and_a_readme_by_their_names() {
        for name in
            ["README", "readme.txt", "Readme.de.md", "range.js", "a/b.PY", "x.d.ts", "y.js.map"]
        {
            assert!(is_prose(Path::new(name)), "{name}");
        }
        for name in ["readmes", "license", "js", "a.json", "README-keys", "x.nk", "md/seed"] {
            assert!(!is_prose(Path::new(name)), "{name}");
        }
    }
}
