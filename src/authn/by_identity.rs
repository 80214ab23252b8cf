//! From an identity that a login has proved to the user whose row holds it. Logins by nkey and by
//! certificate share this.

use std::sync::Arc;

use super::{Denied, DenyReason, Principal, Rejected, confirmed};
use crate::store::{CredentialStore, Freshness, Identity, LoginRecord};

/// Lets `decide` judge the one user who holds any of the identities. What several users hold is
/// nobody's: whoever may write a row could put himself in another's place.
pub(super) async fn authenticate(
    store: &dyn CredentialStore,
    identities: &[Identity],
    decide: impl Fn(Option<Arc<LoginRecord>>) -> Result<Principal, Denied>,
) -> Result<Principal, Rejected> {
    let decide = async |freshness| Ok(decide(only(store, identities, freshness).await?)?);
    confirmed(decide(Freshness::Cached), decide(Freshness::Fresh)).await
}

async fn only(
    store: &dyn CredentialStore,
    identities: &[Identity],
    freshness: Freshness,
) -> Result<Option<Arc<LoginRecord>>, Rejected> {
    let mut holder: Option<Arc<LoginRecord>> = None;
    for identity in identities {
        let Some(found) = store.holder(identity, freshness).await? else { continue };
        match &holder {
            Some(other) if other.user.name != found.user.name => {
                let detail = format!(
                    "{:?} of tenant {} and {:?} of tenant {} hold names of one certificate: it logs \
                     in as neither, until all but one row lose theirs",
                    other.user.name, other.tenant.id, found.user.name, found.tenant.id
                );
                let denied = Denied::from(DenyReason::AmbiguousCertificate);
                return Err(denied.with_detail(detail).into());
            }
            _ => holder = Some(found),
        }
    }
    Ok(holder)
}
