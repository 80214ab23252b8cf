//! The streams of the service's own events, in AUTH, and their mirrors in BB, which reads them
//! there: two of them, so that a flood of refusals pushes out no change.
//!
//! BB does not get the streams themselves: in its own account it could forge an event three ways
//! (a stream that republishes, an answer of JetStream's, a tenant's answer), and the
//! acknowledgement of one that was never stored.
//!
//! What it takes to mirror is that BB may make consumers here, and a stream of BB's that republishes
//! can ask for one that delivers to a subject of its choice, an event's say. Such a consumer is
//! only active while somebody subscribes exactly that subject. So the streams' subjects are
//! wildcards, and nobody in AUTH ever subscribes an event's subject by its full name.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AUTH, BB, Stream, merged, nanoseconds};
use crate::provision::occupants::Consumer;

/// What was changed in the tenant table.
pub const AUTH_EVENTS: &str = "AUTH_EVENTS";

/// What was decided about logins, and which connections were closed.
pub const AUTH_DECISIONS: &str = "AUTH_DECISIONS";

/// For how long a change that is published again is known by its id.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(3_600);

/// The same for decisions, of which there may be very many: several instances close a connection at
/// nearly the same time.
const DECISIONS_WINDOW: Duration = Duration::from_secs(120);

/// What the streams in AUTH listen to.
const SUBJECTS: [(&str, [&str; 2]); 2] = [
    (AUTH_EVENTS, ["auth.tenant.*", "auth.user.*"]),
    (AUTH_DECISIONS, ["auth.decision.*", "auth.connection.*"]),
];

/// Where the streams in AUTH deliver to for their mirrors in BB, and nobody else.
const MIRRORED: &str = "mirror.auth";

/// Where the streams are, and their mirrors.
pub(super) const PLACES: [(&str, &str); 4] =
    [(AUTH, AUTH_EVENTS), (AUTH, AUTH_DECISIONS), (BB, AUTH_EVENTS), (BB, AUTH_DECISIONS)];

/// What the streams may hold. The oldest events make room for new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLimits {
    /// [`AUTH_EVENTS`] and its mirror.
    pub changes: EventStreamLimits,
    /// [`AUTH_DECISIONS`] and its mirror.
    pub decisions: EventStreamLimits,
    /// Copies of each in a cluster.
    pub replicas: u64,
}

/// What one stream, and its mirror, may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStreamLimits {
    /// Bytes.
    pub bytes: u64,
    /// How long an event is kept; not less than [`DUPLICATE_WINDOW`].
    pub age: Duration,
    /// Events; `None` is as many as fit.
    pub messages: Option<u64>,
}

/// What a stream of the service's in AUTH listens to; `None` if it has none of that name there.
pub(crate) fn subjects(name: &str) -> Option<[&'static str; 2]> {
    SUBJECTS.into_iter().find(|(own, _)| *own == name).map(|(_, subjects)| subjects)
}

/// Whether a consumer of these streams is one that a server has made for a mirror in BB: of the kind
/// that servers make, and with nowhere to deliver to but BB.
pub(crate) fn is_mirrors(consumer: &Consumer) -> bool {
    let delivers = consumer.deliver_subject.as_deref().and_then(|it| it.strip_prefix(MIRRORED));
    consumer.direct && delivers.is_some_and(|rest| rest.starts_with('.'))
}

pub(super) fn streams(limits: &EventLimits) -> [Stream; 4] {
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
    let mirror = |name, of| {
        let external = json!({ "api": "JS.auth.API", "deliver": MIRRORED });
        let own = json!({ "mirror": { "name": name, "external": external } });
        Stream { api: BB, name, settings: merged([shared(of), own]) }
    };
    let EventLimits { changes, decisions, .. } = limits;
    [
        origin(AUTH_EVENTS, changes, DUPLICATE_WINDOW),
        origin(AUTH_DECISIONS, decisions, DECISIONS_WINDOW),
        mirror(AUTH_EVENTS, changes),
        mirror(AUTH_DECISIONS, decisions),
    ]
}
