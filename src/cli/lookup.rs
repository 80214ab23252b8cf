//! What a command names: a tenant, which has to exist, and the names that may be given.

use super::database::explain;
use super::{Context, Usage};
use crate::admin::{InvalidName, Name};
use crate::store::{TenantId, TenantRecord};

/// The id of a tenant, as an argument.
pub(super) fn parse_id(text: &str) -> anyhow::Result<TenantId> {
    text.parse().map_err(|error| Usage(format!("`{text}`: {error}")).into())
}

/// The tenant, which has to exist.
pub(super) async fn find_tenant(context: &Context, id: &TenantId) -> anyhow::Result<TenantRecord> {
    context.admin.tenant(id).await.map_err(explain)
}

/// A display name, a login or a label, as an argument.
pub(super) fn parse_name(text: &str) -> anyhow::Result<Name> {
    text.parse().map_err(|error: InvalidName| Usage(error.to_string()).into())
}
