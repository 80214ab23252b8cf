//! What the service tells others: every change of the tenant table, whoever made it and however,
//! exactly once in the stream of AUTH and for its reader; decisions and closed connections.

mod attacks;
mod changes;
mod consumers;
mod decisions;
mod older;
mod outage;
mod poison;

use async_nats::jetstream::{self, consumer::PullConsumer};
use async_nats::{ConnectOptions, Message};
use data_encoding::BASE64;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::{PATIENCE, eventually_async};

/// One of the logins that `init` wrote: `auth`, `bb` or `events`.
pub(crate) async fn login(init: &Initialised, mode: Mode, name: &str) -> Connected {
    login_at(&format!("nats://127.0.0.1:{}", init.port), init, mode, name).await
}

/// [`login`] at this server.
pub(crate) async fn login_at(url: &str, init: &Initialised, mode: Mode, name: &str) -> Connected {
    let keys = init.dir().join("keys");
    let read = |file: String| {
        std::fs::read_to_string(keys.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let options = match mode {
        Mode::Operator => {
            ConnectOptions::with_credentials(&read(format!("{name}.creds"))).expect("a creds file")
        }
        Mode::Config => ConnectOptions::with_nkey(read(format!("{name}.nk")).trim().to_owned()),
    };
    let inbox = if name == "events" { "_INBOX_events" } else { "_INBOX" };
    client::connect_with(url, options, inbox).await.expect("logs in")
}

/// The consumers of a new deployment, by their streams.
pub(crate) const CONSUMERS: [(&str, &str); 2] =
    [("AUTH_EVENTS", "events"), ("AUTH_DECISIONS", "decisions")];

/// The next events that the login `events` fetches of a stream; each is acknowledged.
pub(crate) async fn read(reader: &Connected, stream: &str, count: usize) -> Vec<Value> {
    let (_, consumer) = CONSUMERS.into_iter().find(|it| it.0 == stream).expect("its consumer");
    let context = jetstream::with_prefix(reader.client.clone(), "JS.auth.API");
    let consumer: PullConsumer =
        context.get_consumer_from_stream(consumer, stream).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let mut events = Vec::new();
    while events.len() < count {
        let message = tokio::time::timeout(PATIENCE, messages.next())
            .await
            .unwrap_or_else(|_| panic!("{stream}: {} events, not {count}", events.len()))
            .expect("the connection is open")
            .expect("an event");
        message.double_ack().await.expect("is acknowledged");
        events.push(serde_json::from_slice(&message.payload).expect("json"));
    }
    events
}

/// The next event of a consumer, by the subject that it is asked for on; it is not acknowledged.
async fn pull(by: &Connected, next: &str) -> Message {
    let inbox = by.client.new_inbox();
    let mut events = by.client.subscribe(inbox.clone()).await.expect("subscribes");
    let (next, body) = (next.to_owned(), r#"{"batch":1,"expires":30000000000}"#);
    by.client.publish_with_reply(next, inbox, body.into()).await.expect("is sent");
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event");
    event.expect("the connection is open")
}

/// A stored event.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    subject: String,
    headers: String,
    pub(crate) event: Value,
}

impl Stored {
    /// The event in a line: type, tenant, subject, data.
    fn line(&self) -> String {
        let text = |name: &str| self.event[name].as_str().unwrap_or("-").to_owned();
        let (kind, tenant, subject) = (text("type"), text("organizationid"), text("subject"));
        format!("{kind} {tenant} {subject} {}", self.event["data"])
    }

    fn id(&self) -> String {
        self.event["id"].as_str().expect("an id").to_owned()
    }
}

/// The state of a stream as this login sees it, once it is there.
async fn state(of: &Connected, stream: &str) -> Value {
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    of.jetstream(&subject, &json!({})).await["state"].clone()
}

/// All events of a stream, in its order.
pub(crate) async fn stored(of: &Connected, stream: &str) -> Vec<Stored> {
    let state = state(of, stream).await;
    let (first, last) = (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap());
    let found: Vec<Option<Stored>> = stream::iter(first.max(1)..=last)
        .map(|seq| async move {
            let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
            let body = json!({ "seq": seq }).to_string();
            let answer = of.client.request(subject, body.into()).await.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
            let message = answer.get("message")?;
            let bytes = |name: &str| {
                let text = message[name].as_str().unwrap_or_default();
                BASE64.decode(text.as_bytes()).expect("base64")
            };
            Some(Stored {
                subject: message["subject"].as_str().expect("a subject").to_owned(),
                headers: String::from_utf8(bytes("hdrs")).expect("utf-8"),
                event: serde_json::from_slice(&bytes("data")).unwrap_or_default(),
            })
        })
        .buffered(64)
        .collect()
        .await;
    found.into_iter().flatten().collect()
}

/// Waits until a stream holds so many events, and gives them.
pub(crate) async fn holds(of: &Connected, stream: &str, count: usize) -> Vec<Stored> {
    eventually_async(&format!("{count} events in {stream}"), || async {
        let messages = state(of, stream).await["messages"].as_u64().expect("a count");
        (messages >= count as u64).then_some(())
    })
    .await;
    let found = stored(of, stream).await;
    let lines: Vec<String> = found.iter().map(Stored::line).collect();
    assert_eq!(found.len(), count, "{stream}: {lines:#?}");
    found
}

/// Has a stream take no message that is longer than so many bytes; -1 is any length.
pub(crate) async fn max_message_size(auth: &Connected, stream: &str, bytes: i64) {
    let info = auth.jetstream(&format!("$JS.API.STREAM.INFO.{stream}"), &json!({})).await;
    let mut config = info["config"].clone();
    config["max_msg_size"] = json!(bytes);
    auth.jetstream(&format!("$JS.API.STREAM.UPDATE.{stream}"), &config).await;
}

/// Waits until nothing waits to be published.
pub(crate) async fn published(init: &Initialised) {
    eventually_async("an empty outbox", || async {
        (init.sql("SELECT count(*) FROM outbox") == "0").then_some(())
    })
    .await;
}
