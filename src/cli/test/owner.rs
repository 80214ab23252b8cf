//! Whose a credential is, by the table.

use anyhow::bail;

use super::super::Context;
use super::super::database::explain;
use crate::authn::token::hash_of;
use crate::store::{Freshness, TenantId, TokenHash};

/// The user that a token belongs to, if to any.
pub(super) async fn owner_of(context: &Context, token: &str) -> anyhow::Result<Option<String>> {
    owner_by(context, hash_of(token.trim_end())).await
}

/// Whose token a text would be if the table held its text in place of its hash, as it can of one that looks
/// like a hash.
pub(super) async fn owner_of_text(
    context: &Context,
    token: &str,
) -> anyhow::Result<Option<String>> {
    owner_by(context, TokenHash::parse(token.trim_end())).await
}

async fn owner_by(context: &Context, hash: Option<TokenHash>) -> anyhow::Result<Option<String>> {
    let Some(hash) = hash else { return Ok(None) };
    let store = context.admin.store();
    let found = store.token(&hash, Freshness::Fresh).await.map_err(explain)?;
    Ok(found.map(|token| token.user_name.clone()))
}

/// Fails if the user belongs to another tenant: it may well log in, but not as one of this one's.
pub(super) async fn owned(context: &Context, id: &TenantId, user: &str) -> anyhow::Result<()> {
    let store = context.admin.store();
    match store.user(user, Freshness::Fresh).await.map_err(explain)? {
        Some(record) if record.tenant.id != *id => bail!(
            "{user} is a user of the tenant {other}, not of {id}; test it with `nats-callout test \
             {other} {user}`",
            other = record.tenant.id
        ),
        _ => Ok(()),
    }
}
