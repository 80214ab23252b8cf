//! Rows that a killed command has left.

use super::super::bench;
use super::super::database::explain;
use super::super::test;
use super::Findings;
use crate::clock::{Clock as _, SystemClock};
use crate::store::{ProvisioningStore, TenantRecord, TokenListing};

const LEFT: &str = "leftovers";

/// What `test` and `bench` add, and remove again unless they are killed. It has ended by itself, and
/// logs nobody in.
pub(super) async fn left(
    store: &dyn ProvisioningStore,
    tenants: &[TenantRecord],
    findings: &mut Findings,
) {
    let now = SystemClock.now();
    let has_ended = |end: Option<_>| end.is_some_and(|end| end <= now);
    let tenants = tenants.iter().filter(|it| bench::is_temporary(it) && has_ended(it.expires_at));
    let mut commands: Vec<String> =
        tenants.map(|it| format!("nats-callout tenant remove {} --yes", it.id)).collect();
    match store.tokens().await.map_err(explain) {
        Ok(tokens) => {
            let is_left = |it: &&TokenListing| test::is_temporary(it) && has_ended(it.expires_at);
            let tokens = tokens.iter().filter(is_left);
            commands.extend(tokens.map(|it| format!("nats-callout token remove {} --yes", it.id)));
        }
        Err(error) => findings.warn(LEFT, format!("{error:#}"), "run doctor again"),
    }
    for command in commands {
        let what = "a `test` or `bench` that was killed has left rows, which log nobody in";
        findings.warn(LEFT, what, format!("run `{command}`"));
    }
}
