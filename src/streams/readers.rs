//! How the service's events are read from outside AUTH: with a login of the account EVENTS, which
//! has neither JetStream nor leaf nodes, through durable pull consumers that the service makes.
//!
//! AUTH offers the few requests that reading takes, each by its full name, to EVENTS alone: a reader
//! fetches from its consumers, acknowledges and looks at them, and makes, changes and deletes
//! nothing. An account with JetStream may be offered none of this, since a push consumer there sends
//! messages under the subjects that were stored, whatever they are, through whatever it imports, and
//! AUTH's JetStream goes by those.

use std::collections::BTreeSet;

use super::events::{AUTH_DECISIONS, AUTH_EVENTS, EventLimits};
use crate::protocol::claims::{Permission, Permissions};

/// AUTH's JetStream API as EVENTS sees it: under its own name the server's own would answer.
const API: &str = "JS.auth.API";

/// What the inboxes of the reader's login begin with.
const INBOX: &str = "_INBOX_events";

/// The connections on which it logs in: a leaf node would have subjects of its own.
pub(crate) const CONNECTIONS: [&str; 2] = ["STANDARD", "WEBSOCKET"];

/// The consumer of changes in a new deployment.
pub(crate) const CHANGES: &str = "events";
/// The consumer of decisions in a new deployment.
pub(crate) const DECISIONS: &str = "decisions";

/// The consumers of a new deployment: the stream's name, and the consumer's.
pub(crate) const NEW: [(&str, &str); 2] = [(AUTH_EVENTS, CHANGES), (AUTH_DECISIONS, DECISIONS)];

/// A request to AUTH's JetStream that a reader makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its subject in AUTH.
    pub(crate) subject: String,
    /// Its subject in EVENTS.
    pub(crate) local: String,
    /// Whether it may be answered more than once.
    pub(crate) many_answers: bool,
}

/// The requests that read these consumers, each once.
pub(crate) fn requests(consumers: &[(&str, &str)]) -> Vec<Request> {
    let mut requests = Vec::new();
    for (stream, consumer) in consumers {
        for request in requests_to(stream, consumer) {
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    requests
}

/// What a login may do that reads by these requests: fetch, acknowledge and look.
pub(crate) fn permissions(requests: &[Request]) -> Permissions {
    Permissions {
        publish: Permission::allow(requests.iter().map(|request| request.local.clone())),
        subscribe: Permission::allow([format!("{INBOX}.>")]),
        responses: None,
    }
}

/// The requests that read a consumer.
fn requests_to(stream: &str, consumer: &str) -> [Request; 4] {
    let api = |request: String, many_answers| Request {
        subject: format!("$JS.API.{request}"),
        local: format!("{API}.{request}"),
        many_answers,
    };
    let acknowledgement = format!("$JS.ACK.{stream}.{consumer}.>");
    [
        api(format!("CONSUMER.MSG.NEXT.{stream}.{consumer}"), true),
        api(format!("CONSUMER.INFO.{stream}.{consumer}"), false),
        api(format!("STREAM.INFO.{stream}"), false),
        Request { subject: acknowledgement.clone(), local: acknowledgement, many_answers: false },
    ]
}

/// Where to find what is to be done about an [`Offered`].
pub(crate) const REMEDY: &str = "deploy/README.md, \"Reading events\", says what to change";

/// What is wrong with what AUTH offers to other accounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Nobody needs it to read events, and whoever takes it may reach more of AUTH.
    pub(crate) too_much: Vec<String>,
    /// Consumers that cannot be read.
    pub(crate) too_little: Vec<String>,
}

impl Offered {
    /// In words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let fault = |what: &str, which: &[String]| {
            (!which.is_empty()).then(|| format!("{what}: {}", which.join(", ")))
        };
        let too_much = "AUTH offers to other accounts what reading events does not take; as an older \
                        init wrote it, for mirrors in BB, it lets BB's login reach all of AUTH's \
                        JetStream";
        let too_little = "AUTH does not offer to EVENTS what it takes to read";
        [fault(too_much, &self.too_much), fault(too_little, &self.too_little)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Compares the subjects that AUTH exports with what reading the configured consumers takes.
pub(crate) fn judge(exports: &BTreeSet<String>, limits: &EventLimits) -> Offered {
    let consumers = limits.consumers();
    let mut needed = requests(&consumers);
    needed.extend(requests(&NEW));
    let needed: BTreeSet<String> = needed.into_iter().map(|request| request.subject).collect();
    let is_offered = |(stream, consumer): &(&str, &str)| {
        requests_to(stream, consumer).iter().all(|request| exports.contains(&request.subject))
    };
    Offered {
        too_much: exports.difference(&needed).cloned().collect(),
        too_little: consumers
            .into_iter()
            .filter(|consumer| !is_offered(consumer))
            .map(|(stream, consumer)| format!("{consumer} of {stream}"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::events::EventStreamLimits;
    use super::*;

    fn limits(changes: &[&str], decisions: &[&str]) -> EventLimits {
        let of = |consumers: &[&str]| EventStreamLimits {
            bytes: 1,
            age: Duration::from_secs(1),
            messages: None,
            consumers: consumers.iter().map(|&name| name.to_owned()).collect(),
        };
        EventLimits { changes: of(changes), decisions: of(decisions), replicas: 1 }
    }

    #[test]
    fn what_auth_offers_is_what_the_consumers_take() {
        let offered: BTreeSet<String> = requests(&NEW).into_iter().map(|it| it.subject).collect();
        assert!(offered.iter().all(|subject| !subject.contains('*')), "{offered:?}");
        let judge = |exports: &BTreeSet<String>, limits| super::judge(exports, &limits).faults();
        assert_eq!(judge(&offered, limits(&[CHANGES], &[DECISIONS])), [""; 0]);
        assert_eq!(judge(&offered, limits(&[], &[])), [""; 0], "what a new deployment offers");
        let another = judge(&offered, limits(&[CHANGES, "crm"], &[DECISIONS]));
        assert!(another[0].ends_with("to read: crm of AUTH_EVENTS"), "{another:?}");
        let old = BTreeSet::from(["mirror.auth.>".to_owned()]);
        let faults = judge(&old, limits(&[CHANGES], &[]));
        assert!(faults[0].ends_with("JetStream: mirror.auth.>"), "{faults:?}");
        assert!(faults[1].ends_with("to read: events of AUTH_EVENTS"), "{faults:?}");
    }
}
