//! The events of changes that wait to be published.

use crate::store::Result;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

/// In the place of an event's data that are too large, or unreadable.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) const OMITTED: &str = r#"{"omitted":true}"#;

/// A change of a tenant or a user that is to be published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// The event's own id, random.
    pub id: String,
    /// Its type, `auth.user.created` say, which is also the subject it is published to.
    pub kind: String,
    /// The tenant's id.
    pub tenant: String,
    /// What it is about: the tenant's id, or the user's name.
    pub subject: String,
    /// When it was committed, by the database's clock (RFC 3339).
    pub time: String,
    /// What has changed, as JSON. Never a secret.
    pub data: Box<RawValue>,
}

/// The events of changes, noted in the transactions that made them. Whoever publishes one deletes
/// it by its id once the stream has it: never by a watermark, since commits overtake each other.
#[async_trait]
pub trait Outbox: Debug + Send + Sync {
    /// The oldest events, in the order in which they were noted, at most `limit` and as many as fit
    /// into memory without harm, but those of the tenants `without`. Reads alone.
    async fn pending(&self, limit: u32, without: &[String]) -> Result<Vec<OutboxEvent>>;

    /// How many events wait.
    async fn backlog(&self) -> Result<u64>;

    /// Deletes events that the stream has. Those that are gone already are no error.
    async fn published(&self, ids: &[String]) -> Result<()>;

    /// Whether this instance is the one that publishes for `time` from now on, by the database's
    /// clock. It is refused while another's time lasts.
    async fn lease(&self, instance: &str, time: Duration) -> Result<bool>;

    /// Ends this instance's time, if it has it.
    async fn release(&self, instance: &str) -> Result<()>;
}
