//! What is kept in AUTH beside the service's own: a stream there takes in requests or forges events, a
//! consumer that delivers carries events away, whoever made it and by whatever way.

use serde_json::{Value, json};

use super::{isolated, refused};
use crate::events::login;
use crate::harness::choice::either_mode;
use crate::harness::client::Connected;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{eventually, servers};

/// What an attacker left, and the words in which it is named.
const LEFT: [(&str, &[&str]); 4] = [
    ("stream", &["the stream LOOT in AUTH is none of", "listens to $SYS.REQ.USER.AUTH"]),
    ("republish", &["the stream FORGE in AUTH is none of", "publishes to auth.tenant.removed"]),
    ("push", &["the consumer spy of the stream AUTH_DECISIONS", "delivers to _CALLOUT.alive"]),
    ("direct", &["the consumer mirror of the stream AUTH_EVENTS", "delivers to loot.M.x"]),
];

/// Makes it in AUTH.
async fn leave(auth: &Connected, what: &str) {
    let consumer = |config: Value| json!({ "stream_name": "AUTH_EVENTS", "config": config });
    let (subject, body) = match what {
        "stream" => (
            "STREAM.CREATE.LOOT",
            json!({ "name": "LOOT", "subjects": ["$SYS.REQ.USER.AUTH"], "no_ack": true }),
        ),
        "republish" => (
            "STREAM.CREATE.FORGE",
            json!({ "name": "FORGE", "subjects": ["forge"],
                    "republish": { "src": "forge", "dest": "auth.tenant.removed" } }),
        ),
        "pull" => (
            "CONSUMER.CREATE.AUTH_EVENTS.taker",
            consumer(json!({ "name": "taker", "durable_name": "taker", "ack_policy": "explicit" })),
        ),
        "push" => (
            "CONSUMER.CREATE.AUTH_DECISIONS.spy",
            json!({ "stream_name": "AUTH_DECISIONS", "config": {
                "name": "spy", "durable_name": "spy", "ack_policy": "none",
                "deliver_subject": "_CALLOUT.alive" } }),
        ),
        _ => (
            "CONSUMER.CREATE.AUTH_EVENTS.mirror",
            consumer(json!({ "name": "mirror", "ack_policy": "none", "direct": true,
                "max_deliver": 1, "deliver_subject": "loot.M.x" })),
        ),
    };
    let made = auth.jetstream(&format!("$JS.API.{subject}"), &body).await;
    assert!(made.get("error").is_none(), "{what}: {made}");
}

async fn is_named(mode: Mode) {
    let mut deployment = Deployment::start(mode);
    assert_eq!(isolated(&deployment), Some(true), "the events' consumers are no strangers");
    let auth = login(&deployment, mode, "auth").await;
    // Somebody has to listen, or a consumer of this kind ends.
    let _listens = auth.client.subscribe("loot.M.x").await.unwrap();
    // It stays to the end: what waits to be asked takes nothing by itself, and one that was taken out of
    // the configuration keeps no service from starting.
    leave(&auth, "pull").await;
    let mut words = Vec::new();
    for (what, named) in LEFT {
        // Servers of 2.10 tell nobody of such a one.
        if what != "direct" || knows_direct() {
            leave(&auth, what).await;
            words.extend(named);
        }
    }
    eventually("the instance that runs to say so", || (!isolated(&deployment)?).then_some(()));
    let log = deployment.service.log();
    for word in &words {
        assert!(log.contains(word), "no {word:?} in {log}");
    }
    deployment.service.stop();
    refused(&deployment, &words);

    let mut gone =
        vec!["STREAM.DELETE.LOOT", "STREAM.DELETE.FORGE", "CONSUMER.DELETE.AUTH_DECISIONS.spy"];
    gone.extend(knows_direct().then_some("CONSUMER.DELETE.AUTH_EVENTS.mirror"));
    for gone in gone {
        auth.jetstream(&format!("$JS.API.{gone}"), &json!({})).await;
    }
    // One of the service's own, made to do more than it should.
    let info = auth.jetstream("$JS.API.STREAM.INFO.AUTH_EVENTS", &json!({})).await;
    let mut altered = info["config"].clone();
    altered["subjects"].as_array_mut().unwrap().push(json!("altered.subject"));
    auth.jetstream("$JS.API.STREAM.UPDATE.AUTH_EVENTS", &altered).await;
    refused(&deployment, &["the stream AUTH_EVENTS in AUTH is another", "altered.subject"]);
    auth.jetstream("$JS.API.STREAM.UPDATE.AUTH_EVENTS", &info["config"]).await;
    eventually("a start once all else is gone", || deployment.serve().ok());
}

/// Whether the server under test reports consumers that servers make for mirrors.
fn knows_direct() -> bool {
    !servers::is(servers::version(), "2.10")
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_consumers_that_are_not_the_services_are_named() {
    for mode in either_mode() {
        is_named(mode).await;
    }
}
