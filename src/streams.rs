//! The streams and the consumer through which BB reads the tenants' events, and those of the
//! service's own events in AUTH: there before the service is ready, kept at the configured limits,
//! and never emptied or deleted.
//!
//! BB's own login may not make or change those in BB, so the service does, from its connection in
//! AUTH: BB exports to AUTH the few requests of its JetStream API that this takes.

pub(crate) mod events;
pub(crate) mod readers;

use std::time::Duration;

use async_nats::Client;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use self::events::EventLimits;

/// BB's JetStream API as AUTH sees it, and AUTH's own.
const BB: &str = "JS.bb.API";
const AUTH: &str = "$JS.API";

/// Where shared tenants' events arrive where there is no intake, under a subject that nothing but
/// USERS leads into.
pub(crate) const POOLED_EVENTS: &str = "PooledEvents";

/// All tenants' events, as `user.<id>.Events`.
pub(crate) const RECEIVED_EVENTS: &str = "ReceivedEvents";

/// The durable consumer of [`RECEIVED_EVENTS`].
pub(crate) const PROCESS_EVENTS: &str = "ProcessEvents";

/// For how long a message id is known. The intake puts the tenant before it, so that it counts for
/// that tenant alone.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Without an intake ids are compared over all tenants, so that one of them suppresses another's
/// event: the least that the server takes.
const POOLED_DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Every so many failed attempts the log says so again.
const ATTEMPTS_PER_LINE: u32 = 40;

/// JetStream's codes for what is not there, and for what another instance has just made.
const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;
const STREAM_NAME_TAKEN: u64 = 10_058;

/// What the streams may hold. A tenant that floods loses its own oldest events, and no one
/// else's, for as long as `messages_per_tenant` times `message_size` stays well below `bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamLimits {
    /// Events of each tenant.
    pub(crate) messages_per_tenant: u64,
    /// Bytes of one event; a longer one is refused.
    pub(crate) message_size: u64,
    /// Bytes of each of the two streams.
    pub(crate) bytes: u64,
    /// How long an event is kept; zero is for ever.
    pub(crate) age: Duration,
    /// Copies in a cluster.
    pub(crate) replicas: u64,
    /// Whether events of shared tenants come by [`POOLED_EVENTS`], as they did before there was an
    /// intake.
    pub(crate) pooled: bool,
}

/// Why the streams are not as they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamsError {
    /// Nothing in BB answers: no JetStream there, or the accounts lack the exports and imports.
    #[error("{request}: {source}")]
    Unanswered {
        /// The request's subject.
        request: String,
        /// What went wrong.
        source: async_nats::RequestError,
    },
    /// Nothing has answered in time.
    #[error("{0}: no answer in {PATIENCE:?}")]
    Silence(String),
    /// The answer is not JetStream's.
    #[error("{0}: the answer is not one of JetStream's")]
    Malformed(String),
    /// JetStream refuses.
    #[error("{request}: {description} (error {code})")]
    Refused {
        /// The request's subject.
        request: String,
        /// JetStream's words.
        description: String,
        /// JetStream's code.
        code: u64,
    },
    /// A consumer is another than there has to be, which cannot be changed in place.
    #[error(
        "the consumer {target} has {what}; delete it, so that it is made anew as a pull consumer with \
         explicit acknowledgements"
    )]
    OtherConsumer {
        /// The stream, a dot, the consumer.
        target: String,
        /// What it has.
        what: String,
    },
}

/// What all the streams may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The tenants' events.
    pub(crate) bb: StreamLimits,
    /// The service's own.
    pub(crate) events: EventLimits,
}

/// A stream that has to be there, in the account whose JetStream answers below `api`.
struct Stream {
    api: &'static str,
    name: &'static str,
    /// The settings that the service owns; what else a stream has is left as it is.
    settings: Map<String, Value>,
}

/// A durable pull consumer with explicit acknowledgements that has to be there, likewise.
struct Consumer<'a> {
    api: &'static str,
    stream: &'static str,
    name: &'a str,
}

/// Makes sure of the streams and their consumers, trying until it works; `false` if `shutdown` came
/// first.
pub(crate) async fn ensure(client: &Client, limits: &Limits, shutdown: &CancellationToken) -> bool {
    let mut attempts = 0;
    loop {
        let Some(attempt) = shutdown.run_until_cancelled(ensure_once(client, limits)).await else {
            return false;
        };
        match attempt {
            Ok(()) => return true,
            Err(error) if attempts % ATTEMPTS_PER_LINE == 0 => tracing::error!(
                %error,
                "the event streams of AUTH and BB cannot be made; logins are answered, but the \
                 service is not ready; trying again every {PAUSE:?}"
            ),
            Err(error) => tracing::debug!(%error, "the event streams cannot be made yet"),
        }
        attempts += 1;
        if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return false;
        }
    }
}

/// Makes whatever stream is missing, in one attempt: after an event found none.
pub(crate) async fn restore(client: &Client, limits: &Limits) -> Result<(), StreamsError> {
    ensure_once(client, limits).await
}

async fn ensure_once(client: &Client, limits: &Limits) -> Result<(), StreamsError> {
    let own = events::streams(&limits.events);
    for stream in own.into_iter().chain(tenants(&limits.bb)) {
        ensure_stream(client, stream).await?;
    }
    let own = limits.events.consumers().into_iter();
    let own = own.map(|(stream, name)| Consumer { api: AUTH, stream, name });
    let bb = Consumer { api: BB, stream: RECEIVED_EVENTS, name: PROCESS_EVENTS };
    for consumer in own.chain([bb]) {
        ensure_consumer(client, consumer).await?;
    }
    Ok(())
}

/// How many events BB's stream has yet to read of [`POOLED_EVENTS`], by what its leader knows; `None`
/// where it reads nothing of it.
pub(crate) async fn left_in_pool(client: &Client) -> Result<Option<u64>, StreamsError> {
    let info = request(client, &format!("{BB}.STREAM.INFO.{RECEIVED_EVENTS}"), &json!({})).await?;
    if info.pointer("/config/sources").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    let sources = info.get("sources").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Some(sources.iter().filter_map(|source| source.get("lag")?.as_u64()).sum()))
}

/// Has BB's stream read nothing of [`POOLED_EVENTS`] any more.
pub(crate) async fn forget_pool(client: &Client) -> Result<(), StreamsError> {
    let subject = format!("{BB}.STREAM.INFO.{RECEIVED_EVENTS}");
    let info = request(client, &subject, &json!({})).await?;
    let Some(Value::Object(config)) = info.get("config") else {
        return Err(StreamsError::Malformed(subject));
    };
    let mut config = config.clone();
    config.remove("sources");
    let subject = format!("{BB}.STREAM.UPDATE.{RECEIVED_EVENTS}");
    request(client, &subject, &Value::Object(config)).await.map(drop)
}

/// What keeps BB from reading events by [`PROCESS_EVENTS`], which is BB's own to change, in words.
pub(crate) async fn reader_fault(client: &Client) -> Option<String> {
    let what = format!("BB's consumer {PROCESS_EVENTS} of {RECEIVED_EVENTS}");
    let consumer = Consumer { api: BB, stream: RECEIVED_EVENTS, name: PROCESS_EVENTS };
    match consumer_info(client, &consumer).await {
        Ok(info) if info.get("paused") == Some(&Value::Bool(true)) => {
            let until = info.pointer("/config/pause_until").and_then(Value::as_str);
            Some(format!("{what} is paused until {}", until.unwrap_or("an unknown time")))
        }
        Ok(_) => None,
        Err(StreamsError::Refused { code: CONSUMER_NOT_FOUND | STREAM_NOT_FOUND, .. }) => {
            Some(format!("{what} is not there"))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// What is missing of the service's own event streams and their consumers, in words.
pub(crate) async fn faults(client: &Client, limits: &EventLimits) -> Vec<String> {
    let mut faults = Vec::new();
    for Stream { api, name, .. } in events::streams(limits) {
        match request(client, &format!("{api}.STREAM.INFO.{name}"), &json!({})).await {
            Ok(_) => {}
            Err(StreamsError::Refused { code: STREAM_NOT_FOUND, .. }) => {
                faults.push(format!("AUTH has no stream {name}"));
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    for (stream, name) in limits.consumers() {
        let consumer = Consumer { api: AUTH, stream, name };
        match consumer_info(client, &consumer).await {
            Ok(_) | Err(StreamsError::Refused { code: STREAM_NOT_FOUND, .. }) => {}
            Err(StreamsError::Refused { code: CONSUMER_NOT_FOUND, .. }) => {
                faults.push(format!("the stream {stream} in AUTH has no consumer {name}"));
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    faults
}

/// Some settings and some more.
fn merged(parts: [Value; 2]) -> Map<String, Value> {
    let mut settings = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            settings.extend(part);
        }
    }
    settings
}

/// The streams of the tenants' events. Those of an older deployment keep their sources until they
/// are read empty and taken away.
fn tenants(limits: &StreamLimits) -> Vec<Stream> {
    let window = if limits.pooled { POOLED_DUPLICATE_WINDOW } else { DUPLICATE_WINDOW };
    // The server takes none that is longer than events are kept.
    let window = if limits.age.is_zero() { window } else { window.min(limits.age) };
    let stream = |name, own: Value| {
        let shared = json!({
            "max_msgs_per_subject": limits.messages_per_tenant,
            "max_msg_size": limits.message_size,
            "max_bytes": limits.bytes,
            "max_age": nanoseconds(limits.age),
            "duplicate_window": nanoseconds(window),
            "num_replicas": limits.replicas,
            "discard": "old",
        });
        Stream { api: BB, name, settings: merged([shared, own]) }
    };
    if !limits.pooled {
        let own = json!({ "subjects": ["user.*.Events"], "no_ack": false });
        return vec![stream(RECEIVED_EVENTS, own)];
    }
    let source = json!({
        "name": POOLED_EVENTS,
        "subject_transforms": [
            { "src": "pool.user.*.Events", "dest": "user.{{wildcard(1)}}.Events" }
        ],
    });
    vec![
        stream(POOLED_EVENTS, json!({ "subjects": ["pool.user.*.Events"], "no_ack": true })),
        stream(
            RECEIVED_EVENTS,
            json!({ "subjects": ["user.*.Events"], "no_ack": false, "sources": [source] }),
        ),
    ]
}

async fn ensure_stream(client: &Client, stream: Stream) -> Result<(), StreamsError> {
    let Stream { api, name, settings: wanted } = stream;
    let info = request(client, &format!("{api}.STREAM.INFO.{name}"), &json!({})).await;
    let mut config = match info {
        Ok(info) => match info.get("config") {
            Some(Value::Object(config)) => config.clone(),
            _ => return Err(StreamsError::Malformed(format!("{api}.STREAM.INFO.{name}"))),
        },
        Err(StreamsError::Refused { code: STREAM_NOT_FOUND, .. }) => {
            return create_stream(client, Stream { api, name, settings: wanted }).await;
        }
        Err(error) => return Err(error),
    };
    let changed: Vec<&str> = wanted
        .iter()
        .filter(|(key, value)| !agrees(config.get(*key), value))
        .map(|(key, _)| key.as_str())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    tracing::info!(stream = name, account = account(api), settings = ?changed, "changing a stream");
    config.extend(wanted);
    let subject = format!("{api}.STREAM.UPDATE.{name}");
    request(client, &subject, &Value::Object(config)).await.map(drop)
}

async fn create_stream(client: &Client, stream: Stream) -> Result<(), StreamsError> {
    let Stream { api, name, settings: mut config } = stream;
    config.insert("name".to_owned(), name.into());
    config.insert("storage".to_owned(), "file".into());
    config.insert("retention".to_owned(), "limits".into());
    let subject = format!("{api}.STREAM.CREATE.{name}");
    match request(client, &subject, &Value::Object(config)).await {
        Ok(_) => {
            tracing::info!(stream = name, account = account(api), "made a stream");
            Ok(())
        }
        // Another instance was faster; with other settings it is the next attempt that says so.
        Err(StreamsError::Refused { code: STREAM_NAME_TAKEN, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The account behind an API, for the log.
fn account(api: &str) -> &'static str {
    if api == BB { "BB" } else { "AUTH" }
}

async fn ensure_consumer(client: &Client, consumer: Consumer<'_>) -> Result<(), StreamsError> {
    match consumer_info(client, &consumer).await {
        Err(StreamsError::Refused { code: CONSUMER_NOT_FOUND, .. }) => {}
        other => return other.map(drop),
    }
    let Consumer { api, stream, name } = consumer;
    let body = json!({
        "stream_name": stream,
        "config": {
            "name": name,
            "durable_name": name,
            "ack_policy": "explicit",
            "deliver_policy": "all",
        },
    });
    request(client, &format!("{api}.CONSUMER.CREATE.{stream}.{name}"), &body).await?;
    tracing::info!(stream, consumer = name, account = account(api), "made a consumer");
    Ok(())
}

/// What the server says of the consumer, which is there and what it has to be.
async fn consumer_info(client: &Client, consumer: &Consumer<'_>) -> Result<Value, StreamsError> {
    let target = format!("{}.{}", consumer.stream, consumer.name);
    let subject = format!("{}.CONSUMER.INFO.{target}", consumer.api);
    let info = request(client, &subject, &json!({})).await?;
    let setting = |key: &str| info.pointer(&format!("/config/{key}"));
    let what = match (setting("deliver_subject"), setting("ack_policy").and_then(Value::as_str)) {
        (Some(subject), _) => format!("the deliver subject {subject}"),
        (None, Some("explicit")) => return Ok(info),
        (None, other) => format!("the ack policy {other:?}"),
    };
    Err(StreamsError::OtherConsumer { target, what })
}

async fn request(client: &Client, subject: &str, body: &Value) -> Result<Value, StreamsError> {
    let subject = subject.to_owned();
    let asking = client.request(subject.clone(), body.to_string().into());
    let answer = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(StreamsError::Unanswered { request: subject, source }),
        Err(_) => return Err(StreamsError::Silence(subject)),
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&answer.payload) else {
        return Err(StreamsError::Malformed(subject));
    };
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let description = error.get("description").and_then(Value::as_str).unwrap_or("refused");
    Err(StreamsError::Refused {
        request: subject,
        description: description.to_owned(),
        code: error.get("err_code").and_then(Value::as_u64).unwrap_or_default(),
    })
}

/// Whether what the server reports says what is wanted; it leaves out what is false, and adds
/// defaults inside objects.
fn agrees(found: Option<&Value>, wanted: &Value) -> bool {
    match (found, wanted) {
        (None | Some(Value::Null), Value::Bool(false)) => true,
        (Some(Value::Object(found)), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| agrees(found.get(key), value))
        }
        (Some(Value::Array(found)), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| agrees(Some(found), wanted))
        }
        (Some(found), wanted) => found == wanted,
        (None, _) => false,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_adds_or_leaves_out_is_no_difference() {
        let wanted = json!({ "no_ack": false, "sources": [{ "name": "S" }], "max_age": 5 });
        let same = json!({ "sources": [{ "name": "S", "opt": 1 }], "max_age": 5, "more": true });
        assert!(agrees(Some(&same), &wanted));
        for other in [
            json!({ "no_ack": true, "sources": [{ "name": "S" }], "max_age": 5 }),
            json!({ "sources": [{ "name": "T" }], "max_age": 5 }),
            json!({ "sources": [{ "name": "S" }, { "name": "T" }], "max_age": 5 }),
            json!({ "sources": [{ "name": "S" }], "max_age": 6 }),
            json!({ "max_age": 5 }),
        ] {
            assert!(!agrees(Some(&other), &wanted), "{other}");
        }
    }
}
