//! Answers that nobody waited for any more.

use std::sync::Arc;
use std::time::Duration;

use crate::authorize::{Connection, Renewable, Reply, Verdict, Who};

/// A decision whose answer came too late: whatever it says, the client was turned away without it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Late {
    /// The client's connection.
    pub connection: Connection,
    /// The login name; of a refusal, the one that was claimed, if any.
    pub user: Option<String>,
    /// The tenant's id, if a row was found.
    pub tenant: Option<String>,
    /// Whether the client would have been let in.
    pub is_grant: bool,
    /// By what it is known.
    pub why: Lateness,
    /// From the request's arrival to the decision.
    pub took: Duration,
    /// Whether the decision was shown to observers before, as if it had been in time.
    pub was_shown: bool,
    /// A grant that may have been read after all.
    pub(crate) renewable: Option<Arc<Renewable>>,
}

/// By what it is known that an answer came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum Lateness {
    /// It took longer than the server waits, and was not sent.
    Overdue,
    /// The server says that it has waited in vain.
    Server,
    /// The connection that it was sent on was lost before the server was known to have read it, and nobody could
    /// hear what that says of it.
    Lost,
    /// The server hangs, and has not read it.
    Unread,
}

impl Lateness {
    /// Its name in logs and events.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }
}

impl Late {
    pub(crate) fn new(reply: Reply, why: Lateness, took: Duration) -> Self {
        let is_grant = matches!(reply.verdict, Verdict::Granted { .. });
        let is_unsure = matches!(why, Lateness::Lost | Lateness::Unread);
        let renewable = reply.renewable.clone().filter(|_| is_unsure);
        let Who { connection, user, tenant, .. } = reply.who();
        Self { connection, user, tenant, is_grant, why, took, was_shown: false, renewable }
    }

    /// A grant that was shown as one, and that its server did not wait for.
    pub(crate) fn after_all(reply: Reply, took: Duration) -> Self {
        Self { was_shown: true, ..Self::new(reply, Lateness::Server, took) }
    }

    /// What it would have been, in events and metrics.
    #[must_use]
    pub(crate) fn decision(&self) -> &'static str {
        if self.is_grant { "granted" } else { "denied" }
    }
}
