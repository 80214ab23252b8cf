//! Rows that a killed command has left, and tenants that have no room for anybody.

use super::super::temporary;
use super::named::Named;
use super::{Doctor, Findings};
use crate::clock::{Clock as _, SystemClock};
use crate::store::{ProvisioningStore, TenantRecord};

const LEFT: &str = "leftovers";
const NO_ROOM: &str = "max_connections";

/// A limit of 0 is none at all to some programs; here it lets nobody in.
pub(super) fn without_room(tenants: &[TenantRecord], findings: &mut Findings) {
    let closed = || tenants.iter().filter(|it| it.limits.connections == Some(0)).map(|it| &it.id);
    let Some(first) = closed().next() else { return };
    let mut named = Named::default();
    closed().for_each(|id| named.add(|| id.to_string()));
    let many = if named.count == 1 { "tenant" } else { "tenants" };
    findings.warn(
        NO_ROOM,
        format!("{} {many} with 0, which lets nobody in: {}", named.count, named.names()),
        format!(
            "empty it for no limit: UPDATE tenants SET max_connections = NULL WHERE id = '{first}'; \
             `nats-callout tenant suspend` is for those who are to stay out"
        ),
    );
}

/// What `test` and `bench` add, and remove again unless they are killed. It has ended by itself, and
/// logs nobody in.
pub(super) async fn left(
    doctor: &Doctor,
    store: &dyn ProvisioningStore,
    tenants: &[TenantRecord],
    findings: &mut Findings,
) {
    let now = SystemClock.now();
    let has_ended = |end: Option<_>| end.is_some_and(|end| end <= now);
    let tenants = tenants.iter().filter(|it| temporary::is_tenant(it) && has_ended(it.expires_at));
    let mut commands: Vec<String> =
        tenants.map(|it| format!("nats-callout tenant remove {} --yes", it.id)).collect();
    match store.tokens().await {
        Ok(tokens) => {
            let tokens =
                tokens.iter().filter(|it| temporary::is_token(it) && has_ended(it.expires_at));
            commands.extend(tokens.map(|it| format!("nats-callout token remove {} --yes", it.id)));
        }
        Err(error) => findings.warn(LEFT, (doctor.explain)(error), "run doctor again"),
    }
    for command in commands {
        let what = "a `test` or `bench` that was killed has left rows, which log nobody in";
        findings.warn(LEFT, what, format!("run `{command}`"));
    }
}
