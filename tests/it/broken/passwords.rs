//! Passwords and other secrets that nobody else of the machine is to read.

use std::fs;
use std::path::Path;

use crate::harness::deployment::{Initialised, Mode};
use crate::harness::{ports, service};

/// A URL after an option, with a password in it.
fn gives_a_password(line: &str) -> bool {
    ["--database", "--server", "--url", "-s"].iter().any(|option| {
        let Some((_, rest)) = line.split_once(&format!("{option} ")) else { return false };
        let url =
            rest.trim_start_matches(['\'', '"']).split_whitespace().next().unwrap_or_default();
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        login.is_some_and(|(login, _)| login.contains(':'))
    })
}

#[test]
fn a_password_is_left_to_the_environment() {
    const URL: &str = "postgres://me:s3cret@db.example.com/tenants";
    let parent = tempfile::tempdir().unwrap();
    let init = |args: &[&str]| {
        let mut command = service::program();
        command.arg("init").args(args).current_dir(parent.path());
        command
    };
    let output = init(&["--dir", "a"]).env("NATS_CALLOUT_DATABASE_URL", URL).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("warning"), "{output:?}");
    let toml = fs::read_to_string(parent.path().join("a/nats-callout.toml")).unwrap();
    assert!(toml.contains(URL), "{toml}");

    let file = parent.path().join("url");
    fs::write(&file, format!("{URL}\n")).unwrap();
    let by_file = |dir: &str, file: &Path| {
        let mut command = init(&["--dir", dir]);
        command.env("NATS_CALLOUT_DATABASE_URL_FILE", file);
        command
    };
    let output = by_file("f", &file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let toml = fs::read_to_string(parent.path().join("f/nats-callout.toml")).unwrap();
    assert!(toml.contains(&format!("{URL:?}")), "{toml}");
    let both = by_file("g", &file).env("NATS_CALLOUT_DATABASE_URL", URL).output().unwrap();
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(both.status.code() == Some(2) && said.contains("two variables say"), "{said}");
    let missing = by_file("g", Path::new("/no/such")).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(missing.status.code() == Some(2) && said.contains("cannot read /no/such"), "{said}");
    assert!(!parent.path().join("g").exists());

    let output = init(&["--dir", "b", "--database", URL]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("command line holds a password"), "{said}");
    assert!(said.contains("NATS_CALLOUT_DATABASE_URL") && !said.contains("s3cret"), "{said}");

    let output = init(&["--help"]).env("NATS_CALLOUT_DATABASE_URL", URL).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("NATS_CALLOUT_DATABASE_URL") && !help.contains("s3cret"), "{help}");

    // `up` begins with the database, and here nobody answers.
    let nobody = format!("127.0.0.1:{}", ports::free());
    let url = format!("postgres://me:s3cret@{nobody}/tenants");
    for (args, variable, warns) in [
        (&["up", "--dir", "c"][..], Some(&url), false),
        (&["up", "--dir", "c", "--database", &url], None, true),
    ] {
        let mut command = service::program();
        command.args(args).current_dir(parent.path());
        command.envs(variable.map(|url| ("NATS_CALLOUT_DATABASE_URL", url)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&nobody), "it is the database that it wants: {said}");
        let warning = said.contains("command line holds a password")
            && said.contains("in NATS_CALLOUT_DATABASE_URL instead");
        assert_eq!(warning, warns, "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }

    assert!(gives_a_password("init --database 'postgres://me:pw@h/d'"));
    for document in [
        include_str!("../../../README.md"),
        include_str!("../../../SECURITY.md"),
        include_str!("../../../deploy/README.md"),
        include_str!("../../../deploy/compose.yaml"),
        include_str!("../../../docs/architecture.md"),
        include_str!("../../../docs/testing.md"),
        include_str!("../../../src/cli/demo.rs"),
    ] {
        let found: Vec<&str> = document.lines().filter(|line| gives_a_password(line)).collect();
        assert!(found.is_empty(), "passwords on command lines: {found:#?}");
    }
}

/// Seeds, tokens, JWTs and hashes where something else belongs are refused, and not repeated.
#[test]
fn a_secret_in_a_wrong_place_is_refused_without_repeating_it() {
    let init = Initialised::new(Mode::Config);
    init.tenant_add("one", &[]);
    let rows = || init.sql("SELECT * FROM tenants;\nSELECT * FROM users;\nSELECT * FROM tokens;");
    let before = rows();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let token = init.cli(&["token", "add", "one", "one"]).stdout;
    let token = token.split_whitespace().find(|word| word.starts_with("nct_")).unwrap();
    let hash = before.split('|').find(|column| column.starts_with("$argon2id$")).unwrap();
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.MEUCIQDc1lWQ0b8mJbX5nY8wzP0b";
    let before = rows();
    for secret in [seed.as_str(), token, hash, jwt] {
        let truncated = &secret[..secret.len() - 1];
        for args in [
            &[secret][..],
            &["user", secret],
            &["user", "add", "one", secret],
            &["user", "add", "one", "app", "--nkey", secret],
            &["user", "add", "one", "app", "--nkey", truncated],
            &["user", "add", "one", "app", "--certificate", secret],
            &["user", "add", "one", "app", "--publish", secret],
            &["user", "add", "one", "app", "--kind", secret],
            &["user", "add", "one", "app", secret],
            &["user", "passwd", "one", secret],
            &["tenant", "add", secret],
            &["tenant", "add", "two", "--id", secret],
            &["tenant", "add", "two", "--isolation", secret],
            &["tenant", "add", "two", "--expires", secret],
            &["tenant", "add", "two", "--memory", secret],
            &["tenant", "suspend", secret],
            &["token", "add", "one", "one", "--label", secret],
            &["token", "remove", secret, "--yes"],
            &["show", secret],
            &["test", "one", secret],
            &["policy", "explain", secret],
        ] {
            let output = init.cli(args);
            assert_ne!(output.status, 0, "{args:?}");
            let said = format!("{}{}", output.stdout, output.stderr);
            let is_kept = !said.contains(&truncated[..truncated.len() - 1]);
            assert!(is_kept, "{args:?} says {said}");
        }
    }
    let asked = init.cli(&["user", "add", "one", "app", "--nkey", &seed]);
    assert_eq!(asked.status, 2, "{asked:?}");
    assert!(asked.stderr.contains("give the public half of the nkey"), "{asked:?}");
    assert_eq!(rows(), before);
}
