//! What a command names: a tenant, which has to exist, and the names that may be given.

use super::database::explain;
use super::{Context, Usage};
use crate::redact::is_secret;
use crate::store::{StoreError, TenantId, TenantRecord};

/// The id of a tenant, as an argument.
pub(super) fn parse_id(text: &str) -> anyhow::Result<TenantId> {
    text.parse().map_err(|error| Usage(format!("`{text}`: {error}")).into())
}

/// The tenant, which has to exist.
pub(super) async fn find_tenant(context: &Context, id: &TenantId) -> anyhow::Result<TenantRecord> {
    let missing = StoreError::Missing { what: "tenant", key: id.to_string() };
    let found = context.admin.store().tenant(id).await.map_err(explain)?;
    found.ok_or_else(|| explain(missing))
}

/// A display name or a login: printable, and at most 128 characters.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.chars().count() > 128 {
        "has more than 128 characters"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if is_secret(name) {
        "has the form of a secret, and names are printed"
    } else {
        return Ok(());
    };
    Err(Usage(format!("the name `{}` {problem}; choose another", name.escape_debug())).into())
}
