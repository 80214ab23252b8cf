//! Accounts that servers know already.

use std::time::Instant;

use futures_util::future::BoxFuture;

use crate::keys::ServerId;
use crate::placement::{AccountError, Accounts, ReadyAccount};
use crate::store::TenantRecord;

/// Takes a tenant's own account from its row, and makes nothing known to anybody.
#[derive(Debug)]
pub(super) struct Existing;

impl Accounts for Existing {
    fn ready<'a>(
        &'a self,
        tenant: &'a TenantRecord,
        _server: &'a ServerId,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<ReadyAccount, AccountError>> {
        let ready = |id| ReadyAccount { id, loads: false };
        Box::pin(std::future::ready(tenant.account.map(ready).ok_or(AccountError::Unnamed)))
    }
}
