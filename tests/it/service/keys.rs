//! Each key that signs has two generations: changing over to the other one costs a restart of the
//! service and no login, and nats-server goes on as it is.

use std::path::Path;

use nats_callout::keyfile;

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};

/// Puts the second generation of `key` first, as the README says.
fn change_over(dir: &Path, key: &str) {
    let keys = dir.join("keys");
    let next = keys.join(format!("{key}-next.nk"));
    std::fs::rename(keys.join("offline").join(format!("{key}-next.nk")), &next)
        .unwrap_or_else(|error| panic!("{key}: {error}"));
    keyfile::read_secret(&next).expect("init wrote it for its owner alone");
    let config = dir.join("nats-callout.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (first, second) = (format!("keys/{key}.nk"), format!("keys/{key}-next.pub"));
    assert!(text.contains(&first) && text.contains(&second), "{text}");
    let swapped = text
        .replace(&first, "FIRST")
        .replace(&second, &first)
        .replace("FIRST", &format!("keys/{key}-next.nk"));
    std::fs::write(&config, swapped).unwrap();
}

#[test]
fn every_signing_key_can_be_changed_over_without_a_restart_of_the_server() {
    let mut deployment = Deployment::start(Mode::Operator);
    let old = deployment.tenant_add("old", &["--storage", "1MB"]);
    let shared = deployment.tenant_add("shared", &["--isolation", "shared"]);
    let port = deployment.server.port();
    let admitted = |login: &Login| raw::connect(port, &login.connect_fields()).0;
    for login in [&old, &shared] {
        assert_eq!(admitted(login), Verdict::Admitted, "{}", deployment.service.log());
    }
    for key in ["user-signing", "response-signing", "operator-signing"] {
        change_over(&deployment.dir(), key);
        deployment.service.restart();
        let new = deployment.tenant_add(&format!("after-{key}"), &["--storage", "1MB"]);
        for login in [&old, &shared, &new] {
            let log = (deployment.service.log(), deployment.server.log());
            assert_eq!(admitted(login), Verdict::Admitted, "{key}: {login:?}\n{log:?}");
        }
    }
}

#[test]
fn the_service_needs_nothing_of_the_offline_keys() {
    for mode in [Mode::Operator, Mode::Config] {
        let mut deployment = Deployment::start(mode);
        let offline = deployment.dir().join("keys/offline");
        if offline.exists() {
            std::fs::remove_dir_all(&offline).unwrap();
        }
        deployment.service.restart();
        let login = deployment.tenant_add("one", &[]);
        let verdict = raw::connect(deployment.server.port(), &login.connect_fields()).0;
        assert_eq!(verdict, Verdict::Admitted, "{}", deployment.service.log());
    }
}
