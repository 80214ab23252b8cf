//! Whose a credential is, by the decision and by the table.

use anyhow::bail;

use super::super::Context;
use super::super::database::explain;
use super::super::init::shell_quote;
use super::super::output::name;
use super::Decided;
use crate::store::{Freshness, LoginRecord, TenantId, TokenHash};

/// Whose token a text was meant to be that is none, since its row has something else in the place of its
/// hash, and what that is: the text itself, as it can be of one that looks like a hash, or the hash of a whole line.
pub(super) async fn flawed_row(
    context: &Context,
    token: &str,
) -> anyhow::Result<Option<(String, String)>> {
    let token = token.trim_end();
    if let Some(user) = owner_by(context, TokenHash::parse(token)).await? {
        let what = format!(
            "token_hash of a token of {} holds the token's text, where its SHA-256 belongs; write that",
            name(&user)
        );
        return Ok(Some((user, what)));
    }
    for end in ["\n", "\r\n"] {
        let of_line = TokenHash::of(&format!("{token}{end}"));
        if let Some(user) = owner_by(context, Some(of_line)).await? {
            let what = format!(
                "token_hash of a token of {} was made of the token and the line break behind it; write the \
                 SHA-256 of the token alone",
                name(&user)
            );
            return Ok(Some((user, what)));
        }
    }
    Ok(None)
}

async fn owner_by(context: &Context, hash: Option<TokenHash>) -> anyhow::Result<Option<String>> {
    let Some(hash) = hash else { return Ok(None) };
    let store = context.admin.store();
    let found = store.token(&hash, Freshness::Fresh).await.map_err(explain)?;
    Ok(found.map(|token| token.user_name.clone()))
}

/// Whom a decision is about, where that is known by a row or as whom an issuer's rules let in.
pub(super) fn login_of(decided: &Decided) -> Option<&LoginRecord> {
    match decided {
        Ok(granted) => Some(granted.principal.record()),
        Err(refusal) => refusal.denied.login.as_deref(),
    }
}

/// Whom a decision is about, as far as it says so: the user and its tenant.
pub(super) fn whose(decided: &Decided) -> (Option<&str>, Option<&TenantId>) {
    if let Some(login) = login_of(decided) {
        return (Some(&login.user.name), Some(&login.tenant.id));
    }
    let named = decided.as_ref().err().and_then(|refusal| refusal.denied.named.as_deref());
    let user = named.map(|it| it.user.as_str()).filter(|user| !user.is_empty());
    (user, named.and_then(|it| it.tenant.as_ref()))
}

/// Fails if it is somebody of another tenant: it may well log in, but not as one of this one's.
pub(super) async fn of_this_tenant(
    context: &Context,
    id: &TenantId,
    typed: Option<&str>,
    decided: &Decided,
    option: &str,
) -> anyhow::Result<()> {
    let store = context.admin.store();
    let (user, tenant) = whose(decided);
    if let (None, Some(typed)) = (user, typed) {
        return match store.user(typed, Freshness::Fresh).await.map_err(explain)? {
            Some(record) if record.tenant.id != *id => Err(of_other(id, typed, &record.tenant.id)),
            _ => Ok(()),
        };
    }
    let Some(other) = tenant.filter(|tenant| *tenant != id) else { return Ok(()) };
    let Some(user) = user else { return Ok(()) };
    if typed == Some(user) {
        return Err(of_other(id, user, other));
    }
    // One that there is not is what the refusal tells.
    if store.tenant_of(other, Freshness::Fresh).await.map_err(explain)?.is_some() {
        let beside = typed.map(|it| format!(" {}", shell_quote(it))).unwrap_or_default();
        bail!(
            "the token is of {}, who belongs to the tenant {other}; test it with `nats-callout test \
             {other}{beside} {option}`",
            name(user)
        );
    }
    Ok(())
}

fn of_other(id: &TenantId, user: &str, other: &TenantId) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is a user of the tenant {other}, not of {id}; test it with `nats-callout test {other} {}`",
        name(user),
        shell_quote(user)
    )
}
