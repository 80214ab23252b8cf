//! The service that nats-server asks who a connecting client is: *auth callout*
//! ([ADR-26](https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-26.md)), as
//! a library. It authenticates users against a tenant table and mints short-lived user JWTs in the
//! right account, with the permissions of a policy.
//!
//! ```text
//!  client        nats-server                        this crate
//!    | CONNECT ----> |                                   |
//!    |               | $SYS.REQ.USER.AUTH (sealed) ----> | service     queue, deadline, reply
//!    |               |                                   | authorize   START HERE
//!    |               |                                   |   protocol    open, verify
//!    |               |                                   |   authn       who is it? (store, cached)
//!    |               |                                   |   policy      what may it do?
//!    |               | <---- account JWT (first login)   |   placement   where? (accounts)
//!    |               | <---- user JWT, signed, sealed -- |   mint        for how long?
//!    | <-- OK / -ERR |                                   | audit       one line for each outcome
//!    |               |                                   | telemetry   and its metrics
//! ```
//!
//! `authorize` holds the whole path of a request, with no NATS I/O in it; `service` runs it on a connection.
//! Beside it, and apart from logins, `intake` takes tenants' events in for BB. Those modules are the crate's
//! own. An application uses these:
//!
//! - [`callout`]: a service in a few lines, with users of the application's own or of a tenant table.
//! - [`testing`]: a server's question without a server, and a real nats-server for a test.
//! - [`store`]: the tenant table, in a database or in memory. [`policy`]: what users of it may do.
//! - [`keys`], [`clock`]: what the others take.
//! - `config`, `daemon` and `admin` (feature `daemon`): a configuration, the whole service of it, and what
//!   people do to it.
//!
//! Everything is denied that is not allowed by a rule. A fault of the service is never answered with
//! a refusal: there is no answer, the server lets the client go once its own time-out (2 s) is over,
//! and the next attempt is decided anew.
//!
//! # Deciding without a NATS connection
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! use nats_callout::callout::{Answer, Permit, Request};
//! use nats_callout::testing::{Connect, FakeServer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FakeServer::new()?;
//! let callout = server.callout().authorize(async |request: Request| {
//!     Ok(match request.token() {
//!         Some(token) if token.matches("key-4711") => {
//!             Permit::user("billing").publish("invoices.*").into()
//!         }
//!         _ => Answer::deny("no such key"),
//!     })
//! })?;
//! let billing = server.ask(&callout, Connect::token("key-4711")).await.granted();
//! assert!(billing.may_publish("invoices.7") && !billing.may_publish("payments.7"));
//! assert!(server.ask(&callout, Connect::token("key-0")).await.is_denied());
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `sqlite` (default): the embedded tenant table.
//! - `postgres` (default): the tenant table in PostgreSQL, shared by many instances.
//! - `jwt` (with `daemon`): logins with JWTs of issuers.
//! - `daemon` (with `cli`): the service of a configuration, and operations on its deployment (`daemon`,
//!   `admin`).
//! - `cli` (default): the program `nats-callout`.
//! - `testing` (default): for tests of an application's own rules ([`testing`]).
//!
//! # TLS
//!
//! rustls takes its cryptography from one provider, and panics at the first TLS connection where two are
//! built in and none is the default. The feature `aws-lc-rs` (default) is what the program has, and what
//! `jwt` needs. An application that depends on async-nats too, whose default is ring, takes this crate
//! with `default-features = false` and the feature `ring`; where it cannot, it installs one of the two
//! before it connects (`rustls::crypto::CryptoProvider::install_default`). One of the features is needed.

#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        reason = "what is inside serves the program, and a part of it an application"
    )
)]

pub use async_nats;
/// For an `impl` of one of the traits with `async` methods.
pub use async_trait::async_trait;

pub use self::callout::Callout;

#[cfg(feature = "daemon")]
mod accounts;
#[cfg(feature = "daemon")]
pub mod admin;
mod audit;
mod authn;
mod authorize;
pub mod callout;
#[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "the program says most of it"))]
mod causes;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod clock;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
mod connections;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
mod deployment;
mod document;
#[cfg(feature = "daemon")]
mod events;
#[cfg(unix)]
mod exposure;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the program shows most of it"))]
mod hidden;
#[cfg(feature = "daemon")]
mod instance;
#[cfg(feature = "daemon")]
mod intake;
#[doc(hidden)]
pub mod internals;
mod keyfile;
pub mod keys;
mod mint;
#[cfg(feature = "daemon")]
mod peers;
mod placement;
pub mod policy;
mod problem;
mod protocol;
mod redact;
#[cfg(feature = "daemon")]
mod renewal;
#[cfg(feature = "daemon")]
mod revoke;
#[cfg(feature = "daemon")]
mod servers;
mod service;
mod spelling;
pub mod store;
#[cfg(feature = "daemon")]
mod streams;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

/// The code of docs/embedding.md.
#[cfg(all(doctest, feature = "sqlite", feature = "testing"))]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingPage;
