//! Who has to know of a grant before the client does.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use super::Reply;

/// Has to have recorded a grant before the client is told.
#[async_trait]
pub trait Gate: Debug + Send + Sync {
    /// Returns once the grant, which took this long to decide, is recorded. It is dropped when the
    /// request's deadline has come, and then there is no grant.
    async fn admit(&self, reply: &Reply, took: Duration) -> Result<(), NotAudited>;
}

/// Why a grant could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("the grant could not be recorded: {0}")]
pub struct NotAudited(pub String);
