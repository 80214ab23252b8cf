//! Rows that do not do what they seem to, and those that a killed command has left.

use super::super::bench;
use super::super::database::explain;
use super::super::test;
use super::Findings;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Mode};
use crate::store::{Isolation, ProvisioningStore, TenantRecord, TokenListing};

const LIMITS: &str = "connection limits";
const LEFT: &str = "leftovers";

/// As many as a line names.
const NAMED: usize = 5;

/// What `max_connections` means to servers is a limit of an account: of the tenant's own.
pub(super) fn limits(config: &Config, tenants: &[TenantRecord], findings: &mut Findings) {
    let shares = |tenant: &&TenantRecord| {
        let isolation = tenant.isolation.unwrap_or(config.isolation);
        matches!(config.mode, Mode::Config(_)) || isolation == Isolation::Shared
    };
    let limited = tenants.iter().filter(|tenant| tenant.limits.connections.is_some());
    let ids: Vec<&str> = limited.filter(shares).map(|tenant| tenant.id.as_str()).collect();
    if ids.is_empty() {
        return;
    }
    findings.warn(
        LIMITS,
        format!(
            "max_connections limits nothing for {}: servers count the connections of an account, \
             and these tenants have none of their own",
            few(&ids)
        ),
        "clear the column, or give the tenant an account of its own (operator mode, isolation \
         `account`)",
    );
}

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

fn few(ids: &[&str]) -> String {
    let named = ids.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match ids.len().checked_sub(NAMED) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}
