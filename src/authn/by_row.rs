//! Somebody who was let in before, nobody knows by what.

use std::sync::Arc;

use async_trait::async_trait;

use super::{DenyReason, Principal, Proof, Rejected};
use crate::clock::Clock;
use crate::store::{CredentialStore, Freshness};

/// The word for the log.
const METHOD: &str = "forgotten";

/// A user who is connected. His credential was good when he came, and if it is no longer, a change of his
/// rows has seen to it.
#[derive(Debug)]
pub(crate) struct ByRow {
    pub(crate) store: Arc<dyn CredentialStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) user: String,
}

#[async_trait]
impl Proof for ByRow {
    async fn again(&self) -> Result<Principal, Rejected> {
        let record = self.store.user(&self.user, Freshness::Fresh).await?;
        let record = record.ok_or(DenyReason::UnknownUser)?;
        Ok(Principal::new(record, METHOD, None, self.clock.now())?)
    }
}
