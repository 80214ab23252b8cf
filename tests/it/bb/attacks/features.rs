//! An account of its own that uses what JetStream has learned: buckets, schedules, batches, priority
//! groups and direct gets. Each sends something to the account's own `Events` too, which shows that
//! it works, and comes under its own name.

use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};

use super::powers::{ask, hold_nothing, subjects};
use super::{App, Field, Isolation, headers, next};
use crate::harness::choice::lacks;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::Mode;
use crate::harness::{eventually_async, loudly, servers};
use crate::transports::{Open, Tls, account_for_alice};

/// A field with the tenant `alice`, who has JetStream in an account of her own in either mode; her
/// admin's login, and the port of MQTT. Nothing where the server under test has no such tenant.
pub(super) async fn with_alice(mode: Mode) -> Option<(Field, Login, u16)> {
    if lacks(mode) {
        return None;
    }
    if mode == Mode::Config && servers::is(servers::version(), "2.10") {
        loudly("SKIPPED: a tenant with JetStream on nats-server 2.10, which `serve` refuses");
        return None;
    }
    let prepare = |init: &_| account_for_alice(init, mode);
    let open = Open::start_with(mode, servers::version(), Tls::No, prepare);
    let login = open.roomy_tenant("alice");
    let mqtt = open.mqtt;
    Some((Field::on(open.deployment).await, login, mqtt))
}

/// Somebody who may do everything in a tenant's own account, and keeps a stream and a bucket there.
pub(super) struct Keeper {
    pub(super) connected: Connected,
}

impl Keeper {
    /// An admin beside the tenant's app.
    pub(super) async fn beside(field: &Field, tenant: &str) -> Self {
        let name = format!("{tenant}-keeper");
        let extra = ["--kind", "bb", "--policy", "admin"];
        let login = field.deployment.user_add(tenant, &name, &extra);
        Self::start(field, &login).await
    }

    pub(super) async fn start(field: &Field, login: &Login) -> Self {
        let url = field.deployment.url();
        let connected = client::connect(&url, login, "_INBOX").await.expect("connects");
        for (name, subject) in [("KEPT", "kept"), ("KV_KEPT", "$KV.KEPT.key")] {
            let config = json!({ "name": name, "subjects": [subject], "max_bytes": 1 << 18,
                "allow_direct": true, "storage": "file" });
            connected.jetstream(&format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
            connected.jetstream(subject, &json!("mine")).await;
        }
        Self { connected }
    }

    /// Panics unless both are there, with what was put into them.
    pub(super) async fn unharmed(&self) {
        for name in ["KEPT", "KV_KEPT"] {
            let get = format!("$JS.API.DIRECT.GET.{name}");
            let found = given(&self.connected, &get, r#"{"seq":1}"#).await.expect("what was kept");
            assert_eq!(found.payload, "\"mine\"", "{name}");
            let info = format!("$JS.API.STREAM.INFO.{name}");
            let info = self.connected.jetstream(&info, &json!({})).await;
            assert_eq!(info["state"]["messages"], 1, "{info}");
        }
    }
}

/// What JetStream gives for this, unless that is an error or nothing.
async fn given(connected: &Connected, subject: &str, body: &str) -> Option<Message> {
    let answer = connected.client.request(subject.to_owned(), body.to_owned().into()).await.ok()?;
    let json: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    (answer.status.is_none() && json.get("error").is_none()).then_some(answer)
}

/// The admin of an own account, and what has to come of it to the account's own `Events`.
struct Admin<'a> {
    field: &'a Field,
    connected: &'a Connected,
    marks: Vec<String>,
}

impl Admin<'_> {
    /// Makes a stream that may have this feature; whether it has.
    async fn stream(&self, name: &str, feature: &str, mut config: Value) -> bool {
        config["name"] = json!(name);
        config["max_bytes"] = json!(1 << 18);
        if !feature.is_empty() {
            config[feature] = json!(true);
        }
        let made = ask(self.connected, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
        self.known(feature, made.get("error").is_none() && made["config"][feature] == true, &made)
    }

    /// Makes a consumer; whether it has this feature.
    async fn consumer(&self, stream: &str, name: &str, feature: &str, mut config: Value) -> bool {
        config["durable_name"] = json!(name);
        let body = json!({ "stream_name": stream, "config": config });
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let made = ask(self.connected, &subject, &body).await;
        self.known(feature, !feature.is_empty() && !made["config"][feature].is_null(), &made)
    }

    /// The newest servers know all of it.
    fn known(&self, feature: &str, known: bool, made: &Value) -> bool {
        let old = ["2.11", "2.12"].iter().any(|line| servers::is(servers::version(), line));
        assert!(known || old || feature.is_empty(), "{feature}: {made}");
        known
    }

    /// Where a message may be sent from a stream: to victims, and as an own event.
    fn ways(&self) -> Vec<String> {
        let victims = self.field.victims.iter().flat_map(subjects);
        victims.chain(["Events".to_owned()]).collect()
    }

    /// Where it may be sent as an answer.
    fn replies(&self) -> Vec<String> {
        let mut replies = self.field.targets();
        replies.push("Events".to_owned());
        replies
    }

    async fn publish(&self, subject: &str, with: HeaderMap, text: String) {
        let client = &self.connected.client;
        let (subject, reply) = (subject.to_owned(), client.new_inbox());
        let sent = client.publish_with_reply_and_headers(subject, reply, with, text.into()).await;
        sent.expect("is sent");
    }

    /// Buckets of keys and of objects that are published again.
    async fn buckets(&mut self) {
        for (at, way) in self.ways().into_iter().enumerate() {
            for (kind, subjects) in [("KV", vec!["$KV.b.>"]), ("OBJ", vec!["$O.b.C.>", "$O.b.M.>"])]
            {
                let bucket = format!(".b{at}.");
                let subjects: Vec<String> =
                    subjects.into_iter().map(|it| it.replace(".b.", &bucket)).collect();
                let key = subjects.last().expect("one").replace('>', "key");
                let config = json!({ "subjects": subjects, "max_msgs_per_subject": 1,
                    "allow_rollup_hdrs": true, "deny_delete": true,
                    "republish": { "src": key, "dest": way } });
                self.stream(&format!("{kind}_b{at}"), "allow_direct", config).await;
                let mark = format!("forged by {kind} to {way}");
                self.publish(&key, headers(&[("Nats-Rollup", "sub")]), mark.clone()).await;
                if way == "Events" {
                    self.marks.push(mark);
                }
            }
        }
    }

    /// Copies of others' buckets and streams; their names.
    async fn copies(&self) -> Vec<String> {
        let mut names = Vec::new();
        for origin in ["KV_KEPT", "KEPT"] {
            for api in ["$JS.API", "JS.v-own.API", "$JS.v-own.API", "JS.bb.API", ""] {
                let mut from = json!({ "name": origin });
                if !api.is_empty() {
                    from["external"] = json!({ "api": api, "deliver": "user.v-own.x" });
                }
                for config in [
                    json!({ "mirror": from, "mirror_direct": true }),
                    json!({ "sources": [from], "subjects": [] }),
                ] {
                    let name = format!("KV_copy{}", names.len());
                    self.stream(&name, "", config).await;
                    names.push(name);
                }
            }
        }
        names
    }

    /// Schedules with victims' subjects for a target, from where they are published again as events.
    async fn schedules(&mut self) {
        for (at, way) in self.ways().into_iter().enumerate() {
            let mut config = json!({ "subjects": [format!("at{at}"), way] });
            if way != "Events" {
                config["republish"] = json!({ "src": way, "dest": "Events" });
            }
            let name = format!("AT{at}");
            let known = self.stream(&name, "allow_msg_schedules", config).await;
            let mark = format!("forged by a schedule to {way}");
            let pairs = [("Nats-Schedule", "@at 2020-01-01T00:00:00Z")];
            let mut with = headers(&pairs);
            with.insert("Nats-Schedule-Target", way.as_str());
            self.publish(&format!("at{at}"), with, mark.clone()).await;
            if known && way != "Events" {
                self.marks.push(mark);
            }
        }
    }

    /// A batch under victims' names that goes on by consumers, and is published again.
    async fn batches(&mut self) {
        let config = json!({ "subjects": ["batch.*"],
            "republish": { "src": "user.*.Events", "dest": "Events" },
            "subject_transform": { "src": "batch.*", "dest": "user.{{wildcard(1)}}.Events" } });
        let known = self.stream("BATCH", "allow_atomic", config).await;
        for (at, way) in self.ways().into_iter().enumerate() {
            let config = json!({ "deliver_subject": way, "ack_policy": "none" });
            self.consumer("BATCH", &format!("c{at}"), "", config).await;
        }
        let last = self.field.victims.len() - 1;
        for (at, App { id, .. }) in self.field.victims.iter().enumerate() {
            let sequence = (at + 1).to_string();
            let mut with = headers(&[("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", &sequence)]);
            if at == last {
                with.insert("Nats-Batch-Commit", "1");
            }
            let mark = format!("forged in a batch as {id}");
            self.publish(&format!("batch.{id}"), with, mark.clone()).await;
            if known {
                // Republished, and by a consumer.
                self.marks.extend([mark.clone(), mark]);
            }
        }
    }

    /// Requests to consumers with priorities, to be answered to others.
    async fn priorities(&mut self) {
        for policy in ["overflow", "pinned_client"] {
            let (stream, source) = (format!("PRIORITY_{policy}"), format!("priority.{policy}"));
            self.stream(&stream, "", json!({ "subjects": [source] })).await;
            let mut known = false;
            for (at, reply) in self.replies().into_iter().enumerate() {
                let name = format!("c{at}");
                let mut config = json!({ "ack_policy": "explicit", "priority_groups": ["g"],
                    "priority_policy": policy });
                let mut pull = json!({ "batch": 1, "expires": 60_000_000_000_u64, "group": "g" });
                match policy {
                    "overflow" => pull["min_pending"] = json!(1),
                    _ => config["priority_timeout"] = json!(60_000_000_000_u64),
                }
                known = self.consumer(&stream, &name, "priority_groups", config).await;
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
                let client = &self.connected.client;
                let body = pull.to_string().into();
                client.publish_with_reply(subject, reply, body).await.expect("is sent");
            }
            let mark = format!("forged by {policy}");
            self.publish(&source, HeaderMap::new(), mark.clone()).await;
            if known {
                self.marks.push(mark);
            }
        }
    }

    /// Messages under victims' names that are asked for directly, to be answered to others.
    async fn direct_gets(&mut self) {
        let config = json!({ "subjects": ["direct.*"],
            "subject_transform": { "src": "direct.*", "dest": "user.{{wildcard(1)}}.Events" } });
        self.stream("DIRECT", "allow_direct", config).await;
        for (at, App { id, .. }) in self.field.victims.iter().enumerate() {
            let mark = format!("forged by a direct get as {id}");
            self.connected.jetstream(&format!("direct.{id}"), &json!(mark)).await;
            let body = json!({ "seq": at + 1 }).to_string();
            for reply in self.replies() {
                let (client, subject) = (&self.connected.client, "$JS.API.DIRECT.GET.DIRECT");
                let sent = client.publish_with_reply(subject, reply, body.clone().into()).await;
                sent.expect("is sent");
            }
            self.marks.push(json!(mark).to_string());
        }
    }
}

/// By its name, nobody is given anything of a stream in another account.
async fn others_streams_by_name(attacker: &Connected) {
    for name in ["KEPT", "KV_KEPT", "ReceivedEvents", "AUTH_EVENTS", "AUTH_DECISIONS"] {
        for (request, body) in [
            (format!("DIRECT.GET.{name}"), r#"{"seq":1}"#),
            (format!("DIRECT.GET.{name}"), r#"{"multi_last":[">"]}"#),
            (format!("DIRECT.GET.{name}.kept"), ""),
            (format!("DIRECT.GET.{name}.$KV.KEPT.key"), ""),
            (format!("STREAM.MSG.GET.{name}"), r#"{"seq":1}"#),
        ] {
            let found = given(attacker, &format!("$JS.API.{request}"), body).await;
            assert!(found.is_none(), "{request}: {found:?}");
        }
    }
}

async fn no_feature_leads_out_of_an_own_account(mode: Mode) {
    let Some((mut field, login, _)) = with_alice(mode).await else { return };
    let url = field.deployment.url();
    let alice = client::connect(&url, &login, "_INBOX").await.expect("connects");
    let mut events = alice.client.subscribe("Events").await.expect("subscribes");
    alice.settled().await;
    let keeper = match mode {
        Mode::Operator => Some(Keeper::beside(&field, "v-own").await),
        Mode::Config => None,
    };

    let mut admin = Admin { field: &field, connected: &alice, marks: Vec::new() };
    admin.buckets().await;
    let copies = admin.copies().await;
    admin.schedules().await;
    admin.batches().await;
    admin.priorities().await;
    admin.direct_gets().await;
    let mut marks = admin.marks;
    let count = marks.len();
    while !marks.is_empty() {
        let (_, text) = next(&mut events).await;
        if let Some(at) = marks.iter().position(|mark| *mark == text) {
            marks.swap_remove(at);
        }
    }
    if mode == Mode::Operator {
        eventually_async("what is under its own name", || async {
            let stored = field.events("ReceivedEvents").await;
            let own = stored.get("user.alice.Events").copied().unwrap_or_default();
            (own >= count as u64).then_some(())
        })
        .await;
    }
    hold_nothing(&alice, &copies).await;
    others_streams_by_name(&alice).await;
    for attacker in &field.attackers {
        if attacker.isolation == Isolation::Own {
            others_streams_by_name(&attacker.connected).await;
        }
    }
    if let Some(keeper) = keeper {
        keeper.unharmed().await;
    }
    field.unharmed_by("alice", alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_feature_of_jetstream_leads_out_of_an_own_account_in_operator_mode() {
    no_feature_leads_out_of_an_own_account(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_feature_of_jetstream_leads_out_of_an_own_account_in_config_mode() {
    no_feature_leads_out_of_an_own_account(Mode::Config).await;
}
