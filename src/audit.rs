//! One log line for each outcome, in one place. What the client and the server are not told, the
//! operator reads here. Other observers see the same.

mod late;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub use self::late::{Late, Lateness};
use crate::authn::Denied;
use crate::authorize::{Connection, NoReply, Outcome, Reply, Verdict};

/// Is shown every outcome, on the path of the request: it must not block. One that panics is named in
/// the log, and takes no login with it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use nats_callout::callout::{Observer, Outcome};
///
/// #[derive(Debug, Default)]
/// struct Faults(AtomicU64);
///
/// impl Observer for Faults {
///     fn observe(&self, outcome: &Outcome, _took: Duration) {
///         if matches!(outcome, Outcome::NoReply(_)) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Debug + Send + Sync {
    /// Looks at an outcome, which took this long since the request came in. A grant is shown once the server
    /// has read the answer, a refusal as it goes out; both without their payload.
    fn observe(&self, outcome: &Outcome, took: Duration);

    /// Is told of a decision whose answer came too late. It is no outcome: nobody was let in.
    fn late(&self, _late: &Late) {}

    /// Is told of a client that was granted, and that its server did not let in.
    fn rejected(&self, _rejection: &Rejection) {}

    /// Is told of a connection that was broken off before its grant ends, so that its client logs in
    /// again.
    fn renewed(&self, _kick: &Kick) {}

    /// Is told of a connection that was closed after a change.
    fn kicked(&self, _kick: &Kick) {}

    /// Is told from time to time how long an answer is on its way to the server's clients.
    fn reply_way(&self, _took: Duration) {}
}

/// All who are shown what happens, the log first.
#[derive(Debug, Clone)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Default for Observers {
    fn default() -> Self {
        Self(vec![Arc::new(AuditLog::default())])
    }
}

impl Observers {
    /// Has the log name the instance that it is of.
    pub(crate) fn name_instance(&mut self, instance: String) {
        let log: Arc<dyn Observer> = Arc::new(AuditLog { instance: Some(instance) });
        if let Some(first) = self.0.first_mut() {
            *first = log;
        }
    }

    pub(crate) fn push(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    pub(crate) fn observe(&self, outcome: &Outcome, took: Duration) {
        self.each(|it| it.observe(outcome, took));
    }

    pub(crate) fn rejected(&self, rejection: &Rejection) {
        self.each(|it| it.rejected(rejection));
    }

    pub(crate) fn late(&self, late: &Late) {
        self.each(|it| it.late(late));
    }

    pub(crate) fn reply_way(&self, took: Duration) {
        self.each(|it| it.reply_way(took));
    }

    fn each(&self, show: impl Fn(&dyn Observer)) {
        for observer in &self.0 {
            if catch_unwind(AssertUnwindSafe(|| show(&**observer))).is_err() {
                tracing::error!("an observer of outcomes panicked");
            }
        }
    }
}

/// A client that was granted, and that its server did not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// Its connection.
    pub connection: Connection,
    /// The login name.
    pub user: String,
    /// Its tenant's id.
    pub tenant: String,
    /// What the server has against it, in its own words.
    pub reason: String,
}

impl Rejection {
    /// Whether the account has as many connections as the server allows it; else the answer is wrong: with
    /// an account that the server does not know, say, or by another issuer than its own.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        self.reason.contains("maximum account active connections")
    }
}

/// A connection that was closed: because its grant no longer holds, or will not for long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kick {
    /// The server's id.
    pub server: String,
    /// The connection id on that server.
    pub cid: u64,
    /// The account it was in.
    pub account: String,
    /// The login name.
    pub user: String,
    /// The client's address.
    pub host: String,
}

/// Writes outcomes to the log, each in one line, with texts in quotes: grants at `debug`, refusals at
/// `info`, or at `warn` where a row or a policy is wrong, guesses that are not tried at `info`, requests that
/// are not to be trusted at `warn`, faults of ours at `error`, and among them grants that a server does not
/// take. Answers that came too late are at `warn`.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditLog {
    /// The id of the instance.
    instance: Option<String>,
}

/// A text that is there.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Observer for AuditLog {
    fn observe(&self, outcome: &Outcome, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let instance = self.instance.as_deref();
        match outcome {
            Outcome::Reply(Reply { verdict, connection, .. }) => {
                let Connection { server, host, id: cid, library, offers, .. } = connection;
                let library = some(library);
                match verdict {
                    Verdict::Granted { user, tenant, method, ttl, rule } => tracing::debug!(
                        user,
                        tenant,
                        method,
                        ttl_s = ttl.as_secs(),
                        policy = rule.as_ref().map(|rule| &rule.policy),
                        at = rule.as_ref().map(|rule| rule.at.to_string()),
                        server,
                        cid,
                        host,
                        library,
                        instance,
                        took_us,
                        "granted"
                    ),
                    Verdict::Denied { denied, user } => {
                        let Denied { reason, at, detail, .. } = denied;
                        macro_rules! refused {
                            ($level:ident) => {
                                tracing::$level!(
                                    reason = reason.code(),
                                    user,
                                    tenant = denied.tenant(),
                                    server,
                                    cid,
                                    host,
                                    method = some(offers),
                                    library,
                                    at = at.as_ref().map(ToString::to_string),
                                    detail,
                                    instance,
                                    took_us,
                                    "refused"
                                )
                            };
                        }
                        if reason.is_ours() { refused!(warn) } else { refused!(info) }
                    }
                }
            }
            Outcome::NoReply(NoReply { fault, who }) => {
                let connection = who.as_ref().map(|who| &who.connection);
                macro_rules! no_reply {
                    ($level:ident, $words:literal) => {
                        tracing::$level!(
                            reason = fault.code(),
                            user = who.as_ref().and_then(|who| who.user.as_deref()),
                            tenant = who.as_ref().and_then(|who| who.tenant.as_deref()),
                            server = connection.map(|it| it.server.as_str()),
                            cid = connection.map(|it| it.id),
                            host = connection.map(|it| it.host.as_str()),
                            method = connection.and_then(|it| some(it.offers)),
                            library = connection.and_then(|it| some(&it.library)),
                            fault = fault.to_string(),
                            instance,
                            took_us,
                            $words
                        )
                    };
                }
                if fault.is_bad_request() {
                    no_reply!(warn, "no reply to a request that is not to be trusted");
                } else if fault.is_untried() {
                    no_reply!(info, "no reply; it was not tried");
                } else if fault.is_of_row() {
                    no_reply!(warn, "no reply; the client is let go after its time-out");
                } else {
                    no_reply!(error, "no reply; the client is let go after its time-out");
                }
            }
        }
    }

    fn late(&self, late: &Late) {
        let Connection { server, host, id: cid, .. } = &late.connection;
        tracing::warn!(
            user = late.user,
            tenant = late.tenant,
            server,
            cid,
            host,
            library = some(&late.connection.library),
            instance = self.instance.as_deref(),
            decision = late.decision(),
            reason = late.why.code(),
            took_us = u64::try_from(late.took.as_micros()).unwrap_or(u64::MAX),
            "late: the client was turned away before this answer"
        );
    }

    fn rejected(&self, rejection: &Rejection) {
        let Rejection { connection, user, tenant, reason } = rejection;
        let Connection { server, host, id: cid, .. } = connection;
        macro_rules! rejected {
            ($level:ident) => {
                tracing::$level!(
                    user,
                    tenant,
                    server,
                    cid,
                    host,
                    reason,
                    instance = self.instance.as_deref(),
                    "granted, and not let in by its server"
                )
            };
        }
        if rejection.is_limit() { rejected!(info) } else { rejected!(error) }
    }
}

#[cfg(test)]
mod tests;
