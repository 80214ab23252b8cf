//! One log line for each outcome, in one place. What the client and the server are not told, the
//! operator reads here. Other observers see the same.

use std::fmt::Debug;
use std::time::Duration;

use crate::authorize::{Outcome, Verdict};
use crate::redact::shortened;

/// Is shown every outcome, on the path of the request: it must not block.
pub trait Observer: Debug + Send + Sync {
    /// Looks at an outcome, which took this long since the request came in.
    fn observe(&self, outcome: &Outcome, took: Duration);

    /// Is told of a connection that was closed after a change.
    fn kicked(&self, _kick: &Kick) {}
}

/// A connection that was closed because its grant no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Writes outcomes to the log: grants at `debug`, refusals at `info`, requests that are not to be
/// trusted at `warn`, faults of ours at `error`.
#[derive(Debug, Clone, Copy)]
pub struct AuditLog;

impl Observer for AuditLog {
    fn observe(&self, outcome: &Outcome, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match outcome {
            Outcome::Reply(reply) => {
                let (server, cid) = (&reply.connection.server, reply.connection.id);
                let host = &reply.connection.host;
                match &reply.verdict {
                    Verdict::Granted { user, tenant, method, ttl } => tracing::debug!(
                        ?user,
                        ?tenant,
                        method,
                        ttl_s = ttl.as_secs(),
                        ?server,
                        cid,
                        ?host,
                        took_us,
                        "granted"
                    ),
                    Verdict::Denied { reason, user } => tracing::info!(
                        reason = reason.code(),
                        user = ?user.as_deref().map(shortened),
                        ?server,
                        cid,
                        ?host,
                        took_us,
                        "refused"
                    ),
                }
            }
            Outcome::Abort(abort) if abort.is_bad_request() => {
                tracing::warn!(%abort, took_us, "no reply to a request that is not to be trusted");
            }
            Outcome::Abort(abort) if abort.is_guess() => {
                tracing::debug!(%abort, took_us, "no reply to a guess");
            }
            Outcome::Abort(abort) => {
                tracing::error!(%abort, took_us, "no reply; the client is let go after its time-out");
            }
        }
    }
}
