//! The events' reader against all: it fetches, acknowledges and looks, and does nothing else, whatever
//! its login may publish and whatever replies it names.

use std::path::Path;

use async_nats::ConnectOptions;
use nats_callout::internals::{Claims, Permissions, UserBody, keyfile};
use nats_callout::keys::{KeyKind, SigningKey};
use serde_json::{Value, json};

use super::{MARK, STREAMS, Witness, ask};
use crate::events::{CONSUMERS, holds, login_at, pull, read};
use crate::harness::choice::{either_mode, modes};
use crate::harness::client::{self, Connected};
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{depth, eventually, ports, servers, write_private};
use crate::transports::leaf::Leaf;

/// What it might publish beside what it may.
fn forbidden() -> Vec<String> {
    let mut all: Vec<String> = [
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "JS.auth.API.INFO",
        "JS.auth.API.STREAM.NAMES",
        "JS.auth.API.STREAM.CREATE.FORGED",
        "JS.auth.API.CONSUMER.MSG.NEXT.AUTH_EVENTS.other",
        "JS.auth.API.CONSUMER.INFO.AUTH_EVENTS.other",
        "JS.auth.API.CONSUMER.MSG.NEXT.AUTH_DECISIONS.events",
        "JS.bb.API.STREAM.INFO.ReceivedEvents",
        "$JS.ACK.AUTH_EVENTS.other.1.1.1.1.1",
        "$JS.ACK.AUTH_DECISIONS.events.1.1.1.1.1",
        "$JS.ACK.ReceivedEvents.ProcessEvents.1.1.1.1.1",
        "auth.user.updated",
        "auth.decision.granted",
        "user.42.Events",
        "user.42.Notifications",
        "_CALLOUT.alive",
        "_CALLOUT.sync",
        "$SYS.REQ.USER.AUTH",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$KV.bucket.key",
        "_INBOX.x",
        "_INBOX_42.x",
        "_INBOX_events.x",
        "anything",
    ]
    .map(str::to_owned)
    .to_vec();
    for (stream, consumer) in CONSUMERS {
        for action in ["UPDATE", "PURGE", "DELETE", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE"]
        {
            all.push(format!("JS.auth.API.STREAM.{action}.{stream}"));
        }
        for action in ["CREATE", "DURABLE.CREATE", "DELETE", "PAUSE", "UNPIN", "RESET"] {
            all.push(format!("JS.auth.API.CONSUMER.{action}.{stream}.{consumer}"));
        }
        all.push(format!("JS.auth.API.CONSUMER.CREATE.{stream}"));
        all.push(format!("JS.auth.API.CONSUMER.LIST.{stream}"));
        all.push(format!("JS.auth.API.CONSUMER.NAMES.{stream}"));
        all.push(format!("JS.auth.API.DIRECT.GET.{stream}"));
        all.push(format!("$JS.FC.{stream}.x"));
    }
    all
}

/// What it may publish, and bodies to go with it.
fn allowed() -> Vec<(String, Vec<String>)> {
    let bodies = |all: &[&str]| all.iter().map(|&body| body.to_owned()).collect();
    let mut all = Vec::new();
    for (stream, consumer) in CONSUMERS {
        let pulls = [
            r#"{"batch":1,"no_wait":true,"group":"forged"}"#,
            r#"{"batch":1,"expires":1000000,"min_pending":1000000}"#,
            "1",
            "forged",
        ];
        all.push((format!("JS.auth.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"), bodies(&pulls)));
        all.push((format!("JS.auth.API.CONSUMER.INFO.{stream}.{consumer}"), bodies(&["forged"])));
        let infos = ["forged", r#"{"deleted_details":true,"subjects_filter":">"}"#];
        all.push((format!("JS.auth.API.STREAM.INFO.{stream}"), bodies(&infos)));
        let acks = ["+NXT", "-NAK", "+TERM forged", "forged"];
        all.push((format!("$JS.ACK.{stream}.{consumer}.1.999999.999999.1.0"), bodies(&acks)));
    }
    all
}

/// Where the second consumer is, of whose events one is on its way.
async fn state_of_other(auth: &Connected) -> Value {
    let info = auth.jetstream("$JS.API.CONSUMER.INFO.AUTH_EVENTS.other", &json!({})).await;
    let of = |key: &str| info[key].clone();
    json!([
        of("delivered")["stream_seq"],
        of("ack_floor"),
        of("num_ack_pending"),
        of("num_pending")
    ])
}

/// A reader's login sends replies that lead elsewhere: answers go there, and an answer can be an event,
/// a status without a body, or words of JetStream's.
async fn sends_harmful_replies(reader: &Connected, acknowledgement: &str) {
    let mut replies = forbidden();
    replies.push(acknowledgement.to_owned());
    replies.extend(allowed().into_iter().map(|(subject, _)| subject));
    for reply in replies {
        for (subject, bodies) in allowed() {
            for body in bodies {
                let (subject, reply) = (subject.clone(), reply.clone());
                let client = &reader.client;
                client.publish_with_reply(subject, reply, body.into()).await.expect("is sent");
            }
        }
    }
    reader.client.flush().await.expect("a server");
}

/// A second consumer in AUTH, out of the reader's reach.
fn with_another_consumer(init: &Initialised) {
    init.set("changes_consumers", "[\"events\", \"other\"]");
}

/// Tries all of it at this server of the deployment.
async fn does_nothing_but_read(init: &Initialised, url: &str) {
    let mode = init.mode;
    let witness = Witness::start(init, mode).await;
    let auth = &witness.auth;
    init.sql(
        "INSERT INTO tenants (id, name) VALUES ('1', 'A');\n\
         INSERT INTO tenants (id, name) VALUES ('2', 'B');\n\
         INSERT INTO tenants (id, name) VALUES ('3', 'C')",
    );
    holds(auth, "AUTH_EVENTS", 3).await;
    let next = "$JS.API.CONSUMER.MSG.NEXT.AUTH_EVENTS.other";
    let acknowledgement = pull(auth, next).await.reply.expect("where it is acknowledged");
    let before = state_of_other(auth).await;
    assert_eq!(before[2], 1, "on its way: {before}");

    let reader = login_at(url, init, mode, "events").await;
    assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "1");
    for subject in forbidden() {
        reader.client.publish(subject.clone(), MARK.into()).await.expect("is sent");
        reader.violation(&["publish", &format!("\"{subject}\"")]).await;
    }
    let everywhere =
        [">", "*.>", "auth.>", "user.>", "$JS.>", "$SYS.>", "_R_.>", "_INBOX.>", "_CALLOUT.>"];
    for subject in everywhere {
        let _refused = reader.client.subscribe(subject).await.expect("is sent");
        reader.violation(&["subscription", &format!("\"{subject}\"")]).await;
    }
    assert_eq!(witness.marked().await, [""; 0]);
    sends_harmful_replies(&reader, &acknowledgement).await;
    // Afterwards it reads, and the server has seen all of that before.
    let info = "JS.auth.API.CONSUMER.INFO.AUTH_EVENTS.events";
    assert!(ask(&reader, info, &json!({})).await["config"].is_object(), "{:?}", reader.errors());
    without_harm(&witness, &before).await;

    let free = free(init, url).await;
    for subject in forbidden() {
        // Of its own account it may hear, and of AUTH's it does not.
        let own = subject.starts_with("$JS.API.") || subject.starts_with("$SYS.REQ.ACCOUNT.PING.");
        let answer = ask(&free, &subject, &json!({ MARK: true })).await;
        assert!(answer.is_null() || own, "{subject}: {answer}");
    }
    sends_harmful_replies(&free, &acknowledgement).await;
    let config = json!({ "name": "FORGED", "subjects": ["x"] });
    let refused = ask(&free, "$JS.API.STREAM.CREATE.FORGED", &config).await;
    assert!(refused["error"].is_object() || refused.is_null(), "{refused}");
    assert!(ask(&free, info, &json!({})).await["config"].is_object(), "{:?}", free.errors());
    without_harm(&witness, &before).await;
}

/// The streams and consumers are what they were, the events too, and the other reader's place.
async fn without_harm(witness: &Witness, other: &Value) {
    let auth = &witness.auth;
    auth.round_trip("witness").await;
    witness.same_streams().await;
    assert_eq!(state_of_other(auth).await, *other);
    let events = holds(auth, "AUTH_EVENTS", 3).await;
    assert!(events.iter().all(|event| event.subject == "auth.tenant.created"), "{events:?}");
    holds(auth, "AUTH_DECISIONS", 0).await;
    let heard: Vec<String> = witness
        .marked()
        .await
        .into_iter()
        .filter(|line| !STREAMS.iter().any(|stream| line.contains(&format!(".{stream}"))))
        .collect();
    assert_eq!(heard, [""; 0]);
}

/// A login of EVENTS that may publish and subscribe everything: what the account itself withholds.
async fn free(init: &Initialised, url: &str) -> Connected {
    let options = match init.mode {
        Mode::Operator => ConnectOptions::with_credentials(&free_creds(init)).expect("creds"),
        Mode::Config => ConnectOptions::with_user_and_password("free".into(), "free".into()),
    };
    client::connect_with(url, options, "_INBOX_free").await.expect("logs in")
}

fn free_creds(init: &Initialised) -> String {
    let account = init.dir().join("keys/offline/events.nk");
    let account = keyfile::signing_key(&account, KeyKind::Account).expect("its key");
    let (user, seed) = SigningKey::generate(KeyKind::User).expect("a key");
    let token = Claims {
        audience: None,
        expires: None,
        issued_at: 0,
        name: Some("free".to_owned()),
        not_before: None,
        subject: user.public_key().to_owned(),
        body: UserBody::new(Permissions::default()),
    }
    .encode_now(&account)
    .expect("a JWT");
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        *seed
    )
}

/// Config mode: a user `free` in the account EVENTS.
fn with_free_user(init: &Initialised) {
    if init.mode == Mode::Operator {
        return;
    }
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    let (before, after) = conf.split_once("    EVENTS {").expect("the account");
    let (inside, after) = after.split_once("users: [").expect("its users");
    let user = "{ user: free, password: free }";
    let conf = format!("{before}    EVENTS {{{inside}users: [ {user}, {after}");
    let conf = conf.replace("auth_users: [", "auth_users: [ free,");
    std::fs::write(init.server_conf(), conf).expect("a configuration");
}

/// Nor does it connect a leaf node: neither with its login, which is for clients alone, nor with
/// another of its account.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_nothing_but_read() {
    for mode in modes() {
        let leafnodes = ports::free();
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            with_another_consumer(init);
            with_free_user(init);
            let block = format!("leafnodes {{ listen: \"127.0.0.1:{leafnodes}\" }}");
            init.add_to_server_conf(&block);
        });
        does_nothing_but_read(&deployment, &deployment.url()).await;
        connects_no_leaf_node(&deployment, leafnodes);
    }
}

/// Connected to another node than the service. In the nightly run all of the attacks are tried there.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_from_any_node_of_a_cluster() {
    for mode in either_mode() {
        let cluster = Cluster::start_prepared(mode, 3, |init| {
            with_another_consumer(init);
            with_free_user(init);
        });
        let last = cluster.nodes.last().expect("a node").url();
        if depth(false, true) {
            does_nothing_but_read(&cluster.init, &last).await;
            continue;
        }
        cluster.init.sql("INSERT INTO tenants (id, name) VALUES ('1', 'A')");
        let reader = login_at(&last, &cluster.init, mode, "events").await;
        assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "1");
    }
}

/// A leaf node with this remote is refused in these words.
fn leaf_is_refused(remote: &str, words: &str) {
    let leaf = Leaf::start(remote);
    eventually(&format!("a leaf node's refusal: {words}"), || {
        leaf.log().to_lowercase().contains(words).then_some(())
    });
}

fn connects_no_leaf_node(init: &Initialised, port: u16) {
    let keys = init.dir().join("keys");
    let url = |login: &str| format!("url: \"nats-leaf://{login}127.0.0.1:{port}\"");
    let (own, free) = match init.mode {
        Mode::Operator => {
            let free = keys.join("free.creds");
            write_private(&free, &free_creds(init));
            let with = |file: &Path| format!("{}, credentials: {file:?}", url(""));
            (with(&keys.join("events.creds")), with(&free))
        }
        Mode::Config => {
            let seed = std::fs::read_to_string(keys.join("events.nk")).expect("a seed");
            (format!("{}, nkey: {}", url(""), seed.trim()), url("free:free@"))
        }
    };
    leaf_is_refused(&own, "authorization violation");
    leaf_is_refused(&free, "maximum account");
}
