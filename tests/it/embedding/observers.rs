//! What an application is shown of its clients, and that it is the truth.

use std::sync::Mutex;

use nats_callout::callout::{Observer, Outcome, Rejection};

use super::*;
use crate::harness::eventually;

/// Notes what it is shown.
#[derive(Debug, Default)]
struct Seen {
    outcomes: Mutex<Vec<String>>,
    rejections: Mutex<Vec<Rejection>>,
}

impl Observer for Seen {
    fn observe(&self, outcome: &Outcome, _: Duration) {
        let word = match outcome {
            Outcome::Reply(reply) => format!("{:?}", reply.verdict),
            Outcome::NoReply(no_reply) => format!("{:?}", no_reply.fault),
        };
        self.outcomes.lock().unwrap().push(word);
    }

    fn rejected(&self, rejection: &Rejection) {
        self.rejections.lock().unwrap().push(rejection.clone());
    }
}

impl Seen {
    fn only_rejection(&self) -> Rejection {
        let seen = eventually("what the server says", || {
            let rejections = self.rejections.lock().unwrap();
            (!rejections.is_empty()).then(|| rejections.clone())
        });
        let [rejection] = &seen[..] else { panic!("one: {seen:?}") };
        rejection.clone()
    }
}

/// A mistake of the application's.
#[derive(Debug)]
struct Panics;

impl Observer for Panics {
    fn observe(&self, _: &Outcome, _: Duration) {
        panic!("a mistake in the observer");
    }
}

async fn server() -> testing::NatsServer {
    let program = servers::binary(servers::version());
    testing::NatsServer::start_program(&program, "").await.expect("starts")
}

async fn login(server: &testing::NatsServer, token: &str) -> Result<async_nats::Client, String> {
    let options = ConnectOptions::with_token(token.to_owned());
    // A server's first PING comes while it waits for an answer, and stands for a yes to some.
    let client = options.connect(server.url()).await.map_err(|error| error.to_string())?;
    client.flush().await.map_err(|error| error.to_string())?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_server_does_not_know_is_told() {
    let server = server().await;
    let seen = Arc::new(Seen::default());
    let elsewhere = async |request: Request| {
        Ok(match request.token() {
            Some(token) if token.matches("key-4711") => by_token(request).await?,
            _ => Permit::user("eve").account("NOSUCH").into(),
        })
    };
    let callout = server.callout().observer(seen.clone()).authorize(elsewhere).unwrap();
    let running = callout.start(server.auth().await.unwrap()).await.expect("starts");
    login(&server, "any").await.expect_err("the server has no such account");
    let rejection = seen.only_rejection();
    assert_eq!((rejection.user.as_str(), rejection.connection.host.as_str()), ("eve", "127.0.0.1"));
    assert!(rejection.reason.contains("NOSUCH") && !rejection.is_limit(), "{rejection:?}");
    login(&server, "key-4711").await.expect("the account is there");
    running.stop().await;
    assert_eq!(seen.rejections.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_issuer_than_the_servers_is_told() {
    let bare = Bare::start(Mode::Config);
    let seen = Arc::new(Seen::default());
    let issuer = SigningKey::generate(KeyKind::Account).unwrap().0;
    let callout = Callout::config_mode(issuer).xkey(bare.xkey()).account("USERS");
    let callout = callout.observer(seen.clone()).authorize(by_token).unwrap();
    let running = callout.start(bare.auth().await).await.expect("starts");
    bare.is_refused(&Login::Token("key-4711".into())).await;
    let rejection = seen.only_rejection();
    assert!(rejection.reason.to_lowercase().contains("issuer"), "{rejection:?}");
    assert_eq!(rejection.user, "billing");
    // A refusal is one of ours, and told as an outcome.
    bare.is_refused(&Login::Token("key-0".into())).await;
    running.stop().await;
    assert_eq!(seen.rejections.lock().unwrap().len(), 1);
    let outcomes = seen.outcomes.lock().unwrap();
    let [granted, denied] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(granted.contains("Granted") && denied.contains("Denied"), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_starts_in_an_account_in_which_nobody_asks() {
    let anything = async |_: Request| Ok(Permit::user("any").publish(">").subscribe(">").into());
    for mode in either_mode() {
        let bare = Bare::start(mode);
        let users = match mode {
            Mode::Config => "USERS".to_owned(),
            Mode::Operator => bare.operator_keys().1,
        };
        let builder = || {
            let builder = match mode {
                Mode::Config => {
                    let issuer = SigningKey::from_seed(&bare.key("issuer.nk"), KeyKind::Account);
                    Callout::config_mode(issuer.unwrap())
                }
                Mode::Operator => Callout::operator_mode(bare.operator_keys().0),
            };
            builder.xkey(bare.xkey()).account(&users)
        };
        let callout = builder().authorize(anything).unwrap();
        let running = callout.start(bare.auth().await).await.expect("starts");
        let login = Login::Token("any".to_owned());
        let app = client::connect(&bare.server.url(), &login, "_INBOX").await.expect("anybody");
        let callout = builder().authorize(anything).unwrap();
        let refused = callout.start(app.client.clone()).await.expect_err("it is another account");
        let refused = refused.to_string();
        let found = refused.split('"').nth(1).expect("the account that it is in");
        assert_eq!(*found, users);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_panics_keeps_nobody_out() {
    let server = server().await;
    let seen = Arc::new(Seen::default());
    let builder = server.callout().observer(Arc::new(Panics)).observer(seen.clone());
    let running = builder.authorize(by_token).unwrap();
    let running = running.start(server.auth().await.unwrap()).await.expect("starts");
    login(&server, "key-4711").await.expect("the key is known");
    running.stop().await;
    assert_eq!(seen.outcomes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn observers_see_what_a_fake_server_asks() {
    let server = FakeServer::new().unwrap();
    let seen = Arc::new(Seen::default());
    let callout = server.callout().observer(seen.clone()).authorize(by_token).unwrap();
    let told = server.ask(&callout, Connect::token("key-4711")).await;
    assert_eq!(told.granted().name, "billing");
    assert!(server.ask(&callout, Connect::token("key-0")).await.is_denied());
    let outcomes = seen.outcomes.lock().unwrap();
    let [granted, denied] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(granted.contains("Granted") && denied.contains("Denied"), "{outcomes:?}");
}
