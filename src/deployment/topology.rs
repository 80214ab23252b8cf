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

use crate::clock::UnixSeconds;
use crate::keys::{AccountId, SigningKey};
use crate::placement::NOTIFICATIONS;
use crate::protocol::claims::ExportType::{self, Service, Stream};
use crate::protocol::claims::{
    AccountBody, AccountLimits, Export, Import, NO_LIMIT, Permission, Permissions, UserBody,
};
use crate::protocol::jwt::{Claims, JwtError};
use crate::streams::readers::{self, Request};
use crate::streams::{PROCESS_EVENTS, RECEIVED_EVENTS};

/// How long an event may wait for its acknowledgement: longer than the intake waits. A server keeps
/// what is not answered for that long.
pub(crate) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// An account that is there from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
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
    pub(crate) const CONFIG: [Self; 6] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Intake, Self::Events];
    /// Those of operator mode.
    pub(crate) const OPERATOR: [Self; 7] =
        [Self::Sys, Self::Auth, Self::Bb, Self::Users, Self::Intake, Self::Events, Self::Answers];

    pub(crate) fn name(self) -> &'static str {
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

    /// How files are named that belong to the account.
    #[cfg(feature = "cli")]
    pub(crate) fn file_name(self) -> String {
        self.name().to_lowercase()
    }

    /// What the account's login may do that `init` writes.
    pub(crate) fn login(self) -> UserBody {
        let responses = None;
        UserBody::new(match self {
            Self::Sys | Self::Auth | Self::Answers => Permissions::default(),
            // BB may not answer tenants' events in its stream's place, nor touch the stream that the
            // service keeps. It binds the login alone, and not what its consumers and streams do.
            Self::Bb => {
                let kept = ["CREATE", "UPDATE", "PURGE", "DELETE", "RESTORE", "MSG.DELETE"];
                let kept = kept.map(|action| format!("$JS.API.STREAM.{action}.{RECEIVED_EVENTS}"));
                let (publish, subscribe) =
                    (Permission::deny(kept), Permission::deny(["user.*.Events"]));
                Permissions { publish, subscribe, responses }
            }
            // The service takes events in, hands them on, and passes on what it is answered.
            Self::Intake => Permissions {
                publish: Permission::allow(["bb.*.Events", "_R_.>"]),
                subscribe: Permission::allow(["own.*.Events", "_INBOX.>"]),
                responses,
            },
            // The service hears events, and answers below the inbox of whoever has sent one
            // (`_INBOX_<id>.>`, for which there is no pattern).
            Self::Users => Permissions {
                publish: Permission::deny(["user.>", "_R_.>", "$SYS.>", "$JS.>"]),
                subscribe: Permission::allow(["user.*.Events"]),
                responses,
            },
            Self::Events => return reader(&readers::requests(&readers::NEW)),
        })
    }

    /// Whether leaf nodes may be bound to the account.
    pub(crate) fn has_leaf_nodes(self) -> bool {
        !matches!(self, Self::Users | Self::Intake | Self::Events)
    }

    /// What the account may store, on top of the tenants' sum: AUTH the service's own events, BB
    /// the tenants' events and what it keeps itself. Servers count every copy.
    pub(crate) fn share(self, replicas: usize) -> Share {
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

    pub(crate) fn offers(self) -> Vec<Offer> {
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

    pub(crate) fn takes(self) -> Vec<Take> {
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
pub(crate) struct Share {
    pub(crate) memory: u64,
    pub(crate) storage: u64,
}

/// A subject that an account offers; `to` is the only account that takes it, where there is one.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) kind: ExportType,
    pub(crate) subject: String,
    /// Whether a request may be answered more than once.
    pub(crate) many_answers: bool,
    /// How long an answer is awaited; the server's two minutes without it.
    pub(crate) within: Option<Duration>,
    pub(crate) to: Option<Account>,
}

/// A subject that an account takes from another, and its name there.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) kind: ExportType,
    pub(crate) from: Account,
    pub(crate) subject: String,
    pub(crate) local: Option<String>,
}

/// What an account is, among those with these ids.
pub(crate) fn account_body<E>(
    account: Account,
    replicas: usize,
    id: impl Fn(Account) -> Result<AccountId, E>,
) -> Result<AccountBody, E> {
    let share = account.share(replicas);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let many = if share.storage > 0 { NO_LIMIT } else { 0 };
    // `offer.to` would need an activation token in the importer's JWT. Whoever could import without
    // one would need an account JWT of this operator, and those are made by the service alone.
    let exports = account.offers().into_iter().map(|offer| Export {
        response_type: offer.many_answers.then(|| "Stream".to_owned()),
        response_threshold: offer.within.and_then(|it| u64::try_from(it.as_nanos()).ok()),
        ..Export::new(offer.subject, offer.kind)
    });
    let imports = account.takes().into_iter().map(|take| {
        let local = take.local.unwrap_or_else(|| take.subject.clone());
        Ok(Import::new(take.kind, id(take.from)?, take.subject, local))
    });
    Ok(AccountBody {
        exports: exports.collect(),
        imports: imports.collect::<Result<_, E>>()?,
        limits: AccountLimits {
            mem_storage: bytes(share.memory),
            disk_storage: bytes(share.storage),
            streams: many,
            consumer: many,
            leaf: if account.has_leaf_nodes() { NO_LIMIT } else { 0 },
            ..AccountLimits::default()
        },
        ..AccountBody::default()
    })
}

/// The JWT of an account.
pub(crate) fn account_jwt(
    account: Account,
    id: AccountId,
    body: AccountBody,
    operator: &SigningKey,
    now: UnixSeconds,
) -> Result<String, JwtError> {
    Claims::new(id, account.name(), now, body).encode_now(operator)
}

/// What the login of the events' reader holds.
pub(crate) fn reader(requests: &[Request]) -> UserBody {
    UserBody {
        allowed_connection_types: readers::CONNECTIONS.map(str::to_owned).to_vec(),
        ..UserBody::new(readers::permissions(requests))
    }
}
