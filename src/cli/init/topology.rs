//! Which account offers which subjects to which other: written once, as JWTs in operator mode and
//! as text in config mode.
//!
//! Events of shared tenants reach BB as a *stream* on `pool.>`, where no acknowledgement goes back
//! to a reply subject of the publisher's choice; those of own accounts are a *service*, whose
//! acknowledgement belongs to the tenant. BB's requests on notifications go to USERS, and on to
//! ANSWERS, which passes them to the own accounts of those tenants that answer: so what grows with
//! these tenants is the JWT of ANSWERS, which no other depends on.
//!
//! Of AUTH there is nothing within reach of an account that has JetStream or leaf nodes: a consumer
//! of such an account's delivers whatever it likes under the subjects that the account takes, and
//! AUTH's own JetStream goes by subjects. EVENTS has neither, and takes what it needs to read the
//! service's events.

use crate::placement::NOTIFICATIONS;
use crate::protocol::claims::ExportType::{self, Service, Stream};
use crate::protocol::claims::{Permission, Permissions};
use crate::provision::streams::readers::{self, Request};
use crate::provision::streams::{POOLED_EVENTS, PROCESS_EVENTS, RECEIVED_EVENTS};

/// The streams in BB that the service makes and BB's own login may not touch.
const PROTECTED_STREAMS: [&str; 2] = [POOLED_EVENTS, RECEIVED_EVENTS];

/// An account that `init` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Sys,
    Auth,
    Bb,
    Users,
    /// Where the service's events are read.
    Events,
    /// Operator mode alone: the service adds a tenant's account by writing its JWT.
    Answers,
}

impl Account {
    /// Those of config mode.
    pub(super) const CONFIG: [Self; 5] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Events];
    /// Those of operator mode.
    pub(super) const OPERATOR: [Self; 6] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Events, Self::Answers];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sys => "SYS",
            Self::Auth => "AUTH",
            Self::Bb => "BB",
            Self::Users => "USERS",
            Self::Events => "EVENTS",
            Self::Answers => "ANSWERS",
        }
    }

    /// Whether leaf nodes may be bound to the account.
    pub(super) fn has_leaf_nodes(self) -> bool {
        self != Self::Events
    }

    /// What the account may store, on top of the tenants' sum: AUTH the service's own events, BB
    /// the tenants' events and what it keeps itself. Servers count every copy.
    pub(super) fn share(self, replicas: usize) -> Share {
        let once = match self {
            Self::Sys | Self::Users | Self::Events | Self::Answers => {
                Share { memory: 0, storage: 0 }
            }
            Self::Auth => Share { memory: 64 << 20, storage: 4 << 30 },
            Self::Bb => Share { memory: 256 << 20, storage: 16 << 30 },
        };
        let copies = replicas as u64;
        Share { memory: once.memory * copies, storage: once.storage * copies }
    }

    pub(super) fn offers(self) -> Vec<Offer> {
        let offer = |kind, subject: &str, to| Offer {
            kind,
            subject: subject.to_owned(),
            many_answers: false,
            to,
        };
        match self {
            Self::Sys | Self::Events => Vec::new(),
            Self::Auth => readers::requests(&readers::NEW)
                .into_iter()
                .map(|Request { subject, many_answers, .. }| Offer {
                    kind: Service,
                    subject,
                    many_answers,
                    to: Some(Self::Events),
                })
                .collect(),
            Self::Bb => vec![
                offer(Service, "user.*.Events", None),
                offer(Stream, "user.*.Notifications", None),
            ]
            .into_iter()
            .chain(
                kept_streams()
                    .into_iter()
                    .map(|subject| offer(Service, &subject, Some(Self::Auth))),
            )
            .collect(),
            Self::Users => vec![
                offer(Stream, "user.*.Events", Some(Self::Bb)),
                offer(Service, "user.*.Notifications", Some(Self::Bb)),
            ],
            Self::Answers => vec![offer(Service, NOTIFICATIONS, Some(Self::Users))],
        }
    }

    pub(super) fn takes(self) -> Vec<Take> {
        let take = |kind, from, subject: &str, local: Option<&str>| Take {
            kind,
            from,
            subject: subject.to_owned(),
            local: local.map(str::to_owned),
        };
        match self {
            Self::Sys | Self::Answers => Vec::new(),
            Self::Users => vec![take(Service, Self::Answers, NOTIFICATIONS, None)],
            Self::Auth => kept_streams()
                .iter()
                .filter_map(|subject| {
                    let local = format!("JS.bb.API.{}", subject.strip_prefix("$JS.API.")?);
                    Some(take(Service, Self::Bb, subject, Some(&local)))
                })
                .collect(),
            Self::Bb => vec![
                take(Stream, Self::Users, "user.*.Events", Some("pool.user.*.Events")),
                take(Service, Self::Users, "user.*.Notifications", None),
            ],
            Self::Events => readers::requests(&readers::NEW)
                .into_iter()
                .map(|Request { subject, local, .. }| Take {
                    kind: Service,
                    from: Self::Auth,
                    local: (local != subject).then_some(local),
                    subject,
                })
                .collect(),
        }
    }
}

/// The requests of BB's JetStream API by which the service makes its streams there, from AUTH, and
/// keeps them as configured. None of them deletes anything.
fn kept_streams() -> Vec<String> {
    let streams = ["INFO", "CREATE", "UPDATE"].into_iter().flat_map(|action| {
        PROTECTED_STREAMS.iter().map(move |stream| format!("$JS.API.STREAM.{action}.{stream}"))
    });
    let consumers = ["INFO", "CREATE"]
        .into_iter()
        .map(|action| format!("$JS.API.CONSUMER.{action}.{RECEIVED_EVENTS}.{PROCESS_EVENTS}"));
    streams.chain(consumers).collect()
}

/// JetStream's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) memory: u64,
    pub(super) storage: u64,
}

/// A subject that an account offers; `to` is the only account that takes it, where there is one.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) kind: ExportType,
    pub(super) subject: String,
    /// Whether a request may be answered more than once.
    pub(super) many_answers: bool,
    pub(super) to: Option<Account>,
}

/// A subject that an account takes from another, and its name there.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) kind: ExportType,
    pub(super) from: Account,
    pub(super) subject: String,
    pub(super) local: Option<String>,
}

/// What BB's own login may not do: read the pool (whose reply subjects tenants choose), or touch
/// the streams that the service keeps and the subjects that feed them. It binds the login alone, and
/// not what its consumers and streams do.
pub(super) fn bb_permissions() -> Permissions {
    let mut publish = vec!["pool.>".to_owned()];
    for action in ["CREATE", "UPDATE", "PURGE", "DELETE", "RESTORE", "MSG.DELETE"] {
        publish.extend(
            PROTECTED_STREAMS.iter().map(|stream| format!("$JS.API.STREAM.{action}.{stream}")),
        );
    }
    Permissions {
        publish: Permission { allow: Vec::new(), deny: publish },
        subscribe: Permission { allow: Vec::new(), deny: vec!["pool.>".to_owned()] },
        responses: None,
    }
}
