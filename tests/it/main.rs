//! One binary for everything that needs more than a unit: real nats-servers, the real program,
//! golden vectors, and the store's contract.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in the functions beside it too"
)]

// First, since it waits long for little.
mod as_printed;
mod bb;
mod broken;
mod callout_scenarios;
mod canary;
mod certificate;
mod cli;
mod deploy;
mod embedding;
mod events;
mod forgery;
mod harness;
mod http;
mod injection;
mod inputs;
mod intake;
mod isolation;
mod jwt;
mod lasting;
mod late;
mod layering;
mod login;
mod nkey;
mod over;
mod policies;
mod protocol;
mod refusals;
mod renewal;
mod scenarios;
mod service;
mod soak;
mod store_cache;
mod store_contract;
mod transports;
mod untrusted;
mod within;
