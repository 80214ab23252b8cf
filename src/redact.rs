//! Takes secrets out of texts that repeat what somebody has written: a token in the place of a name,
//! a seed in the place of a file. What is known to be a secret has a type of its own, such as
//! [`Secret`](crate::protocol::credentials::Secret); this is for what may be one.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::protocol::credentials::TOKEN_PREFIX;

/// What stands in the place of a secret.
pub(crate) const REDACTED: &str = "(redacted)";

/// A seed of an nkey: 58 characters of base32, or most of them.
const SEED_LEAST: usize = 48;

/// Shorter words are no passwords that a machine has made.
const MADE_LEN: usize = 16;
/// How often all random ones without a digit, but one in 400, change between small and large letters
/// at least; a name of three words in camel case does so four times.
const MADE_CHANGES: usize = 5;
const HEX_LEN: usize = 32;
/// So many characters of a secret tell which one it is, and nothing of use.
const OF_SECRET: usize = 6;
/// So many are said of what is before it.
const BEFORE_SECRET: usize = 24;
/// Longer paths with digits and large letters in folders that there are not look like a secret.
const ENCODED_LEN: usize = 32;

/// Whether it has the form of a token, a JWT, the seed of an nkey or a password's hash.
pub(crate) fn is_secret(word: &str) -> bool {
    let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    let is_seed =
        |part: &str| part.len() >= SEED_LEAST && part.starts_with('S') && part.bytes().all(base32);
    word.contains(TOKEN_PREFIX)
        || (word.starts_with("eyJ") && word.len() >= MADE_LEN)
        || word.split(['-', '_', '+']).any(is_seed)
        || (word.starts_with('$') && word.matches('$').count() > 2)
}

/// Whether it is a secret, or looks like a random password. Some names do too.
fn may_be_secret(word: &str) -> bool {
    // Of random passwords with 24 characters, one in 60 has no digit.
    let random = word.bytes().any(|byte| byte.is_ascii_digit()) || changes(word) >= MADE_CHANGES;
    let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_secret(word)
        || (word.len() >= MADE_LEN && is_mixed(word) && random)
        || (word.len() >= HEX_LEN && hex)
}

/// The text without tokens, JWTs, seeds and hashes.
pub(crate) fn without_secrets(text: &str) -> Cow<'_, str> {
    without(text, is_secret)
}

/// The text without all that may be a secret.
pub(crate) fn without_likely_secrets(text: &str) -> Cow<'_, str> {
    without(text, may_be_secret)
}

/// The path of a file, unless it is a secret in the wrong place: the folders of it that there are tell the
/// two apart, and the rest is left out as a whole if it may be one.
pub(crate) fn shown_path(path: &Path) -> PathBuf {
    let known = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new(""));
    let rest = path.strip_prefix(known).unwrap_or(path).to_string_lossy();
    let shown = match may_be_encoded(&rest) {
        true => Cow::Borrowed(REDACTED),
        false => without_likely_secrets(&rest),
    };
    known.join(&*shown)
}

/// Whether a part of it may be a random secret in base64, or something longer such as a PEM file. A slash is a
/// letter of it, so that its words may be short.
pub(crate) fn may_be_encoded(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    text.split(|c| !is_letter(c)).any(|part| {
        let random = is_mixed(part) && part.bytes().any(|byte| byte.is_ascii_digit());
        random
            && (part.len() >= ENCODED_LEN
                || part.len() >= MADE_LEN && changes(part) >= MADE_CHANGES)
    })
}

fn is_mixed(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

/// How often its letters change between small and large.
fn changes(word: &str) -> usize {
    let large = || word.bytes().filter(u8::is_ascii_alphabetic).map(|it| it.is_ascii_uppercase());
    large().zip(large().skip(1)).filter(|(one, next)| one != next).count()
}

/// Whether it is a secret, or holds one: in quotes, say, or behind `Bearer`.
pub(crate) fn holds_secret(text: &str) -> bool {
    is_secret(text) || words(text).any(|(word, _)| is_secret(word))
}

/// A name, unless it is a secret in the wrong place.
pub(crate) fn shown(name: &str) -> &str {
    if holds_secret(name) { "(a secret)" } else { name }
}

/// A name by which a row is found, in quotes: of one that is a secret, or holds one, only what that begins with.
pub(crate) fn begun(name: &str) -> String {
    if !holds_secret(name) {
        return format!("{name:?}");
    }
    let is_before = |(word, _): &(&str, &str)| !is_secret(word);
    let before = words(name).take_while(is_before).map(|(word, end)| word.len() + end.len()).sum();
    let (before, secret) = name.split_at_checked(before).unwrap_or_default();
    // What is a secret as a whole may have no word that is one.
    let (before, secret) = if secret.is_empty() { ("", name) } else { (before, secret) };
    let begin = before.chars().take(BEFORE_SECRET).chain(secret.chars().take(OF_SECRET));
    format!("{:?}", begin.chain("...".chars()).collect::<String>())
}

/// A name that a client claims, and that no row is known to have: of one that may be a token, only the beginning.
pub(crate) fn claimed(name: &str) -> String {
    let name = shortened(name);
    let is_name = |c: char| c.is_whitespace() || "@|:()".contains(c);
    let length = name.chars().count();
    let may_be_token = length >= MADE_LEN
        && !name.contains(is_name)
        && name.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    if !may_be_token {
        return name.to_owned();
    }
    let begin: String = name.chars().take(length.min(24) / 2).collect();
    format!("{begin}...")
}

/// The beginning of a name that a client claimed, which may be thousands of bytes long, likewise.
pub(crate) fn shortened(name: &str) -> &str {
    let name = shown(name);
    name.char_indices().nth(64).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

fn without(text: &str, is_secret: fn(&str) -> bool) -> Cow<'_, str> {
    if !words(text).any(|(word, _)| is_secret(word)) {
        return Cow::Borrowed(text);
    }
    let shown = |(word, end)| [if is_secret(word) { REDACTED } else { word }, end];
    Cow::Owned(words(text).flat_map(shown).collect())
}

/// The words of a text, each with the character behind it.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, behind) = rest.split_at(word_len(rest));
        let end = behind.chars().next().map_or(0, char::len_utf8);
        let (end, left) = behind.split_at(end);
        let is_over = rest.is_empty();
        rest = left;
        (!is_over).then_some((word, end))
    })
}

/// How many bytes of the text its first word takes. That of a hash holds more than others.
fn word_len(text: &str) -> usize {
    let is_part = |c: char| match text.starts_with('$') {
        true => !c.is_whitespace() && !"\"'`;".contains(c),
        false => c.is_ascii_alphanumeric() || "_-+".contains(c),
    };
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY";

    #[test]
    fn secrets_are_taken_out() {
        for secret in [
            "nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT",
            SEED,
            &SEED[..SEED.len() - 5],
            "eyJhbGciOiJIUzI1NiJ9",
            "$2b$10$abcdefghijklmnopqrstuu",
            "$2b$10$N9qo8uLOickgx2ZMRZoMye/IjZAgcfl7p92ldGxad68LJZdL17.hW",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        ] {
            assert_eq!(without_secrets(&format!("`{secret}` is none")), "`(redacted)` is none");
        }
        let text = format!("no file /keys/{SEED}: `é{SEED}`");
        assert_eq!(without_secrets(&text), "no file /keys/(redacted): `é(redacted)`");
        for name in ["password=", "NATS_TOKEN=", "seed:", "user_", "key-"] {
            for secret in ["nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT", SEED] {
                let text = format!("{name}{secret}");
                let kept = without_secrets(&text);
                assert!(!kept.contains(&secret[4..]), "{kept}");
            }
        }
        for password in ["V7w3tLq8ZsRy0PbJ6nHk", "VwhtLqnZsRyKPbJgnHkQxTdM"] {
            let text = format!("postgres://me:{password}@host:5432/db");
            assert_eq!(without_likely_secrets(&text), "postgres://me:(redacted)@host:5432/db");
            assert_eq!(without_secrets(&text), text);
        }
        assert_eq!(without_likely_secrets(&"0aF".repeat(12)), REDACTED);
    }

    #[test]
    fn ordinary_texts_stay() {
        for text in [
            "",
            "`30 seconds` is no duration: write a number and a unit out of ms, s, m",
            "cannot read /srv/nats/prod/keys/operator-signing-2.nk: No such file",
            "alice.smith@example.com",
            "maxReconnectAttempts",
            "550e8400-e29b-41d4-a716-446655440000",
            "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA",
            "$US 5, and more $ than that",
        ] {
            assert_eq!(without_likely_secrets(text), text);
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn a_secret_in_the_place_of_a_path_is_left_out_as_a_whole() {
        let folder = tempfile::Builder::new().prefix("Data2").tempdir().unwrap();
        let shown = |text: &str| {
            let shown = shown_path(&folder.path().join(text));
            shown.strip_prefix(folder.path()).unwrap_or(&shown).display().to_string()
        };
        for secret in [
            "kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nD=",
            "/kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nD=",
            "aB3/dE6+gH9/jK2/mN5/",
            "-----BEGIN PRIVATE KEY-----\nMIIE/vQIB/ADAN/Bgkqh/kiG9w\n-----END PRIVATE KEY-----\n",
        ] {
            let shown = shown(secret);
            assert!(shown.trim_start_matches('/') == REDACTED, "{secret}: {shown}");
        }
        for path in [
            "license.secret",
            "/run/secrets/License2/license.secret",
            "keys/operator-signing-2.nk",
            "no/such/folder/of/the/deployment/keys/issuer-2.nk",
        ] {
            assert_eq!(shown(path), path, "in {}", folder.path().display());
        }
    }

    #[test]
    fn of_a_name_with_a_secret_the_beginning_is_said() {
        let token = "nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT";
        let jwt = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";
        for (name, said) in [
            (token.to_owned(), r#""nct_01...""#),
            (format!("\"{token}\""), r#""\"nct_01...""#),
            (format!("'{token}'"), r#""'nct_01...""#),
            (format!("Bearer {token}"), r#""Bearer nct_01...""#),
            (format!("token:{token}"), r#""token:nct_01...""#),
            (format!("token={SEED} {token}"), r#""token=SUAKYR...""#),
            (format!("Bearer {jwt}"), r#""Bearer eyJhbG...""#),
            (format!("é\u{200b} {jwt}"), r#""é\u{200b} eyJhbG...""#),
            (format!("{} {jwt}", "x".repeat(99)), r#""xxxxxxxxxxxxxxxxxxxxxxxxeyJhbG...""#),
            ("eyJ of a few words".to_owned(), r#""eyJ of...""#),
            ("alice ".to_owned(), r#""alice ""#),
            ("eyJon".to_owned(), r#""eyJon""#),
        ] {
            assert_eq!(begun(&name), said);
        }
    }

    #[test]
    fn no_token_is_shown_for_a_name() {
        assert_eq!(shortened("nct_0000000000000000000000000000000019Bvis"), "(a secret)");
        assert_eq!(shortened("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), "(a secret)");
        assert_eq!(shortened("eyJon"), "eyJon");
        assert_eq!(shortened(&"x".repeat(100)), "x".repeat(64));
        for (name, shown) in [
            ("y9ChhMNX6EOshM1S2abPo5GqmrYGfFNUIu7SF1aMWss", "y9ChhMNX6EOs..."),
            ("ory_at_KKKKKKKKKKKKKKKKKKKKKKKKK", "ory_at_KKKKK..."),
            ("6f0d9bf8-5a5c-4e9e-8d5e-52c7a8c0b2f1", "6f0d9bf8-5a5..."),
            ("order-service-02", "order-se..."),
            ("order-service-of-the-shop", "order-service-of-the-shop"),
            ("alice.of.accounting@example.com", "alice.of.accounting@example.com"),
            ("system:serviceaccount:shop:api-2", "system:serviceaccount:shop:api-2"),
            ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0|5f7c8ec7c33c6c004bbafe82"),
            ("Ünïcödé-nämé-öf-sömébödy-2", "Ünïcödé-nämé..."),
            ("alice", "alice"),
        ] {
            assert_eq!(claimed(name), shown, "{name}");
        }
    }
}
