//! NATS auth callout.

pub mod authn;
pub mod clock;
pub mod credentials;
pub mod keys;
pub mod protocol;
pub mod store;
