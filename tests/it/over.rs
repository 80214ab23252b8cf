//! What is revoked is over: nothing of a tenant's own account reaches another one, its clients are closed
//! without an error, and all of it goes on when the tenant does.

mod clients;
mod dedicated;
mod robots;
mod servers;

use std::path::Path;

use nats_callout::internals::{AccountBody, Claims, OperatorId, Parsed};

use crate::harness::deployment::Initialised;

/// The account of a tenant, once it has one.
fn account_of(init: &Initialised, tenant: &str) -> String {
    let account =
        init.sql(&format!("SELECT account FROM tenant_accounts WHERE tenant_id = '{tenant}'"));
    assert_eq!(account.len(), 56, "{account:?}");
    account
}

/// What the resolver in a folder holds of an account. A server writes it in place: it may be there in part.
pub(crate) fn held(accounts: &Path, account: &str) -> Option<Claims<AccountBody>> {
    read(&std::fs::read_to_string(accounts.join(format!("{account}.jwt"))).ok()?)
}

fn read(token: &str) -> Option<Claims<AccountBody>> {
    let parsed = Parsed::<AccountBody>::parse(token).ok()?;
    let (claims, _): (Claims<AccountBody>, OperatorId) = parsed.verify().ok()?;
    Some(claims)
}

/// Whether nothing reaches another account by these claims.
pub(crate) fn is_cut_off(claims: &Claims<AccountBody>) -> bool {
    let body = &claims.body;
    body.imports.is_empty() && body.exports.is_empty() && body.limits.leaf == 0
}
