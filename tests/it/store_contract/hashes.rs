//! What the database takes for a password hash is what the service can verify, but for one that no library
//! writes: it was cut short.

use std::collections::BTreeSet;

use nats_callout::internals::unusable_hash;

use super::{ALICE, Database, on_every_database};

on_every_database!(
    a_hash_that_no_login_can_use_is_refused,
    a_hash_that_was_cut_short_is_refused,
    what_is_nearly_a_hash_is_refused_with_what_is_wrong,
    every_variant_is_told_as_at_a_login,
    what_readme_says_is_not_taken_is_not,
);

const SALT: &str = "c2l4dGVlbiBieXRlcyBvaw";
const OUTPUT: &str = "47Gi90ThMbJJbvqdZMRHE2BzJ9U8H2KA55pFdZspJio";
const NONE: &str = "argon2id, bcrypt, pbkdf2 or scrypt in PHC or passlib form";
const OTHER: &str = "another scheme, which no login takes: the user needs a new password";
const BCRYPT: &str = "x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS";

/// Hashes of each scheme.
fn sound() -> Vec<String> {
    let mut sound: Vec<String> = [
        "argon2id$v=19$m=19456,t=2,p=1",
        "argon2id$v=16$t=1,p=1,m=8",
        "argon2id$m=262144,t=16,p=16",
        "scrypt$ln=16,r=8,p=1",
        "scrypt$ln=01,r=1,p=16",
        "pbkdf2$1000",
        "pbkdf2-sha256$i=600000",
        "pbkdf2-sha512$i=10000000,l=32",
        "pbkdf2-sha512$l=32,i=1",
    ]
    .iter()
    .map(|scheme| format!("${scheme}${SALT}${OUTPUT}"))
    .collect();
    sound.extend(["2a$04", "2b$10", "2y$15"].map(|scheme| format!("${scheme}${BCRYPT}")));
    sound.push(format!("$scrypt$ln=16,r=8,p=1$${OUTPUT}="));
    sound.push(format!("$pbkdf2-sha256$29000$N2YMIWQsBWBMae09x1jrPQ==${SALT}"));
    sound
}

/// What is wrong, by the cause that the database names.
fn flawed() -> Vec<(&'static str, Vec<String>)> {
    let argon2id = |rest: &str| format!("$argon2id$v=19${rest}");
    let with = |params: &str| argon2id(&format!("{params}${SALT}${OUTPUT}"));
    let scrypt = |params: &str| format!("$scrypt${params}${SALT}${OUTPUT}");
    let pbkdf2 = |params: &str| format!("$pbkdf2-sha256${params}${SALT}${OUTPUT}");
    let ends = |salt: &str, output: &str| format!("$pbkdf2-sha256$1000${salt}${output}");
    let long = "A".repeat(87);
    vec![
        (
            "PBKDF2 is pbkdf2",
            vec![pbkdf2("1").replace("256", "1"), pbkdf2("1").replace("256", "2567")],
        ),
        (
            "parts",
            vec![
                argon2id(&format!("m=8,t=1,p=1${SALT}${OUTPUT}$")),
                "$argon2id$v=19".into(),
                "$scrypt$16384$8$1$a$b".into(),
                "$pbkdf2-sha256$600000".into(),
                "$2b$10".into(),
                format!("$2b$10${BCRYPT}$x"),
            ],
        ),
        (
            "cost of bcrypt",
            ["03", "16", "4", "010", "", "1x", "31"]
                .map(|cost| format!("$2b${cost}${BCRYPT}"))
                .into(),
        ),
        (
            "53 characters",
            vec![
                format!("$2b$10${}", &BCRYPT[1..]),
                format!("$2y$10${BCRYPT}x"),
                format!("$2a$10${}+", &BCRYPT[1..]),
                format!("$2b$10${BCRYPT}=="),
            ],
        ),
        (
            "versions 16 and 19",
            vec![argon2id("").replace("v=19$", &format!("v=18$m=8,t=1,p=1${SALT}${OUTPUT}"))],
        ),
        (
            "parameters m, t and p",
            ["", "m=8,t=1", "m=8,t=1,p=1,", "m=8,t=1,p=1,x=1", "m=8,m=8,t=1,p=1", "m=8,m=8,t=1"]
                .iter()
                .chain(&["m=8,t=1,p=", "m=8,t=1,p=-1", "m=8,t=1,p", "m=8;t=1,p=1", "M=8,t=1,p=1"])
                .chain(&["m=8=8,t=1,p=1", "m=\"8\",t=1,p=1", "m=8\\,t=1,p=1", "m=8,t=1,q,p=1"])
                .map(|params| with(params))
                .chain([format!("$argon2id$m=8,t=1${SALT}${OUTPUT}")])
                .collect(),
        ),
        (
            "p and t of 1 to 16",
            ["m=262145,t=1,p=1", "m=8,t=17,p=1", "m=8,t=0,p=1", "m=136,t=1,p=17", "m=8,t=1,p=0"]
                .iter()
                .chain(&["m=7,t=1,p=1", "m=31,t=1,p=4", "m=99999999999999999999999,t=1,p=1"])
                .map(|params| with(params))
                .collect(),
        ),
        (
            "at least 8 bytes",
            vec![
                argon2id(&format!("m=8,t=1,p=1$MTIzNDU2Nw${OUTPUT}")),
                argon2id(&format!("m=8,t=1,p=1$${OUTPUT}")),
            ],
        ),
        (
            "parameters ln, r and p",
            ["ln=16,r=8", "16384,8,1", "n=16384,r=8,p=1", "ln=16,r=8,p=x"].map(scrypt).into(),
        ),
        (
            "256 MiB",
            ["ln=19,r=1,p=1", "ln=18,r=9,p=1", "ln=0,r=8,p=1", "ln=1,r=0,p=1", "ln=1,r=1,p=0"]
                .iter()
                .chain(&[
                    "ln=1,r=1,p=17",
                    "ln=1,r=4294967296,p=1",
                    "ln=1,r=9223372036854775808,p=1",
                ])
                .map(|params| scrypt(params))
                .collect(),
        ),
        (
            "PBKDF2 has its rounds",
            ["", "i=", "x", "l=32", "i=1000,", "i=1000,l=", "i=1000,i=1000", "t=1000", "1000,l=32"]
                .iter()
                .chain(&["i=1,l=32,x=1", "-1", "1e6", "il=5"])
                .map(|params| pbkdf2(params))
                .collect(),
        ),
        (
            "1 to 10000000 rounds",
            ["0", "i=0", "10000001", "i=99999999999999999999"].map(pbkdf2).into(),
        ),
        ("as its l says", ["i=1000,l=31", "i=1000,l=64"].map(pbkdf2).into()),
        (
            "salt is no base64",
            ["A", "AAAAA", "AA_A", "AA-A", "AA===", "AAA==", "AAAA=", "=", "A%%A", "AA=A"]
                .map(|salt| ends(salt, OUTPUT))
                .into(),
        ),
        (
            "no base64 of 10 to 64 bytes",
            [
                "",
                "AAAA",
                "AAAAAAAAAAAA",
                &long,
                &format!("{OUTPUT}=="),
                &OUTPUT[2..],
                "5d41402abc4b2a76_",
            ]
            .map(|output| ends(SALT, output))
            .into(),
        ),
    ]
}

fn update(hash: &str) -> String {
    format!("UPDATE users SET password_hash = '{hash}'")
}

async fn a_hash_that_no_login_can_use_is_refused(db: &dyn Database) {
    db.run(ALICE).await;
    for hash in sound() {
        assert_eq!(unusable_hash(&hash), None, "{hash}");
        db.run(&update(&hash)).await;
        db.run(&format!(
            "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'b', '{hash}'); \
             DELETE FROM users WHERE name = 'b'"
        ))
        .await;
    }
    let before = db.run("SELECT password_hash FROM users").await;
    for (cause, hashes) in flawed() {
        for hash in hashes {
            assert!(unusable_hash(&hash).is_some(), "{hash}");
            let client = db.clients()[0];
            let refusal = db.run_with(client, &update(&hash)).await.unwrap_err();
            assert!(
                refusal.contains("users.password_hash: ") && refusal.contains(cause),
                "{hash}\n{refusal}\nnot: {cause}"
            );
        }
        let insert = |hash: &str| {
            format!(
                "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'b', '{hash}')"
            )
        };
        db.refuses(&insert(&flawed_by(cause)), cause).await;
    }
    assert_eq!(db.run("SELECT password_hash FROM users").await, before);
    // What README has in the place of a hash is taken, and told.
    let told = "SELECT tenant_id, user_name FROM password_hash_flaws";
    assert_eq!(db.run(told).await, [""; 0]);
    db.run(&update("$2b$10$...")).await;
    assert_eq!(db.run(told).await, ["42|alice"]);
    db.run("UPDATE users SET status = 'suspended'").await;
}

/// By its form there.
async fn what_readme_says_is_not_taken_is_not(db: &dyn Database) {
    const README: &str = include_str!("../../../README.md");
    let (_, told) = README.split_once("Users with any other hash need a new password").unwrap();
    let (told, _) = told.split_once("\n\n").unwrap();
    let forms: Vec<_> =
        told.split('`').skip(1).step_by(2).filter(|it| it.ends_with("...")).collect();
    db.run(ALICE).await;
    let rests = [
        ("$argon2i$...", format!("v=19$m=65536,t=4,p=1${SALT}${OUTPUT}"), OTHER),
        ("$pbkdf2-sha384$...", format!("i=600000${SALT}${OUTPUT}"), "PBKDF2 is pbkdf2"),
        ("$bcrypt-sha256$...", format!("v=2,t=2b,r=12${}${}", &BCRYPT[..22], &BCRYPT[22..]), OTHER),
        ("bcrypt_sha256$...", format!("$2b$12${BCRYPT}"), OTHER),
        (
            "$scrypt$n=16384,r=8,p=1$...",
            format!("{SALT}${OUTPUT}"),
            "scrypt has the parameters ln, r and p",
        ),
        ("{scrypt}$e0801$...", format!("{SALT}==${OUTPUT}="), OTHER),
        ("{pbkdf2}...", "0a".repeat(40), OTHER),
        ("{SSHA}...", format!("{OUTPUT}="), OTHER),
        ("{\"hashIterations\":...", "27500,\"algorithm\":\"pbkdf2-sha256\"}".into(), OTHER),
    ];
    assert_eq!(forms, rests.each_ref().map(|(form, ..)| *form));
    for (form, rest, cause) in rests {
        let hash = form.replace("...", &rest);
        assert!(unusable_hash(&hash).is_some(), "{hash}");
        db.refuses(&update(&hash), &format!("users.password_hash: {cause}")).await;
    }
}

fn flawed_by(cause: &str) -> String {
    let (_, mut hashes) = flawed().into_iter().find(|(it, _)| *it == cause).unwrap();
    hashes.remove(0)
}

/// Whether no library can have written it, of those that a login can use.
fn is_doubtful(hash: &str) -> bool {
    const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if hash.starts_with("$2") {
        return false;
    }
    let digest = hash.rsplit('$').next().unwrap().trim_end_matches('=').replace('.', "+");
    let bits = digest.len() * 6;
    let last = BASE64.find(&digest[digest.len() - 1..]).unwrap();
    ![16, 20, 24, 28, 32, 48, 64].contains(&(bits / 8)) || !last.is_multiple_of(1 << (bits % 8))
}

async fn a_hash_that_was_cut_short_is_refused(db: &dyn Database) {
    db.run(ALICE).await;
    for scheme in ["argon2id$v=19$m=19456,t=2,p=1", "pbkdf2-sha256$600000", "scrypt$ln=16,r=8,p=1"]
    {
        let whole = format!("${scheme}${SALT}${OUTPUT}");
        db.run(&update(&whole)).await;
        let mut taken = Vec::new();
        for left_out in 1..OUTPUT.len() {
            let hash = &whole[..whole.len() - left_out];
            match db.run_with(db.clients()[0], &update(hash)).await {
                Ok(_) => taken.push(OUTPUT.len() - left_out),
                Err(refusal) => {
                    let says = |words| refusal.contains(words);
                    let is_told = says("users.password_hash: ") && says("is it whole?");
                    assert!(is_told, "{hash}: {refusal}");
                }
            }
        }
        // As many bytes as a library may have written, and no bit over: 24, and here by chance 20.
        assert_eq!(taken, [32, 27]);
    }
    // What a login can use is not told as what none can.
    let table = if db.is_sqlite() { "" } else { " ON users" };
    db.run(&format!("DROP TRIGGER users_update_hash_check{table}")).await;
    db.run(&update(&format!("$pbkdf2-sha256$600000${SALT}${}", &OUTPUT[..16]))).await;
    assert_eq!(db.run("SELECT user_name FROM password_hash_flaws").await, [""; 0]);
    assert_eq!(db.run("SELECT user_name FROM password_hash_objections").await, ["alice"]);
}

async fn what_is_nearly_a_hash_is_refused_with_what_is_wrong(db: &dyn Database) {
    const BLANKS: &str = "there is white space around it";
    const BRACES: &str = "a prefix in braces, which is to be taken off: see README";
    const ARGON2: &str = "Django's prefix argon2, which is to be taken off: see README";
    const DOLLAR: &str = "Django's prefix bcrypt$, which is to be taken off: see README";
    const CONVERTED: &str = "Django's or Werkzeug's form, which is to be converted: see README";
    const BYTES: &str = "bytes as Python prints them, b'...'";
    const QUOTES: &str = "there are quotes around it";
    db.run(ALICE).await;
    let sound = format!("$2b$10${BCRYPT}");
    for (hash, cause) in [
        (format!("'{sound} '"), BLANKS),
        (format!("' {sound}'"), BLANKS),
        (format!("'{sound}' || char(10)"), BLANKS),
        (format!("'{sound}' || char(13) || char(10)"), BLANKS),
        (format!("'{{bcrypt}}{sound}'"), BRACES),
        ("'{argon2}$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$eA'".into(), BRACES),
        (format!("'{{argon2@SpringSecurity_v5_8}}$argon2id${OUTPUT}'"), BRACES),
        ("'argon2$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$eA'".into(), ARGON2),
        (format!("'bcrypt${sound}'"), DOLLAR),
        ("'pbkdf2_sha256$870000$salt$digest'".into(), CONVERTED),
        ("'pbkdf2_sha1$870000$salt$digest'".into(), CONVERTED),
        ("'scrypt$16384$salt$8$5$digest'".into(), CONVERTED),
        ("'scrypt:32768:8:1$salt$0a0b'".into(), CONVERTED),
        ("'pbkdf2:sha1:1000000$salt$0a0b'".into(), CONVERTED),
        ("'pbkdf2:sha256:1000000$salt$0a0b'".into(), CONVERTED),
        ("'pbkdf2:sha512:1000000$salt$0a0b'".into(), CONVERTED),
        ("'pbkdf2:md5:1000000$salt$0a0b'".into(), OTHER),
        ("'pbkdf2_md5$870000$salt$digest'".into(), OTHER),
        ("'argon2$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$eA'".into(), OTHER),
        (format!("'bcrypt_sha256${sound}'"), OTHER),
        ("'{CRYPT}$6$salt$digest'".into(), OTHER),
        (format!("'b''{sound}'''"), BYTES),
        (format!("'b\"{sound}\"'"), BYTES),
        (format!("'\"{sound}\"'"), QUOTES),
        (format!("'''{sound}'''"), QUOTES),
        (format!("'$argon2i$v=19$m=65536,t=4,p=1${SALT}${OUTPUT}'"), OTHER),
        (format!("'$argon2d$v=19$m=65536,t=4,p=1${SALT}${OUTPUT}'"), OTHER),
        (format!("'$bcrypt-sha256$v=2,t=2b,r=12${}${}'", &BCRYPT[..22], &BCRYPT[22..]), OTHER),
        // Of crypt: MD5, SHA-256, SHA-512, yescrypt, DES; and bare ones: MD5, SHA-256.
        ("'$1$salt$qJH7.N4xYta3aEG/dfqo/0'".into(), OTHER),
        ("'$5$rounds=5000$salt$digest'".into(), OTHER),
        ("'$6$salt$digest'".into(), OTHER),
        ("'$y$j9T$salt$digest'".into(), OTHER),
        ("'$y$j9T$salt$digest '".into(), BLANKS),
        ("'$1$'".into(), NONE),
        ("'rl0uE4G6bGa6w'".into(), NONE),
        ("'5f4dcc3b5aa765d61d8327deb882cf99'".into(), NONE),
        ("'5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8'".into(), NONE),
        ("'secret'".into(), NONE),
        ("''".into(), NONE),
    ] {
        let hash = if db.is_sqlite() { hash } else { hash.replace("char(", "chr(") };
        let cause = format!("users.password_hash: {cause}");
        let insert = format!(
            "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'b', {hash})"
        );
        db.refuses(&insert, &cause).await;
        db.refuses(&format!("UPDATE users SET password_hash = {hash}"), &cause).await;
    }
    // As bcrypt of Python makes it.
    let cause = "users.password_hash: bytes, which decode() or string() makes a text";
    let bytes = match db.is_sqlite() {
        true => format!("CAST('{sound}' AS BLOB)"),
        false => format!("'{sound}'::bytea"),
    };
    db.refuses(&format!("UPDATE users SET password_hash = {bytes}"), cause).await;
    let insert =
        format!("INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'b', {bytes})");
    db.refuses(&insert, cause).await;
    db.run("UPDATE users SET password_hash = NULL").await;
}

/// Each sound one with each character left out, doubled, or replaced by each of some others.
async fn every_variant_is_told_as_at_a_login(db: &dyn Database) {
    let mut variants = Vec::new();
    for hash in sound() {
        for (at, character) in hash.char_indices().skip(1) {
            let (before, after) = (&hash[..at], &hash[at + 1..]);
            variants.push(format!("{before}{after}"));
            for other in ["$", ",", "=", "0", "9", "+", "_", "\"", "m=1,"] {
                variants.push(format!("{before}{other}{after}"));
                variants.push(format!("{before}{character}{other}{after}"));
            }
        }
    }
    variants.sort();
    variants.dedup();
    // As rows from before, which keep what the column's first rule says.
    let first = |hash: &String| {
        let schemes = ["$argon2id$", "$2a$", "$2b$", "$2y$", "$pbkdf2$", "$pbkdf2-sha", "$scrypt$"];
        schemes.iter().any(|scheme| hash.starts_with(scheme) && hash.len() > scheme.len())
            && hash.strip_prefix("$pbkdf2-sha").is_none_or(|rest| {
                rest.starts_with(|digit: char| digit.is_ascii_digit()) && rest.contains('$')
            })
    };
    variants.retain(first);
    assert!(variants.len() > 8_000, "{}", variants.len());
    let table = if db.is_sqlite() { "" } else { " ON users" };
    db.run(&format!("DROP TRIGGER users_insert_hash_check{table}")).await;
    db.run("INSERT INTO tenants (id, name) VALUES ('42', 'x')").await;
    for (at, some) in variants.chunks(500).enumerate() {
        let rows: Vec<String> = some
            .iter()
            .enumerate()
            .map(|(n, hash)| format!("('42', '{at}-{n}', '{hash}')"))
            .collect();
        let rows = rows.join(", ");
        db.run(&format!("INSERT INTO users (tenant_id, name, password_hash) VALUES {rows}")).await;
    }
    let told = db
        .run("SELECT password_hash FROM users JOIN password_hash_flaws ON user_name = name")
        .await;
    let told: BTreeSet<&String> = told.iter().collect();
    let refused = db
        .run("SELECT password_hash FROM users JOIN password_hash_objections ON user_name = name")
        .await;
    let refused: BTreeSet<&String> = refused.iter().collect();
    for hash in &variants {
        let why = unusable_hash(hash);
        assert_eq!(why.is_some(), told.contains(hash), "{hash}: {why:?}");
        let is_refused = why.is_some() || is_doubtful(hash);
        assert_eq!(is_refused, refused.contains(hash), "{hash}: {why:?}");
    }
    assert!(refused.len() > told.len() + 100, "{} and {}", refused.len(), told.len());
}
