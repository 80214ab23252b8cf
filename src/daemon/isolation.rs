//! Whether the account AUTH is the service's alone, its streams and their consumers included. Whoever
//! else is there sees the requests of all
//! logins (without a curve key: their passwords) and can answer in the service's place, and one
//! reply too many already refuses a login. `serve` refuses to start while that is so and goes on
//! looking while it runs; `doctor` says the same.
//!
//! A service that runs is not stopped by what it finds: whoever manages to connect could then end
//! all logins. It says so in the log at every look, and in `nats_callout_auth_isolated`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_nats::{Client, Event, ServerError};
use tokio::sync::watch;

use super::metrics::{Metrics, set};
use crate::causes::quoted;
use crate::config::{Config, Mode};
use crate::connections::Resident;
use crate::connections::occupants::{Consumer, Kept, Occupants};
use crate::keyfile::{self, KeyFileError};
use crate::keys::KeyKind;
use crate::policy::subject::Pattern;
use crate::servers::{Cluster, ClusterError};
use crate::service::{self, CALLOUT_SUBJECT};
use crate::streams::events;

/// What is published to be refused. It has no reply subject, so that no instance acts upon it if
/// it is taken.
const PROBE: &str = "nats-callout: is this refused?";

/// How long after a proof that the server has seen the probe its refusal may take to be noticed.
const NOTICE: Duration = Duration::from_secs(3);

/// How much longer than a login may take a client is in AUTH that only waits for its answer.
const LEEWAY: Duration = Duration::from_secs(2);

/// The first look after the start finds who had just connected then.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_secs(15);

/// Where the streams of events delivered to for the mirrors that earlier versions had in BB.
const MIRRORED: &str = "mirror.auth";

/// Counts the refusals of the probe on one connection: see [`Denials::note`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Denials(Arc<watch::Sender<u64>>);

impl Denials {
    /// Takes the event, for a connection's callback, if it is such a refusal.
    pub(crate) fn note(&self, event: &Event) -> bool {
        let Event::ServerError(ServerError::Other(text)) = event else { return false };
        let text = text.to_ascii_lowercase();
        let ours = text.contains("permissions violation for publish")
            && text.contains(&CALLOUT_SUBJECT.to_ascii_lowercase());
        if ours {
            self.0.send_modify(|count| *count += 1);
        }
        ours
    }
}

/// Why the account AUTH is not the service's alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// Requests can be forged.
    #[error("the service's login may publish {CALLOUT_SUBJECT}: requests can be forged")]
    Publishable,
    /// A client that is none of the service's.
    #[error(
        "in AUTH there is another than the service: {user} ({}, from {host}, on {at})",
        quoted(name)
    )]
    Stranger {
        /// Its login.
        user: String,
        /// What it calls itself.
        name: String,
        /// Its address.
        host: String,
        /// The server, and the number of the connection there.
        at: String,
    },
    /// Leaf nodes, by server.
    #[error("leaf nodes are in AUTH, on {}", .0.join(", "))]
    Leafnodes(Vec<String>),
    /// Users that the callout's settings let in beside the service's own.
    #[error("users beside the service's own bypass the callout into AUTH: {}", .0.join(", "))]
    Listed(Vec<String>),
    /// Subjects of requests that are exported to other accounts.
    #[error("AUTH exports requests to other accounts: {}", .0.join(", "))]
    Exported(Vec<String>),
    /// A stream that is none of the service's, or one of its own that does more than it should.
    #[error("the stream {name} in AUTH {problem}")]
    Stream {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A consumer of the service's streams that carries events away by itself.
    #[error(
        "the consumer {name} of the stream {stream} in AUTH is none of the service's{}",
        delivers.as_ref().map(|it| format!("; it delivers to {it}")).unwrap_or_default()
    )]
    Consumer {
        /// The stream's name.
        stream: String,
        /// Its own name.
        name: String,
        /// Where it delivers to, unless it waits to be asked.
        delivers: Option<String>,
    },
}

impl Violation {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Publishable => {
                "let [callout] account name the account of the server's auth callout, and where \
                 its block has `allowed_accounts`, list that account there, or leave the list out"
            }
            Self::Stranger { .. } => {
                "give AUTH no user but the service's own, close the connection, and replace the \
                 keys that it may have used"
            }
            Self::Leafnodes(_) => "bind no leaf node to AUTH",
            Self::Listed(_) => {
                "list the service's own user alone in the auth_users of AUTH, and let others log \
                 in as users of a tenant"
            }
            Self::Exported(_) => "let AUTH export no subject that holds requests",
            Self::Stream { .. } | Self::Consumer { .. } => {
                "find out who made it, and delete it with the service's own login (`nats stream rm`, \
                 `nats consumer rm`; a stream of the service's is made again)"
            }
        }
    }
}

/// What a look at AUTH showed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    /// Clients that are the service's own.
    pub(crate) own: usize,
    /// Clients of others that may just be waiting for the answer to their login.
    pub(crate) waiting: usize,
    /// The subjects that AUTH offers to other accounts; `None` where that is not known.
    pub(crate) exports: Option<BTreeSet<String>>,
    /// What could not be found out.
    pub(crate) unknown: Vec<String>,
}

/// The service's login in AUTH, the same for all instances.
pub(super) fn own_login(config: &Config) -> Result<Resident, KeyFileError> {
    Ok(match &config.mode {
        Mode::Operator(mode) => Resident {
            account: mode.auth_account.to_string(),
            user: keyfile::user_of_creds(&mode.credentials)?,
        },
        Mode::Config(mode) => {
            let key = keyfile::signing_key(&mode.nkey, KeyKind::User)?;
            Resident { account: mode.auth_account.clone(), user: key.public_key().to_owned() }
        }
    })
}

/// What it takes to look.
pub(crate) struct Isolation {
    own: Resident,
    auth: Client,
    denials: Denials,
    cluster: Cluster,
    /// The connection on which requests were found to be denied, by [`Self::connects`].
    denied_on: AtomicU64,
    /// What the last look said of who else is in AUTH.
    is_alone: AtomicBool,
}

impl Isolation {
    /// Looks from a connection in AUTH, whose refusals `denials` counts, and one in SYS.
    pub(crate) fn new(
        config: &Config,
        auth: Client,
        denials: Denials,
        cluster: Cluster,
    ) -> Result<Self, KeyFileError> {
        let own = own_login(config)?;
        let (denied_on, is_alone) = (AtomicU64::new(0), AtomicBool::new(true));
        Ok(Self { own, auth, denials, cluster, denied_on, is_alone })
    }

    /// Looks once.
    pub(crate) async fn look(&self) -> Report {
        let mut report = Report::default();
        // A connection keeps the permissions that it was given, and a server logs every refusal.
        let connection = self.connects();
        if self.denied_on.load(Relaxed) != connection {
            match self.is_denied().await {
                Some(true) => self.denied_on.store(connection, Relaxed),
                Some(false) => report.violations.push(Violation::Publishable),
                None => report.unknown.push("the connection to AUTH was lost meanwhile".to_owned()),
            }
        }
        match self.occupants().await {
            Ok(occupants) => self.judge(occupants, &mut report),
            Err(error) => report.unknown.push(error.to_string()),
        }
        report
    }

    /// How often the connection was made: another number is another connection.
    fn connects(&self) -> u64 {
        self.auth.statistics().connects.load(Relaxed)
    }

    async fn occupants(&self) -> Result<Occupants, ClusterError> {
        self.cluster.occupants(&self.own.account).await
    }

    /// Whether the server refuses the probe; `None` where the connection did not hold.
    async fn is_denied(&self) -> Option<bool> {
        let before = self.connects();
        let mut denied = self.denials.0.subscribe();
        self.auth.publish(CALLOUT_SUBJECT, PROBE.into()).await.ok()?;
        // The server handles a connection's lines in order.
        service::prove(&self.auth).await.ok()?;
        let refused = tokio::time::timeout(NOTICE, denied.changed()).await.is_ok();
        (refused || self.connects() == before).then_some(refused)
    }

    fn judge(&self, occupants: Occupants, report: &mut Report) {
        let login = occupants.login_timeout + LEEWAY;
        for client in occupants.clients {
            if client.user == self.own.user {
                report.own += 1;
            } else if client.age < login && !client.is_active {
                report.waiting += 1;
            } else {
                report.violations.push(Violation::Stranger {
                    user: client.user,
                    name: client.name,
                    host: client.host,
                    at: format!("server {}, cid {}", client.id.server, client.id.cid),
                });
            }
        }
        let leafnodes: Vec<String> = occupants.leafnodes.into_keys().collect();
        if !leafnodes.is_empty() {
            report.violations.push(Violation::Leafnodes(leafnodes));
        }
        let listed: Vec<String> =
            occupants.auth_users.into_iter().filter(|user| *user != self.own.user).collect();
        if !listed.is_empty() {
            report.violations.push(Violation::Listed(listed));
        }
        let exported: Vec<String> = occupants
            .exports
            .iter()
            .filter(|it| it.parse::<Pattern>().is_ok_and(|it| it.matches(CALLOUT_SUBJECT)))
            .cloned()
            .collect();
        report.exports = occupants.silent.is_empty().then_some(occupants.exports);
        if !exported.is_empty() {
            report.violations.push(Violation::Exported(exported));
        }
        report.violations.extend(occupants.streams.into_iter().flat_map(judge_stream));
        report
            .unknown
            .extend(occupants.silent.into_iter().map(|server| format!("no answer from {server}")));
    }

    pub(super) fn show(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.show(move || set("nats_callout_auth_isolated", this.is_alone.load(Relaxed)));
    }

    /// Looks from time to time.
    pub(super) async fn watch(&self) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = LOOK;
            let report = self.look().await;
            for violation in &report.violations {
                tracing::error!("{violation}; {}", violation.remedy());
            }
            if !report.violations.is_empty() {
                self.is_alone.store(false, Relaxed);
            } else if report.unknown.is_empty() && !self.is_alone.swap(true, Relaxed) {
                tracing::info!("AUTH is the service's alone again");
            }
        }
    }
}

/// What is wrong with a stream in AUTH, and with its consumers.
fn judge_stream((name, kept): (String, Kept)) -> Vec<Violation> {
    let Some(allowed) = events::subjects(&name) else {
        let problem = format!("is none of the service's; it {}", kept.what_it_does());
        return vec![Violation::Stream { name, problem }];
    };
    let mut found = Vec::new();
    let alike = kept.subjects.iter().all(|subject| allowed.contains(&subject.as_str()));
    if !alike || kept.moves_messages() {
        let problem = format!("is another than the service makes; it {}", kept.what_it_does());
        found.push(Violation::Stream { name: name.clone(), problem });
    }
    let foreign = kept.consumers.into_iter().filter(|(_, consumer)| !is_harmless(consumer));
    found.extend(foreign.map(|(consumer, settings)| Violation::Consumer {
        stream: name.clone(),
        name: consumer,
        delivers: settings.deliver_subject,
    }));
    found
}

/// Whether a consumer of the streams of events may be there: it waits to be asked, which takes a login in
/// AUTH or an export of its requests, or is one that a server has made for a mirror in BB, of the
/// kind that servers make and with nowhere to deliver to but BB. (That AUTH still serves mirrors is
/// told by its exports.)
fn is_harmless(consumer: &Consumer) -> bool {
    let Some(subject) = consumer.deliver_subject.as_deref() else { return !consumer.direct };
    let mirrored = subject.strip_prefix(MIRRORED).is_some_and(|rest| rest.starts_with('.'));
    consumer.direct && mirrored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_request_is_told_from_others() {
        let denials = Denials::default();
        let error = |text: &str| Event::ServerError(ServerError::Other(text.to_owned()));
        assert!(
            denials.note(&error("Permissions Violation for Publish to \"$SYS.REQ.USER.AUTH\""))
        );
        assert!(!denials.note(&error("Permissions Violation for Publish to \"$SYS.REQ.OTHER\"")));
        assert!(
            !denials
                .note(&error("Permissions Violation for Subscription to \"$SYS.REQ.USER.AUTH\""))
        );
        assert!(!denials.note(&Event::Connected));
        assert_eq!(*denials.0.borrow(), 1);
    }
}
