//! What travels between nats-server and the service: NATS JWTs (codec, claims), the envelope that
//! encrypts them, the verified authorization request and the authorization response.
//!
//! Sources: ADR-14 (JWT), ADR-26 (auth callout), and nats-server's `auth_callout.go`, which is
//! what a server really does.

pub mod claims;
pub mod credentials;
pub mod envelope;
pub mod jwt;
pub mod replay;
pub mod request;
