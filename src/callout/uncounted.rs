//! Tenants with a limit of connections that nobody counts here.

use futures_util::future::{BoxFuture, ready};

use crate::placement::{Arrival, Entrance, Objection};
use crate::store::Isolation;

/// Lets nobody in whose tenant has `max_connections` and shares an account: servers count by account, and
/// the service of a configuration counts the rest.
#[derive(Debug)]
pub(super) struct Uncounted;

impl Entrance for Uncounted {
    fn enters<'a>(&'a self, arrival: Arrival<'a>) -> BoxFuture<'a, Result<(), Objection>> {
        let is_limited = arrival.tenant.limits.connections.is_some();
        Box::pin(ready(if is_limited && arrival.isolation == Isolation::Shared {
            Err(Objection::Uncounted(
                "the tenant has max_connections, which this service does not count; take it out of the row, \
                 or run the service of a configuration"
                    .to_owned(),
            ))
        } else {
            Ok(())
        }))
    }
}
