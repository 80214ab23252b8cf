//! AUTH is the service's alone: `serve` refuses to start where others are in that account or could
//! forge a request, and a service that runs says so when it comes to that.

mod beats;
mod streams;
mod versions;

use std::fs;
use std::time::Duration;

use async_nats::ConnectOptions;
use nats_callout::internals::{
    AccountBody, Claims, Export, ExportType, Permissions, UserBody, keyfile,
};
use nats_callout::keys::{KeyKind, SigningKey, UserNkey};

use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{accounts, eventually, http};

/// A deployment that is only begun: its server runs with a changed configuration.
fn changed(mode: Mode, change: impl Fn(&Initialised, &str) -> String) -> (NatsServer, Initialised) {
    let init = Initialised::new(mode);
    let text = fs::read_to_string(init.server_conf()).unwrap();
    let after = change(&init, &text);
    assert_ne!(after, text);
    fs::write(init.server_conf(), after).unwrap();
    let server =
        NatsServer::start(servers::version(), &init.server_conf(), init.port, Some(init.monitor));
    (server.unwrap_or_else(|log| panic!("{log}")), init)
}

/// Panics unless `serve` and `doctor` refuse it in these words.
#[track_caller]
fn refused(init: &Initialised, words: &[&str]) {
    let log = init.serve().expect_err("serve starts");
    let doctor = init.cli(&["doctor"]);
    assert_eq!(doctor.status, 1, "{doctor:?}");
    let isolation = |line: &&str| line.starts_with("FAIL AUTH isolation");
    let line: String = doctor.stdout.lines().filter(isolation).collect();
    for word in words {
        assert!(log.contains(word), "no {word:?} in {log}");
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    assert!(!log.contains("nats-callout: ready"), "{log}");
}

/// Adds the user `spy` to AUTH, and to those that the callout is not asked about.
fn with_spy(text: &str) -> String {
    let (before, after) = text.split_once("auth_users: [ ").unwrap();
    let text = format!("{before}auth_users: [ spy, {after}");
    let (before, after) = text.split_once("    AUTH {").unwrap();
    let (inside, after) = after.split_once("users: [ ").unwrap();
    format!("{before}    AUTH {{{inside}users: [ {{ user: spy, password: spy }}, {after}")
}

/// The account AUTH of operator mode, changed and signed again.
fn with_auth(init: &Initialised, text: &str, change: impl Fn(&mut AccountBody)) -> String {
    accounts::with(init, text, "AUTH", change)
}

/// Somebody is always in AUTH, and nobody for longer than a login may take.
async fn come_and_go(spy: ConnectOptions, url: String) {
    let mut last = None;
    loop {
        let client = spy.clone().connect(&url).await.unwrap();
        let listens = client.subscribe("$SYS.REQ.USER.AUTH").await.unwrap();
        client.flush().await.unwrap();
        drop(last.replace((client, listens)));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A number among the metrics of the instance that `serve` started.
fn isolated(init: &Initialised) -> Option<bool> {
    let body = http::get(init.http(), "/metrics")?.body;
    let line = body.lines().find_map(|line| line.strip_prefix("nats_callout_auth_isolated "))?;
    Some(line == "1")
}

async fn a_stranger(mode: Mode) {
    let mut deployment = Deployment::start(mode);
    let conf = deployment.server_conf();
    let text = fs::read_to_string(&conf).unwrap();
    let (spy, name) = match mode {
        Mode::Config => {
            fs::write(&conf, with_spy(&text)).unwrap();
            let spy = ConnectOptions::with_user_and_password("spy".into(), "spy".into());
            (spy, "spy".to_owned())
        }
        // Whoever holds a user that AUTH's identity has signed, and that its JWT lists.
        Mode::Operator => {
            let (user, seed) = SigningKey::generate(KeyKind::User).unwrap();
            let nkey: UserNkey = user.public().unwrap();
            let listed = |body: &mut AccountBody| body.authorization.auth_users.push(nkey);
            fs::write(&conf, with_auth(&deployment, &text, listed)).unwrap();
            let offline = deployment.dir().join("keys/offline/auth.nk");
            let auth = keyfile::signing_key(&offline, KeyKind::Account).unwrap();
            let jwt = Claims {
                subject: nkey.to_string(),
                body: UserBody::new(Permissions::default()),
                audience: None,
                expires: None,
                issued_at: 0,
                name: None,
                not_before: None,
            };
            let jwt = jwt.encode_now(&auth).unwrap();
            let key = std::sync::Arc::new(nkeys::KeyPair::from_seed(&seed).unwrap());
            let spy = ConnectOptions::with_jwt(jwt, move |nonce| {
                let key = key.clone();
                async move { key.sign(&nonce).map_err(async_nats::AuthError::new) }
            });
            (spy, nkey.to_string())
        }
    };
    if mode == Mode::Operator {
        // The server keeps the newer of two; these two are of the same second.
        fs::remove_dir_all(deployment.dir().join("accounts")).unwrap();
    }
    deployment.server.restart();
    let spying = spy.name("a spy");
    let spy = spying.clone().connect(deployment.url()).await.unwrap();
    // It does nothing: not before it has been there for longer than a login takes.
    eventually("the instance that runs to say so", || (!isolated(&deployment)?).then_some(()));
    let log = deployment.service.log();
    assert!(log.contains("another than the service") && log.contains(&name), "{log}");
    assert!(log.contains("a spy"), "{log}");
    let login = deployment.tenant_add("one", &[]);
    let verdict = raw::connect(deployment.server.port(), &login.connect_fields());
    assert_eq!(verdict.0, Verdict::Admitted, "it goes on deciding");

    deployment.service.stop();
    refused(&deployment, &["another than the service", &name, "give AUTH no user"]);

    let coming = tokio::spawn(come_and_go(spying, deployment.url()));
    spy.drain().await.unwrap();
    refused(&deployment, &["another than the service", &name]);
    coming.abort();
    match mode {
        Mode::Operator => refused(&deployment, &["bypass the callout", &name, "auth_users"]),
        Mode::Config => drop(eventually("a start once it has left", || deployment.serve().ok())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_auth_is_reported_and_no_service_starts_beside_it_in_config_mode() {
    a_stranger(Mode::Config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_auth_is_reported_and_no_service_starts_beside_it_in_operator_mode() {
    a_stranger(Mode::Operator).await;
}

#[test]
fn a_login_that_may_publish_requests() {
    // A callout that is not asked about AUTH forbids nothing there.
    let (_server, init) = changed(Mode::Config, |_, text| {
        text.replace("account: AUTH\n", "account: AUTH\n        allowed_accounts: [ USERS ]\n")
    });
    refused(&init, &["may publish $SYS.REQ.USER.AUTH", "allowed_accounts"]);
}

#[test]
fn an_export_that_carries_requests() {
    for subject in ["$SYS.>", "$SYS.REQ.USER.AUTH"] {
        let (_server, init) = changed(Mode::Operator, |init, text| {
            with_auth(init, text, |body| {
                body.exports.push(Export::new(subject.to_owned(), ExportType::Stream));
            })
        });
        refused(&init, &["AUTH exports requests", subject]);
        drop(init);
    }
    let (_server, init) = changed(Mode::Config, |_, text| {
        let (before, after) = text.split_once("    AUTH {").unwrap();
        let (inside, after) = after.split_once("exports: [\n").unwrap();
        format!(
            "{before}    AUTH {{{inside}exports: [\n            {{ stream: \"$SYS.REQ.USER.*\" }}\n{after}"
        )
    });
    refused(&init, &["AUTH exports requests", "$SYS.REQ.USER.*"]);
}

#[test]
fn wide_permissions_of_the_own_login_are_no_fault_since_the_server_denies_requests_anyway() {
    let (_server, init) = changed(Mode::Config, |init, text| {
        let seed = fs::read_to_string(init.dir().join("keys/auth.nk")).unwrap();
        let key = SigningKey::from_seed(&seed, KeyKind::User).unwrap();
        let own = format!("users: [ {{ nkey: {} ", key.public_key());
        text.replace(&own, &(own.clone() + ", permissions: { publish: \">\", subscribe: \">\" } "))
    });
    let service = init.serve().unwrap_or_else(|log| panic!("{log}"));
    assert!(!service.log().contains("who else is in AUTH"), "{}", service.log());
}

#[test]
fn instances_and_commands_are_no_strangers_to_each_other() {
    for mode in [Mode::Operator, Mode::Config] {
        let deployment = Deployment::start(mode);
        let second = deployment.another_service();
        let login = deployment.tenant_add("one", &[]);
        let doctor = deployment.cli(&["doctor"]).success().stdout;
        assert!(doctor.contains("ok   AUTH isolation"), "{doctor}");
        let verdict = raw::connect(deployment.server.port(), &login.connect_fields());
        assert_eq!(verdict.0, Verdict::Admitted);
        assert_eq!(isolated(&deployment), Some(true));
        for log in [deployment.service.log(), second.log()] {
            assert!(!log.contains("AUTH there is another"), "{log}");
            assert!(!log.contains("Violation") && !log.contains("violation"), "{log}");
        }
    }
}
