//! Operator mode.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use async_nats::{Client, ConnectOptions};
use nats_callout::internals::{
    AccountBody, Claims, OperatorId, Parsed, Permissions, UserBody, keyfile,
};
use nats_callout::keys::{AccountId, KeyKind, SigningKey};
use serde_json::Value;

use super::Fleet;
use crate::cli::keys::{files, generations};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::{alone, measured_under_load};
use crate::harness::{depth, eventually};

/// A login in `account` by a user JWT that `key` has signed, which a server judges by itself.
async fn signed_by(url: &str, key: &SigningKey, account: &str) -> bool {
    let (user, seed) = SigningKey::generate(KeyKind::User).unwrap();
    let mut body = UserBody::new(Permissions::default());
    body.issuer_account = Some(account.parse().unwrap());
    let claims = Claims {
        audience: None,
        expires: None,
        issued_at: 0,
        name: None,
        not_before: None,
        subject: user.public_key().to_owned(),
        body,
    };
    let jwt = claims.encode_now(key).unwrap();
    let pair = Arc::new(nkeys::KeyPair::from_seed(&seed).unwrap());
    let options = ConnectOptions::with_jwt(jwt, move |nonce| {
        let pair = pair.clone();
        async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
    });
    options.connect(url).await.is_ok()
}

async fn system(init: &Initialised, url: &str) -> Client {
    let creds = keyfile::read_secret(&init.dir().join("keys/sys.creds")).unwrap();
    ConnectOptions::with_credentials(&creds).unwrap().connect(url).await.unwrap()
}

/// An account as a server holds it.
async fn held(system: &Client, account: &str) -> (Claims<AccountBody>, OperatorId) {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    let answer = system.request(subject, "".into()).await.unwrap();
    let token = std::str::from_utf8(&answer.payload).unwrap().to_owned();
    Parsed::<AccountBody>::parse(&token).unwrap().verify().unwrap()
}

fn key(path: &Path, kind: KeyKind) -> SigningKey {
    keyfile::signing_key(path, kind).unwrap()
}

fn value(init: &Initialised, name: &str) -> String {
    let text = std::fs::read_to_string(init.config()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
    line.unwrap().trim_end_matches('"').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_cluster_without_a_failed_login() {
    alone();
    let mut fleet = tokio::task::block_in_place(|| Fleet::start(Mode::Operator, 3));
    let keys = fleet.init().dir().join("keys");
    let operator = key(&keys.join("operator-signing.nk"), KeyKind::Operator);
    let users = key(&keys.join("user-signing.nk"), KeyKind::Account);
    let responses = key(&keys.join("response-signing.nk"), KeyKind::Account);
    let xkey = keyfile::xkey(&keys.join("xkey.nk")).unwrap();
    let url = fleet.cluster.nodes[1].url();
    let shared = value(fleet.init(), "users_account");
    let own = fleet.init().sql("SELECT account FROM tenant_accounts;");
    for account in [&shared, &own] {
        assert!(signed_by(&url, &users, account).await, "the old key signs for {account}");
    }
    let names = ["operator-signing", "user-signing", "response-signing", "xkey"];
    let mut before: Vec<_> = names.iter().map(|name| generations(fleet.init(), name)).collect();
    for round in 0..depth(1, 2) {
        tokio::task::block_in_place(|| fleet.rotate(&[]));
        let after: Vec<_> = names.iter().map(|name| generations(fleet.init(), name)).collect();
        for (name, (before, after)) in names.iter().zip(before.iter().zip(&after)) {
            let in_use = |all: &[(String, String)]| all[0].1.clone();
            assert_ne!(in_use(before), in_use(after), "{name} in round {round}");
            assert!(
                !after.iter().any(|(_, public)| *public == in_use(before)),
                "{name}: {after:?}"
            );
            if *name != "xkey" {
                assert_eq!(in_use(after), before[1].1, "{name}: the next takes its place");
            }
        }
        before = after;
    }
    let (cluster, instances) = tokio::task::block_in_place(|| fleet.end());
    // Every server has forgotten the old generations.
    for node in &cluster.nodes {
        for account in [&shared, &own] {
            assert!(!signed_by(&node.url(), &users, account).await, "{account} on {}", node.url());
        }
    }
    let system = system(&cluster.init, &url).await;
    let auth = value(&cluster.init, "account");
    let (claims, issuer) = held(&system, &auth).await;
    assert_ne!(issuer.as_str(), operator.public_key());
    let response: AccountId = responses.public().unwrap();
    assert!(!claims.body.signing_keys.contains(&response), "{claims:?}");
    assert_eq!(claims.body.signing_keys.len(), 2);
    assert_ne!(claims.body.authorization.xkey, Some(*xkey.public_key()));
    for account in [&auth, &shared, &own] {
        assert_ne!(held(&system, account).await.1.as_str(), operator.public_key(), "{account}");
    }
    let old = Claims { issued_at: claims.issued_at + 10, ..claims.clone() };
    let old = old.encode_now(&operator).unwrap();
    let _ = system.request("$SYS.REQ.CLAIMS.UPDATE", old.into()).await;

    // Whatever the old curve key seals is opened by nobody.
    let current =
        keyfile::signing_key(&first_file(&cluster.init, "operator_signing"), KeyKind::Operator)
            .unwrap();
    let login = cluster.init.tenant_add("last", &[]);
    let port = cluster.nodes[0].port();
    assert_eq!(
        raw::connect(port, &login.connect_fields()).0,
        Verdict::Admitted,
        "old JWTs of accounts mean nothing"
    );
    let mut sealed = claims;
    sealed.issued_at += 20;
    sealed.body.authorization.xkey = Some(*xkey.public_key());
    let token = sealed.encode_now(&current).unwrap();
    system.request("$SYS.REQ.CLAIMS.UPDATE", token.into()).await.unwrap();
    let url = cluster.nodes[0].url();
    eventually("every node to seal with the old key", || {
        let fields = login.connect_fields();
        let refused = |port| matches!(raw::connect(port, &fields).0, Verdict::Refused(_));
        // Beside each other: each waits for 2 s.
        let all = std::thread::scope(|scope| {
            let nodes = cluster.nodes.iter().map(|node| scope.spawn(|| refused(node.port())));
            let nodes: Vec<_> = nodes.collect();
            nodes.into_iter().all(|node| node.join().unwrap())
        });
        all.then_some(())
    });
    let logs: String = instances.iter().map(|instance| instance.log()).collect();
    assert!(logs.contains("cannot be decrypted"), "{url} {logs}");

    for path in files(&cluster.init) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        assert!(!path.ends_with("rotation.json"));
    }
}

fn first_file(init: &Initialised, name: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(init.config()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = [\""))).unwrap();
    init.dir().join(line.split('"').next().unwrap())
}

#[test]
fn the_configuration_keeps_its_comments_and_doctor_finds_nothing() {
    measured_under_load();
    let mut fleet = Fleet::start(Mode::Operator, 1);
    let before = std::fs::read_to_string(fleet.init().config()).unwrap();
    let plan = fleet.init().cli(&["keys", "rotate", "--dry-run"]).success().stdout;
    for word in
        ["user-signing:", "restart the instances", "Nothing was changed", "nats-server.conf"]
    {
        assert!(plan.contains(word), "{plan}");
    }
    assert_eq!(std::fs::read_to_string(fleet.init().config()).unwrap(), before);
    let done = fleet.rotate(&["--now", "user-signing", "xkey"]);
    assert_eq!(
        done["keys"].as_array().unwrap().iter().filter(|key| key["done"] == true).count(),
        done["keys"].as_array().unwrap().len()
    );
    let after = std::fs::read_to_string(fleet.init().config()).unwrap();
    let others = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|it| !it.starts_with("user_signing") && !it.starts_with("xkey"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(others(&before), others(&after));
    assert_ne!(before, after);
    let (cluster, instances) = fleet.end();
    let doctor = cluster.init.cli(&["doctor"]).success().stdout;
    assert!(doctor.contains("ok   account AUTH"), "{doctor}");
    drop(instances);
}

/// One key is a step ahead of the other, and ends before it.
#[test]
fn a_key_that_has_ended_is_begun_anew_only_by_itself() {
    measured_under_load();
    let mut fleet = Fleet::start(Mode::Operator, 1);
    let of = |word: &Value, name: &str| {
        let keys = word["keys"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).unwrap().clone()
    };
    let both = ["xkey", "response-signing"];
    let first = fleet.word(&["xkey"]);
    fleet.obey(&first);
    let word = fleet.rotate_until(&both, |word| of(word, "xkey")["done"] == true);
    for word in [word, fleet.word(&both)] {
        assert_eq!(of(&word, "xkey")["new"], of(&first, "xkey")["new"]);
        assert_eq!((&word["done"], &of(&word, "xkey")["done"]), (&false.into(), &true.into()));
    }
    // Somebody may have learnt it by now.
    let anew = fleet.word(&["xkey"]);
    assert_ne!(of(&anew, "xkey")["new"], of(&first, "xkey")["new"]);
    let last = fleet.rotate(&both);
    assert_eq!(of(&last, "xkey")["new"], of(&anew, "xkey")["new"]);
    assert!(!fleet.init().dir().join("keys/rotation.json").exists());
    fleet.end();
}
