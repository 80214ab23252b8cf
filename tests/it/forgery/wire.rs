//! The same attacks on real connections: on a server that lets everybody publish in its name, so
//! that they reach the service, and on one with auth callout, which lets nobody.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nats_callout::callout::{Observer, Outcome};
use nats_callout::internals::{AuthCallout, CALLOUT_SUBJECT, keyfile};
use nats_callout::keys::{KeyKind, XKey};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Bench, Message, NOW, key, payload, sign};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{PATIENCE, http, ports};

/// Tells what became of each request, in the words of the log.
#[derive(Debug)]
struct Told(UnboundedSender<String>);

impl Observer for Told {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let said = match outcome {
            Outcome::NoReply(it) => it.fault.to_string(),
            Outcome::Reply(reply) => format!("{:?}", reply.verdict),
        };
        let _ = self.0.send(said);
    }
}

async fn publish(client: &async_nats::Client, inbox: &str, message: &Message) {
    let mut headers = HeaderMap::new();
    if let Some(xkey) = &message.header {
        headers.insert("Nats-Server-Xkey", xkey.as_str());
    }
    let body = message.payload.clone().into();
    client
        .publish_with_reply_and_headers(CALLOUT_SUBJECT, inbox.to_owned(), headers, body)
        .await
        .expect("is sent");
}

async fn next(told: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(PATIENCE, told.recv()).await.expect("an outcome").expect("it observes")
}

/// A server without users, where anybody may publish what only a server should.
fn open_server() -> (NatsServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let port = ports::free();
    let conf = dir.path().join("nats.conf");
    let text = format!("listen: 127.0.0.1:{port}\nmax_payload: 8MB\n");
    std::fs::write(&conf, text).expect("a configuration");
    (NatsServer::start(servers::version(), &conf, port, None).expect("starts"), dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_no_attack() {
    let (server, _dir) = open_server();
    let client = || async { async_nats::connect(server.url()).await.expect("connects") };
    let bench = Bench::sealed();
    let (tell, mut told) = unbounded_channel();
    let service = client().await;
    let running = AuthCallout::new(Arc::clone(&bench.authorizer))
        .with_observer(Arc::new(Told(tell)))
        .start(service.clone())
        .await
        .expect("starts");
    let attacker = client().await;
    let inbox = attacker.new_inbox();
    let mut answers = attacker.subscribe(inbox.clone()).await.expect("subscribes");

    let good = bench.send(&sign(&bench.request(), &bench.server));
    publish(&attacker, &inbox, &good).await;
    let said = next(&mut told).await;
    assert!(said.starts_with("Granted"), "{said}");

    let expired = {
        let mut claims = bench.request();
        claims["exp"] = json!(NOW - 6);
        bench.send(&sign(&claims, &bench.server))
    };
    let misaddressed = {
        let mut claims = bench.request();
        claims["aud"] = json!("nats-authorization-response");
        bench.send(&sign(&claims, &bench.server))
    };
    let oversized = {
        let mut claims = bench.request();
        claims["nats"]["connect_opts"]["user"] = json!("x".repeat(1024 * 1024));
        bench.send(&sign(&claims, &bench.server))
    };
    let altered = {
        let mut message = bench.send(&sign(&bench.request(), &bench.server));
        *message.payload.last_mut().unwrap() ^= 1;
        message
    };
    let token = sign(&bench.request(), &bench.server);
    let attacks = [
        ("replayed", "has been taken before", good.clone()),
        ("forged", "signature", bench.send(&sign(&bench.request(), &key(KeyKind::Server)))),
        ("altered", "cannot be decrypted", altered),
        ("expired", "expired at", expired),
        ("misaddressed", "audience", misaddressed),
        ("downgraded", "not encrypted", Message { payload: token.into(), header: None }),
        ("oversized", "longer than", oversized),
        ("empty", "not encrypted", Message { payload: Vec::new(), header: None }),
    ];
    for (name, rule, message) in &attacks {
        publish(&attacker, &inbox, message).await;
        let said = next(&mut told).await;
        assert!(said.contains(rule), "{name}: {said}");
    }
    // Without a reply subject there is nothing to do at all.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Server-Xkey", bench.server_xkey.public_key());
    let token = sign(&bench.request(), &bench.server);
    let silent = bench.send(&token);
    attacker
        .publish_with_headers(CALLOUT_SUBJECT, headers, silent.payload.into())
        .await
        .expect("is sent");

    let last = bench.send(&sign(&bench.request(), &bench.server));
    publish(&attacker, &inbox, &last).await;
    assert!(next(&mut told).await.starts_with("Granted"));
    running.stop().await;
    // Behind all answers, on their way.
    service.publish(inbox, "end".into()).await.expect("is sent");
    let mut grants = 0;
    loop {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.expect("an answer");
        let answer = answer.expect("the connection is open");
        if answer.payload == "end" {
            break;
        }
        let recipient = bench.service_xkey.as_ref().unwrap();
        let opened = bench.server_xkey.open(&answer.payload, recipient).expect("sealed for it");
        let said = payload(std::str::from_utf8(&opened).expect("text"));
        assert!(said["nats"]["jwt"].is_string(), "{said}");
        grants += 1;
    }
    assert_eq!(grants, 2, "the two good ones");
}

/// A stranger with a key of its own can be no server: the real one lets nobody ask in its name, not
/// even the service's own login. The same request would be granted, were it let through.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_server_can_ask() {
    for mode in [Mode::Operator, Mode::Config] {
        let deployment = Deployment::start(mode);
        let crate::harness::client::Login::Password(user, password) =
            deployment.tenant_add("one", &[])
        else {
            panic!("a password")
        };
        let keys = deployment.dir().join("keys");
        let xkey = keyfile::read_secret(&keys.join("xkey.nk")).expect("init wrote it");
        let bench = Bench::for_service(XKey::from_seed(&xkey).expect("a seed").public_key());
        let mut claims = bench.request();
        claims["exp"] = json!(4_000_000_000_i64);
        claims["nats"]["connect_opts"]["user"] = json!(user);
        claims["nats"]["connect_opts"]["pass"] = json!(password);
        let message = bench.send(&sign(&claims, &bench.server));

        let options = match mode {
            Mode::Operator => {
                async_nats::ConnectOptions::with_credentials_file(keys.join("auth.creds"))
                    .await
                    .expect("a creds file")
            }
            Mode::Config => {
                let seed = keyfile::read_secret(&keys.join("auth.nk")).expect("a seed");
                async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            }
        };
        let url = deployment.url();
        let stranger =
            crate::harness::client::connect_with(&url, options, "_INBOX").await.expect("connects");
        let inbox = stranger.client.new_inbox();
        let mut answers = stranger.client.subscribe(inbox.clone()).await.expect("subscribes");
        publish(&stranger.client, &inbox, &message).await;
        stranger.violation(&["publish", "\"$sys.req.user.auth\""]).await;
        // The violation is said, so nothing was let through; what is asked next comes back alone.
        stranger.client.publish(inbox, "end".into()).await.expect("is sent");
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.expect("the end");
        assert_eq!(answer.expect("a message").payload, "end", "{mode:?}");
        let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
        let decisions: Vec<&str> = metrics
            .lines()
            .filter(|line| line.starts_with("nats_callout_decisions_total{"))
            .collect();
        let none = !decisions.is_empty() && decisions.iter().all(|line| line.ends_with(" 0"));
        assert!(none, "{mode:?}: the service has seen it: {decisions:#?}");
    }
}
