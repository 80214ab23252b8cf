//! BB, which has an account of its own with JetStream: its login does what it likes there, and its
//! streams and consumers send what the login may not.

use async_nats::{HeaderMap, Request};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{MARK, STREAMS, SUBJECTS, Witness, ask};
use crate::events::{Stored, holds, login, published, stored};
use crate::harness::choice::lacks;
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{PATIENCE, accounts, depth, servers};

/// Where something might lead from BB into AUTH.
fn destinations() -> Vec<String> {
    let mut all: Vec<String> = SUBJECTS.map(str::to_owned).to_vec();
    all.extend(
        ["_CALLOUT.alive", "_CALLOUT.sync", "$SYS.REQ.USER.AUTH", "_R_.x"].map(str::to_owned),
    );
    for stream in STREAMS {
        for request in [
            format!("CONSUMER.CREATE.{stream}"),
            format!("CONSUMER.CREATE.{stream}.forged"),
            format!("STREAM.INFO.{stream}"),
            format!("STREAM.DELETE.{stream}"),
        ] {
            all.push(format!("JS.auth.API.{request}"));
        }
        all.push(format!("$JS.FC.{stream}.x"));
    }
    all.push("JS.auth.API.CONSUMER.MSG.NEXT.AUTH_EVENTS.events".to_owned());
    all
}

/// What a message might be called when it arrives there, and what it says.
fn messages() -> Vec<(String, Value)> {
    let mark = json!({ MARK: true });
    let mut all: Vec<(String, Value)> =
        SUBJECTS.map(|subject| (subject.to_owned(), mark.clone())).to_vec();
    for (name, subject) in
        [("FORGED", "$SYS.REQ.USER.AUTH"), ("FORGED2", "$JS.API.CONSUMER.CREATE.AUTH_EVENTS")]
    {
        let config = json!({ "name": name, "subjects": [subject], "storage": "memory",
            "no_ack": true, "description": MARK,
            "republish": { "src": "*", "dest": "auth.tenant.removed" } });
        all.push((format!("$JS.API.STREAM.CREATE.{name}"), config));
    }
    for stream in STREAMS {
        let config = json!({ "durable_name": MARK, "name": MARK, "ack_policy": "none",
            "deliver_subject": "mirror.auth.loot" });
        let body = json!({ "stream_name": stream, "config": config, "action": "" });
        all.push((format!("$JS.API.CONSUMER.CREATE.{stream}.{MARK}"), body.clone()));
        all.push((format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{MARK}"), body));
        all.push((format!("$JS.API.STREAM.PURGE.{stream}"), mark.clone()));
        all.push((format!("$JS.API.STREAM.DELETE.{stream}"), mark.clone()));
    }
    let alive = json!({ "instance": MARK, "server": "x", "cid": 5 });
    all.push(("_CALLOUT.alive".to_owned(), alive));
    all
}

/// A message in a stream of BB's that calls it `name`, sent on to every destination: by push
/// consumers, by pulls, and by direct gets.
async fn forge_by_consumers(bb: &Connected, at: usize, name: &str, body: &Value) {
    let (stream, source) = (format!("P{at}"), format!("push.{at}"));
    let config = json!({ "name": stream, "subjects": [source], "storage": "memory",
        "allow_direct": true, "subject_transform": { "src": source, "dest": name } });
    ask(bb, &format!("$JS.API.STREAM.CREATE.{stream}"), &config).await;
    let pull = json!({ "stream_name": stream, "config": {
        "durable_name": "pull", "ack_policy": "none" } });
    ask(bb, &format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.pull"), &pull).await;
    for (at, destination) in destinations().iter().enumerate() {
        let consumer = format!("c{at}");
        let push = json!({ "stream_name": stream, "config": { "durable_name": consumer,
            "deliver_subject": destination, "ack_policy": "none" } });
        ask(bb, &format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &push).await;
    }
    ask(bb, &source, body).await;
    for destination in destinations() {
        for (question, body) in [
            (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.pull"), "1"),
            (format!("$JS.API.DIRECT.GET.{stream}"), "{\"seq\":1}"),
        ] {
            let client = &bb.client;
            let reply = destination.clone();
            client.publish_with_reply(question, reply, body.into()).await.expect("is sent");
        }
    }
}

/// By itself, by a stream that publishes again, by an answer of JetStream's, and by a trace.
async fn forge_by_itself(bb: &Connected) {
    for (at, destination) in destinations().into_iter().enumerate() {
        let (stream, source) = (format!("R{at}"), format!("try.{at}"));
        let config = json!({ "name": stream, "subjects": [source], "storage": "memory",
            "republish": { "src": source, "dest": destination } });
        ask(bb, &format!("$JS.API.STREAM.CREATE.{stream}"), &config).await;
        for (_, body) in messages() {
            let body = body.to_string();
            bb.client.publish(destination.clone(), body.clone().into()).await.expect("is sent");
            bb.client.publish(source.clone(), body.into()).await.expect("is sent");
        }
        for question in ["$JS.API.INFO", "$JS.API.STREAM.INFO.FORGED", "$JS.API.STREAM.NAMES"] {
            let (question, reply) = (question.to_owned(), destination.clone());
            bb.client.publish_with_reply(question, reply, MARK.into()).await.expect("is sent");
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Trace-Dest", destination.as_str());
        let traced = bb.client.publish_with_headers("traced.forged", headers, MARK.into());
        traced.await.expect("is sent");
    }
}

/// By streams that copy AUTH's, and ask for it in BB's stead.
async fn forge_by_copies(bb: &Connected) {
    let deliver = ["auth.user", "auth", "auth.decision", "mirror.auth", "$JS.FC.AUTH_EVENTS"];
    for (at, deliver) in deliver.iter().enumerate() {
        for stream in STREAMS {
            for api in ["JS.auth.API", "$JS.API"] {
                let external = json!({ "api": api, "deliver": deliver });
                let origin = json!({ "name": stream, "external": external });
                for (how, mut config) in
                    [("M", json!({ "mirror": origin })), ("S", json!({ "sources": [origin] }))]
                {
                    let name = format!("{how}{at}{}{stream}{MARK}", api.len());
                    config["name"] = json!(name);
                    ask(bb, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
                }
            }
        }
    }
}

/// In AUTH's name, by a header of the server's own that is there twice.
async fn forge_by_request_infos(bb: &Connected, auth: &str) {
    let info = json!({ "acc": auth, "svc": auth, "user": MARK }).to_string();
    let forged = json!({ "name": "FORGED3", "subjects": [MARK] }).to_string();
    for (request, body) in [
        ("STREAM.CREATE.FORGED3", forged.as_str()),
        ("CONSUMER.DELETE.AUTH_EVENTS.events", ""),
        ("STREAM.PURGE.AUTH_EVENTS", ""),
        ("STREAM.DELETE.AUTH_DECISIONS", ""),
    ] {
        for count in 1..=3 {
            let mut headers = HeaderMap::new();
            for _ in 0..count {
                headers.append("Nats-Request-Info", info.as_str());
            }
            let subject = format!("$JS.API.{request}");
            let question = Request::new().headers(headers).payload(body.to_owned().into());
            // What it is answered does not matter, but that it has been done.
            let _ = bb.client.send_request(subject, question).await.expect("JetStream answers");
        }
    }
}

/// What is stored in AUTH, in words.
fn lines(of: &[Stored]) -> Vec<(String, String)> {
    of.iter().map(|it| (it.subject.clone(), it.line())).collect()
}

async fn bb_reaches_nothing(mode: Mode, version: &'static str) {
    let deployment = Deployment::start_prepared(mode, version, |_| ());
    let witness = Witness::start(&deployment, mode).await;
    let (auth, bb) = (&witness.auth, login(&deployment, mode, "bb").await);
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice');\n\
         INSERT INTO users (tenant_id, name) VALUES ('42', 'alice')",
    );
    let before = holds(auth, "AUTH_EVENTS", 2).await;
    // A decision, so that there is something to deliver.
    client::refused(&deployment.url(), &client::Login::password("alice", "wrong")).await;
    holds(auth, "AUTH_DECISIONS", 1).await;

    forge_by_itself(&bb).await;
    // There that leads anywhere, and `serve` says so.
    if !servers::is(version, "2.10") {
        let conf = std::fs::read_to_string(deployment.server_conf()).expect("a configuration");
        let id = match mode {
            Mode::Operator => accounts::named(&conf, "AUTH").0,
            Mode::Config => "AUTH",
        };
        forge_by_request_infos(&bb, id).await;
    }
    forge_by_copies(&bb).await;
    for (at, (name, body)) in messages().iter().enumerate() {
        forge_by_consumers(&bb, at, name, body).await;
    }
    // The consumer that is made last has delivered: so have those before it.
    let mut done = bb.client.subscribe("done").await.expect("subscribes");
    let last = json!({ "stream_name": "P0", "config": { "durable_name": "last",
        "deliver_subject": "done", "ack_policy": "none" } });
    bb.jetstream("$JS.API.CONSUMER.DURABLE.CREATE.P0.last", &last).await;
    let heard = tokio::time::timeout(PATIENCE, done.next()).await.expect("a message");
    assert!(String::from_utf8_lossy(&heard.expect("open").payload).contains(MARK));

    // What comes next comes once, by the server's ways that a forged message would have gone before:
    // with the first it would be there, or be there with the second.
    for (round, status) in ["suspended", "active"].into_iter().enumerate() {
        deployment.sql(&format!("UPDATE users SET status = '{status}'"));
        client::refused(&deployment.url(), &client::Login::password("alice", "wrong")).await;
        published(&deployment).await;
        let events = holds(auth, "AUTH_EVENTS", 3 + round).await;
        assert_eq!(lines(&events[..2]), lines(&before));
        for event in &events[2..] {
            assert_eq!(event.event["data"]["changed"], json!(["status"]));
        }
        holds(auth, "AUTH_DECISIONS", 2 + round).await;
        witness.unharmed().await;
    }
    assert_eq!(stored(auth, "AUTH_DECISIONS").await.len(), 3);
}

/// The servers whose JetStream goes by the subject that a push consumer forges, and those that do not
/// any more: all of them in the nightly run.
async fn bb_reaches_nothing_on(mode: Mode, commit: &'static str) {
    let newest = servers::version();
    for version in depth(&[commit][..], &[newest, "2.12.8", "2.10.26"][..]) {
        if mode == Mode::Config || !servers::is(version, "2.10") {
            bb_reaches_nothing(mode, version).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_reaches_nothing_of_auth_in_operator_mode() {
    if !lacks(Mode::Operator) {
        bb_reaches_nothing_on(Mode::Operator, servers::version()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_reaches_nothing_of_auth_in_config_mode() {
    let named = std::env::var_os("TEST_NATS_SERVER").is_some();
    let version = if named { servers::version() } else { "2.10.26" };
    bb_reaches_nothing_on(Mode::Config, version).await;
}
