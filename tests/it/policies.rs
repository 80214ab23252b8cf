//! Runs the test tables beside the shipped policies: each `policies/<name>.test.toml` says what
//! its policy grants and refuses.

use std::path::Path;
use std::sync::Arc;

use nats_callout::authn::Principal;
use nats_callout::policy::rules::PolicySet;
use nats_callout::policy::subject::Pattern;
use nats_callout::policy::{ConnectionContext, Decision, Form, Grant, Policy as _};
use nats_callout::protocol::claims::ClientInfo;
use nats_callout::store::{Limits, LoginRecord, TenantRecord, UserKind, UserRecord};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    form: String,
    tenant: String,
    user: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    jetstream: bool,
    #[serde(default)]
    connection_kind: String,
    #[serde(default)]
    connection_type: String,
    #[serde(default)]
    denied: bool,
    #[serde(default)]
    responses: bool,
    #[serde(default)]
    may_publish: Vec<String>,
    #[serde(default)]
    may_not_publish: Vec<String>,
    #[serde(default)]
    may_subscribe: Vec<String>,
    #[serde(default)]
    may_not_subscribe: Vec<String>,
}

impl Case {
    fn decide(&self, policies: &PolicySet) -> Decision {
        let kind = self.kind.as_deref().map_or(UserKind::Bb, |kind| kind.parse().unwrap());
        let memory = if self.jetstream { 1 } else { 0 };
        let record = LoginRecord {
            tenant: TenantRecord {
                limits: Limits { memory, ..Limits::default() },
                ..TenantRecord::new(self.tenant.parse().unwrap())
            },
            user: UserRecord {
                policy: self.policy.clone(),
                publish: self.publish.clone(),
                subscribe: self.subscribe.clone(),
                ..UserRecord::new(self.user.clone(), kind)
            },
        };
        let principal = Principal::new(Arc::new(record), "password", None, 0).unwrap();
        let form = match self.form.as_str() {
            "account" => Form::Own,
            "shared" => Form::Shared,
            other => panic!("{}: no form {other}", self.name),
        };
        let client = ClientInfo {
            kind: self.connection_kind.clone(),
            connection_type: self.connection_type.clone(),
            ..ClientInfo::default()
        };
        policies.decide(&principal, &ConnectionContext { form, client: &client, now: 0 })
    }

    fn check(&self, grant: &Grant) {
        let allowed = |allow: &[Pattern], deny: &[Pattern], subject: &str| {
            let hit = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(subject));
            hit(allow) && !hit(deny)
        };
        let may_publish = |subject: &str| allowed(&grant.publish, &grant.deny_publish, subject);
        let may_subscribe =
            |subject: &str| allowed(&grant.subscribe, &grant.deny_subscribe, subject);
        for subject in &self.may_publish {
            assert!(may_publish(subject), "{}: may publish {subject}: {grant:?}", self.name);
        }
        for subject in &self.may_not_publish {
            assert!(!may_publish(subject), "{}: may not publish {subject}: {grant:?}", self.name);
        }
        for subject in &self.may_subscribe {
            assert!(may_subscribe(subject), "{}: may subscribe {subject}: {grant:?}", self.name);
        }
        for subject in &self.may_not_subscribe {
            assert!(!may_subscribe(subject), "{}: may not subscribe {subject}", self.name);
        }
        assert_eq!(grant.responses.is_some(), self.responses, "{}: responses", self.name);
    }
}

#[test]
fn every_shipped_policy_does_what_its_table_says() {
    let policies = PolicySet::shipped().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for name in policies.names() {
        let path = folder.join(format!("{name}.test.toml"));
        let text = std::fs::read_to_string(&path).expect("every policy has a test table");
        let table: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for case in &table.case {
            match case.decide(&policies) {
                Decision::Deny(_) => assert!(case.denied, "{name}: {} is denied", case.name),
                Decision::Permit(_) if case.denied => panic!("{name}: {} is granted", case.name),
                Decision::Permit(grant) => case.check(&grant),
            }
        }
    }
}

#[test]
fn a_folder_overrides_and_extends_the_shipped_policies() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("reader.toml", "[account]\nsubscribe = [\"news.>\"]\n[shared]\n");
    file("reader.test.toml", "not a policy");
    let policies = PolicySet::with_folder(folder.path()).unwrap();
    assert_eq!(policies.names().collect::<Vec<_>>(), ["admin", "bb", "reader", "service"]);

    for (text, wanted) in [
        ("[account]\npublish = [\"a b\"]\n[shared]\n", "blank"),
        ("[account]\npublish = [\"{{user.id}}\"]\n[shared]\n", "no placeholder"),
        ("[account]\npublish = [\"{{tenant.id\"]\n[shared]\n", "braces"),
        ("[account]\npublsh = []\n[shared]\n", "line 2"),
        ("[account]\n[shared]\nresponses = { max = 1, expires = 1 }\n", "responses"),
        ("[account]\n", "shared"),
    ] {
        file("broken.toml", text);
        let error = PolicySet::with_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("broken"), "{text:?}: {error}");
    }
    let error = PolicySet::with_folder(&folder.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("[policies] folder"), "{error}");
}

#[test]
fn a_tenants_policy_is_for_its_bb_users_alone() {
    let mut record = LoginRecord {
        tenant: TenantRecord::new("42".parse().unwrap()),
        user: UserRecord::new("alice", UserKind::Bb),
    };
    record.tenant.policy = Some("gold".to_owned());
    assert_eq!(PolicySet::name_for(&record), "gold");
    record.user.kind = UserKind::Service;
    assert_eq!(PolicySet::name_for(&record), "service");
    record.user.policy = Some("own".to_owned());
    assert_eq!(PolicySet::name_for(&record), "own");
}
