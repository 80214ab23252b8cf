//! NATS auth callout.

pub mod authn;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(feature = "cli")]
pub mod config;
pub mod credentials;
pub mod keyfile;
pub mod keys;
pub mod protocol;
pub mod store;
