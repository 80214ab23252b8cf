//! Presets on real servers with real clients: what they say works, without one subject too few,
//! and what they do not say is refused.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull, push};
use async_nats::jetstream::kv::{self, Operation, Store};
use async_nats::jetstream::{self, stream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use serde_json::{Value, json};

use super::{user, with_files};
use crate::harness::client::{self, Connected, Login};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::eventually_async;

fn policy(presets: &str) -> String {
    format!("[account]\npresets = [{presets}]\nsubscribe = [\"_INBOX.>\"]\n[shared]\n")
}

/// A tenant with two streams and two buckets. With `new_acks`, the server's newer form of
/// acknowledgements.
struct World {
    deployment: Deployment,
    admin: Connected,
}

/// Enough messages of enough bytes for the server to ask for flow control.
const MESSAGES: usize = 120;
const BYTES: usize = 100_000;

impl World {
    async fn begin(new_acks: bool) -> Self {
        let files = [
            ("consumer.toml", &*policy("\"consume stream ORDERS\"")),
            ("processor.toml", &policy("\"consume stream ORDERS as PROCESS\"")),
            ("reader.toml", &policy("\"read bucket settings\"")),
            ("writer.toml", &policy("\"write bucket settings\"")),
            (
                "personal.toml",
                &policy("\"read bucket of-{{user.name}}\", \"write bucket of-{{user.name}}\""),
            ),
        ];
        let deployment = if new_acks {
            super::deployment(Mode::Operator, |init| {
                let conf = std::fs::read_to_string(init.server_conf()).unwrap();
                let conf = format!("{conf}\nfeature_flags {{ js_ack_fc_v2: true }}\n");
                std::fs::write(init.server_conf(), conf).unwrap();
                std::fs::create_dir_all(init.dir().join("policies")).unwrap();
                for (name, text) in files {
                    std::fs::write(init.dir().join("policies").join(name), text).unwrap();
                }
            })
        } else {
            with_files(Mode::Operator, &files)
        };
        let login = deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "256MB"]);
        let admin = client::connect(&deployment.url(), &login, "_INBOX").await.unwrap();
        let js = jetstream::new(admin.client.clone());
        for (name, subject) in [("ORDERS", "orders.>"), ("OTHER", "other.>")] {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subject.to_owned()],
                ..stream::Config::default()
            };
            let stream = js.create_stream(config).await.unwrap();
            for durable in ["PROCESS", "AUDIT"] {
                let config = pull::Config {
                    durable_name: Some(durable.to_owned()),
                    ack_policy: AckPolicy::Explicit,
                    ..pull::Config::default()
                };
                stream.create_consumer(config).await.unwrap();
            }
        }
        for number in 0..MESSAGES {
            let payload = vec![b'x'; BYTES];
            js.publish(format!("orders.{number}"), payload.into()).await.unwrap().await.unwrap();
        }
        for bucket in ["settings", "secrets", "of-alice", "of-bob"] {
            let config =
                kv::Config { bucket: bucket.to_owned(), history: 5, ..kv::Config::default() };
            let store = js.create_key_value(config).await.unwrap();
            store.put("colour", "red".into()).await.unwrap();
            store.put("colour", "blue".into()).await.unwrap();
        }
        Self { deployment, admin }
    }

    fn login(&self, name: &str, policy: &str) -> Login {
        user(&self.deployment, name, policy)
    }

    async fn connect(&self, name: &str, policy: &str) -> Connected {
        let login = self.login(name, policy);
        client::connect(&self.deployment.url(), &login, "_INBOX").await.unwrap()
    }

    /// A key of the bucket, as the admin sees it.
    async fn value(&self, bucket: &str, key: &str) -> Option<String> {
        let js = jetstream::new(self.admin.client.clone());
        let store = js.get_key_value(bucket).await.unwrap();
        let value = store.get(key).await.unwrap();
        value.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }
}

/// What each preset leaves forbidden of these.
async fn forbidden(connected: &Connected, subjects: &[&str]) {
    for subject in subjects {
        connected.client.publish((*subject).to_owned(), "{}".into()).await.unwrap();
        connected.violation(&["publish", &format!("\"{subject}\"")]).await;
    }
}

/// Nothing that the client did by itself was refused.
async fn quiet(connected: &Connected) {
    // The complaint about this comes behind every other about what was sent before.
    let last = format!("behind.{}", connected.errors().len());
    connected.client.publish(last.clone(), "".into()).await.unwrap();
    connected.violation(&["publish", &format!("\"{last}\"")]).await;
    let errors = connected.errors();
    assert!(errors.iter().all(|error| error.contains("\"behind.")), "{errors:?}");
}

/// The clients of other languages ask for nothing that a preset lacks.
#[tokio::test(flavor = "multi_thread")]
async fn presets_in_other_languages() {
    let world = World::begin(false).await;
    let url = world.deployment.url();
    for (policy, args) in [
        ("consumer", &["consume", "ORDERS"][..]),
        ("processor", &["consume", "ORDERS", "PROCESS"]),
        ("reader", &["read", "settings"]),
        ("writer", &["write", "settings"]),
    ] {
        let Login::Password(user, password) = world.login(policy, policy) else { panic!() };
        for language in [Language::Python, Language::Node, Language::Go] {
            let Some(mut command) = clients::program(language, "presets") else { continue };
            command.args([&url, &user, &password]).args(args);
            let output = command.output().unwrap();
            let what = format!("{language:?} {args:?}: {output:?}");
            assert!(output.status.success(), "{what}");
            let found: Value = serde_json::from_slice(&output.stdout).expect(&what);
            assert_eq!(found["violations"], json!([]), "{what}");
            let seen = &found["seen"];
            match policy {
                "consumer" => {
                    assert_eq!(
                        (&seen["fetched"], &seen["ack_pending"]),
                        (&json!("orders.0"), &json!(0))
                    );
                    assert_eq!(seen["ordered"], "orders.0", "{what}");
                }
                "processor" => assert_eq!(seen["ack_pending"], 0, "{what}"),
                "reader" => {
                    let all = json!({ "get": "blue", "keys": ["colour"], "history": 2, "watched": "blue" });
                    assert_eq!(*seen, all, "{what}");
                }
                _ => {
                    let key = seen["written"].as_str().unwrap();
                    assert_eq!(world.value("settings", key).await.as_deref(), Some("2"), "{what}");
                    assert_eq!(world.value("settings", &format!("{key}-new")).await, None);
                }
            }
        }
    }
}

/// `test` says what a user has of JetStream who may not read its limits.
#[test]
fn what_test_says_of_jetstream() {
    let files = [("reader.toml", &*policy("\"read bucket settings\""))];
    let deployment = with_files(Mode::Operator, &files);
    deployment.tenant_add("shop", &["--storage", "1MB"]);
    deployment.tenant_add("poor", &["--memory", "0", "--storage", "0"]);
    for (tenant, said) in [
        ("shop", "as its policy grants it; it may not read its limits"),
        ("poor", "granted by its policy, but its tenant has no JetStream"),
    ] {
        let user = format!("reader-of-{tenant}");
        let added = deployment.cli(&["user", "add", tenant, &user, "--policy", "reader"]).success();
        assert!(!added.stderr.contains("no subjects"), "{added:?}");
        let tested = deployment.cli(&["test", tenant, &user]).success();
        assert!(tested.stdout.contains(said), "{tested:?}");
    }
}

const STREAMS: [&str; 7] = [
    "$JS.API.STREAM.DELETE.ORDERS",
    "$JS.API.STREAM.PURGE.ORDERS",
    "$JS.API.STREAM.UPDATE.ORDERS",
    "$JS.API.STREAM.MSG.DELETE.ORDERS",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.CREATE.MINE",
    "orders.new",
];

const OTHERS: [&str; 7] = [
    "$JS.API.STREAM.INFO.OTHER",
    "$JS.API.CONSUMER.CREATE.OTHER",
    "$JS.API.CONSUMER.CREATE.OTHER.c",
    "$JS.API.CONSUMER.DURABLE.CREATE.OTHER.c",
    "$JS.API.CONSUMER.MSG.NEXT.OTHER.PROCESS",
    "$JS.ACK.OTHER.PROCESS.1.1.1.1.0",
    "$JS.ACK._.hash.OTHER.PROCESS.1.1.1.1.0",
];

async fn take(consumer: PullConsumer, count: usize) -> usize {
    let batch = consumer.fetch().max_messages(count).expires(Duration::from_secs(20));
    let messages = batch.messages().await.unwrap();
    let taken = messages.then(|message| async {
        let message = message.unwrap();
        assert_eq!(message.payload.len(), BYTES);
        message.double_ack().await.unwrap();
    });
    taken.count().await
}

async fn consumes(world: &World, new_acks: bool) {
    let consumer = world.connect("consumer", "consumer").await;
    let js = jetstream::new(consumer.client.clone());
    let stream = js.get_stream("ORDERS").await.unwrap();
    for (durable, filter) in [(None, ""), (Some("mine"), ""), (None, "orders.1")] {
        let config = pull::Config {
            durable_name: durable.map(str::to_owned),
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let made = stream.create_consumer(config).await.unwrap();
        assert_eq!(take(made, 1).await, 1);
    }
    let mut mine: PullConsumer = stream.get_consumer("mine").await.unwrap();
    let info = mine.info().await.unwrap();
    assert_eq!((info.ack_floor.consumer_sequence, info.num_ack_pending), (1, 0));
    let next = mine.messages().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(next.subject.as_str(), "orders.1");
    let reply = next.reply.clone().unwrap();
    assert_eq!(reply.as_str().starts_with("$JS.ACK._."), new_acks, "{reply}");
    next.ack().await.unwrap();
    stream.delete_consumer("mine").await.unwrap();

    let ordered = pull::OrderedConfig::default();
    let ordered = stream.create_consumer(ordered).await.unwrap().messages().await.unwrap();
    assert_eq!(ordered.take(3).count().await, 3);
    // All of it by push, which needs flow control.
    let config = push::OrderedConfig {
        deliver_subject: consumer.client.new_inbox(),
        ..push::OrderedConfig::default()
    };
    let pushed = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let all = tokio::time::timeout(crate::harness::PATIENCE, pushed.take(MESSAGES).count()).await;
    assert_eq!(all.expect("flow control"), MESSAGES);
    quiet(&consumer).await;
    forbidden(&consumer, &STREAMS).await;
    forbidden(&consumer, &OTHERS).await;

    let processor = world.connect("processor", "processor").await;
    let js = jetstream::new(processor.client.clone());
    let process: PullConsumer =
        js.get_stream("ORDERS").await.unwrap().get_consumer("PROCESS").await.unwrap();
    assert_eq!(take(process, 2).await, 2);
    quiet(&processor).await;
    forbidden(&processor, &STREAMS).await;
    forbidden(&processor, &OTHERS).await;
    forbidden(
        &processor,
        &[
            "$JS.API.CONSUMER.CREATE.ORDERS",
            "$JS.API.CONSUMER.CREATE.ORDERS.PROCESS",
            "$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.PROCESS",
            "$JS.API.CONSUMER.DELETE.ORDERS.PROCESS",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.AUDIT",
            "$JS.API.CONSUMER.INFO.ORDERS.AUDIT",
            "$JS.ACK.ORDERS.AUDIT.1.1.1.1.0",
            "$JS.ACK._.hash.ORDERS.AUDIT.1.1.1.1.0",
        ],
    )
    .await;
}

async fn reads(store: &Store) {
    assert_eq!(store.get("colour").await.unwrap().unwrap(), "blue");
    let entry = store.entry("colour").await.unwrap().unwrap();
    assert_eq!((entry.operation, entry.delta), (Operation::Put, 0));
    assert!(store.entry_for_revision("colour", 1).await.unwrap().is_some());
    assert!(store.get("missing").await.unwrap().is_none());
    let keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
    assert_eq!(keys, ["colour"]);
    let history: Vec<_> = store.history("colour").await.unwrap().try_collect().await.unwrap();
    assert_eq!(history.len(), 2);
    let mut watched = store.watch_with_history("colour").await.unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap().value, "blue");
    let mut all = store.watch_all_from_revision(1).await.unwrap();
    assert_eq!(all.next().await.unwrap().unwrap().value, "red");
    assert_eq!(store.status().await.unwrap().values(), 2);
}

async fn reads_and_writes_a_bucket(world: &World) {
    let reader = world.connect("reader", "reader").await;
    let store = jetstream::new(reader.client.clone()).get_key_value("settings").await.unwrap();
    reads(&store).await;
    quiet(&reader).await;
    let secrets = [
        "$JS.API.STREAM.INFO.KV_secrets",
        "$JS.API.DIRECT.GET.KV_secrets",
        "$JS.API.DIRECT.GET.KV_secrets.$KV.secrets.colour",
        "$JS.API.STREAM.MSG.GET.KV_secrets",
        "$JS.API.CONSUMER.CREATE.KV_secrets",
        "$JS.API.CONSUMER.CREATE.KV_secrets.name.$KV.secrets.>",
        "$KV.secrets.colour",
        "$JS.API.STREAM.PURGE.KV_settings",
        "$JS.API.STREAM.DELETE.KV_settings",
        "$JS.API.STREAM.UPDATE.KV_settings",
        "$JS.API.STREAM.MSG.DELETE.KV_settings",
    ];
    forbidden(&reader, &secrets).await;
    forbidden(&reader, &["$KV.settings.colour"]).await;
    assert_eq!(world.value("settings", "colour").await.as_deref(), Some("blue"));

    let writer = world.connect("writer", "writer").await;
    let store = jetstream::new(writer.client.clone()).get_key_value("settings").await.unwrap();
    let revision = store.put("size", "1".into()).await.unwrap();
    store.update("size", "2".into(), revision).await.unwrap();
    store.create("shape", "round".into()).await.unwrap();
    assert_eq!(world.value("settings", "size").await.as_deref(), Some("2"));
    store.delete("size").await.unwrap();
    store.purge("shape").await.unwrap();
    assert_eq!(world.value("settings", "size").await, None);
    assert_eq!(world.value("settings", "shape").await, None);
    quiet(&writer).await;
    forbidden(&writer, &secrets).await;
    forbidden(
        &writer,
        &[
            "$JS.API.DIRECT.GET.KV_settings.$KV.settings.colour",
            "$JS.API.STREAM.MSG.GET.KV_settings",
            "$JS.API.CONSUMER.CREATE.KV_settings",
        ],
    )
    .await;

    let alice = world.connect("alice", "personal").await;
    let store = jetstream::new(alice.client.clone()).get_key_value("of-alice").await.unwrap();
    reads(&store).await;
    store.put("mine", "yes".into()).await.unwrap();
    quiet(&alice).await;
    forbidden(&alice, &["$JS.API.STREAM.INFO.KV_of-bob", "$KV.of-bob.colour"]).await;
    // A name with more than one token, or a wildcard, is in no bucket's name.
    let dotted = world.login("a.b", "personal");
    client::refused(&world.deployment.url(), &dotted).await;
}

/// JetStream answers to whatever reply subject a request names, whoever may publish there: within
/// an account, presets guide programs and are no boundary against one that forges replies.
async fn what_no_permission_prevents(world: &World) {
    let reader = world.connect("forger", "reader").await;
    let get = "$JS.API.DIRECT.GET.KV_settings.$KV.settings.colour";
    let client = &reader.client;
    client.publish_with_reply(get, "$KV.settings.copied", "".into()).await.unwrap();
    eventually_async("the copy", || async {
        (world.value("settings", "copied").await.as_deref() == Some("blue")).then_some(())
    })
    .await;
    quiet(&reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consume_a_stream_read_and_write_a_bucket_and_what_no_permission_prevents() {
    let world = World::begin(false).await;
    consumes(&world, false).await;
    reads_and_writes_a_bucket(&world).await;
    what_no_permission_prevents(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consume_a_stream_with_the_newer_acknowledgements() {
    let world = World::begin(true).await;
    consumes(&world, true).await;
}
