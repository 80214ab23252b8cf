//! Logins by nkey: the server gives each connection a nonce, and whoever has signed it is the user
//! whose row holds the nkey. With the clients of four languages, and with everything that is not
//! that signature over the bare protocol.

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use nats_callout::keys::{KeyKind, SigningKey};
use serde_json::{Value, json};

use crate::harness::choice::{either_mode, lacks};
use crate::harness::client::{Connected, connect_with};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::{depth, eventually, http, servers};
use crate::http::value;
use crate::login::{echo, inbox_prefix, scenario};

/// A user's key and its seed.
pub(crate) struct Key {
    pair: SigningKey,
    seed: String,
}

impl Key {
    pub(crate) fn new() -> Self {
        let (pair, seed) = SigningKey::generate(KeyKind::User).expect("a key");
        Self { pair, seed: seed.to_string() }
    }

    pub(crate) fn public(&self) -> &str {
        self.pair.public_key()
    }

    fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign_now(nonce.as_bytes()))
    }

    pub(crate) fn fields(&self, nonce: &str) -> Value {
        json!({"nkey": self.public(), "sig": self.sign(nonce)})
    }
}

/// Adds a user who logs in by nkey alone, and may use [`echo`] of its tenant.
pub(crate) fn add_user(deployment: &Deployment, tenant: &str, user: &str, login: &[&str]) {
    let lists: &[&str] = match deployment.mode {
        Mode::Operator => &["--publish", "echo", "--subscribe", "echo"],
        Mode::Config => &["--kind", "bb"],
    };
    let args = [&["--json", "user", "add", tenant, user], lists, login].concat();
    let made = deployment.cli(&args).success().json();
    assert_eq!((&made["user"]["name"], &made["password"]), (&json!(user), &Value::Null), "{made}");
}

pub(crate) async fn connect(deployment: &Deployment, key: &Key, tenant: &str) -> Connected {
    let prefix = inbox_prefix(deployment.mode, tenant).unwrap_or_else(|| "_INBOX".to_owned());
    connect_with(&deployment.url(), ConnectOptions::with_nkey(key.seed.clone()), &prefix)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", deployment.service.log()))
}

async fn every_language(deployment: &Deployment) {
    let mode = deployment.mode;
    let key = Key::new();
    add_user(deployment, "one", "speaker", &["--nkey", key.public()]);
    let shown = deployment.cli(&["--json", "show", "one", "speaker"]).success().json();
    assert_eq!(shown["user"]["nkey"], key.public(), "{shown}");

    connect(deployment, &key, "one").await.round_trip(&echo(mode, "one")).await;
    let stranger = Key::new();
    for language in [Language::Python, Language::Node, Language::Go] {
        let login = |key: &Key| {
            let options = ["--nkey-seed", &key.seed];
            clients::login_by(language, &deployment.url(), &options, &scenario(mode, "one"))
        };
        let Some(seen) = login(&key) else { continue };
        assert_eq!((seen.connected, &seen.error), (true, &None), "{language:?}: {seen:?}");
        assert_eq!(seen.received, ["hello"], "{language:?}");
        assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{language:?}");
        assert_eq!(seen.violations.len(), 2, "{language:?}: {seen:?}");
        // What a stranger hears, every library hears from the same server.
        if depth(language != Language::Python, false) {
            continue;
        }
        let seen = login(&stranger).expect("the toolchain");
        let error = seen.error.expect("an error").to_lowercase();
        assert!(!seen.connected && error.contains("authorization"), "{language:?}: {error}");
    }
}

fn is_refused(verdict: &Verdict) -> bool {
    *verdict == Verdict::Refused("-ERR 'Authorization Violation'\r\n".to_owned())
}

fn only_the_nonce_of_this_connection_signed_by_this_key_is_a_login(deployment: &Deployment) {
    let mode = deployment.mode;
    let (key, other, stranger) = (Key::new(), Key::new(), Key::new());
    add_user(deployment, "one", "signer", &["--nkey", key.public()]);
    add_user(deployment, "two", "other", &["--nkey", other.public()]);
    let port = deployment.server.port();

    // What clients of several languages send.
    let mut used = String::new();
    for encode in [URL_SAFE_NO_PAD, URL_SAFE, STANDARD] {
        let verdict = raw::connect_signed(port, |nonce| {
            used = key.sign(nonce);
            let signature = encode.encode(key.pair.sign_now(nonce.as_bytes()));
            json!({"nkey": key.public(), "sig": signature})
        });
        assert_eq!(verdict, Verdict::Admitted, "{}", deployment.service.log());
    }

    let public = key.public();
    let service = match mode {
        Mode::Operator => None,
        Mode::Config => Some(deployment.dir().join("keys/auth.nk")),
    };
    let service = service.map(|file| {
        let seed = std::fs::read_to_string(file).expect("a seed");
        SigningKey::from_seed(&seed, KeyKind::User).expect("a key").public_key().to_owned()
    });
    type Sign<'a> = Box<dyn Fn(&str) -> Value + 'a>;
    let cases: Vec<(&str, &str, Sign<'_>)> = vec![
        ("no signature", "wrong_signature", Box::new(|_| json!({"nkey": public}))),
        ("an empty signature", "wrong_signature", Box::new(|_| json!({"nkey": public, "sig": ""}))),
        (
            "another's signature",
            "wrong_signature",
            Box::new(|nonce| json!({"nkey": public, "sig": other.sign(nonce)})),
        ),
        (
            "another connection's signature",
            "wrong_signature",
            Box::new(|_| json!({"nkey": public, "sig": used})),
        ),
        (
            "a signature over nothing",
            "wrong_signature",
            Box::new(|_| json!({"nkey": public, "sig": key.sign("")})),
        ),
        ("no base64", "wrong_signature", Box::new(|_| json!({"nkey": public, "sig": "*"}))),
        (
            "a long one",
            "wrong_signature",
            Box::new(|_| json!({"nkey": public, "sig": "A".repeat(3_000)})),
        ),
        ("a stranger", "unknown_nkey", Box::new(|nonce| stranger.fields(nonce))),
        (
            "no nkey at all",
            "unknown_nkey",
            Box::new(|nonce| json!({"nkey": "UAAAA", "sig": key.sign(nonce)})),
        ),
        (
            "in small letters",
            "unknown_nkey",
            Box::new(|nonce| json!({"nkey": public.to_lowercase(), "sig": key.sign(nonce)})),
        ),
        (
            "a good signature beside a wrong password",
            "wrong_password",
            Box::new(|nonce| {
                let mut fields = key.fields(nonce);
                fields["user"] = json!("one");
                fields["pass"] = json!("wrong");
                fields
            }),
        ),
        ("the nkey as a user", "unknown_user", Box::new(|_| json!({"user": public, "pass": "x"}))),
    ];
    for (what, reason, sign) in &cases {
        let verdict = raw::connect_signed(port, sign);
        assert!(is_refused(&verdict), "{mode:?}, {what}: {verdict:?}");
        let log = deployment.service.log();
        let last = log.lines().rev().find(|line| line.contains("refused")).unwrap_or_default();
        assert!(last.contains(&format!("reason=\"{reason}\"")), "{what}: {last}");
    }
    // The service's own login, which the server decides itself: not with another's signature.
    if let Some(service) = service {
        let forged =
            raw::connect_signed(port, |nonce| json!({"nkey": service, "sig": key.sign(nonce)}));
        assert!(is_refused(&forged), "{forged:?}");
    }
    assert_eq!(raw::connect_signed(port, |nonce| key.fields(nonce)), Verdict::Admitted);
}

/// A change of a row counts although rows are cached; an nkey that has moved on is its new
/// holder's. Whoever is connected by it goes with its user: `within::ends`.
async fn an_nkey_is_its_present_holders_alone(deployment: &Deployment) {
    let mode = deployment.mode;
    let (key, spare) = (Key::new(), Key::new());
    add_user(deployment, "one", "first", &["--nkey", key.public()]);
    add_user(deployment, "two", "second", &["--nkey", spare.public()]);
    let port = deployment.server.port();
    let verdict = || raw::connect_signed(port, |nonce| key.fields(nonce));
    let becomes = |what: &str, sql: &str, admitted: bool| {
        deployment.sql(sql);
        eventually(what, || ((verdict() == Verdict::Admitted) == admitted).then_some(()));
    };
    assert_eq!(verdict(), Verdict::Admitted);
    becomes("suspended", "UPDATE users SET status = 'suspended' WHERE name = 'first';", false);
    becomes("resumed", "UPDATE users SET status = 'active' WHERE name = 'first';", true);
    becomes("taken away", "UPDATE users SET nkey = NULL WHERE name = 'first';", false);
    let moved = format!("UPDATE users SET nkey = '{}' WHERE name = 'second';", key.public());
    becomes("given to another", &moved, true);

    let two = connect(deployment, &key, "two").await;
    two.round_trip(&echo(mode, "two")).await;
    two.client.publish("user.one.echo", "forged".into()).await.expect("is sent");
    two.violation(&["publish", "user.one.echo"]).await;
}

/// Operator mode: a server does not ask about the service's own login. Those before 2.15 let in
/// whoever merely names it, as the sentinel: that one may do nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn who_names_the_services_own_nkey_gets_nothing() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let creds = std::fs::read_to_string(deployment.dir().join("keys/auth.creds"));
    let creds = creds.expect("the service's login");
    let seed = creds.lines().find(|line| line.starts_with("SU")).expect("a seed");
    let service = SigningKey::from_seed(seed, KeyKind::User).expect("a key");
    let service = service.public_key().to_owned();

    let port = deployment.server.port();
    let granted = || {
        let metrics = http::get(deployment.http(), "/metrics").expect("an answer").body;
        value(&metrics, "nats_callout_decisions_total{outcome=\"granted\",reason=\"\"}")
    };
    let before = granted();
    let forged = json!({"nkey": service, "sig": URL_SAFE_NO_PAD.encode([0; 64])});
    let by_nkey = raw::connect(port, &forged).0;
    let options = ConnectOptions::with_user_and_password(service, "x".to_owned());
    let by_name = connect_with(&deployment.url(), options, "_INBOX").await;
    assert_eq!(granted(), before, "{by_nkey:?}");
    let Ok(nobody) = by_name else {
        assert!(is_refused(&by_nkey), "{by_nkey:?}");
        return;
    };
    let version = servers::version();
    let is_old = ["2.11", "2.12", "2.14"].iter().any(|line| servers::is(version, line));
    assert!(is_old, "{version} admits it");
    for subject in ["$SYS.REQ.USER.AUTH", "_CALLOUT.sync", "_INBOX.x", "$JS.API.INFO"] {
        nobody.client.publish(subject, "x".into()).await.expect("is sent");
        nobody.violation(&["publish", &format!("\"{subject}\"")]).await;
        let _refused = nobody.client.subscribe(subject).await.expect("is sent");
        nobody.violation(&["subscription", &format!("\"{subject}\"")]).await;
    }
}

async fn logins(mode: Mode) {
    let deployment = Deployment::start(mode);
    deployment.tenant_add("one", &[]);
    deployment.tenant_add("two", &[]);
    every_language(&deployment).await;
    only_the_nonce_of_this_connection_signed_by_this_key_is_a_login(&deployment);
    an_nkey_is_its_present_holders_alone(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_signed_by_the_present_holders_key_alone_is_a_login() {
    for mode in either_mode() {
        logins(mode).await;
    }
}
