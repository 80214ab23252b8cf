//! NATS auth callout.

pub mod audit;
pub mod authn;
pub mod authorize;
pub mod clock;
pub mod credentials;
pub mod instance;
pub mod keys;
pub mod mint;
pub mod placement;
pub mod policy;
pub mod protocol;
pub mod provision;
pub mod service;
pub mod store;
