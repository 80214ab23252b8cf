//! Neither BB nor a tenant can forge an event, suppress one, or acknowledge one that was never
//! stored.

use std::time::Duration;

use async_nats::Request;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Stored, holds, login, published, stored};
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{PATIENCE, eventually_async, loudly, servers};

/// Everything that is or could be an event's subject.
const SUBJECTS: [&str; 6] = [
    "auth.user.updated",
    "auth.tenant.removed",
    "auth.decision.granted",
    "auth.connection.kicked",
    "mirror.auth.M.x",
    "$JS.ACK.AUTH_EVENTS.c.1.1.1.1.1",
];

const STREAMS: [&str; 2] = ["AUTH_EVENTS", "AUTH_DECISIONS"];

/// Whether the server under test can be run in this mode.
fn has(mode: Mode) -> bool {
    let has = mode == Mode::Config || !servers::is(servers::version(), "2.10");
    if !has {
        loudly("SKIPPED: operator mode takes nats-server 2.11.2 or later");
    }
    has
}

/// A request whose answer may be an error, or none.
async fn ask(by: &Connected, subject: &str, body: &Value) -> Value {
    let request =
        Request::new().payload(body.to_string().into()).timeout(Some(Duration::from_secs(2)));
    match by.client.send_request(subject.to_owned(), request).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// What BB tries, which has an account of its own with JetStream.
async fn forge(bb: &Connected) {
    let forged = json!({ "forged": true });
    // By itself.
    for subject in SUBJECTS {
        bb.client.publish(subject, forged.to_string().into()).await.expect("is sent");
    }
    // By a stream that publishes again, onto the subjects themselves and onto the requests that BB
    // may not make: a consumer in AUTH that delivers one stream's events into the other.
    let mut destinations: Vec<String> = SUBJECTS.map(str::to_owned).to_vec();
    for stream in STREAMS {
        destinations.push(format!("JS.auth.API.CONSUMER.CREATE.{stream}"));
        destinations.push(format!("JS.auth.API.CONSUMER.CREATE.{stream}.evil"));
        destinations.push(format!("$JS.FC.{stream}.x"));
        for action in ["DELETE", "PURGE", "UPDATE", "MSG.DELETE"] {
            destinations.push(format!("JS.auth.API.STREAM.{action}.{stream}"));
        }
    }
    let mut bodies = vec![forged.clone()];
    for stream in STREAMS {
        for deliver in SUBJECTS {
            for name in ["evil", ""] {
                let mut config = json!({
                    "deliver_subject": deliver, "ack_policy": "none", "deliver_policy": "all",
                    "replay_policy": "instant", "max_deliver": 1,
                });
                if !name.is_empty() {
                    config["name"] = json!(name);
                }
                bodies.push(json!({ "stream_name": stream, "config": config, "action": "" }));
                config["direct"] = json!(true);
                config["flow_control"] = json!(true);
                config["idle_heartbeat"] = json!(1_000_000_000);
                bodies.push(json!({ "stream_name": stream, "config": config }));
            }
        }
    }
    for (at, destination) in destinations.iter().enumerate() {
        let name = format!("R{at}");
        let source = format!("try.{at}");
        let config = json!({ "name": name, "subjects": [source], "storage": "memory",
            "republish": { "src": source, "dest": destination } });
        ask(bb, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
        for body in &bodies {
            ask(bb, &source, body).await;
        }
    }
    // By an answer of JetStream's, which goes to the reply subject of the question.
    for destination in &destinations {
        for question in ["$JS.API.INFO", "$JS.API.STREAM.INFO.AUTH_EVENTS", "$JS.API.STREAM.NAMES"]
        {
            let (question, reply) = (question.to_owned(), destination.clone());
            let body = bodies.last().expect("one").to_string();
            bb.client.publish_with_reply(question, reply, body.into()).await.expect("is sent");
        }
    }
    // By streams and mirrors of other names, which ask AUTH for its events in BB's stead.
    for (at, deliver) in ["auth.user", "auth", "auth.decision", "mirror.auth", "$JS.FC.AUTH_EVENTS"]
        .iter()
        .enumerate()
    {
        for stream in STREAMS {
            let external = json!({ "api": "JS.auth.API", "deliver": deliver });
            let origin = json!({ "name": stream, "external": external });
            for (how, config) in
                [("M", json!({ "mirror": origin })), ("S", json!({ "sources": [origin] }))]
            {
                let name = format!("{how}{at}{stream}");
                let mut config = config;
                config["name"] = json!(name);
                ask(bb, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
            }
        }
    }
    // On its own copies.
    for stream in STREAMS {
        for action in ["DELETE", "PURGE", "UPDATE", "RESTORE", "MSG.DELETE", "CREATE"] {
            let body = json!({ "name": stream, "subjects": ["x"], "seq": 1 });
            let subject = format!("$JS.API.STREAM.{action}.{stream}");
            bb.client.publish(subject, body.to_string().into()).await.expect("is sent");
        }
    }
}

/// Which consumers are active is the server's own business, so its older releases are asked too, by
/// `TEST_NATS_SERVER`.
async fn bb_forges_nothing(mode: Mode) {
    if !has(mode) {
        return;
    }
    let deployment = Deployment::start(mode);
    let (auth, bb) = (login(&deployment, mode, "auth").await, login(&deployment, mode, "bb").await);
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice');\n\
         INSERT INTO users (tenant_id, name) VALUES ('42', 'alice')",
    );
    let before = holds(&auth, "AUTH_EVENTS", 2).await;
    // A decision, so that there is something to deliver.
    client::refused(&deployment.url(), &client::Login::password("alice", "wrong")).await;
    holds(&auth, "AUTH_DECISIONS", 1).await;

    // Somebody who looks on wakes no consumer that BB has made: only one who subscribes the very
    // subject would, which is why nobody in AUTH does.
    let _ear = auth.client.subscribe("auth.>").await.expect("subscribes");
    auth.round_trip("settled").await;
    forge(&bb).await;

    let lines =
        |of: &[Stored]| of.iter().map(|it| (it.subject.clone(), it.line())).collect::<Vec<_>>();
    // What comes next comes once, in both streams, by the server's ways that a forged event would
    // have gone before: with the first it would be there, or be there with the second.
    for (round, status) in ["suspended", "active"].into_iter().enumerate() {
        deployment.sql(&format!("UPDATE users SET status = '{status}'"));
        client::refused(&deployment.url(), &client::Login::password("alice", "wrong")).await;
        published(&deployment).await;
        for of in [&auth, &bb] {
            let events = holds(of, "AUTH_EVENTS", 3 + round).await;
            assert_eq!(lines(&events[..2]), lines(&before));
            for event in &events[2..] {
                assert_eq!(event.event["data"]["changed"], json!(["status"]));
            }
            holds(of, "AUTH_DECISIONS", 2 + round).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_forges_nothing_in_operator_mode() {
    bb_forges_nothing(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_forges_nothing_in_config_mode() {
    bb_forges_nothing(Mode::Config).await;
}

/// In its own account BB could do by a stream that republishes what its login is denied, up to
/// nats-server 2.15.2, and so do away with its own copy; a disk can do so too. The events are in
/// AUTH, and the service makes the mirror again.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_gone_is_made_again() {
    let mode = Mode::Operator;
    if !has(mode) {
        return;
    }
    let mut deployment = Deployment::start(mode);
    let (auth, bb) = (login(&deployment, mode, "auth").await, login(&deployment, mode, "bb").await);
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('1', 'A');\n\
         INSERT INTO tenants (id, name) VALUES ('2', 'B')",
    );
    holds(&bb, "AUTH_EVENTS", 2).await;
    let config = json!({ "name": "R", "subjects": ["try"],
        "republish": { "src": "try", "dest": "$JS.API.STREAM.DELETE.AUTH_EVENTS" } });
    ask(&bb, "$JS.API.STREAM.CREATE.R", &config).await;
    ask(&bb, "try", &json!({})).await;

    deployment.service.stop();
    deployment.server.stop();
    let toml = std::fs::read_to_string(deployment.config()).expect("the configuration");
    let line = toml.lines().find_map(|line| line.strip_prefix("bb_account = \""));
    let account = line.expect("the account").trim_end_matches('"');
    let streams = deployment.dir().join("jetstream/jetstream").join(account).join("streams");
    assert!(streams.join("ReceivedEvents").is_dir(), "{} is where they are", streams.display());
    // It is gone already, or now.
    let _ = std::fs::remove_dir_all(streams.join("AUTH_EVENTS"));
    deployment.server.restart();
    let info = eventually_async("JetStream", || async {
        Some(ask(&bb, "$JS.API.STREAM.INFO.AUTH_EVENTS", &json!({})).await)
            .filter(|answer| answer.is_object())
    });
    assert_eq!(info.await["error"]["err_code"], 10_059, "no such stream");
    let output = deployment.cli(&["doctor"]);
    assert!(output.stdout.contains("BB has no stream AUTH_EVENTS"), "{}", output.stdout);
    deployment.service.restart();
    holds(&auth, "AUTH_EVENTS", 2).await;
    holds(&bb, "AUTH_EVENTS", 2).await;
}

/// Returns once the server has seen everything that was sent.
async fn settled(connected: &Connected, tenant: &str, own: bool) {
    match own {
        true => drop(connected.jetstream("$JS.API.INFO", &json!({})).await),
        false => connected.round_trip(&format!("user.{tenant}.settled")).await,
    }
}

/// Tenants have no way to either: not by publishing, nor by the reply subject of an event, of a
/// question to JetStream, or of a question of BB's that they answer.
async fn tenants_forge_nothing(mode: Mode) {
    if !has(mode) {
        return;
    }
    let deployment = Deployment::start(mode);
    let (auth, bb) = (login(&deployment, mode, "auth").await, login(&deployment, mode, "bb").await);
    let mut kinds = vec!["shared"];
    if mode == Mode::Operator {
        kinds.push("account");
    }
    let mut logins = Vec::new();
    for kind in kinds {
        let tenant = format!("t-{kind}");
        let extra: &[&str] = match mode {
            Mode::Operator => &["--isolation", kind],
            Mode::Config => &[],
        };
        logins.push((tenant.clone(), kind, deployment.tenant_add(&tenant, extra)));
        let app = deployment.user_add(&tenant, &format!("{tenant}-app"), &["--kind", "bb"]);
        logins.push((tenant, kind, app));
    }
    published(&deployment).await;
    let before = stored(&auth, "AUTH_EVENTS").await.len();
    let mut connections = Vec::new();
    for (tenant, kind, login) in &logins {
        let prefix = format!("_INBOX_{tenant}");
        let own = *kind == "account";
        let connected = client::connect(&deployment.url(), login, &prefix).await.expect("connects");
        let events = if own { "Events".to_owned() } else { format!("user.{tenant}.Events") };
        for subject in SUBJECTS {
            let client = &connected.client;
            client.publish(subject, "{}".into()).await.expect("is sent");
            for question in [events.as_str(), "$JS.API.INFO", "$JS.API.STREAM.INFO.AUTH_EVENTS"] {
                let (question, reply) = (question.to_owned(), subject.to_owned());
                client.publish_with_reply(question, reply, "{}".into()).await.expect("is sent");
            }
        }
        for stream in STREAMS {
            for subject in [
                format!("JS.auth.API.CONSUMER.CREATE.{stream}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.evil"),
                format!("$JS.API.STREAM.DELETE.{stream}"),
            ] {
                connected.client.publish(subject, "{}".into()).await.expect("is sent");
            }
        }
        let notifications =
            if own { "Notifications".to_owned() } else { format!("user.{tenant}.Notifications") };
        let mut questions = connected.client.subscribe(notifications).await.expect("subscribes");
        let client = connected.client.clone();
        let answering = tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                if question.payload == "last" {
                    return;
                }
                if let Some(reply) = question.reply {
                    let _ = client.publish(reply, "{\"forged\":true}".into()).await;
                }
            }
        });
        settled(&connected, tenant, own).await;
        connections.push((connected, tenant, own, answering));
    }
    for (tenant, _, _) in &logins {
        for subject in SUBJECTS {
            let question = format!("user.{tenant}.Notifications");
            let reply = subject.to_owned();
            let client = &bb.client;
            client.publish_with_reply(question, reply, "{}".into()).await.expect("is sent");
        }
    }
    // Until each has answered all of that, and the server has seen it.
    for (tenant, _, _) in &logins {
        let subject = format!("user.{tenant}.Notifications");
        bb.client.publish(subject, "last".into()).await.expect("is sent");
    }
    for (connected, tenant, own, answering) in connections {
        tokio::time::timeout(PATIENCE, answering)
            .await
            .expect("a last question")
            .expect("no panic");
        settled(&connected, tenant, own).await;
    }
    holds(&auth, "AUTH_EVENTS", before).await;
    let decisions = holds(&auth, "AUTH_DECISIONS", logins.len()).await;
    for decision in decisions {
        assert_eq!(decision.subject, "auth.decision.granted", "{}", decision.line());
    }
    // Nothing is suppressed either.
    deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 't-shared'");
    for of in [&auth, &bb] {
        let events = holds(of, "AUTH_EVENTS", before + 1).await;
        assert_eq!(events[before].event["data"]["status"], "suspended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_forge_nothing_in_operator_mode() {
    tenants_forge_nothing(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_forge_nothing_in_config_mode() {
    tenants_forge_nothing(Mode::Config).await;
}
