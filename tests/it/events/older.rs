//! A deployment whose BB has mirrors of AUTH's streams, as `init` wrote it before there was an account
//! EVENTS: it goes on as it is, is told what to change, and reads on behind what it has read.

use async_nats::Request;
use nats_callout::internals::{Export, ExportType, Import};
use nats_callout::keys::AccountId;
use serde_json::{Value, json};

use super::{CONSUMERS, holds, login, published, pull, read};
use crate::harness::choice::{lacks, modes};
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{accounts, servers};

/// What AUTH offered to BB for a mirror of each stream.
fn offered() -> Vec<String> {
    CONSUMERS
        .iter()
        .flat_map(|(stream, _)| {
            let create = format!("$JS.API.CONSUMER.CREATE.{stream}");
            [format!("{create}.>"), create, format!("$JS.FC.{stream}.>")]
        })
        .collect()
}

const MIRRORS: &str = "mirror.auth.>";

fn local(subject: &str) -> Option<String> {
    subject.strip_prefix("$JS.API.").map(|rest| format!("JS.auth.API.{rest}"))
}

/// Makes the form of before out of what `init` writes now, which it keeps beside.
fn older(init: &Initialised) {
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    std::fs::write(init.dir().join("newer.txt"), &conf).expect("a copy");
    let conf = match init.mode {
        Mode::Operator => older_tokens(init, &conf),
        Mode::Config => older_blocks(&conf),
    };
    std::fs::write(init.server_conf(), conf).expect("a configuration");
}

fn older_tokens(init: &Initialised, conf: &str) -> String {
    let (id, _) = accounts::named(conf, "EVENTS");
    let auth: AccountId = accounts::named(conf, "AUTH").0.parse().expect("an id");
    let toml = std::fs::read_to_string(init.config()).expect("a configuration");
    let without = toml.replace(&format!("events_account = \"{id}\"\n"), "");
    assert_ne!(without, toml);
    std::fs::write(init.config(), without).expect("a configuration");
    for file in ["events.creds", "offline/events.nk"] {
        std::fs::remove_file(init.dir().join("keys").join(file)).expect("a file");
    }
    let conf = accounts::with(init, conf, "AUTH", |body| {
        let exports = offered().into_iter().map(|it| Export::new(it, ExportType::Service));
        body.exports = exports.collect();
        body.exports.push(Export::new(MIRRORS.to_owned(), ExportType::Stream));
    });
    let conf = accounts::with(init, &conf, "BB", |body| {
        let import = |subject: String, kind| Import {
            name: None,
            local_subject: local(&subject),
            subject,
            account: auth,
            kind,
        };
        let taken = offered().into_iter().map(|it| import(it, ExportType::Service));
        body.imports.extend(taken);
        body.imports.push(import(MIRRORS.to_owned(), ExportType::Stream));
    });
    accounts::without(&conf, "EVENTS")
}

fn older_blocks(conf: &str) -> String {
    let (before, events) = conf.split_once("    EVENTS {\n").expect("the account");
    let (events, after) = events.split_once("\n    }\n").expect("its end");
    let (_, nkey) = events.split_once("nkey: ").expect("its user");
    let nkey = nkey.split(',').next().expect("a key");
    let conf = format!("{before}{after}").replace(&format!(", {nkey} ]"), " ]");
    let is_offered = |line: &&str| line.contains("accounts: [EVENTS]");
    let first = conf.lines().find(is_offered).expect("an export").to_owned();
    let exports: String = offered()
        .iter()
        .map(|it| format!("{{ service: \"{it}\", accounts: [BB] }}\n"))
        .chain([format!("{{ stream: \"{MIRRORS}\", accounts: [BB] }}\n")])
        .collect();
    let imports: String = offered()
        .iter()
        .map(|it| {
            let to = local(it).map(|to| format!(", to: \"{to}\"")).unwrap_or_default();
            format!("{{ service: {{ account: AUTH, subject: \"{it}\" }}{to} }}\n")
        })
        .chain([format!("{{ stream: {{ account: AUTH, subject: \"{MIRRORS}\" }} }}\n")])
        .collect();
    let mut lines = Vec::new();
    for line in conf.lines() {
        if line == first {
            lines.push(exports.as_str());
        } else if !is_offered(&line) {
            lines.push(line);
        }
        if line.contains("account: USERS, subject: \"user.*.Notifications\"") {
            lines.push(&imports);
        }
    }
    lines.join("\n")
}

async fn mirrors(bb: &Connected) {
    for (stream, _) in CONSUMERS {
        let external = json!({ "api": "JS.auth.API", "deliver": "mirror.auth" });
        let config = json!({ "name": stream, "mirror": { "name": stream, "external": external } });
        bb.jetstream(&format!("$JS.API.STREAM.CREATE.{stream}"), &config).await;
    }
}

/// What `doctor` says of the events' reader.
fn reader_of(init: &Initialised) -> Vec<(String, String)> {
    let found = init.cli(&["--json", "doctor"]).json();
    let checks = found["checks"].as_array().expect("a list").iter();
    let of = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    checks
        .filter(|it| it["check"] == "events reader")
        .map(|it| (of(it, "state"), of(it, "what")))
        .collect()
}

async fn goes_on_and_is_brought_over(mode: Mode) {
    let mut deployment = Deployment::start_prepared(mode, servers::version(), older);
    let words = "lets BB's login reach all of AUTH's JetStream";
    let log = deployment.service.log();
    assert!(log.contains(words) && log.contains("\"Reading events\""), "{log}");
    let found = reader_of(&deployment);
    let fails = |words: &str| found.iter().any(|it| it.0 == "fail" && it.1.contains(words));
    assert!(fails(words) && fails("to read: events of AUTH_EVENTS"), "{found:#?}");
    let none = match mode {
        Mode::Operator => "there is no [operator] events_account",
        Mode::Config => "no server knows the account EVENTS",
    };
    assert!(fails(none), "{found:#?}");

    // Logins go on, and so does who reads a mirror.
    let bb = login(&deployment, mode, "bb").await;
    mirrors(&bb).await;
    let alice = deployment.tenant_add("alice", &[]);
    client::connect(&deployment.url(), &alice, "_INBOX_alice").await.expect("logs in");
    published(&deployment).await;
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('last', 'Last')");
    holds(&bb, "AUTH_EVENTS", 3).await;
    let crm = json!({ "stream_name": "AUTH_EVENTS",
        "config": { "durable_name": "crm", "ack_policy": "explicit" } });
    bb.jetstream("$JS.API.CONSUMER.DURABLE.CREATE.AUTH_EVENTS.crm", &crm).await;
    for _ in 0..2 {
        let next = "$JS.API.CONSUMER.MSG.NEXT.AUTH_EVENTS.crm";
        let event = pull(&bb, next).await;
        bb.client.request(event.reply.expect("a reply"), "+ACK".into()).await.expect("a word");
    }
    let place = bb.jetstream("$JS.API.CONSUMER.INFO.AUTH_EVENTS.crm", &json!({})).await;
    let read_up_to = place["ack_floor"]["stream_seq"].as_u64().expect("a number");

    match mode {
        Mode::Operator => {
            for _ in 0..2 {
                deployment.cli(&["keys", "reader"]).success();
            }
            deployment.service.restart();
        }
        Mode::Config => {
            let newer = std::fs::read_to_string(deployment.dir().join("newer.txt"));
            std::fs::write(deployment.server_conf(), newer.expect("a copy")).expect("a file");
            deployment.server.restart();
        }
    }
    let auth = login(&deployment, mode, "auth").await;
    let events = "AUTH_EVENTS.events";
    auth.jetstream(&format!("$JS.API.CONSUMER.DELETE.{events}"), &json!({})).await;
    let behind = json!({ "stream_name": "AUTH_EVENTS", "config": { "name": "events",
        "durable_name": "events", "ack_policy": "explicit", "deliver_policy": "by_start_sequence",
        "opt_start_seq": read_up_to + 1 } });
    auth.jetstream(&format!("$JS.API.CONSUMER.CREATE.{events}"), &behind).await;
    let reader = login(&deployment, mode, "events").await;
    assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "last");

    let found = reader_of(&deployment);
    assert!(found.iter().all(|it| it.0 == "ok"), "{found:#?}");
    let request = Request::new().payload("{}".into());
    let refused = bb.client.send_request("JS.auth.API.CONSUMER.CREATE.AUTH_EVENTS", request).await;
    assert!(refused.is_err(), "{refused:?}");

    // The servers' configuration says the same.
    deployment.server.restart();
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('later', 'Later')");
    let reader = login(&deployment, mode, "events").await;
    assert_eq!(read(&reader, "AUTH_EVENTS", 1).await[0]["subject"], "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_deployment_goes_on_and_is_brought_over() {
    for mode in modes() {
        goes_on_and_is_brought_over(mode).await;
    }
}

/// Operator mode: what another consumer takes is written by the command.
#[tokio::test(flavor = "multi_thread")]
async fn another_consumer_is_brought_within_reach() {
    if lacks(Mode::Operator) {
        return;
    }
    let mut deployment = Deployment::start(Mode::Operator);
    deployment.set("changes_consumers", "[\"events\", \"crm\"]");
    deployment.service.restart();
    let found = reader_of(&deployment);
    let fails = |it: &(String, String)| it.0 == "fail" && it.1.contains("crm of AUTH_EVENTS");
    assert!(found.iter().any(fails), "{found:#?}");
    deployment.cli(&["keys", "reader"]).success();
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('1', 'A')");
    let reader = login(&deployment, Mode::Operator, "events").await;
    for consumer in ["events", "crm"] {
        let next = format!("JS.auth.API.CONSUMER.MSG.NEXT.AUTH_EVENTS.{consumer}");
        let event = pull(&reader, &next).await;
        let event: Value = serde_json::from_slice(&event.payload).expect("json");
        assert_eq!(event["subject"], "1");
    }
    assert!(reader_of(&deployment).iter().all(|it| it.0 == "ok"));
}
