//! One log line for each outcome, in one place. What the client and the server are not told, the
//! operator reads here. Other observers see the same, and a [`Gate`] may want to have recorded a
//! grant before it is given.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::authorize::{Outcome, Reply, Verdict};
use crate::redact::without_secrets;

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

/// Has to have recorded a grant before the client is told.
pub trait Gate: Debug + Send + Sync {
    /// Returns once the grant, which took this long to decide, is recorded. It is dropped when the
    /// request's deadline has come, and then there is no grant.
    fn admit<'a>(
        &'a self,
        reply: &'a Reply,
        took: Duration,
    ) -> BoxFuture<'a, Result<(), NotAudited>>;
}

/// Why a grant could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("the grant could not be recorded: {0}")]
pub struct NotAudited(pub String);

/// The beginning of a name that a client claimed: it may be thousands of bytes long, or a secret in
/// the wrong place.
pub(crate) fn shortened(name: &str) -> &str {
    if matches!(without_secrets(name), Cow::Owned(_)) {
        return "(a secret)";
    }
    name.char_indices().nth(64).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_shown_for_a_name() {
        assert_eq!(shortened("nct_0000000000000000000000000000000019Bvis"), "(a secret)");
        assert_eq!(shortened("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), "(a secret)");
        assert_eq!(shortened("eyJon"), "eyJon");
        assert_eq!(shortened(&"x".repeat(100)), "x".repeat(64));
    }
}
