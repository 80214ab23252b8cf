//! Passwords that nobody else of the machine is to read.

use std::fs;

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
        include_str!("../../../docs/testing.md"),
        include_str!("../../../src/cli/demo.rs"),
    ] {
        let found: Vec<&str> = document.lines().filter(|line| gives_a_password(line)).collect();
        assert!(found.is_empty(), "passwords on command lines: {found:#?}");
    }
}
