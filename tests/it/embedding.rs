//! What an application embeds: the builder with users of its own and with a tenant table, in both modes, on
//! real servers; what its examples and its testing module say.

mod dangerous;
mod observers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nats_callout::async_nats::ConnectOptions;
use nats_callout::callout::{
    Answer, BoxError, Callout, OperatorKeys, Permit, Request, Running, Settings, Token,
    hash_password,
};
use nats_callout::config::{Config, Files};
use nats_callout::internals::{DenyReason, keyfile};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::policy::Responses;
use nats_callout::store::{
    CredentialStore, Isolation, Limits, MemoryStore, Status, TenantRecord, UserKind, UserRecord,
};
use nats_callout::testing::{self, Connect, FakeServer, Told};

use crate::harness::choice::{either_mode, lacks};
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::servers::{self, NatsServer};

#[path = "../../examples/own_users.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod own_users;
#[path = "../../examples/tenant_table.rs"]
#[allow(dead_code, reason = "its main is a program's")]
mod tenant_table;

/// A server of what `init` wrote, and no service.
struct Bare {
    server: NatsServer,
    init: Initialised,
}

impl Bare {
    fn start(mode: Mode) -> Self {
        let init = Initialised::new(mode);
        let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
            .unwrap_or_else(|log| panic!("{log}"));
        Self { server, init }
    }

    fn key(&self, name: &str) -> String {
        std::fs::read_to_string(self.init.dir().join("keys").join(name)).unwrap()
    }

    async fn auth(&self) -> async_nats::Client {
        let options = match self.init.mode {
            Mode::Config => ConnectOptions::with_nkey(self.key("auth.nk").trim().to_owned()),
            Mode::Operator => ConnectOptions::with_credentials(&self.key("auth.creds")).unwrap(),
        };
        options.connect(self.server.url()).await.expect("the service's login")
    }

    /// What an operator hands to an application.
    fn operator_keys(&self) -> (OperatorKeys, String) {
        let account_of = |login: &str| {
            keyfile::account_of_creds(&self.init.dir().join("keys").join(login)).unwrap()
        };
        let signing =
            |name| Arc::new(SigningKey::from_seed(&self.key(name), KeyKind::Account).unwrap());
        let keys = OperatorKeys {
            auth: account_of("auth.creds"),
            system: account_of("sys.creds"),
            users: signing("user-signing.nk"),
            responses: signing("response-signing.nk"),
        };
        (keys, account_of("users.creds").to_string())
    }

    fn xkey(&self) -> XKey {
        XKey::from_seed(&self.key("xkey.nk")).unwrap()
    }

    async fn is_refused(&self, login: &Login) {
        client::refused(&self.server.url(), login).await;
    }
}

/// The example's rule is what the client has.
async fn billing(bare: &Bare) {
    let url = bare.server.url();
    let app = client::connect(&url, &Login::Token("key-4711".into()), "_INBOX").await;
    let app = app.expect("the key is known");
    let _payments = app.client.subscribe("payments.7").await.unwrap();
    app.client.publish("invoices.7", "paid".into()).await.unwrap();
    app.client.publish("payments.7", "x".into()).await.unwrap();
    // A server goes through what a client sends in its order.
    app.violation(&["publish", "payments.7"]).await;
    assert_eq!(app.errors().len(), 1, "{:?}", app.errors());
    bare.is_refused(&Login::Token("key-0".into())).await;
    bare.is_refused(&Login::password("billing", "key-4711")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_users_in_config_mode() {
    let bare = Bare::start(Mode::Config);
    let (issuer, xkey) = (bare.key("issuer.nk"), bare.key("xkey.nk"));
    let running = own_users::start(&issuer, &xkey, bare.auth().await).await.expect("starts");
    billing(&bare).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_users_in_operator_mode() {
    if lacks(Mode::Operator) {
        return;
    }
    let bare = Bare::start(Mode::Operator);
    let (keys, users) = bare.operator_keys();
    let callout = Callout::operator_mode(keys).xkey(bare.xkey()).account(users);
    let callout = callout.authorize(by_token).unwrap();
    let running = callout.start(bare.auth().await).await.expect("starts");
    billing(&bare).await;
    running.stop().await;
}

async fn by_token(request: Request) -> Result<Answer, BoxError> {
    Ok(match request.token() {
        Some(token) if token.matches("key-4711") => {
            Permit::user("billing").publish("invoices.*").subscribe("payments.*").into()
        }
        _ => Answer::deny("no such key"),
    })
}

fn user(name: &str, password: &str) -> UserRecord {
    let password_hash = Some(hash_password(password).unwrap());
    UserRecord { password_hash, ..UserRecord::new(name, UserKind::Bb) }
}

fn tenant(id: &str) -> TenantRecord {
    TenantRecord::new(id.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_memory_in_config_mode() {
    let bare = Bare::start(Mode::Config);
    let store = Arc::new(MemoryStore::default());
    store.put_tenant(tenant("acme"));
    store.put_user(&"acme".parse().unwrap(), user("shop", "right")).unwrap();
    let token = Token::generate().unwrap();
    store.put_token("shop", token.hash(), None).unwrap();
    let (issuer, xkey) = (bare.key("issuer.nk"), bare.key("xkey.nk"));
    let table = Arc::clone(&store) as Arc<dyn CredentialStore>;
    let running = tenant_table::start(&issuer, &xkey, table, bare.auth().await).await.unwrap();

    let url = bare.server.url();
    for login in [Login::password("shop", "right"), Login::Token(token.expose().to_owned())] {
        let app = client::connect(&url, &login, "_INBOX_acme").await.expect("logs in");
        app.round_trip("user.acme.orders").await;
        app.client.publish("user.other.orders", "x".into()).await.unwrap();
        app.violation(&["publish", "user.other.orders"]).await;
    }
    bare.is_refused(&Login::password("shop", "wrong")).await;

    let suspended = UserRecord { status: Status::Suspended, ..user("shop", "right") };
    store.put_user(&"acme".parse().unwrap(), suspended).unwrap();
    bare.is_refused(&Login::password("shop", "right")).await;
    store.put_user(&"acme".parse().unwrap(), user("shop", "other")).unwrap();
    client::connect(&url, &Login::password("shop", "other"), "_INBOX").await.expect("logs in");
    store.remove_tenant(&"acme".parse().unwrap());
    bare.is_refused(&Login::password("shop", "other")).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_table_of_a_deployment() {
    for mode in [Mode::Config, Mode::Operator] {
        if lacks(mode) {
            continue;
        }
        let bare = Bare::start(mode);
        let shared = bare.init.tenant_add("shared", &["--isolation", "shared"]);
        let config = Config::load(&bare.init.config(), Files::MustExist).unwrap().config;
        let store = config.open_store().await.unwrap();
        let running = match mode {
            Mode::Config => {
                let (issuer, xkey) = (bare.key("issuer.nk"), bare.key("xkey.nk"));
                tenant_table::start(&issuer, &xkey, store, bare.auth().await).await.unwrap()
            }
            Mode::Operator => {
                let (keys, users) = bare.operator_keys();
                let callout = Callout::operator_mode(keys).xkey(bare.xkey()).account(users);
                callout.table(store).unwrap().start(bare.auth().await).await.unwrap()
            }
        };
        let url = bare.server.url();
        let app = client::connect(&url, &shared, "_INBOX_shared").await.expect("logs in");
        app.round_trip("user.shared.orders").await;
        // With no call and no restart.
        let late = bare.init.tenant_add("late", &["--isolation", "shared"]);
        client::connect(&url, &late, "_INBOX_late").await.expect("logs in");
        running.stop().await;
    }
}

/// A service whose every client is let in by `permit`.
fn permitting(server: &FakeServer, permit: Permit) -> Callout {
    let rule = move |_: Request| {
        let answer = Answer::from(permit.clone());
        async move { Ok(answer) }
    };
    server.callout().authorize(rule).unwrap()
}

async fn told(permit: Permit) -> Told {
    let server = FakeServer::new().unwrap();
    server.ask(&permitting(&server, permit), Connect::token("any")).await
}

/// The reason and what the log says of it.
fn denial(told: Told) -> (DenyReason, String) {
    let Told::Denied(denied) = told else { panic!("{told:?}") };
    (denied.code().parse().unwrap(), denied.detail.unwrap_or_default())
}

/// What the log says of a client that is told nothing.
fn fault(told: Told) -> String {
    let Told::Silence(fault) = told else { panic!("{told:?}") };
    fault.to_string()
}

#[tokio::test]
async fn nobody_is_placed_with_the_system() {
    let server = FakeServer::new().unwrap();
    for account in ["AUTH", "SYS", "$SYS", "$G", "auth"] {
        let refused = server.callout().account(account).authorize(by_token).unwrap_err();
        assert!(
            refused.to_string().starts_with(&format!("the account {account:?}: ")),
            "{refused}"
        );
        let fault = fault(told(Permit::user("eve").account(account)).await);
        assert!(fault.contains(account) && fault.contains("eve"), "{fault}");
    }
    let own = server.callout().auth_account("CALLOUT").account("CALLOUT");
    let system = server.callout().system_account("SPECIAL").account("SPECIAL");
    for builder in [own, system] {
        assert!(builder.authorize(by_token).is_err());
    }
    let store = || Arc::new(MemoryStore::default());
    server.callout().system_account("SPECIAL").account("SPECIAL").table(store()).unwrap_err();
    for name in ["", "a b", "USERS ", "a\n"] {
        let fault = fault(told(Permit::user("eve").account(name)).await);
        assert!(fault.contains("cannot be the name of an account"), "{fault}");
    }
    let elsewhere = told(Permit::user("billing").account("APP")).await.granted();
    assert_eq!((elsewhere.name.as_str(), elsewhere.account.as_str()), ("billing", "APP"));

    let key = || SigningKey::generate(KeyKind::Account).unwrap().0;
    let (auth, system, app) = (key(), key(), key());
    let keys = OperatorKeys {
        auth: auth.public().unwrap(),
        system: system.public().unwrap(),
        users: Arc::new(key()),
        responses: Arc::new(key()),
    };
    for (account, is_taken) in [(&auth, false), (&system, false), (&app, true)] {
        let builder = Callout::operator_mode(keys.clone()).account(account.public_key());
        assert_eq!(builder.authorize(by_token).is_ok(), is_taken);
    }
    let name = Callout::operator_mode(keys).account("USERS").authorize(by_token).unwrap_err();
    assert!(name.to_string().contains("USERS"), "{name}");
}

#[tokio::test]
async fn a_permit_grants_what_it_lists_and_nothing_else() {
    let nothing = told(Permit::user("guest")).await.granted();
    assert!(!nothing.may_publish("a") && !nothing.may_subscribe("a"));

    let responses = Responses { max: 1, expires: Duration::from_secs(5) };
    let permit = Permit::user("worker")
        .publish("a.>")
        .deny_publish("a.secret")
        .subscribe("jobs.*")
        .deny_subscribe("jobs.0")
        .responses(responses)
        .ttl(Duration::from_secs(60));
    let worker = told(permit).await.granted();
    assert!(worker.may_publish("a.b") && !worker.may_publish("a.secret"));
    assert!(worker.may_subscribe("jobs.1") && !worker.may_subscribe("jobs.0"));
    assert!(!worker.may_subscribe("a.b") && !worker.may_publish("jobs.1"));
    assert_eq!(worker.responses, Some(responses));
    let now = jiff::Timestamp::now().as_second();
    assert!(worker.expires > now && worker.expires <= now + 60, "{} {now}", worker.expires);

    let ends = told(Permit::user("guest").expires_at(now + 5)).await.granted();
    assert!(ends.expires <= now + 5);
    let (reason, _) = denial(told(Permit::user("guest").expires_at(now - 1)).await);
    assert_eq!(reason, DenyReason::UserExpired);
    let fault = fault(told(Permit::user("guest").publish("a..b")).await);
    assert!(fault.contains("`a..b`") && fault.contains("guest"), "{fault}");
}

/// Of no use as they stand, and said so.
#[tokio::test]
async fn a_life_of_no_time_and_names_of_no_use_are_faults() {
    let server = FakeServer::new().unwrap();
    for ttl in [Duration::ZERO, Duration::from_millis(999)] {
        let error = server.callout().ttl(ttl).authorize(by_token).unwrap_err();
        assert!(error.to_string().starts_with(&format!("ttl = {ttl:?}: ")), "{error}");
        let fault = fault(told(Permit::user("guest").ttl(ttl)).await);
        assert!(fault.contains("lives for less than 1s") && fault.contains("guest"), "{fault}");
    }
    let longest = told(Permit::user("n".repeat(128)).ttl(Duration::from_secs(1))).await.granted();
    assert_eq!(longest.name.len(), 128);
    for name in [String::new(), "n".repeat(129)] {
        let fault = fault(told(Permit::user(name)).await);
        assert!(fault.contains("128 characters") && fault.len() < 400, "{fault}");
    }
}

/// What a rule sees is what the client has proved.
#[tokio::test]
async fn a_rule_sees_nkeys_that_have_signed_alone() {
    async fn by_nkey(request: Request) -> Result<Answer, BoxError> {
        let nkey = request.nkey().map(|nkey| nkey.to_string());
        Ok(nkey.map_or_else(|| Answer::deny("no nkey"), |nkey| Permit::user(nkey).into()))
    }
    let server = FakeServer::new().unwrap();
    let callout = server.callout().authorize(by_nkey).unwrap();
    let key = SigningKey::generate(KeyKind::User).unwrap().0;
    let told = server.ask(&callout, Connect::nkey(&key)).await;
    assert_eq!(told.granted().name, key.public_key());
    let other = SigningKey::generate(KeyKind::User).unwrap().0;
    let forged = Connect::nkey(&key).signed_by(&other);
    assert_eq!(denial(server.ask(&callout, forged).await).1, "no nkey");
    assert!(server.ask(&callout, Connect::token(key.public_key())).await.is_denied());
    let (reason, _) = denial(server.ask(&callout, Connect::anonymous()).await);
    assert_eq!(reason, DenyReason::NoCredentials);
    let asks = async |request: Request| Ok(Answer::deny(format!("{:?}", request.password())));
    let callout = server.callout().authorize(asks).unwrap();
    assert_eq!(denial(server.ask(&callout, Connect::password("alice", "")).await).1, "None");
}

#[tokio::test]
async fn a_life_without_an_end_is_a_long_one() {
    let server = FakeServer::new().unwrap();
    let callout = server.callout().ttl(Duration::MAX).authorize(by_token).unwrap();
    let user = server.ask(&callout, Connect::token("key-4711")).await.granted();
    let years = (user.expires - jiff::Timestamp::now().as_second()) / (365 * 86_400);
    assert!((1..=10).contains(&years), "{years}");
}

/// A fault of the application's is no refusal.
#[tokio::test]
async fn a_rule_that_fails_panics_or_hangs_tells_the_client_nothing() {
    async fn faulty(request: Request) -> Result<Answer, BoxError> {
        let (what, _) = request.password().ok_or("no password")?;
        match what {
            "fails" => Err("the database is away".into()),
            "panics" => panic!("a mistake in the rule"),
            _ => std::future::pending().await,
        }
    }
    let server = FakeServer::new().unwrap();
    let callout = server.callout().authorize(faulty).unwrap();
    let ask = async |user: &str| server.ask(&callout, Connect::password(user, "x")).await;
    let fault = fault(ask("fails").await);
    assert!(fault.contains("the database is away"), "{fault}");
    assert!(matches!(ask("panics").await, Told::Silence(it) if it.code() == "panicked"));
    assert!(matches!(ask("hangs").await, Told::Silence(it) if it.code() == "deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_for_one_test() {
    let program = servers::binary(servers::version());
    let server = testing::NatsServer::start_program(&program, "").await.expect("starts");
    let callout = server.callout().authorize(by_token).unwrap();
    let running: Running = callout.start(server.auth().await.unwrap()).await.expect("starts");
    let login =
        |token: &str| ConnectOptions::with_token(token.into()).connect(server.url().to_owned());
    let app = login("key-4711").await.expect("the key is known");
    app.publish("invoices.7", "paid".into()).await.unwrap();
    app.flush().await.unwrap();
    login("key-0").await.expect_err("the key is not known");
    running.stop().await;

    // Of no use as they stand.
    let settings = Settings { max_in_flight: 0, deadline: Duration::MAX, ..Settings::default() };
    let by_nkey = async |request: Request| {
        let nkey = request.nkey().ok_or("no nkey")?;
        Ok(Permit::user(nkey.as_str()).into())
    };
    let callout = server.callout().settings(settings).authorize(by_nkey).unwrap();
    let running = callout.start(server.auth().await.unwrap()).await.expect("starts");
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    ConnectOptions::with_nkey(seed).connect(server.url()).await.expect("it signs its nonce");
    running.stop().await;

    let missing = testing::NatsServer::start_program(Path::new("/nowhere/nats-server"), "").await;
    let missing = missing.expect_err("there is no such program").to_string();
    assert!(
        missing.contains("/nowhere/nats-server") && missing.contains("NATS_SERVER"),
        "{missing}"
    );
}

#[tokio::test]
async fn two_users_never_share_a_name_an_nkey_or_a_certificate() {
    let store = MemoryStore::default();
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    for id in ["one", "two"] {
        store.put_tenant(TenantRecord { isolation: Some(Isolation::Shared), ..tenant(id) });
    }
    let bb = |name: &str| UserRecord::new(name, UserKind::Bb);
    let nkey = |name: &str| UserRecord { nkey: Some("UA".into()), ..bb(name) };
    let certificate = |name: &str| UserRecord { certificate: Some("CN=a".into()), ..bb(name) };
    store.put_user(&one, nkey("alice")).unwrap();
    store.put_user(&one, nkey("alice")).expect("its own row may be written anew");
    store.put_user(&two, bb("alice")).expect_err("the name is another tenant's");
    store.put_user(&two, nkey("bob")).expect_err("the nkey is alice's");
    store.put_user(&two, certificate("bob")).unwrap();
    store.put_user(&one, certificate("carol")).expect_err("the certificate is bob's");
    store.put_user(&"three".parse().unwrap(), bb("dave")).expect_err("there is no such tenant");
    let token = Token::generate().unwrap();
    store.put_token("alice", token.hash(), None).unwrap();
    store.put_token("alice", token.hash(), Some(1)).expect("its own may end at another time");
    store.put_token("bob", token.hash(), None).expect_err("the token is alice's");
}

/// Nobody counts connections in an account that tenants share, but the service of a configuration.
#[tokio::test]
async fn a_limit_that_is_not_counted_lets_nobody_in() {
    let server = FakeServer::new().unwrap();
    let store = Arc::new(MemoryStore::default());
    let limits = Limits { connections: Some(1), ..Limits::default() };
    store.put_tenant(TenantRecord { limits, ..tenant("acme") });
    store.put_user(&"acme".parse().unwrap(), user("shop", "right")).unwrap();
    let callout = server.callout().table(store.clone()).unwrap();
    let ask = async || server.ask(&callout, Connect::password("shop", "right")).await;
    let fault = fault(ask().await);
    assert!(fault.contains("max_connections"), "{fault}");
    store.put_tenant(tenant("acme"));
    assert!(ask().await.granted().may_publish("user.acme.orders"));
}
