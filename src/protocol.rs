//! What travels between nats-server and the service: NATS JWTs (codec, claims), the envelope that
//! encrypts them, the verified authorization request and the authorization response.
//!
//! Sources: ADR-14 (JWT), ADR-26 (auth callout), and nats-server's `auth_callout.go`, which is
//! what a server really does.

pub(crate) mod claims;
pub(crate) mod credentials;
pub(crate) mod envelope;
pub(crate) mod jwt;
pub(crate) mod replay;
pub(crate) mod request;
