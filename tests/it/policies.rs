//! Policies: the shipped ones and a person's own, on real servers: what they grant, whom they let
//! in, how they are checked, tested and explained, and how an edit comes into use.

mod commands;
mod connections;
pub(crate) mod edits;
mod issuers;
pub(crate) mod limits;
mod presets;
mod stores;

use nats_callout::internals::test_policies;
use nats_callout::policy::PolicySet;
use nats_callout::store::{LoginRecord, TenantRecord, UserKind, UserRecord};

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::servers;

/// Has the policies in the folder `policies`, with these files.
fn add_files(init: &Initialised, files: &[(&str, &str)]) {
    let config = std::fs::read_to_string(init.config()).unwrap();
    let named = config.replace("# folder = \"\"", "folder = \"policies\"");
    assert_ne!(named, config);
    std::fs::write(init.config(), named).unwrap();
    let folder = init.dir().join("policies");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A deployment that has a folder of policies, and whatever else `fill` adds.
fn deployment(mode: Mode, fill: impl Fn(&Initialised)) -> Deployment {
    Deployment::start_prepared(mode, servers::version(), |init| {
        fill(init);
        add_files(init, &[]);
    })
}

/// A deployment with these files in its folder of policies.
pub(crate) fn with_files(mode: Mode, files: &[(&str, &str)]) -> Deployment {
    Deployment::start_prepared(mode, servers::version(), |init| add_files(init, files))
}

/// Adds a user with this policy.
pub(crate) fn user(deployment: &Deployment, name: &str, policy: &str) -> Login {
    deployment.user_add("shop", name, &["--kind", "bb", "--policy", policy])
}

#[test]
fn every_shipped_policy_does_what_its_table_says() {
    let report = test_policies(None).unwrap();
    assert!(report.outcomes.len() >= 9 && report.untested.is_empty(), "{report:#?}");
    for outcome in report.outcomes {
        assert!(outcome.failures.is_empty(), "{outcome:#?}");
    }
}

#[test]
fn a_folder_overrides_and_extends_the_shipped_policies() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("reader.toml", "[account]\nsubscribe = [\"news.>\"]\n[shared]\n");
    file("reader.test.toml", "not a policy");
    file(".reader.toml.swp", "nor this");
    file(".#reader.toml", "nor this");
    let policies = PolicySet::with_folder(folder.path()).unwrap();
    assert_eq!(policies.names().collect::<Vec<_>>(), ["admin", "bb", "reader", "service"]);
    let error = PolicySet::with_folder(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("[policies] folder"), "{error}");
}

#[test]
fn which_policy_is_a_users() {
    let mut record = LoginRecord {
        tenant: TenantRecord::new("admin".parse().unwrap()),
        user: UserRecord::new("admin", UserKind::Bb),
    };
    assert_eq!(PolicySet::name_for(&record), "bb", "an admin is none by its name");
    record.tenant.policy = Some("gold".to_owned());
    assert_eq!(PolicySet::name_for(&record), "gold");
    record.user.kind = UserKind::Service;
    assert_eq!(PolicySet::name_for(&record), "service");
    record.user.policy = Some("own".to_owned());
    assert_eq!(PolicySet::name_for(&record), "own");
}
