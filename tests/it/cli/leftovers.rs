//! What a `bench` or `test` leaves that was killed: rows that have an end, log nobody in after it, and
//! are named by `doctor` with the commands that remove them.

use std::process::Stdio;

use super::bench::leaves_nothing;
use super::document;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{eventually, service};

/// The commands that doctor gives.
fn commands(init: &Initialised) -> Vec<String> {
    let output = init.cli(&["--json", "doctor"]);
    let json = document(&output, output.status);
    let lines = json["checks"].as_array().unwrap().iter();
    let lines = lines.filter(|line| line["check"] == "leftovers");
    lines
        .map(|line| {
            assert_eq!(line["state"], "warn");
            line["remedy"].as_str().unwrap().split('`').nth(1).unwrap().to_owned()
        })
        .collect()
}

#[test]
fn doctor_names_the_rows_of_killed_commands() {
    let deployment = Deployment::start(Mode::Config);
    deployment.tenant_add("shop", &[]);
    let mut child = service::program()
        .args(["--config", deployment.config().to_str().unwrap(), "bench", "-k", "token"])
        .args(["--duration", "10m", "-c", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its tokens", || {
        (deployment.sql("SELECT count(*) FROM tokens;") == "10").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(deployment.sql("SELECT count(*) FROM tokens WHERE expires_at IS NULL;"), "0");
    // As a `test` writes one; and another's, which are nobody's leftovers.
    let hash = |digit: char| String::from(digit).repeat(64);
    for (digit, label) in [('a', "nats-callout test"), ('b', "deploy")] {
        deployment.sql(&format!(
            "INSERT INTO tokens (user_name, token_hash, label, expires_at) VALUES
             ('shop', '{}', '{label}', '2026-01-01 00:00:00+00:00');",
            hash(digit)
        ));
    }
    deployment.sql(
        "INSERT INTO tenants (id, name, expires_at) VALUES
         ('bench-press', 'Gym', '2026-01-01 00:00:00+00:00');",
    );
    let found = commands(&deployment);
    assert_eq!(found.len(), 1, "the bench may still run: {found:?}");
    deployment.sql(
        "UPDATE tenants SET expires_at = '2026-01-01 00:00:00+00:00' WHERE id LIKE 'bench-%';",
    );
    let found = commands(&deployment);
    assert_eq!(found.len(), 2, "{found:?}");
    for command in found {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        deployment.cli(&words).success();
    }
    assert!(commands(&deployment).is_empty());
    deployment.sql("DELETE FROM tenants WHERE id = 'bench-press';");
    assert_eq!(deployment.sql("SELECT count(*) FROM tokens;"), "1");
    deployment.sql("DELETE FROM tenants WHERE id = 'shop';");
    leaves_nothing(&deployment);
}
