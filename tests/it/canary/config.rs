//! Mistakes in a configuration, of which a secret in the wrong place is one, are reported without it.

use nats_callout::callout::Token;
use nats_callout::config::{Config, Files};
use nkeys::{KeyPair, XKey};

use super::Watch;
use crate::harness::choice::modes;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service;

/// Passwords as `tenant add` makes them, seeds, tokens, and what a database's address holds.
fn secrets(watch: &Watch) -> Vec<String> {
    let token = Token::generate().unwrap();
    let password: String = token.expose().chars().skip(4).take(24).collect();
    vec![
        watch.secret("a password", &password),
        watch.secret("a token", token.expose()),
        watch.secret("a user's seed", &KeyPair::new_user().seed().unwrap()),
        watch.secret("an account's seed", &KeyPair::new_account().seed().unwrap()),
        watch.secret("a curve seed", &XKey::new().seed().unwrap()),
    ]
}

/// Every key of a file that `init` writes, those that are comments included, as `section.key`.
fn keys(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.push((section.clone(), key.to_owned()));
        }
    }
    keys
}

fn in_every_key(mode: Mode) {
    let init = Initialised::new(mode);
    let watch = Watch::default();
    let text = std::fs::read_to_string(init.config()).unwrap();
    let keys = keys(&text);
    assert!(keys.len() > 30, "{keys:?}");
    let mut reported = 0;
    for secret in secrets(&watch) {
        for (section, key) in &keys {
            let variable = format!("NATS_CALLOUT_{}_{}", section, key).to_uppercase();
            for value in [
                secret.clone(),
                format!("nats://me:{secret}@localhost:4222"),
                format!("postgres//me:{secret}@localhost/db"),
                format!("keys/{secret}"),
            ] {
                let env = [(variable.clone(), value)];
                if let Err(error) = Config::load_with(&init.config(), Files::MustExist, env) {
                    watch.see(&format!("[{section}] {key}"), format!("{error} {error:?}"));
                    reported += 1;
                }
            }
        }
    }
    assert!(reported > 200, "{reported} mistakes were reported");
    watch.judge();
}

#[test]
fn a_secret_in_any_key_is_not_repeated() {
    for mode in modes() {
        in_every_key(mode);
    }
}

/// Not even when the file is no TOML, or the secret is a key's name.
#[test]
fn a_file_that_cannot_be_read_is_not_quoted() {
    let watch = Watch::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats-callout.toml");
    for secret in secrets(&watch) {
        for text in [
            format!("[nats]\nmode = {secret}\n"),
            format!("[nats]\nmode = \"{secret}\n"),
            format!("{secret}\n"),
            format!("[nats]\n{secret} = 1\n"),
            format!("[{secret}]\nmode = 1\n"),
            format!("{secret} = 1\n"),
            format!("[log]\nlevel = ['{secret}']\n"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Config::load_with(&file, Files::Unchecked, []).unwrap_err();
            watch.see("a broken file", format!("{error} {error:?}"));
        }
    }
    watch.judge();
}

/// The password of a database that is not there, on the command line, in the file and in the
/// environment.
#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    let init = Initialised::new(Mode::Operator);
    let watch = Watch::default();
    let secret = watch.secret("the password", "canary9Q2xB7rT4wY6");
    let url = format!("postgres://me:{secret}@127.0.0.1:1/nowhere");
    for args in
        [&["list"][..], &["serve"], &["doctor"], &["--json", "show", "x"], &["tenant", "add", "x"]]
    {
        let mut command = service::program();
        command.arg("--config").arg(init.config()).args(args);
        command.env("NATS_CALLOUT_DATABASE_URL", &url).env("NATS_CALLOUT_LOG_LEVEL", "trace");
        command.env("NATS_CALLOUT_DATABASE_TIMEOUT", "100ms");
        command.env("NATS_CALLOUT_HTTP_LISTEN", "");
        let place = args.join(" ");
        if args == ["serve"] {
            // It tries on until it is stopped.
            let log = init.dir().join("no-database.log");
            let mut process = crate::harness::process::Process::spawn("serve", &mut command, &log);
            let said = crate::harness::eventually("a word about the database", || {
                let log = process.log();
                (log.contains("database") || process.ended().is_some()).then_some(log)
            });
            watch.see(&place, said);
            continue;
        }
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{place}");
        watch.see(&place, [output.stdout, output.stderr].concat());
    }
    let folder = tempfile::tempdir().unwrap();
    for wrong in [
        format!("mysql://me:{secret}@host/db"),
        format!("postgres:/me:{secret}@host/db"),
        format!("postgres://me:{secret}#@host/db"),
        format!("postgres://me:{secret}@host:port/db"),
        secret.clone(),
    ] {
        let output = service::cli(folder.path(), &["init", "--dir", "x", "--database", &wrong]);
        assert_ne!(output.status, 0, "{wrong}");
        watch.see_output("init", &output);
    }
    watch.judge();
}
