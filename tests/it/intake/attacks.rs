//! Tenants who would be others, or end what carries everybody's events: what they send lands under
//! their own name, or nowhere.

use async_nats::HeaderMap;
use futures_util::{FutureExt as _, StreamExt as _};
use nats_callout::internals::intake::{HeaderFault, Refusal, Running, Settings};
use nats_callout::store::Isolation;
use serde_json::{Value, json};

use super::field::{Field, Raw, event, is_stored};
use crate::harness::client::Connected;
use crate::harness::{eventually_async, servers};

/// `own1` attacks; `own2` and `shared1` have sent one event each.
struct Attack {
    field: Field,
    intake: Running,
    attacker: Connected,
}

const VICTIMS: [&str; 2] = ["own2", "shared1"];

impl Attack {
    async fn start() -> Self {
        let field = Field::start(2, 2).await;
        let intake = field.intake(Settings::default()).await;
        let attacker = field.login("own1").await;
        let victim = field.login("own2").await.client;
        is_stored(&event(&victim, "Events", "honest").await);
        let victim = field.login("shared1").await.client;
        is_stored(&event(&victim, "user.shared1.Events", "honest").await);
        Self { field, intake, attacker }
    }

    /// A request to the attacker's own JetStream, which takes it.
    async fn jetstream(&self, subject: &str, body: &Value) {
        self.attacker.jetstream(&format!("$JS.API.{subject}"), body).await;
    }

    /// Waits until so many forged events are BB's under the attacker's own name, and panics if there
    /// is anything under another.
    async fn landed(&self, count: u64) {
        eventually_async("the attacker's events", || async {
            (self.field.stored_of("own1").await >= count).then_some(())
        })
        .await;
        self.unharmed().await;
    }

    /// Nothing is under another's name, and everybody is served.
    async fn unharmed(&self) {
        is_stored(&event(&self.attacker.client, "Events", "the attacker's last").await);
        for victim in VICTIMS {
            assert_eq!(self.field.bodies(victim).await, ["honest"], "{victim}");
        }
        let subjects = self.field.stored().await;
        let names: Vec<_> = subjects.keys().map(String::as_str).collect();
        assert_eq!(names, ["user.own1.Events", "user.own2.Events", "user.shared1.Events"]);
        let victim = self.field.login("own2").await.client;
        is_stored(&event(&victim, "user.own2.Events", "afterwards").await);
        assert_eq!(self.intake.tally().lost, 0, "a connection was ended");
    }
}

fn forged() -> Vec<String> {
    let names =
        |victim: &str| ["user", "own", "bb"].map(|account| format!("{account}.{victim}.Events"));
    VICTIMS.into_iter().flat_map(names).chain(["anything.at.all".to_owned()]).collect()
}

/// JetStream delivers under the stored message's subject, which goes through the import.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_consumer_that_delivers_to_events() {
    let attack = Attack::start().await;
    let subjects = forged();
    let stream = json!({ "name": "V", "subjects": ["user.own2.>", "user.shared1.>", "own.>", "bb.>",
        "anything.>"] });
    attack.jetstream("STREAM.CREATE.V", &stream).await;
    for deliver in ["Events", "user.own1.Events"] {
        let consumer = json!({ "stream_name": "V", "config": {
            "durable_name": deliver.replace('.', "_"), "deliver_subject": deliver,
            "ack_policy": "none" } });
        let subject = format!("CONSUMER.DURABLE.CREATE.V.{}", deliver.replace('.', "_"));
        attack.jetstream(&subject, &consumer).await;
    }
    for subject in &subjects {
        attack.attacker.jetstream(subject, &json!("forged")).await;
    }
    attack.landed(2 * subjects.len() as u64).await;
    attack.intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_renames_and_republishes() {
    let attack = Attack::start().await;
    let streams = [
        json!({ "name": "R", "subjects": ["r"], "republish": { "src": "r", "dest": "Events" } }),
        json!({ "name": "T", "subjects": ["t.>"],
            "subject_transform": { "src": "t.*.Events", "dest": "user.{{wildcard(1)}}.Events" } }),
        json!({ "name": "M", "mirror": { "name": "T" } }),
        json!({ "name": "S", "sources": [{ "name": "T" }],
            "republish": { "src": "user.own2.Events", "dest": "user.own1.Events" } }),
    ];
    for stream in &streams {
        let name = stream["name"].as_str().expect("a name");
        attack.jetstream(&format!("STREAM.CREATE.{name}"), stream).await;
        let consumer = json!({ "stream_name": name, "config": {
            "durable_name": "C", "deliver_subject": "Events", "ack_policy": "none" } });
        attack.jetstream(&format!("CONSUMER.DURABLE.CREATE.{name}.C"), &consumer).await;
    }
    for subject in ["r", "t.own2.Events", "t.shared1.Events"] {
        attack.attacker.jetstream(subject, &json!("forged")).await;
    }
    // R's twice; T's two by the consumers of itself, of its mirror and of what is sourced from it; and
    // one of them as that republishes it.
    attack.landed(2 + 2 * 3 + 1).await;
    attack.intake.stop().await;
}

/// JetStream's own answers, by a request whose reply is the attacker's import.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_jetstream_and_replies_of_the_attackers_choice() {
    let attack = Attack::start().await;
    let stream = json!({ "name": "V", "subjects": ["user.own2.Events"], "allow_direct": true });
    attack.jetstream("STREAM.CREATE.V", &stream).await;
    attack.attacker.jetstream("user.own2.Events", &json!("forged")).await;
    let client = &attack.attacker.client;
    let requests = [
        ("$JS.API.STREAM.INFO.V", ""),
        ("$JS.API.STREAM.MSG.GET.V", r#"{"seq":1}"#),
        ("$JS.API.DIRECT.GET.V", r#"{"seq":1}"#),
        ("$JS.API.INFO", ""),
    ];
    for (subject, body) in requests {
        let reply = "Events".to_owned();
        client.publish_with_reply(subject, reply, body.into()).await.expect("is sent");
    }
    // The direct answer's subject is the stored one's; the reply is not below `_R_.`.
    for reply in [
        "user.own2.Events",
        "own.own2.Events",
        "bb.own2.Events",
        "_R_.x.y",
        "$JS.ACK.V.C.1.1.1.1.1@own.own2.Events",
        "$JS.ACK.V.C.1.1.1.1.1@bb.own2.Events",
    ] {
        let (subject, reply) = ("Events".to_owned(), reply.to_owned());
        client.publish_with_reply(subject, reply, "own".into()).await.expect("is sent");
    }
    attack.landed(4).await;
    attack.intake.stop().await;
}

/// Nobody believes `Nats-Request-Info`, in whatever form it comes.
#[tokio::test(flavor = "multi_thread")]
async fn forged_request_infos() {
    let attack = Attack::start().await;
    let mut raw = Raw::connect(attack.field.server.port(), "own1");
    let info = r#"{"acc":"own2","user":"own2"}"#;
    for block in [
        format!("NATS/1.0\r\nNats-Request-Info: {info}\r\n\r\n"),
        format!("NATS/1.0\r\nNats-Request-Info: {info}\r\nNats-Request-Info: {info}\r\n\r\n"),
        format!(
            "NATS/1.0\r\nA: Nats-Request-Info: Nats-Request-Info: {info}\r\nNats-Request-Info: {info}\r\n\r\n"
        ),
        format!("NATS/1.0\r\nnats-request-info: {info}\r\n\r\n"),
        // These do not end as they should.
        format!("NATS/1.0\r\nNats-Request-Info: {info}\r\nA: b"),
        format!("NATS/1.0\r\nNats-Request-Info: {info}"),
        "NATS/1.0\r\nA: b\r\n".to_owned(),
    ] {
        raw.publish("Events", block.as_bytes(), b"forged");
    }
    raw.settled();
    // Those that are whole come under the attacker's name, without that header.
    attack.landed(4).await;
    for message in attack.field.messages("own1").await {
        for (name, values) in message.headers.unwrap_or_default().iter() {
            let name = name.to_string().to_lowercase();
            // 2.10 leaves its own about the intake there, where a value holds that name.
            let by_the_server = values.iter().all(|value| value.as_str().contains("INTAKE"));
            assert!(!name.starts_with("nats-") || by_the_server, "{name}: {values:?}");
        }
    }
    attack.intake.stop().await;
}

/// Without JetStream, by the replies of a leaf node that says what it likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_raw_leaf_node() {
    let attack = Attack::start().await;
    let mut leaf = Raw::connect(attack.field.leaf_port, "own1");
    leaf.send(b"LS+ x\r\n");
    for subject in ["Events", "user.own1.Events", "own.own2.Events", "user.own2.Events"] {
        for victim in VICTIMS {
            for account in ["own", "bb", "user"] {
                let reply = format!("$JS.ACK.a.b.1.1.1.1.1@{account}.{victim}.Events");
                leaf.send(format!("LMSG {subject} {reply} 6\r\nforged\r\n").as_bytes());
                leaf.send(
                    format!("LMSG {subject} {account}.{victim}.Events 6\r\nforged\r\n").as_bytes(),
                );
            }
        }
    }
    leaf.settled();
    // By the two names that are its own.
    attack.landed(2 * 2 * 3 * 2).await;
    attack.intake.stop().await;
}

/// A header that ends a connection of async-nats ends neither the intake's nor, since it is not
/// stored, that of whoever reads the stream.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_headers_end_nothing() {
    let attack = Attack::start().await;
    let blocks: [&[u8]; 9] = [
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\na blank: x\r\n\r\n",
        b"NATS/1.0\r\na: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\n\xff: x\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"abc",
        b"NATS/1.0\r\n\0: \0\r\n\r\n",
        b"NATS/1.0\r\nA: b\nC: d\r\n\r\n",
    ];
    let mut own = Raw::connect(attack.field.server.port(), "own1");
    let mut shared = Raw::connect(attack.field.server.port(), "shared2");
    for block in blocks {
        own.publish("Events", block, b"x");
        shared.publish("user.shared2.Events", block, b"x");
    }
    own.settled();
    shared.settled();
    let refused = || attack.intake.tally().refused(Refusal::Header(HeaderFault::Name));
    eventually_async("refusals", || async { (refused() == 18).then_some(()) }).await;
    // The sender is told, where it asked.
    own.send(b"SUB _INBOX.x 1\r\n");
    own.publish("Events _INBOX.x", blocks[0], b"x");
    assert!(own.line().starts_with("MSG _INBOX.x 1 "));
    let answer: Value = serde_json::from_str(&own.line()).expect("json");
    assert_eq!(answer["error"]["description"], "a header line has no colon");
    assert!(attack.intake.is_connected());
    attack.unharmed().await;
    attack.intake.stop().await;
}

/// What a shared tenant may name is its own, and its answers go below its own inbox alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_tenants_replies() {
    let attack = Attack::start().await;
    let victim = attack.field.login("shared1").await.client;
    let mut heard = victim.subscribe("_INBOX_shared1.>").await.expect("subscribes");
    let mut notified = victim.subscribe("user.shared1.>").await.expect("subscribes");
    victim.flush().await.expect("is sent");
    let shared = attack.field.login("shared2").await.client;
    for reply in [
        "_INBOX_shared1.a",
        "user.shared1.Notifications",
        "_INBOX_shared2.*",
        "_INBOX_shared2.>",
        "user.shared1.Events",
    ] {
        let (subject, reply) = ("user.shared2.Events".to_owned(), reply.to_owned());
        shared.publish_with_reply(subject, reply, "x".into()).await.expect("is sent");
    }
    is_stored(&event(&shared, "user.shared2.Events", "last").await);
    assert_eq!(attack.field.stored_of("shared2").await, 6, "all are carried");
    is_stored(&event(&victim, "user.shared1.Events", "mine").await);
    // Its own event and the answer to it, and nothing else.
    let own = notified.next().await.expect("its own");
    assert_eq!(own.payload, "mine");
    assert!(notified.next().now_or_never().is_none());
    let answer = heard.next().await.expect("the answer");
    assert!(answer.payload.starts_with(b"{\"stream\":\"ReceivedEvents\""));
    assert!(heard.next().now_or_never().is_none());
    attack.intake.stop().await;
}

/// Where a suspended tenant's robots go on, nothing of it is carried.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_by_itself_ends_with_a_suspension() {
    let attack = Attack::start().await;
    let stream = json!({ "name": "V", "subjects": ["v"] });
    attack.jetstream("STREAM.CREATE.V", &stream).await;
    let consumer = json!({ "stream_name": "V", "config": { "durable_name": "C",
        "deliver_subject": "Events", "ack_policy": "explicit", "ack_wait": 50_000_000 } });
    attack.jetstream("CONSUMER.DURABLE.CREATE.V.C", &consumer).await;
    attack.attacker.jetstream("v", &json!("again and again")).await;
    let stored = || async { attack.field.stored_of("own1").await };
    eventually_async("redeliveries", || async { (stored().await > 1).then_some(()) }).await;
    let id = "own1".parse().expect("an id");
    attack.intake.tenants().suspend(&id);
    // What was sent before may still come; the second refusal is well behind it.
    let refused = || attack.intake.tally().refused(Refusal::Suspended);
    eventually_async("refusals", || async { (refused() > 1).then_some(()) }).await;
    let before = stored().await;
    let seen = refused();
    eventually_async("refusals", || async { (refused() > seen + 2).then_some(()) }).await;
    assert_eq!(stored().await, before);
    attack.intake.tenants().add(&id, Isolation::Account).await;
    eventually_async("more", || async { (stored().await > before).then_some(()) }).await;
    attack.intake.stop().await;
}

/// A snapshot of a stream `V` with one message, whose subject is
/// `x\r\nMSG own.own2.Events 1 6\r\nforged\r\nMSG y 1`: a tar archive in the framing of S2, with
/// `meta.inf` and a block of nats-server's file store, checksum included.
const RESTORED: &[u8] = include_bytes!("restored.s2");

/// nats-server writes that subject as it is into what subscribers read, in other accounts too.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_the_protocol_in_a_restored_subject() {
    let attack = Attack::start().await;
    let client = &attack.attacker.client;
    let config = json!({ "name": "V", "subjects": ["u.>"], "storage": "file",
        "retention": "limits", "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
        "num_replicas": 1, "discard": "old" });
    let begin = json!({ "config": config, "state": {} });
    let begun = attack.attacker.jetstream("$JS.API.STREAM.RESTORE.V", &begin).await;
    let to = begun["deliver_subject"].as_str().expect("a subject").to_owned();
    client.request(to.clone(), RESTORED.into()).await.expect("is taken");
    let end = client.request(to, "".into()).await.expect("is restored");
    assert!(!String::from_utf8_lossy(&end.payload).contains("\"error\""), "{end:?}");
    let consumer = json!({ "stream_name": "V", "config": { "durable_name": "C",
        "deliver_subject": "Events", "ack_policy": "explicit", "ack_wait": 100_000_000 } });
    attack.jetstream("CONSUMER.DURABLE.CREATE.V.C", &consumer).await;

    // The connection breaks once, and then the attacker is heard no more, whatever it does.
    eventually_async("nobody to listen", || async {
        let answer = client.request("Events", "x".into()).await;
        answer.err().filter(|error| error.kind() == servers::nobody_listens())
    })
    .await;
    attack.intake.tenants().add(&"own1".parse().expect("an id"), Isolation::Account).await;
    for (id, subject) in [("own2", "Events"), ("shared1", "user.shared1.Events")] {
        let victim = attack.field.login(id).await.client;
        eventually_async("an acknowledgement", || async {
            victim.request(subject, "honest".into()).await.ok()
        })
        .await;
        for _ in 0..20 {
            is_stored(&event(&victim, subject, "honest").await);
        }
        let bodies = attack.field.bodies(id).await;
        assert!(bodies.len() > 20 && bodies.iter().all(|body| body == "honest"), "{bodies:?}");
    }
    attack.intake.stop().await;
}

/// A header made by nobody's library and one of many parts.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_are_refused() {
    let attack = Attack::start().await;
    let mut headers = HeaderMap::new();
    for at in 0..100 {
        headers.insert(format!("h{at}"), "x");
    }
    let request = async_nats::Request::new().headers(headers).payload("x".into());
    let answer = super::field::ask(&attack.attacker.client, "Events", request).await;
    assert_eq!(super::field::error(&answer), (400, "more than 64 headers"));
    attack.unharmed().await;
    attack.intake.stop().await;
}
