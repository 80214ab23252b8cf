//! Decisions and closed connections: in the stream, without a secret in them, and, where the
//! configuration says so, before the grant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use futures_util::StreamExt as _;
use nats_callout::callout::Observer as _;
use nats_callout::clock::SystemClock;
use nats_callout::config::{Config, Files};
use nats_callout::internals::decisions;
use nats_callout::keys::{KeyKind, SigningKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Stored, holds, login, max_message_size, read, stored};
use crate::harness::choice::either_mode;
use crate::harness::client::{Login, connect, connect_with, refused};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::issuer::seconds_from_now;
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;
use crate::harness::{PATIENCE, eventually, eventually_async, http, ports};
use crate::jwt::Bench;
use crate::nkey;
use crate::within::changes::crowd::Held;

const GRANTED: &str = "auth.decision.granted";
const KICKED: &str = "auth.connection.kicked";

fn secret(login: &Login) -> &str {
    match login {
        Login::Password(_, password) => password,
        Login::Token(token) => token,
        Login::Nothing => "",
    }
}

/// Grants by password and by token, and refusals, in AUTH and for their reader.
async fn decided(mode: Mode) {
    let deployment = Deployment::start(mode);
    let auth = login(&deployment, mode, "auth").await;
    let one = deployment.tenant_add("one", &[]);
    let token = deployment.token_add("one", "one");
    let url = deployment.url();
    connect(&url, &one, "_INBOX_one").await.expect("logs in");
    let named = ConnectOptions::with_token(token.clone()).name("billing ".repeat(100));
    connect_with(&url, named, "_INBOX_one").await.expect("logs in");
    let canary = "canary-of-a-password";
    let long = "x".repeat(3_000);
    refused(&url, &Login::password("one", canary)).await;
    refused(&url, &Login::password(&long, canary)).await;
    refused(&url, &Login::Token(canary.to_owned())).await;
    refused(&url, &Login::Nothing).await;
    let events = holds(&auth, "AUTH_DECISIONS", 6).await;
    let mut seen = Vec::new();
    for Stored { subject, headers, event } in &events {
        let text = format!("{event}{headers}");
        for secret in [canary, secret(&one), &token] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(event["type"], subject.as_str());
        let data = &event["data"];
        assert!(data["cid"].as_u64().is_some_and(|cid| cid > 0), "{event}");
        assert_eq!((&data["server"], &data["host"]), (&json!("nats-1"), &json!("127.0.0.1")));
        assert!(data["took_us"].is_u64(), "{event}");
        let name = data["name"].as_str().unwrap_or("-");
        let is_named = subject == GRANTED && data["method"] == "token";
        assert_eq!(name != "-", is_named, "{event}");
        assert!(data["library"].as_str().is_some_and(|it| it.starts_with("rust ")), "{event}");
        assert!(name == "-" || name == "billing ".repeat(8), "{event}");
        let user = data["user"].as_str().unwrap_or("-");
        assert!(user.len() <= 64, "{event}");
        assert_eq!(event["subject"].as_str().unwrap_or("-"), user, "{event}");
        seen.push(match subject.as_str() {
            "auth.decision.granted" => {
                assert_eq!(event["organizationid"], "one");
                assert!((2_880..=3_600).contains(&data["ttl"].as_u64().unwrap()), "{event}");
                assert_eq!(data["policy"], "admin");
                format!("granted {user} {}", data["method"].as_str().unwrap())
            }
            "auth.decision.rejected" => {
                let tenant = if user == "one" { json!("one") } else { Value::Null };
                assert_eq!(event["organizationid"], tenant, "{event}");
                format!("rejected {user} {}", data["reason"].as_str().unwrap())
            }
            other => panic!("{other}"),
        });
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "granted one password".to_owned(),
            "granted one token".to_owned(),
            "rejected - no_credentials".to_owned(),
            "rejected - unknown_token".to_owned(),
            "rejected one wrong_password".to_owned(),
            format!("rejected {} unknown_user", "x".repeat(64)),
        ]
    );
    let reader = login(&deployment, mode, "events").await;
    let origin: Vec<Value> = events.into_iter().map(|it| it.event).collect();
    assert_eq!(read(&reader, "AUTH_DECISIONS", 6).await, origin);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_told() {
    for mode in either_mode() {
        decided(mode).await;
    }
}

/// Whoever has no row, or no password, is told of as everybody else is.
async fn other_ways(mode: Mode) {
    let lines = "users = \"policy\"\ntenant_claim = \"org\"\npolicy = \"guest\"";
    let rule = "publish = [\"user.{{tenant.id}}.x\"]\nsubscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
    let bench = Bench::start_with_policy(mode, lines, "guest", rule);
    let deployment = &bench.deployment;
    let auth = login(deployment, mode, "auth").await;
    deployment.tenant_add("one", &[]);
    let (key, seed) = SigningKey::generate(KeyKind::User).expect("a key");
    nkey::add_user(deployment, "one", "keyed", &["--nkey", key.public_key()]);
    let jwt = |seconds| {
        let mut claims = bench.issuer.claims("guest");
        (claims["org"], claims["exp"]) = (json!("one"), json!(seconds_from_now(seconds)));
        Login::Token(bench.signer.sign(&claims))
    };
    let url = deployment.url();
    let by_nkey = ConnectOptions::with_nkey(seed.to_string());
    connect_with(&url, by_nkey, "_INBOX_one").await.expect("logs in");
    connect(&url, &jwt(300), "_INBOX_one").await.expect("logs in");
    refused(&url, &jwt(-300)).await;
    let events = holds(&auth, "AUTH_DECISIONS", 3).await;
    let mut seen: Vec<String> = events
        .iter()
        .map(|Stored { event, .. }| {
            let data = &event["data"];
            let [organization, user, method, reason] =
                [&event["organizationid"], &data["user"], &data["method"], &data["reason"]]
                    .map(|value| value.as_str().unwrap_or("-"));
            format!("{organization} {user} {method} {reason}")
        })
        .collect();
    seen.sort();
    assert_eq!(seen, ["one guest token token_expired", "one keyed nkey -", "one one/guest jwt -"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nkeys_and_jwts_are_told() {
    for mode in either_mode() {
        other_ways(mode).await;
    }
}

/// The events of this kind, each by the number of its connection on the only server.
fn by_connection<'a>(
    events: &'a [Stored],
    kind: &'a str,
) -> impl Iterator<Item = (u64, &'a Stored)> {
    let events = events.iter().filter(move |it| it.subject == kind);
    events.map(|it| (it.event["data"]["cid"].as_u64().expect("a number"), it))
}

/// Two instances and a command close the same connections: each is told once. The clients are such
/// as do not come back: an instance that has not heard of the change might let them in.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_is_told_once() {
    for mode in [Mode::Operator, Mode::Config] {
        let mut deployment = Deployment::start(mode);
        let mut second = deployment.another_service();
        let auth = login(&deployment, mode, "auth").await;
        let one = deployment.tenant_add("one", &[]);
        let other = deployment.tenant_add("other", &[]);
        let port = deployment.server.port();
        let mut held: Vec<Held> = (0..5).map(|_| Held::connect(port, &one)).collect();
        let mut bystander = Held::connect(port, &other);
        let output = deployment.cli(&["--json", "tenant", "suspend", "one"]).success().json();
        assert_eq!(output["kicked"], 5);
        held.iter_mut().for_each(Held::wait_closed);
        eventually_async("all of them are told", || async {
            let events = stored(&auth, "AUTH_DECISIONS").await;
            let told = |kind| by_connection(&events, kind).count();
            (told(GRANTED) >= 6 && told(KICKED) >= 5).then_some(())
        })
        .await;
        // Each instance looks a second time after a second, of which nobody hears where nothing is
        // left. Whoever ends has told what it had to tell: then nothing more can come.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert!(bystander.is_alive());
        assert!(second.stop().success() && deployment.service.stop().success());
        let events = stored(&auth, "AUTH_DECISIONS").await;

        let kicks: Vec<(u64, &Stored)> = by_connection(&events, KICKED).collect();
        assert_eq!(kicks.len(), 5, "each once: {kicks:#?}");
        for (_, kick) in &kicks {
            assert_eq!(kick.event["organizationid"], "one", "{kick:?}");
            assert_eq!(kick.event["data"]["user"], "one", "{kick:?}");
            assert_eq!(kick.event["data"]["host"], "127.0.0.1", "{kick:?}");
            assert_eq!(kick.event["data"]["server"], kicks[0].1.event["data"]["server"]);
        }
        let told: BTreeSet<u64> = kicks.iter().map(|(cid, _)| *cid).collect();
        let granted: BTreeSet<u64> = by_connection(&events, GRANTED)
            .filter(|(_, grant)| grant.event["data"]["user"] == "one")
            .map(|(cid, _)| cid)
            .collect();
        assert_eq!(granted.len(), 5, "{granted:?}");
        assert_eq!(told, granted, "each of them, and nothing else");
    }
}

/// A server and a service with these settings; the bindings end in the reverse order.
fn configured(mode: Mode, settings: &[(&str, &str)]) -> (Initialised, NatsServer, Service) {
    let init = Initialised::new(mode);
    let conf = init.server_conf();
    let server = NatsServer::start(servers::version(), &conf, init.port, Some(init.monitor))
        .expect("starts");
    let http = format!("127.0.0.1:{}", ports::free());
    let mut environment = vec![("NATS_CALLOUT_HTTP_LISTEN", http.as_str())];
    environment.extend(settings);
    let service = Service::serve(&init.config(), &environment).expect("serves");
    (init, server, service)
}

/// No audit, no grant: while the stream takes nothing nobody gets in, and refusals wait for nothing; a
/// stream that is gone is made again in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_waits_for_its_event() {
    let settings = [("NATS_CALLOUT_EVENTS_DECISIONS", "before-grant")];
    let (init, server, service) = configured(Mode::Operator, &settings);
    let auth = login(&init, Mode::Operator, "auth").await;
    let one = init.tenant_add("one", &[]);
    let url = server.url();
    connect(&url, &one, "_INBOX_one").await.expect("logs in");
    holds(&auth, "AUTH_DECISIONS", 1).await;

    max_message_size(&auth, "AUTH_DECISIONS", 10).await;
    let start = Instant::now();
    refused(&url, &one).await;
    assert!(start.elapsed() > Duration::from_millis(1_500), "{:?}", start.elapsed());
    eventually("the reason in the log", || {
        service.log().contains("the grant could not be recorded").then_some(())
    });
    // Nobody is broken off to be let in again, and nobody is told that all is well.
    eventually("it is not ready", || {
        let said = http::get(service.http(), "/readyz")?;
        (said.status == 503 && said.body.contains("\"records\":\"grants cannot be recorded"))
            .then_some(())
    });
    // The refusal needs no event: it is given while the stream takes none.
    refused(&url, &Login::Token("wrong".to_owned())).await;
    eventually("the refusal in the log", || {
        service.log().contains("reason=\"unknown_token\"").then_some(())
    });

    max_message_size(&auth, "AUTH_DECISIONS", -1).await;
    connect(&url, &one, "_INBOX_one").await.expect("logs in");
    let events = holds(&auth, "AUTH_DECISIONS", 3).await;
    let granted = events.iter().filter(|it| it.subject == "auth.decision.granted").count();
    assert_eq!(granted, 2, "{events:#?}");

    auth.jetstream("$JS.API.STREAM.DELETE.AUTH_DECISIONS", &json!({})).await;
    connect(&url, &one, "_INBOX_one").await.expect("logs in");
    holds(&auth, "AUTH_DECISIONS", 1).await;
}

/// Off is off.
#[tokio::test(flavor = "multi_thread")]
async fn decisions_can_be_kept_to_the_log() {
    let init = Initialised::new(Mode::Config);
    let conf = init.server_conf();
    let server = NatsServer::start(servers::version(), &conf, init.port, Some(init.monitor))
        .expect("starts");
    let http = format!("127.0.0.1:{}", ports::free());
    let environment = [
        ("NATS_CALLOUT_HTTP_LISTEN", http.as_str()),
        ("NATS_CALLOUT_EVENTS_DECISIONS", "off"),
        ("NATS_CALLOUT_EVENTS_SOURCE", "/callout/test"),
    ];
    let mut service = Service::serve(&init.config(), &environment).expect("serves");
    let auth = login(&init, Mode::Config, "auth").await;
    let one = init.tenant_add("one", &[]);
    connect(&server.url(), &one, "_INBOX_one").await.expect("logs in");
    let events = holds(&auth, "AUTH_EVENTS", 2).await;
    assert_eq!(events[0].event["source"], "/callout/test");
    assert!(service.stop().success());
    holds(&auth, "AUTH_DECISIONS", 0).await;
}

/// What the queue cannot hold is counted, and what it holds is published once there is a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_and_counts() {
    let mut deployment = Deployment::start(Mode::Operator);
    deployment.service.stop();
    let auth = login(&deployment, Mode::Operator, "auth").await;
    let config = Config::load_with(&deployment.config(), Files::MustExist, [])
        .expect("a configuration")
        .config;
    let store = config.open_store().await.expect("a store");
    let publisher = decisions::publisher(auth.client.clone(), "test".to_owned(), &config);
    let (log, mut events) =
        decisions::queue(3, publisher, store.clone(), Arc::new(SystemClock), "test".to_owned());
    for user in ["a", "b", "c", "d", "e"] {
        log.observe(&decisions::granted(user), Duration::from_millis(1));
    }
    let dropped = log.dropped();
    let dropped = || dropped.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(dropped(), 2);
    max_message_size(&auth, "AUTH_DECISIONS", 10).await;
    let stop = CancellationToken::new();
    let mut ear = auth.client.subscribe("auth.decision.*").await.expect("subscribes");
    auth.round_trip("settled").await;
    let until = stop.clone();
    let running = tokio::spawn(async move { events.run(&until).await });
    // None is tried a second time before all have been refused.
    for _ in 0..4 {
        tokio::time::timeout(PATIENCE, ear.next()).await.expect("an attempt").expect("a message");
    }
    holds(&auth, "AUTH_DECISIONS", 0).await;
    max_message_size(&auth, "AUTH_DECISIONS", -1).await;
    let events = holds(&auth, "AUTH_DECISIONS", 3).await;
    let mut users: Vec<&str> =
        events.iter().map(|it| it.event["subject"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["a", "b", "c"]);
    assert_eq!(dropped(), 2);
    // What is left at a stop is published still.
    log.observe(&decisions::granted("f"), Duration::from_millis(1));
    stop.cancel();
    running.await.expect("ends");
    holds(&auth, "AUTH_DECISIONS", 4).await;
    log.observe(&decisions::granted("g"), Duration::from_millis(1));
    assert_eq!(dropped(), 3, "nobody publishes any more");
    store.close().await;
}
