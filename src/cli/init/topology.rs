//! Which account offers which subjects to which other: written once, as JWTs in operator mode and
//! as text in config mode.
//!
//! Tenants' events are taken in by the service ([`intake`](crate::intake)): those of own accounts come
//! to INTAKE, on a subject for each tenant, those of shared tenants are heard in USERS; and INTAKE
//! alone hands on to BB. Neither account has JetStream or leaf nodes, since either sends messages
//! under subjects of its user's choice. BB's requests on notifications go to USERS, and on to
//! ANSWERS, which passes them to the own accounts of those tenants that answer: so what grows with
//! these tenants is the JWT of ANSWERS, which no other depends on.
//!
//! Of AUTH there is nothing within reach of an account that has JetStream or leaf nodes: a consumer
//! of such an account's delivers whatever it likes under the subjects that the account takes, and
//! AUTH's own JetStream goes by subjects. EVENTS has neither, and takes what it needs to read the
//! service's events.

use std::time::Duration;

use crate::placement::NOTIFICATIONS;
use crate::protocol::claims::ExportType::{self, Service, Stream};
use crate::protocol::claims::{Permission, Permissions};
use crate::streams::readers::{self, Request};
use crate::streams::{PROCESS_EVENTS, RECEIVED_EVENTS};

/// How long an event may wait for its acknowledgement: longer than the intake waits. A server keeps
/// what is not answered for that long.
pub(super) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// An account that `init` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Account {
    Sys,
    Auth,
    Bb,
    Users,
    /// Where tenants' events are taken in.
    Intake,
    /// Where the service's events are read.
    Events,
    /// Operator mode alone: the service adds a tenant's account by writing its JWT.
    Answers,
}

impl Account {
    /// Those of config mode.
    pub(super) const CONFIG: [Self; 6] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Intake, Self::Events];
    /// Those of operator mode.
    pub(super) const OPERATOR: [Self; 7] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Intake, Self::Events, Self::Answers];

    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Sys => "SYS",
            Self::Auth => "AUTH",
            Self::Bb => "BB",
            Self::Users => "USERS",
            Self::Intake => "INTAKE",
            Self::Events => "EVENTS",
            Self::Answers => "ANSWERS",
        }
    }

    /// Whether leaf nodes may be bound to the account.
    pub(super) fn has_leaf_nodes(self) -> bool {
        !matches!(self, Self::Users | Self::Intake | Self::Events)
    }

    /// What the account may store, on top of the tenants' sum: AUTH the service's own events, BB
    /// the tenants' events and what it keeps itself. Servers count every copy.
    pub(super) fn share(self, replicas: usize) -> Share {
        let once = match self {
            Self::Sys | Self::Users | Self::Intake | Self::Events | Self::Answers => {
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
            within: None,
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
                    within: None,
                    to: Some(Self::Events),
                })
                .collect(),
            Self::Bb => vec![
                offer(Service, "user.*.Events", Some(Self::Intake)),
                offer(Stream, "user.*.Notifications", None),
            ]
            .into_iter()
            .chain(
                kept_streams()
                    .into_iter()
                    .map(|subject| offer(Service, &subject, Some(Self::Auth))),
            )
            .collect(),
            Self::Users => vec![offer(Service, "user.*.Notifications", Some(Self::Bb))],
            Self::Intake => vec![Offer {
                within: Some(ACKNOWLEDGED_WITHIN),
                ..offer(Service, "own.*.Events", None)
            }],
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
            Self::Bb => vec![take(Service, Self::Users, "user.*.Notifications", None)],
            Self::Intake => {
                vec![take(Service, Self::Bb, "user.*.Events", Some("bb.*.Events"))]
            }
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
    let streams = ["INFO", "CREATE", "UPDATE"]
        .into_iter()
        .map(|action| format!("$JS.API.STREAM.{action}.{RECEIVED_EVENTS}"));
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
    /// How long an answer is awaited; the server's two minutes without it.
    pub(super) within: Option<Duration>,
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

/// What BB's own login may not do: answer tenants' events in its stream's place, or touch the stream
/// that the service keeps. It binds the login alone, and not what its consumers and streams do.
pub(in crate::cli) fn bb_permissions() -> Permissions {
    let kept = ["CREATE", "UPDATE", "PURGE", "DELETE", "RESTORE", "MSG.DELETE"];
    let publish = kept.map(|action| format!("$JS.API.STREAM.{action}.{RECEIVED_EVENTS}"));
    Permissions {
        publish: Permission { allow: Vec::new(), deny: publish.to_vec() },
        subscribe: Permission { allow: Vec::new(), deny: vec!["user.*.Events".to_owned()] },
        responses: None,
    }
}

/// What the service's login in INTAKE may do: take events in, hand them on, and pass on what it is
/// answered.
pub(in crate::cli) fn intake_permissions() -> Permissions {
    let list = |subjects: [&str; 2]| Permission {
        allow: subjects.map(str::to_owned).to_vec(),
        deny: Vec::new(),
    };
    Permissions {
        publish: list(["bb.*.Events", "_R_.>"]),
        subscribe: list(["own.*.Events", "_INBOX.>"]),
        responses: None,
    }
}

/// What its login in USERS may do: hear events, and answer below the inbox of whoever has sent one
/// (`_INBOX_<id>.>`, for which there is no pattern).
pub(in crate::cli) fn users_permissions() -> Permissions {
    let list = |subjects: &[&str]| subjects.iter().map(|it| (*it).to_owned()).collect();
    Permissions {
        publish: Permission {
            allow: Vec::new(),
            deny: list(&["user.>", "_R_.>", "$SYS.>", "$JS.>"]),
        },
        subscribe: Permission { allow: list(&["user.*.Events"]), deny: Vec::new() },
        responses: None,
    }
}
