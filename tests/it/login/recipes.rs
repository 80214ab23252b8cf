//! What other programs make: tokens by README's recipes as they are printed, and password hashes of other
//! languages' libraries at their defaults.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use argon2::PasswordHasher as _;
use serde_json::{Value, json};

use crate::harness::choice::{either_mode, on_both_databases};
use crate::harness::client::{self, Login};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::Deployment;
use crate::harness::{eventually_async, loudly};

const README: &str = include_str!("../../../README.md");

/// The first block of README's recipes in a language, or a later one.
fn recipe(language: &str, before: usize) -> &'static str {
    let (_, recipes) = README.split_once("<!-- token recipes").expect("the recipes");
    let begin = format!("\n```{language}\n");
    let block = recipes.split(&begin).nth(before + 1).expect("a block");
    block.split_once("\n```").expect("its end").0
}

/// What the program prints.
fn run(program: &str, code: &str) -> Option<String> {
    let flag = if program == "node" { "-e" } else { "-c" };
    let Ok(output) = Command::new(program).args([flag, code]).output() else {
        loudly(&format!("SKIPPED: a recipe, without {program}"));
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Fails unless it does, sooner or later: a hash may take too long for one login beside other tests, and is
/// known to the next.
async fn logs_in(deployment: &Deployment, login: &Login, what: &str) {
    let connect = async || client::connect(&deployment.url(), login, "_INBOX_one").await.ok();
    eventually_async(what, connect).await;
}

async fn token_logs_in(deployment: &Deployment, token: &str) {
    logs_in(deployment, &Login::Token(token.to_owned()), "a token").await;
    logs_in(deployment, &Login::password("order-service", token), "a token as a password").await;
}

/// Hashes by their makers: of each library, at its defaults.
type Hashes = BTreeMap<String, String>;

fn of_rust() -> Hashes {
    let password = PASSWORD.as_bytes();
    let argon2 = argon2::Argon2::default().hash_password(password).expect("a hash");
    let scrypt = scrypt::Scrypt::default().hash_password(password).expect("a hash");
    let pbkdf2 = pbkdf2::Pbkdf2::default().hash_password(password).expect("a hash");
    let bcrypt = bcrypt::hash(PASSWORD, bcrypt::DEFAULT_COST).expect("a hash");
    let phc = [("argon2", argon2), ("scrypt", scrypt), ("pbkdf2", pbkdf2)];
    let phc = phc.map(|(library, hash)| (format!("Rust {library}"), hash.to_string()));
    phc.into_iter().chain([("Rust bcrypt".to_owned(), bcrypt)]).collect()
}

/// Those of the languages that are on this machine, made once for both databases.
fn of_all() -> &'static Hashes {
    static MADE: OnceLock<Hashes> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut all = of_rust();
        let scripts = [Language::Python, Language::Node, Language::Php, Language::Ruby];
        for language in scripts.into_iter().chain([Language::Go, Language::Java]) {
            let Some(mut program) = clients::program(language, "hashes") else { continue };
            let hashes: Hashes = clients::report(program.arg(PASSWORD));
            if language == Language::Php && hashes.keys().all(|it| !it.contains("argon2id")) {
                loudly("SKIPPED: argon2id of PHP, which this one is built without");
            }
            let named = |(library, hash)| (format!("{language:?} {library}"), hash);
            all.extend(hashes.into_iter().map(named));
        }
        all
    })
}

/// A user whose hash PostgreSQL makes, as applications that keep their users there have it.
async fn hash_of_pgcrypto_logs_in(deployment: &Deployment) {
    if let Err(error) = deployment.try_sql("CREATE EXTENSION pgcrypto") {
        return loudly(&format!("SKIPPED: hashes of pgcrypto, which is not there: {error}"));
    }
    let name = "PostgreSQL pgcrypto";
    deployment.sql(&format!(
        "INSERT INTO users (tenant_id, name) VALUES ('one', '{name}');
         UPDATE users SET password_hash = crypt('{PASSWORD}', gen_salt('bf')) WHERE name = '{name}'"
    ));
    logs_in(deployment, &Login::password(name, PASSWORD), name).await;
}

const PASSWORD: &str = "correct horse battery staple";

/// What README's function says of a hash that was cut short.
const NOT_WHOLE: &str = "the hash is not whole: it was cut short, or changed";

on_both_databases! {
    async fn hashes_of_other_libraries_log_in() {
        for mode in either_mode() {
            let deployment = Deployment::start(mode);
            deployment.tenant_add("one", &[]);
            for (made_by, hash) in of_all() {
                deployment.sql(&format!(
                    "INSERT INTO users (tenant_id, name, password_hash)
                     VALUES ('one', '{made_by}', '{hash}')"
                ));
                let login = Login::password(made_by, PASSWORD);
                logs_in(&deployment, &login, &format!("{made_by}: {hash}")).await;
            }
            if !deployment.table.is_sqlite() {
                hash_of_pgcrypto_logs_in(&deployment).await;
            }
        }
    }

    async fn hashes_of_django_and_werkzeug_log_in_once_they_are_converted() {
        let Some(mut program) = clients::program(Language::Python, "converted") else { return };
        let seen: BTreeMap<String, BTreeMap<String, Value>> =
            clients::report(program.args([PASSWORD, recipe("python", 1)]));
        for (what, count, reason) in [
            ("others", 13, "the hash is of a form that cannot be converted: the user needs a new password"),
            (
                "uneven",
                6,
                "the hash is of scrypt with an n that is no power of 2: the user needs a new password",
            ),
            ("changed", 4, NOT_WHOLE),
        ] {
            let whys = &seen[what];
            assert!(whys.len() == count && whys.values().all(|why| why == reason), "{what}: {whys:#?}");
        }
        assert_eq!(seen["as they are"].len(), 6, "{seen:#?}");
        let cut = &seen["cut short"];
        assert!(cut.len() == 13 && cut.values().all(|whys| *whys == json!([NOT_WHOLE])), "{cut:#?}");
        for mode in either_mode() {
            let deployment = Deployment::start(mode);
            deployment.tenant_add("one", &[]);
            for (made_by, hash) in &seen["converted"] {
                let hash = hash.as_str().expect("a hash");
                deployment.sql(&format!(
                    "INSERT INTO users (tenant_id, name, password_hash)
                     VALUES ('one', '{made_by}', '{hash}')"
                ));
                let login = Login::password(made_by, PASSWORD);
                logs_in(&deployment, &login, &format!("{made_by}: {hash}")).await;
            }
        }
    }

    async fn tokens_of_other_programs_log_in() {
        for mode in either_mode() {
            let deployment = Deployment::start(mode);
            deployment.tenant_add("one", &[]);
            deployment.user_add("one", "order-service", &["--publish", "a"]);
            let python = recipe("python", 0).to_owned() + "\nprint(token, token_hash)";
            let node = recipe("js", 0).to_owned() + "\nconsole.log(token, tokenHash);";
            let (python, node) = (run("python3", &python), run("node", &node));
            for made in [python, node].into_iter().flatten() {
                let (token, hash) = made.trim().split_once(' ').expect("two words");
                deployment.sql(&format!(
                    "INSERT INTO tokens (user_name, token_hash) VALUES ('order-service', '{hash}')"
                ));
                token_logs_in(&deployment, token).await;
            }
            if !deployment.table.is_sqlite() {
                let token = deployment.sql(recipe("sql", 0));
                token_logs_in(&deployment, token.trim()).await;
            }
        }
    }
}
