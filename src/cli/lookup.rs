//! What a command names: a tenant, which has to exist, and the names that may be given.

use super::database::explain;
use super::output::note;
use super::{Context, Usage};
use crate::admin::{InvalidName, Name};
use crate::policy::rules::PolicySet;
use crate::redact::shown;
use crate::store::{TenantId, TenantRecord};

/// The id of a tenant, as an argument.
pub(super) fn parse_id(text: &str) -> anyhow::Result<TenantId> {
    text.parse().map_err(|error| Usage(format!("`{text}`: {error}")).into())
}

/// The tenant, which has to exist.
pub(super) async fn find_tenant(context: &Context, id: &TenantId) -> anyhow::Result<TenantRecord> {
    context.admin.tenant(id).await.map_err(explain)
}

/// Where to look for a user that has no row, where an issuer lets such users in.
pub(super) fn without_row(context: &Context, tenant: &str) -> String {
    if !context.admin.config().admits_without_row() {
        return String::new();
    }
    format!("; `nats-callout test {tenant} --token-stdin` tells what a JWT without a row gets")
}

/// Says so if there is no policy of this name: whoever has it is refused until there is.
pub(super) fn warn_of_policy(context: &Context, policy: Option<&str>) {
    let folder = context.admin.config().policies.as_deref();
    // A folder that cannot be read is reported by whoever needs it.
    let Ok(policies) = PolicySet::configured(folder) else { return };
    if let Some(missing) = policy.filter(|policy| !policies.names().any(|name| name == *policy)) {
        let names = policies.names().collect::<Vec<_>>().join(", ");
        note(&format!(
            "warning: there is no policy `{}`, and whoever has it is refused; there are: {names}",
            shown(missing)
        ));
    }
}

/// A display name, a login or a label, as an argument.
pub(super) fn parse_name(text: &str) -> anyhow::Result<Name> {
    text.parse().map_err(|error: InvalidName| Usage(error.to_string()).into())
}
