//! Accounts that servers know already.

use std::time::Instant;

use async_trait::async_trait;

use crate::keys::ServerId;
use crate::placement::{AccountError, Accounts, ReadyAccount};
use crate::store::TenantRecord;

/// Takes a tenant's own account from its row, and makes nothing known to anybody.
#[derive(Debug)]
pub(super) struct Existing;

#[async_trait]
impl Accounts for Existing {
    async fn ready(
        &self,
        tenant: &TenantRecord,
        _server: &ServerId,
        _deadline: Instant,
    ) -> Result<ReadyAccount, AccountError> {
        let ready = |id| ReadyAccount { id, loads: false };
        tenant.account.map(ready).ok_or(AccountError::Unnamed)
    }
}
