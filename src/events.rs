//! What the service tells others: CloudEvents of every change in the tenant table, of decisions and
//! of closed connections, published to JetStream in the account AUTH, each to the subject that is
//! its type. Others read them there with a login of their own.
//!
//! ```text
//! tenants, users --trigger--> outbox --[changes]--> AUTH_EVENTS     --events-----> keys/events.*
//! outcomes of requests, kicks --[decisions]-------> AUTH_DECISIONS  --decisions--> keys/events.*
//! ```
//!
//! Changes are never lost: an event leaves the outbox only once the stream has acknowledged it, and
//! one that is published again is known to the stream by its id. Decisions wait in a bounded queue,
//! so that no login waits for them, and what cannot be kept is counted; or each grant waits for the
//! stream ([`decisions::AuditedGrants`]).

pub(crate) mod changes;
pub(crate) mod cloud_event;
pub(crate) mod decisions;
mod held;
mod lease;
pub(crate) mod publisher;
mod queues;
