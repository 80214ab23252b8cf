//! A variable that was meant to override a key, and overrides none, is told by whatever reads the
//! configuration.

use serde_json::Value;

use crate::harness::deployment::{Initialised, Mode};
use crate::harness::service;

const SAID: &str = "NATS_CALLOUT_HTTP_LISTN overrides no key and is ignored; did you mean \
                    NATS_CALLOUT_HTTP_LISTEN?";

#[test]
fn a_misspelt_variable_is_told_by_the_service_and_by_each_command() {
    let init = Initialised::new(Mode::Config);
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = service::program();
        command.args(["--config", init.config().to_str().unwrap()]).args(args);
        command.env("NATS_CALLOUT_HTTP_LISTN", "x").envs(env.iter().copied());
        // What Kubernetes sets is no mistake.
        command.env("NATS_CALLOUT_SERVICE_HOST", "10.0.0.1");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let again = init.dir();
    let again = again.to_str().unwrap();
    for args in [
        &["list"][..],
        &["keys", "list"],
        &["policy", "check"],
        &["policy", "test"],
        &["show", "nobody"],
        &["init", "--if-missing", "--dir", again],
    ] {
        let (_, said) = run(args, &[]);
        assert_eq!(said.matches(&format!("nats-callout: warning: {SAID}\n")).count(), 1, "{said}");
        assert!(!said.contains("SERVICE_HOST"), "{said}");
    }
    let (found, _) = run(&["doctor"], &[]);
    assert!(found.contains(&format!("warn configuration     {SAID}")), "{found}");
    assert!(!found.contains("SERVICE_HOST"), "{found}");

    // A service that ends at once.
    let nowhere = ("NATS_CALLOUT_DATABASE_URL", "sqlite:///no/such/folder/x.db");
    let (_, log) = run(&["serve"], &[nowhere]);
    assert!(log.lines().any(|line| line.contains(" WARN ") && line.ends_with(SAID)), "{log}");
    let (_, log) = run(&["serve"], &[nowhere, ("NATS_CALLOUT_LOG_FORMAT", "json")]);
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &SAID.into()), "{log}");
}
