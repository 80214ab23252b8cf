//! What the libraries' own calls of streams, KV and object stores need: each call, under each preset, by
//! each library, as docs/presets.md has it; and all of them by a `bb` user in an account of its own.

use std::collections::BTreeMap;

use async_nats::jetstream::{self, kv, object_store, stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::{add_files, user, with_files};
use crate::harness::choice::modes;
use crate::harness::client::{self, Login};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::servers;
use crate::transports::{Open, Tls, account_for_alice};

const LANGUAGES: [Language; 3] = [Language::Go, Language::Python, Language::Node];

/// The presets that a column stands for, beside its name.
type Column = (&'static str, &'static [&'static str]);

const KV: [Column; 3] = [
    ("read", &["read bucket settings"]),
    ("write", &["write bucket settings"]),
    ("both", &["read bucket settings", "write bucket settings"]),
];
const KV_CALLS: [&str; 14] = [
    "open",
    "get",
    "get a revision",
    "keys",
    "history",
    "watch",
    "status",
    "put",
    "update",
    "create",
    "create what was deleted",
    "delete",
    "purge",
    "purge what was deleted",
];

const OBJECTS: [Column; 3] = [
    ("read", &["read objects files"]),
    ("write", &["write objects files"]),
    ("both", &["read objects files", "write objects files"]),
];
const OBJECTS_CALLS: [&str; 11] = [
    "open",
    "info",
    "get",
    "list",
    "watch",
    "status",
    "put",
    "put again",
    "change what is said of it",
    "delete",
    "seal",
];

const STREAM: [Column; 1] = [("publish", &["publish orders.* to stream orders"])];
const STREAM_CALLS: [&str; 5] = [
    "look it up",
    "publish",
    "publish at once",
    "publish what is not in P",
    "look up which stream a subject is in",
];

async fn fill(deployment: &Deployment, admin: &Login) {
    let admin = client::connect(&deployment.url(), admin, "_INBOX").await.unwrap();
    let js = jetstream::new(admin.client.clone());
    let config = kv::Config { bucket: "settings".into(), history: 5, ..kv::Config::default() };
    let store = js.create_key_value(config).await.unwrap();
    store.put("colour", "red".into()).await.unwrap();
    store.put("colour", "blue".into()).await.unwrap();
    store.put("gone", "grey".into()).await.unwrap();
    store.delete("gone").await.unwrap();
    let config = stream::Config {
        name: "orders".into(),
        subjects: vec!["orders.>".into()],
        ..stream::Config::default()
    };
    js.create_stream(config).await.unwrap();
    // As libraries make a bucket, and write an object of one part.
    let config = stream::Config {
        name: "OBJ_files".into(),
        subjects: vec!["$O.files.C.>".into(), "$O.files.M.>".into()],
        allow_rollup: true,
        allow_direct: true,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    js.create_stream(config).await.unwrap();
    let meta = json!({
        "name": "logo", "bucket": "files", "nuid": "n1", "size": 5, "chunks": 1,
        "mtime": "2026-01-01T00:00:00Z", "options": { "max_chunk_size": 131_072 },
        "digest": "SHA-256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
    });
    for (subject, payload) in
        [("$O.files.C.n1", "hello".to_owned()), ("$O.files.M.bG9nbw==", meta.to_string())]
    {
        js.publish(subject, payload.into()).await.unwrap().await.unwrap();
    }
}

/// What became of each call, by language.
type Results = Vec<(Language, BTreeMap<String, String>)>;

fn results(deployment: &Deployment, login: &Login, kind: &str, name: &str) -> Option<Results> {
    let each = LANGUAGES.map(|language| (language, vec![name.to_owned()]));
    results_of(deployment, login, kind, each)
}

/// Each language with the name of what it uses, and with `make` behind it, if it is to make that.
fn results_of(
    deployment: &Deployment,
    login: &Login,
    kind: &str,
    each: [(Language, Vec<String>); 3],
) -> Option<Results> {
    let Login::Password(user, password) = login else { unreachable!("a password") };
    let url = deployment.url();
    let mut children = Vec::new();
    for (language, what) in each {
        let mut command = clients::program(language, "stores")?;
        command.args([&url, user, password, kind]).args(what).stdout(std::process::Stdio::piped());
        children.push((language, command.spawn().unwrap()));
    }
    let results = children.into_iter().map(|(language, child)| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{language:?} {kind}: {output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        (language, serde_json::from_value(found).unwrap())
    });
    Some(results.collect())
}

fn table(calls: &[&str], columns: &[(&str, Results)]) -> String {
    let heads: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut table = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for call in calls {
        let cells = columns.iter().map(|(_, results)| {
            let works = results.iter().filter(|(_, of)| of[*call] == "yes");
            let works: Vec<String> = works.map(|(language, _)| format!("{language:?}")).collect();
            match works.len() {
                0 => "no".to_owned(),
                count if count == results.len() => "yes".to_owned(),
                _ => format!("{} alone", works.join(" and ")),
            }
        });
        table.push_str(&format!("| {call} | {} |\n", cells.collect::<Vec<_>>().join(" | ")));
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn each_librarys_own_calls_under_each_preset() {
    let name = |kind: &str, column: &str| format!("{kind}-{column}");
    let mut files = Vec::new();
    for (kind, columns) in [("kv", &KV[..]), ("objects", &OBJECTS), ("stream", &STREAM)] {
        for (column, presets) in columns {
            let text =
                format!("[account]\npresets = {presets:?}\nsubscribe = [\"_INBOX.>\"]\n[shared]\n");
            files.push((format!("{}.toml", name(kind, column)), text));
        }
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let deployment = with_files(Mode::Operator, &files);
    let admin = deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "256MB"]);
    fill(&deployment, &admin).await;
    let documented = include_str!("../../../docs/presets.md");
    let mut tables = Vec::new();
    for (kind, what, columns, calls) in [
        ("kv", "settings", &KV[..], &KV_CALLS[..]),
        ("objects", "files", &OBJECTS, &OBJECTS_CALLS),
        ("stream", "orders", &STREAM, &STREAM_CALLS),
    ] {
        let mut found = Vec::new();
        for (column, _) in columns {
            let name = name(kind, column);
            let login = user(&deployment, &name, &name);
            let Some(results) = results(&deployment, &login, kind, what) else { return };
            found.push((*column, results));
        }
        tables.push((table(calls, &found), found));
    }
    for (table, found) in &tables {
        assert!(documented.contains(table), "docs/presets.md has not:\n{table}\nsince {found:#?}");
    }
}

/// async-nats' own calls, in buckets of its making; and no message in a stream of its making.
async fn in_rust(deployment: &Deployment, login: &Login) {
    let person = client::connect(&deployment.url(), login, "_INBOX").await.unwrap();
    let js = jetstream::new(person.client.clone());
    let config = kv::Config { bucket: "in-rust".into(), history: 5, ..kv::Config::default() };
    let store = js.create_key_value(config).await.unwrap();
    let revision = store.put("colour", "red".into()).await.unwrap();
    store.update("colour", "blue".into(), revision).await.unwrap();
    store.create("new", "1".into()).await.unwrap();
    store.delete("new").await.unwrap();
    store.create("new", "2".into()).await.unwrap();
    store.purge("new").await.unwrap();
    let keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
    assert_eq!(keys, ["colour"]);
    assert_eq!(store.history("colour").await.unwrap().count().await, 2);
    let mut watched = store.watch_with_history("colour").await.unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap().value, "blue");
    let opened = js.get_key_value("in-rust").await.unwrap();
    assert_eq!(opened.status().await.unwrap().values(), 3);

    let config =
        object_store::Config { bucket: "in-rust".into(), ..object_store::Config::default() };
    let mut store = js.create_object_store(config).await.unwrap();
    for _ in 0..2 {
        store.put("logo", &mut &[b'x'; 300_000][..]).await.unwrap();
    }
    let mut read = Vec::new();
    store.get("logo").await.unwrap().read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), 300_000);
    assert_eq!(store.info("logo").await.unwrap().chunks, 3);
    assert_eq!(store.list().await.unwrap().count().await, 1);
    store.delete("logo").await.unwrap();
    store.seal().await.unwrap();
    assert_eq!(person.errors(), [""; 0]);

    let config = stream::Config {
        name: "in-rust".into(),
        subjects: vec!["in-rust.*".into()],
        ..stream::Config::default()
    };
    js.create_stream(config).await.unwrap();
    let _unanswered = js.publish("in-rust.new", "1".into()).await.unwrap();
    person.violation(&["publish", "\"in-rust.new\""]).await;
}

/// The account is the boundary: what stores do is done, of its making and to the last call. Messages go to
/// a stream of its own where its policy says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_bb_user_in_an_account_of_its_own() {
    let own = |name: &str| {
        LANGUAGES
            .map(|language| (language, vec![format!("{name}-{language:?}"), "make".to_owned()]))
    };
    let presets = LANGUAGES.map(|it| format!("publish orders-{it:?}.* to stream orders-{it:?}"));
    let publisher = format!(
        "[account]\npresets = {presets:?}\nsubscribe = [\"_INBOX.>\"]\n\
         jetstream_publish = [\"$JS.API.>\"]\n[shared]\n"
    );
    for mode in modes() {
        let open = Open::start_with(mode, servers::version(), Tls::No, |init| {
            account_for_alice(init, mode);
            add_files(init, &[("publisher.toml", &publisher)]);
        });
        open.roomy_tenant("alice");
        let person = open.user_add("alice", "person", &["--kind", "bb"]);
        let publisher = ["--kind", "bb", "--policy", "publisher"];
        let publisher = open.user_add("alice", "publisher", &publisher);
        in_rust(&open, &person).await;
        for (login, kind, name, calls) in [
            (&person, "kv", "settings", &KV_CALLS[..]),
            (&person, "objects", "files", &OBJECTS_CALLS),
            (&publisher, "stream", "orders", &STREAM_CALLS),
        ] {
            let Some(found) = results_of(&open, login, kind, own(name)) else { return };
            for (language, mut results) in found {
                let what = format!("{mode:?} {language:?} {kind}: {results:#?}");
                assert_eq!(results.len(), calls.len() + 1, "{what}");
                let other = results.remove("publish what is not in P");
                assert!(
                    other.is_none_or(|result| result.to_lowercase().contains("violation")),
                    "{what}"
                );
                assert!(results.values().all(|result| result == "yes"), "{what}");
            }
        }
    }
}
