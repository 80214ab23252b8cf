//! Tenants with a limit of connections that nobody counts here.

use async_trait::async_trait;

use crate::placement::{Arrival, Entrance, Objection};
use crate::store::Isolation;

/// Lets nobody in whose tenant has `max_connections` and shares an account: servers count by account, and
/// the service of a configuration counts the rest.
#[derive(Debug)]
pub(super) struct Uncounted;

#[async_trait]
impl Entrance for Uncounted {
    async fn enters(&self, arrival: Arrival<'_>) -> Result<(), Objection> {
        let is_limited = arrival.tenant.limits.connections.is_some();
        if is_limited && arrival.isolation == Isolation::Shared {
            Err(Objection::Uncounted(
                "the tenant has max_connections, which this service does not count; take it out of the row, \
                 or run the service of a configuration"
                    .to_owned(),
            ))
        } else {
            Ok(())
        }
    }
}
