//! What commands add to the tenant table for themselves and remove again, told apart from all else: one
//! that was killed has left it.

use crate::store::{TenantRecord, TokenListing};

/// The label of a token that is there for one login.
pub(crate) const TOKEN_LABEL: &str = "nats-callout test";

/// How the id of a tenant begins that is there for one measurement.
pub(crate) const TENANT_ID: &str = "bench-";

/// Its name.
pub(crate) const TENANT_NAME: &str = "temporary: nats-callout bench";

pub(super) fn is_token(token: &TokenListing) -> bool {
    token.label.as_deref() == Some(TOKEN_LABEL)
}

pub(super) fn is_tenant(tenant: &TenantRecord) -> bool {
    tenant.id.as_str().starts_with(TENANT_ID) && tenant.name == TENANT_NAME
}
