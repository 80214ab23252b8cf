//! Apps in Python, Node, Go and Rust, each with the library of its language: with a password and
//! with a token, on core NATS and on JetStream, in own accounts; and in shared ones, which have no
//! JetStream, with the inbox prefix option.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;

use super::orders::{self, PUBLISH, ack, fetch, info, payloads};
use super::{connect, tenant};
use crate::harness::client::{self, Connected, Login};
use crate::harness::clients::{self, Language, Scenario, Seen, Stored, Stream};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::loudly;

/// The tenant SHOP with four logins, in the order of use: those of its admin and of a service, each
/// by a password and by a token. The first one makes the stream, and all use it.
fn shop() -> (Deployment, [(&'static str, Login); 4]) {
    let deployment = Deployment::start(Mode::Operator);
    let admin = tenant(&deployment, "SHOP", "shop", &["--storage", "1GB"]);
    let lists = ["-p", &format!("echo,{PUBLISH}"), "-s", "echo"];
    let service = deployment.user_add("shop", "order-service", &lists);
    let [admin_token, service_token] =
        ["shop", "order-service"].map(|user| Login::Token(deployment.token_add("shop", user)));
    let logins = [
        ("the admin by its password", admin),
        ("the service by its token", service_token),
        ("the admin by its token", admin_token),
        ("the service by its password", service),
    ];
    (deployment, logins)
}

/// What the login of that turn sees of JetStream: the stream holds what those before it stored.
fn stored(turn: usize) -> Stored {
    let from = 2 * turn as u64 + 1;
    let fetched = vec!["first".to_owned(), "second".to_owned()];
    Stored { acks: vec![from, from + 1], fetched, pending: 0, ack_pending: 0 }
}

fn complete(what: &str, seen: &Seen) {
    assert!(seen.connected && seen.error.is_none(), "{what}: {seen:?}");
    assert_eq!(seen.received, ["hello"], "{what}: {seen:?}");
    assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{what}: {seen:?}");
}

fn in_an_own_account(language: Language) {
    let (deployment, logins) = shop();
    for (turn, (who, login)) in logins.iter().enumerate() {
        let admin = who.starts_with("the admin");
        let scenario = Scenario {
            subscribe: "echo".to_owned(),
            publish: "echo".to_owned(),
            request: "echo".to_owned(),
            forbidden: (!admin).then(|| "$JS.API.STREAM.DELETE.ORDERS".to_owned()),
            inbox_prefix: None,
            jetstream: Some(Stream {
                stream: "ORDERS".to_owned(),
                consumer: "processor".to_owned(),
                subject: "orders.created".to_owned(),
                create: turn == 0,
            }),
        };
        let Some(seen) = clients::login(language, &deployment.url(), login, &scenario) else {
            return;
        };
        let what = format!("{language:?}, {who}");
        complete(&what, &seen);
        assert_eq!(seen.jetstream, Some(stored(turn)), "{what}");
        assert_eq!(seen.violations.len(), if admin { 0 } else { 2 }, "{what}: {seen:?}");
    }
    loudly(&format!("{language:?}: connected, published, subscribed, requested, used JetStream"));
}

#[test]
fn python_in_an_own_account() {
    in_an_own_account(Language::Python);
}

#[test]
fn node_in_an_own_account() {
    in_an_own_account(Language::Node);
}

#[test]
fn go_in_an_own_account() {
    in_an_own_account(Language::Go);
}

/// Answers requests on a subject with `pong:` and what was asked.
async fn answering(app: &Connected, subject: &str) -> tokio::task::JoinHandle<()> {
    let mut requests = app.client.subscribe(subject.to_owned()).await.expect("subscribes");
    let client = app.client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                let pong = [b"pong:", request.payload.as_ref()].concat();
                let _ = client.publish(reply, pong.into()).await;
            }
        }
    })
}

async fn asks(app: &Connected, subject: &str) {
    app.round_trip(subject).await;
    let answering = answering(app, subject).await;
    let answer = app.client.request(subject.to_owned(), "ping".into()).await.expect("an answer");
    assert_eq!(answer.payload, "pong:ping");
    answering.abort();
}

/// The same with async-nats, whose JetStream part is an option that this program is built without:
/// the requests to the API are its own.
#[tokio::test(flavor = "multi_thread")]
async fn rust_in_an_own_account() {
    let (deployment, logins) = shop();
    for (turn, (who, login)) in logins.iter().enumerate() {
        let app = connect(&deployment, login).await;
        asks(&app, "echo").await;
        if turn == 0 {
            orders::stream_and_consumer(&app).await;
        }
        let mut seen = Stored::default();
        for text in ["first", "second"] {
            let acknowledged = app.jetstream("orders.created", &json!(text)).await;
            seen.acks.push(acknowledged["seq"].as_u64().expect("a number"));
        }
        let fetched = fetch(&app, 2, Duration::from_secs(5)).await;
        for message in &fetched {
            ack(&app, message).await;
        }
        seen.fetched = payloads(&fetched).iter().map(|text| text.replace('"', "")).collect();
        let state = info(&app).await;
        seen.pending = state["num_pending"].as_u64().expect("a number");
        seen.ack_pending = state["num_ack_pending"].as_u64().expect("a number");
        assert_eq!(seen, stored(turn), "{who}");
        assert_eq!(app.errors(), [""; 0], "{who}");
    }
}

/// Two tenants that share the account USERS; each app with its password and with its token.
fn shared() -> (Deployment, Vec<(&'static str, Login)>) {
    let deployment = Deployment::start(Mode::Operator);
    let mut logins = Vec::new();
    for (id, user) in [("shop", "order-service"), ("blog", "post-service")] {
        deployment.tenant_add(id, &["--isolation", "shared"]);
        logins.push((id, deployment.user_add(id, user, &["-p", "echo", "-s", "echo"])));
        logins.push((id, Login::Token(deployment.token_add(id, user))));
    }
    (deployment, logins)
}

#[test]
fn python_node_and_go_in_a_shared_account() {
    let (deployment, logins) = shared();
    for language in [Language::Python, Language::Node, Language::Go] {
        for (id, login) in &logins {
            let other = if *id == "shop" { "blog" } else { "shop" };
            let echo = format!("user.{id}.echo");
            let scenario = Scenario {
                subscribe: echo.clone(),
                publish: echo.clone(),
                request: echo,
                forbidden: Some(format!("user.{other}.echo")),
                inbox_prefix: Some(format!("_INBOX_{id}")),
                jetstream: None,
            };
            let Some(seen) = clients::login(language, &deployment.url(), login, &scenario) else {
                break;
            };
            let what = format!("{language:?} {login:?}");
            complete(&what, &seen);
            assert_eq!(seen.violations.len(), 2, "{what}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_in_a_shared_account() {
    let (deployment, logins) = shared();
    for (id, login) in &logins {
        let prefix = format!("_INBOX_{id}");
        let app = client::connect(&deployment.url(), login, &prefix).await.expect("connects");
        asks(&app, &format!("user.{id}.echo")).await;
        assert_eq!(app.errors(), [""; 0]);
    }
}
