//! Nobody but the service reaches AUTH: neither BB nor a tenant forges an event there, suppresses
//! one, or acknowledges one that was never stored, and the events' reader reads, and does nothing
//! else.

mod bb;
mod reader;
mod tenants;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Message, Request};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{CONSUMERS, login};
use crate::harness::client::Connected;
use crate::harness::deployment::{Initialised, Mode};

/// Everything that is or could be an event's subject.
const SUBJECTS: [&str; 6] = [
    "auth.user.updated",
    "auth.tenant.removed",
    "auth.decision.granted",
    "auth.connection.kicked",
    "mirror.auth.M.x",
    "$JS.ACK.AUTH_EVENTS.events.1.1.1.1.1",
];

const STREAMS: [&str; 2] = ["AUTH_EVENTS", "AUTH_DECISIONS"];

/// Is in all that an attacker sends, so that it is known wherever it arrives.
const MARK: &str = "forged";

/// A request whose answer may be an error, or none.
async fn ask(by: &Connected, subject: &str, body: &Value) -> Value {
    let request =
        Request::new().payload(body.to_string().into()).timeout(Some(Duration::from_secs(2)));
    match by.client.send_request(subject.to_owned(), request).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// Hears everything in AUTH, and knows its streams and consumers as they were.
struct Witness {
    auth: Connected,
    heard: Arc<Mutex<Vec<Message>>>,
    before: Value,
}

impl Witness {
    async fn start(init: &Initialised, mode: Mode) -> Self {
        let auth = login(init, mode, "auth").await;
        let before = kept(&auth).await;
        let mut all = auth.client.subscribe(">").await.expect("subscribes");
        let heard: Arc<Mutex<Vec<Message>>> = Arc::default();
        let ear = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(message) = all.next().await {
                ear.lock().expect("no panic").push(message);
            }
        });
        auth.round_trip("witness").await;
        Self { auth, heard, before }
    }

    /// What attackers sent and AUTH has got, in words.
    async fn marked(&self) -> Vec<String> {
        self.auth.round_trip("witness").await;
        let heard = self.heard.lock().expect("no panic");
        let words = heard.iter().map(|it| {
            let payload = String::from_utf8_lossy(&it.payload);
            format!("{} {:?} {:?} {payload}", it.subject, it.reply, it.headers)
        });
        words.filter(|words| words.contains(MARK)).collect()
    }

    /// Panics unless AUTH has got nothing from the attackers, and its streams and consumers are what
    /// they were.
    async fn unharmed(&self) {
        assert_eq!(self.marked().await, [""; 0]);
        self.same_streams().await;
    }

    async fn same_streams(&self) {
        assert_eq!(kept(&self.auth).await, self.before);
    }
}

/// The streams and consumers of AUTH, without what changes as they are used.
async fn kept(auth: &Connected) -> Value {
    let mut kept = Vec::new();
    let streams = auth.jetstream("$JS.API.STREAM.LIST", &json!({})).await;
    for stream in streams["streams"].as_array().expect("a list") {
        let name = stream["config"]["name"].as_str().expect("a name");
        let subject = format!("$JS.API.CONSUMER.LIST.{name}");
        let consumers = auth.jetstream(&subject, &json!({})).await;
        let made = |it: &Value| json!({ "config": it["config"], "created": it["created"] });
        let consumers = consumers["consumers"].as_array().expect("a list");
        kept.push(json!({
            "stream": made(stream), "consumers": consumers.iter().map(made).collect::<Vec<_>>(),
        }));
    }
    kept.sort_by_key(Value::to_string);
    assert_eq!(kept.len(), CONSUMERS.len(), "{kept:?}");
    json!(kept)
}
