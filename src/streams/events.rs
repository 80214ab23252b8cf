//! The streams of the service's own events, in AUTH: two of them, so that a flood of refusals pushes
//! out no change. Who reads them is in [`readers`](super::readers).

use std::time::Duration;

use serde_json::{Value, json};

use super::{AUTH, Stream, merged, nanoseconds};

/// What was changed in the tenant table.
pub(crate) const AUTH_EVENTS: &str = "AUTH_EVENTS";

/// What was decided about logins, and which connections were closed.
pub(crate) const AUTH_DECISIONS: &str = "AUTH_DECISIONS";

/// For how long a change that is published again is known by its id.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(3_600);

/// The same for decisions, of which there may be very many: several instances close a connection at
/// nearly the same time.
const DECISIONS_WINDOW: Duration = Duration::from_secs(120);

/// What the streams in AUTH listen to.
const SUBJECTS: [(&str, [&str; 2]); 2] = [
    (AUTH_EVENTS, ["auth.tenant.*", "auth.user.*"]),
    (AUTH_DECISIONS, ["auth.decision.*", "auth.connection.*"]),
];

/// What the streams may hold, and who reads them. The oldest events make room for new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventLimits {
    /// [`AUTH_EVENTS`]
    pub(crate) changes: EventStreamLimits,
    /// [`AUTH_DECISIONS`]
    pub(crate) decisions: EventStreamLimits,
    /// Copies of each in a cluster.
    pub(crate) replicas: u64,
}

/// What one stream may hold, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventStreamLimits {
    /// Bytes.
    pub(crate) bytes: u64,
    /// How long an event is kept; not less than [`DUPLICATE_WINDOW`].
    pub(crate) age: Duration,
    /// Events; `None` is as many as fit.
    pub(crate) messages: Option<u64>,
    /// Its durable pull consumers, by name.
    pub(crate) consumers: Vec<String>,
}

/// What a stream of the service's in AUTH listens to; `None` if it has none of that name there.
pub(crate) fn subjects(name: &str) -> Option<[&'static str; 2]> {
    SUBJECTS.into_iter().find(|(own, _)| *own == name).map(|(_, subjects)| subjects)
}

impl EventLimits {
    /// The consumers of both streams: the stream's name, and the consumer's.
    pub(crate) fn consumers(&self) -> Vec<(&'static str, &str)> {
        [(AUTH_EVENTS, &self.changes), (AUTH_DECISIONS, &self.decisions)]
            .into_iter()
            .flat_map(|(stream, of)| of.consumers.iter().map(move |name| (stream, name.as_str())))
            .collect()
    }
}

pub(super) fn streams(limits: &EventLimits) -> [Stream; 2] {
    let shared = |of: &EventStreamLimits| {
        json!({
            "max_bytes": of.bytes,
            "max_age": nanoseconds(of.age),
            "max_msgs": of.messages.map_or(json!(-1), Value::from),
            "num_replicas": limits.replicas,
            "discard": "old",
        })
    };
    let origin = |name, of, window| {
        let own = json!({ "subjects": subjects(name), "duplicate_window": nanoseconds(window) });
        Stream { api: AUTH, name, settings: merged([shared(of), own]) }
    };
    let EventLimits { changes, decisions, .. } = limits;
    [
        origin(AUTH_EVENTS, changes, DUPLICATE_WINDOW),
        origin(AUTH_DECISIONS, decisions, DECISIONS_WINDOW),
    ]
}
