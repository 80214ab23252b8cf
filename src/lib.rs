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
//! [`authorize`] holds the whole path of a request, with no NATS I/O in it. What a decision needs
//! comes in through traits: [`authn::Authenticator`], [`store::CredentialStore`],
//! [`policy::Policy`], [`keys::Signer`] and [`clock::Clock`]. [`service`] runs it on a connection.
//! Beside it, and apart from logins, [`intake`] takes tenants' events in for BB.
//!
//! Everything is denied that is not allowed by a rule. A fault of the service is never answered with
//! a refusal: there is no answer, the server lets the client go once its own time-out (2 s) is over,
//! and the next attempt is decided anew.
//!
//! An application embeds it by [`callout`], in a few lines, with users of its own or a tenant table;
//! [`daemon`] is the whole service of a configuration, and [`admin`] what people do to it.
//!
//! # Deciding without a NATS connection
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use nats_callout::authorize::{Authorizer, CalloutMessage, Outcome, Responder};
//! use nats_callout::keys::{KeyKind, SigningKey, XKey};
//! use nats_callout::mint::Mint;
//! use nats_callout::placement::{ConfigTargets, Placement};
//! use nats_callout::policy::rules::PolicySet;
//! use nats_callout::protocol::envelope::Envelope;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (issuer, _seed) = SigningKey::generate(KeyKind::Account)?;
//! let (xkey, _seed) = XKey::generate()?;
//! let issuer = Arc::new(issuer);
//! let targets = ConfigTargets::new("AUTH", vec!["USERS".to_owned()], Default::default())?;
//! let authorizer = Authorizer::new(
//!     Envelope::new(vec![xkey]),
//!     Placement::Config(targets),
//!     Arc::new(PolicySet::shipped()?),
//!     Mint::new(issuer.clone(), Duration::from_secs(900)),
//!     Responder { signer: issuer, issuer_account: None },
//! );
//! // Nothing gets an answer that no server has sealed and signed.
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let max_reply = 1 << 20;
//! let message = CalloutMessage { payload: b"eyJ...", server_xkey: None, deadline, max_reply };
//! assert!(matches!(authorizer.authorize(message).await, Outcome::NoReply(_)));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `sqlite` (default): the embedded tenant table.
//! - `postgres` (default): the tenant table in PostgreSQL, shared by many instances.
//! - `jwt` (with `daemon`): logins with JWTs of issuers (`authn::jwt`).
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

pub use async_nats;
/// For an `impl` of one of the traits with `async` methods.
pub use async_trait::async_trait;

pub use self::callout::Callout;

#[cfg(feature = "daemon")]
mod accounts;
#[cfg(feature = "daemon")]
pub mod admin;
pub mod audit;
pub mod authn;
pub mod authorize;
pub mod callout;
#[cfg(feature = "jwt")]
mod causes;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
mod connections;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod deployment;
mod document;
#[cfg(feature = "daemon")]
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "daemon")]
mod instance;
#[cfg(feature = "daemon")]
pub mod intake;
pub mod keyfile;
pub mod keys;
pub mod mint;
#[cfg(feature = "daemon")]
mod peers;
pub mod placement;
pub mod policy;
pub mod problem;
pub mod protocol;
mod redact;
#[cfg(feature = "daemon")]
mod revoke;
#[cfg(feature = "daemon")]
mod servers;
pub mod service;
mod spelling;
pub mod store;
#[cfg(feature = "daemon")]
mod streams;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

/// The code of docs/embedding.md.
#[cfg(all(doctest, feature = "sqlite", feature = "testing"))]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingPage;
