//! From an identity that a login has proved to the user whose row holds it. Logins by nkey and by
//! certificate share this.

use std::sync::Arc;

use super::{Authentication, AuthnError, DenyReason, Principal};
use crate::store::{CredentialStore, Freshness, Identity, LoginRecord, StoreError};

/// Lets `decide` judge the one user who holds any of the identities. What several users hold is
/// nobody's: whoever may write a row could put himself in another's place. No refusal rests on a
/// cached row.
pub(super) async fn authenticate(
    store: &dyn CredentialStore,
    identities: &[Identity],
    decide: impl Fn(Option<Arc<LoginRecord>>) -> Result<Principal, DenyReason>,
) -> Result<Authentication, AuthnError> {
    let holder = only(store, identities, Freshness::Cached).await?;
    if let Ok(principal) = holder.and_then(&decide) {
        return Ok(Authentication::Accepted(principal));
    }
    let holder = only(store, identities, Freshness::Fresh).await?;
    Ok(match holder.and_then(decide) {
        Ok(principal) => Authentication::Accepted(principal),
        Err(reason) => Authentication::Refused(reason),
    })
}

async fn only(
    store: &dyn CredentialStore,
    identities: &[Identity],
    freshness: Freshness,
) -> Result<Result<Option<Arc<LoginRecord>>, DenyReason>, StoreError> {
    let mut holder: Option<Arc<LoginRecord>> = None;
    for identity in identities {
        let Some(found) = store.holder(identity, freshness).await? else { continue };
        match &holder {
            Some(other) if other.user.name != found.user.name => {
                tracing::warn!(
                    one = %other.user.name,
                    other = %found.user.name,
                    "several users hold names of one certificate: it logs in as neither, until all \
                     but one row lose theirs"
                );
                return Ok(Err(DenyReason::AmbiguousCertificate));
            }
            _ => holder = Some(found),
        }
    }
    Ok(Ok(holder))
}
