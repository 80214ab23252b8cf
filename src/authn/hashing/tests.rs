//! Hashes that Python's hashlib, bcrypt 5.0, argon2-cffi 25.1 and passlib 1.7 have made.

use super::*;

const PASSWORD: &str = "correct horse battery staple";
const UNICODE: &str = "pässwörd ✓";

const CURRENT: &str = "$argon2id$v=19$m=19456,t=2,p=1$8PHy8/T19vf4+fr7/P3+/w$uwK439kKEFs2ERGZizRZs3ZkSxakFDo2w9pWK4jMsjc";
const CURRENT_OF_NODE: &str = "$argon2id$v=19$m=19456,p=1,t=2$8PHy8/T19vf4+fr7/P3+/w$uwK439kKEFs2ERGZizRZs3ZkSxakFDo2w9pWK4jMsjc";
const STRONGER: &str = "$argon2id$v=19$m=65536,t=3,p=4$8PHy8/T19vf4+fr7/P3+/w$/i+cW84gaRZfcOX7fCOBy1A6UTOJoz/GT8oWp+2yscM";

/// Made by other tools, all of [`PASSWORD`].
const VECTORS: [&str; 19] = [
    CURRENT,
    STRONGER,
    "$argon2id$v=19$m=64,t=1,p=1$8PHy8/T19vf4+fr7/P3+/w$ar90BYdJii2cxAHccd64eQ",
    "$argon2id$v=16$m=19456,t=2,p=1$8PHy8/T19vf4+fr7/P3+/w$YKLaJ7UfphrJ8Vz+ldK+2K8TVIgrya4mQN4lSC5NulI",
    "$argon2id$m=19456,t=2,p=1$8PHy8/T19vf4+fr7/P3+/w$YKLaJ7UfphrJ8Vz+ldK+2K8TVIgrya4mQN4lSC5NulI",
    "$2a$05$BaqJ88bYiBbDWB4ZDgQCbOHZcOeKWMMalZCx2qzvDBCG5vE2Sh/iG",
    "$2b$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS",
    "$2y$05$TOtWjVTjdUFpLhVHc7UR6eKwm02.a8rVkjdDKhDm0CyQKCog1tX4O",
    "$pbkdf2-sha256$i=1000,l=32$8PHy8/T19vf4+fr7/P3+/w$0A35jjZ8X+jm/Nj9sc4uzmU/RqA2wljSyf5enbVFSOY",
    "$pbkdf2-sha512$i=1000,l=64$8PHy8/T19vf4+fr7/P3+/w$7Ny4dUakS7JIZAfjYpLQGSZsWvUihs7A6xXDgyqRrc3BkpXb3nL1/MvPpT3VxDAwU6FzpGn1KkCfA3fC7/680Q",
    "$pbkdf2$i=1000$8PHy8/T19vf4+fr7/P3+/w$b1ALU8iwgU5+fFcj2U3+nlZfu20",
    "$pbkdf2-sha256$29000$8PHy8/T19vf4.fr7/P3./w$TIQYWp/SSsGPoi.1mD0fYa.nVEgUooOxmJUVsSgmQa8",
    "$pbkdf2-sha512$25000$8PHy8/T19vf4.fr7/P3./w$Yw/OrJ.zHeUkPrszOid6FVIb4k7P0HWQz57z3ySiheCl2GQcaghxIgo2ze5Y4cYPJ1cO34p6uEL2a2jvxXSB9A",
    "$pbkdf2$1000$8PHy8/T19vf4.fr7/P3./w$b1ALU8iwgU5.fFcj2U3.nlZfu20",
    "$scrypt$ln=10,r=8,p=2$8PHy8/T19vf4+fr7/P3+/w$p4tDseuOK02FvpkLpgnrqTKjnlK86Vk2NLXFo8AMsHM2EPat3Qldc9AqDeIfru7DRLqEO5Eje9Ys0PlliOkpWQ",
    "$scrypt$ln=14,r=8,p=1$8PHy8/T19vf4+fr7/P3+/w$IjhmaN9YTthG+oqgrueYtGtJZPohzszxG/450hxRGPk",
    // As Node's libraries write them: in the order of the alphabet.
    CURRENT_OF_NODE,
    "$scrypt$ln=14,p=1,r=8$8PHy8/T19vf4+fr7/P3+/w$IjhmaN9YTthG+oqgrueYtGtJZPohzszxG/450hxRGPk",
    "$pbkdf2-sha256$l=32,i=1000$8PHy8/T19vf4+fr7/P3+/w$0A35jjZ8X+jm/Nj9sc4uzmU/RqA2wljSyf5enbVFSOY",
];

fn verify(password: &str, hash: &PasswordHash) -> Result<Verdict, HashingError> {
    verify_in(&mut Memory::default(), password, hash)
}

fn verdict(password: &str, hash: &str) -> Verdict {
    verify(password, &PasswordHash::new(hash)).unwrap()
}

#[test]
fn hashes_of_other_tools_match_their_password_alone() {
    for hash in VECTORS {
        assert_eq!(verdict(PASSWORD, hash), Verdict::Match, "{hash}");
        assert_eq!(verdict("correct horse battery stapl", hash), Verdict::Mismatch, "{hash}");
        assert_eq!(verdict("", hash), Verdict::Mismatch, "{hash}");
    }
}

#[test]
fn passwords_are_utf8() {
    for hash in [
        "$argon2id$v=19$m=64,t=1,p=1$8PHy8/T19vf4+fr7/P3+/w$0Si2WbR1tqsCXEWiM5pTS3dHfDK/JJiz74n2vIf8ZQg",
        "$2b$04$yaxEfOw7LiiLPSKy6TGeI.8m2sZN5Qn5qpG9Nr289mAyoGi5QL.gu",
    ] {
        assert_eq!(verdict(UNICODE, hash), Verdict::Match);
        assert_eq!(verdict("password ✓", hash), Verdict::Mismatch);
    }
}

#[test]
fn bcrypt_matches_one_password_alone() {
    let of_72 = "$2b$04$v8fFtfY05vC9JjoGJ2b4CORBeMCvYiN7CgU/Ow8dTBM/mN4RG.XR2";
    assert_eq!(verdict(&"x".repeat(72), of_72), Verdict::Match);
    assert_eq!(verdict(&"x".repeat(71), of_72), Verdict::Mismatch);
    assert_eq!(verdict(&"x".repeat(73), of_72), Verdict::Mismatch);
    assert_eq!(verdict(&"x".repeat(4_096), of_72), Verdict::Mismatch);
    // The key is repeated with its zero, so that bcrypt itself takes both for the same.
    let twice = format!("{PASSWORD}\0{PASSWORD}");
    assert_eq!(verdict(&twice, VECTORS[6]), Verdict::Mismatch);
}

#[test]
fn stray_bits_of_a_bcrypt_salt_make_no_difference() {
    // The last character of the salt, `O`, carries two bits of it and four that are ignored.
    let stray = VECTORS[6].replace("447zOe/", "447zPe/");
    assert_ne!(stray, VECTORS[6]);
    assert_eq!(verdict(PASSWORD, &stray), Verdict::Match);
}

#[test]
fn a_new_hash_is_current_and_salted() {
    let (one, other) = (hash(UNICODE).unwrap(), hash(UNICODE).unwrap());
    assert_ne!(one, other);
    assert!(one.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(verify(UNICODE, &one).unwrap(), Verdict::Match);
    assert_eq!(verify(UNICODE, &other).unwrap(), Verdict::Match);
    assert_eq!(verify(PASSWORD, &one).unwrap(), Verdict::Mismatch);
    assert!(!is_outdated(&one));
}

#[test]
fn everything_weaker_than_a_new_hash_is_outdated() {
    for hash in VECTORS {
        let expected = ![CURRENT, CURRENT_OF_NODE, STRONGER].contains(&hash);
        assert_eq!(is_outdated(&PasswordHash::new(hash)), expected, "{hash}");
    }
    let fewer_passes = CURRENT.replace("t=2", "t=1");
    assert!(is_outdated(&PasswordHash::new(fewer_passes)));
    assert!(is_outdated(&PasswordHash::new("")));
}

#[test]
fn excessive_work_is_refused_before_it_is_done() {
    let argon2 =
        |params: &str| format!("$argon2id$v=19${params}$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ");
    let scrypt = |params: &str| format!("$scrypt${params}$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ");
    let pbkdf2 =
        |params: &str| format!("$pbkdf2-sha256${params}$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ");
    for hash in [
        argon2("m=262145,t=1,p=1"),
        argon2("m=4294967295,t=1,p=1"),
        argon2("m=42949672950,t=1,p=1"),
        argon2("m=64,t=17,p=1"),
        argon2("m=512,t=1,p=17"),
        scrypt("ln=19,r=8,p=1"),
        scrypt("ln=18,r=9,p=1"),
        scrypt("ln=10,r=8,p=17"),
        scrypt("ln=4294967295,r=4294967295,p=1"),
        scrypt("ln=1,r=4294967295,p=1"),
        // Small in N r alone: the 16 blocks beside it would take 2 GiB.
        scrypt("ln=1,r=1048576,p=16"),
        pbkdf2("i=10000001,l=16"),
        pbkdf2("10000001"),
        VECTORS[6].replace("$05$", "$16$"),
        VECTORS[6].replace("$05$", "$31$"),
    ] {
        let found = verdict(PASSWORD, &hash);
        assert!(matches!(found, Verdict::Unusable(Unusable::Excessive(_))), "{hash}: {found:?}");
    }
}

#[test]
fn the_caps_themselves_are_allowed() {
    for hash in [
        "$argon2id$v=19$m=262144,t=16,p=16$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ".to_owned(),
        "$scrypt$ln=18,r=8,p=16$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ".to_owned(),
        "$pbkdf2-sha256$i=10000000,l=16$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ".to_owned(),
        VECTORS[6].replace("$05$", "$15$"),
    ] {
        assert!(Stored::parse(&hash).is_ok(), "{hash}");
    }
}

#[test]
fn a_salt_may_be_empty_where_the_scheme_allows_it() {
    for hash in
        ["$pbkdf2-sha256$1$$ar90BYdJii2cxAHccd64eQ", "$scrypt$ln=1,r=1,p=1$$ar90BYdJii2cxAHccd64eQ"]
    {
        assert_eq!(verdict(PASSWORD, hash), Verdict::Mismatch, "{hash}");
    }
}

#[test]
fn an_unknown_scheme_is_unusable() {
    for hash in [
        "",
        "secret",
        "*",
        "$",
        "$1$salt$hash",
        "$6$salt$hash",
        "$2x$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS",
        "$argon2i$v=19$m=64,t=2,p=1$8PHy8/T19vf4+fr7/P3+/w$H29581x06V3a1zYDyzDHW4xCLcNW2JknKnXIOfmXyJY",
        "argon2id$v=19$m=64,t=2,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
    ] {
        assert_eq!(verdict(PASSWORD, hash), Verdict::Unusable(Unusable::Scheme), "{hash}");
        assert_eq!(verdict("", hash), Verdict::Unusable(Unusable::Scheme), "{hash}");
    }
}

#[test]
fn a_malformed_hash_is_unusable_and_never_matches() {
    let long = format!("$argon2id$v=19$m=64,t=1,p=1${}$ar90BYdJii2cxAHccd64eQ", "A".repeat(3_000));
    for hash in [
        "$argon2id$",
        "$argon2id$v=19$m=64,t=1,p=1$8PHy8/T19vc$",
        "$argon2id$v=19$m=64,t=1,p=1$8PHy8/T19vc$AAAA",
        "$argon2id$v=19$m=64,t=1,p=1$8PHy$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=20$m=64,t=1,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=4,t=1,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=64,t=0,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=64,t=1,p=1,data=AAAA$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=64,t=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=+64,t=1,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$argon2id$v=19$m=64,t=1,p=1$not base64$ar90BYdJii2cxAHccd64eQ",
        "$2b$05$",
        "$2b$5$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS",
        "$2b$03$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS",
        "$2b$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURB",
        "$2b$05$x21GXvqAGMPZDp1M.447zé/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS",
        "$2b$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS$",
        "$pbkdf2-sha256$i=0,l=16$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$pbkdf2-sha256$i=1000,l=32$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$pbkdf2-sha256$$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$scrypt$ln=0,r=8,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$scrypt$ln=10,r=0,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$scrypt$ln=10,r=8,p=0$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ",
        "$scrypt$ln=10,r=8,p=1$8PHy8/T19vc",
        &long,
    ] {
        let found = verdict(PASSWORD, hash);
        assert!(matches!(found, Verdict::Unusable(Unusable::Malformed(_))), "{hash}: {found:?}");
    }
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "(\\$(argon2id|2b|pbkdf2|pbkdf2-sha256|scrypt))?[$=,a-zA-Z0-9./+é]{0,90}") {
        let _ = Stored::parse(&text);
    }
}
