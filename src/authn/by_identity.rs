//! From an identity that a login has proved to the user whose row holds it. Logins by nkey and by
//! certificate share this.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Denied, DenyReason, Principal, Proof, Rejected, confirmed};
use crate::causes::quoted;
use crate::clock::{Clock, UnixSeconds};
use crate::store::{CredentialStore, Freshness, Identity, LoginRecord};

/// Finds the one user who holds any of the identities. What several users hold is nobody's: whoever may
/// write a row could put himself in another's place.
#[derive(Debug, Clone)]
pub(super) struct ByIdentity {
    pub(super) store: Arc<dyn CredentialStore>,
    pub(super) clock: Arc<dyn Clock>,
    /// The word for the log.
    pub(super) method: &'static str,
    /// The refusal where nobody holds them.
    pub(super) unknown: fn(&[Identity]) -> Denied,
}

impl ByIdentity {
    /// Accepts the holder of what has been proved, until that ends.
    pub(super) async fn authenticate(
        &self,
        identities: Vec<Identity>,
        ends: Option<UnixSeconds>,
    ) -> Result<Principal, Rejected> {
        let proved = Arc::new(Proved { by: self.clone(), identities, ends });
        let decide = |freshness| proved.decide(freshness);
        let principal = confirmed(decide(Freshness::Cached), decide(Freshness::Fresh)).await?;
        Ok(principal.with_proof(proved))
    }
}

/// Somebody has proved to be whom these name.
#[derive(Debug)]
struct Proved {
    by: ByIdentity,
    identities: Vec<Identity>,
    ends: Option<UnixSeconds>,
}

impl Proved {
    async fn decide(&self, freshness: Freshness) -> Result<Principal, Rejected> {
        let ByIdentity { store, clock, method, unknown } = &self.by;
        let holder = only(&**store, &self.identities, freshness).await?;
        let holder = holder.ok_or_else(|| unknown(&self.identities))?;
        Ok(Principal::new(holder, method, self.ends, clock.now())?)
    }
}

#[async_trait]
impl Proof for Proved {
    async fn again(&self) -> Result<Principal, Rejected> {
        self.decide(Freshness::Fresh).await
    }
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
                    "{} of tenant {} and {} of tenant {} hold names of one certificate: it logs \
                     in as neither, until all but one row lose theirs",
                    quoted(&other.user.name),
                    other.tenant.id,
                    quoted(&found.user.name),
                    found.tenant.id
                );
                let denied = Denied::from(DenyReason::AmbiguousCertificate);
                return Err(denied.with_detail(detail).into());
            }
            _ => holder = Some(found),
        }
    }
    Ok(holder)
}
