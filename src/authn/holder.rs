//! From an identity that a login has proved to the user whose row holds it. Logins by nkey and by
//! certificate share this.

use std::sync::Arc;

use super::{Authentication, AuthnError, DenyReason, Principal};
use crate::store::{CredentialStore, Freshness, Identity, LoginRecord, StoreError};

/// Lets `decide` judge the holder of the first of the identities that anybody holds. No refusal
/// rests on a cached row.
pub(super) async fn authenticate(
    store: &dyn CredentialStore,
    identities: &[Identity],
    decide: impl Fn(Option<Arc<LoginRecord>>) -> Result<Principal, DenyReason>,
) -> Result<Authentication, AuthnError> {
    if let Ok(principal) = decide(first(store, identities, Freshness::Cached).await?) {
        return Ok(Authentication::Accepted(principal));
    }
    Ok(match decide(first(store, identities, Freshness::Fresh).await?) {
        Ok(principal) => Authentication::Accepted(principal),
        Err(reason) => Authentication::Refused(reason),
    })
}

async fn first(
    store: &dyn CredentialStore,
    identities: &[Identity],
    freshness: Freshness,
) -> Result<Option<Arc<LoginRecord>>, StoreError> {
    for identity in identities {
        let found = store.holder(identity, freshness).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
