//! New limits of tenants' accounts, pushed beside everything else: thousands of them must not keep a
//! connection open.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{MAX_RETRY, RETRY, RevokeError, Revoker};
use crate::store::TenantId;

/// Limits pushed at a time, and between two looks at what else has come.
const PUSHES_AT_ONCE: usize = 8;
const PUSHES_IN_A_ROW: usize = 256;

impl Revoker {
    /// Pushes the limits of the tenants that come in, each until it is done.
    pub(super) async fn push_all(
        self: Arc<Self>,
        mut wanted: mpsc::UnboundedReceiver<BTreeSet<TenantId>>,
        stop: CancellationToken,
    ) {
        let mut waiting = BTreeSet::new();
        let mut failures = 0_u32;
        loop {
            if waiting.is_empty() {
                match stop.run_until_cancelled(wanted.recv()).await {
                    Some(Some(tenants)) => waiting.extend(tenants),
                    _ => return,
                }
            }
            while let Ok(tenants) = wanted.try_recv() {
                waiting.extend(tenants);
            }
            let some: Vec<TenantId> = waiting.iter().take(PUSHES_IN_A_ROW).cloned().collect();
            let Some(results) = stop.run_until_cancelled(self.push(&some)).await else { return };
            let mut failed = None;
            for (tenant, result) in results {
                match result {
                    Ok(()) => drop(waiting.remove(&tenant)),
                    Err(error) => failed = Some((tenant, error)),
                }
            }
            let Some((tenant, error)) = failed else {
                failures = 0;
                continue;
            };
            tracing::warn!(%tenant, %error, "new limits were not pushed; trying again");
            let pause = RETRY.saturating_mul(1 << failures.min(6)).min(MAX_RETRY);
            failures = failures.saturating_add(1);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn push(
        self: &Arc<Self>,
        tenants: &[TenantId],
    ) -> Vec<(TenantId, Result<(), RevokeError>)> {
        stream::iter(tenants.to_vec())
            .map(|id| async move {
                let result = self.push_one(&id).await;
                (id, result)
            })
            .buffer_unordered(PUSHES_AT_ONCE)
            .collect()
            .await
    }

    async fn push_one(&self, id: &TenantId) -> Result<(), RevokeError> {
        let Some(own) = &self.own else { return Ok(()) };
        // A tenant that never logged in has no account, and one that is gone, no limits.
        let Some(tenant) = self.provisioning.tenant(id).await? else { return Ok(()) };
        let Some(account) = self.places.own(tenant.account) else { return Ok(()) };
        Ok(own.delivery.refresh(&tenant, account).await?)
    }
}
