//! The authorization request, verified in full: whoever holds a [`VerifiedRequest`] need not check
//! anything about it again.

use super::claims::{AuthorizationRequestBody, ClientInfo};
use super::envelope::{Opened, Sealer};
use super::jwt::{JwtError, Parsed};
use crate::clock::UnixSeconds;
use crate::credentials::Credentials;
use crate::keys::{KeyError, ServerId, UserNkey};

/// The audience of every authorization request.
pub const REQUEST_AUDIENCE: &str = "nats-authorization-request";

/// How far the clocks of a server and of the service may lie apart, in seconds. An expired request
/// is harmless in itself, since its answer is bound to a key that its server has thrown away.
pub const CLOCK_LEEWAY: UnixSeconds = 5;

/// Why a request is not to be trusted. No answer is sent to it.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The token is malformed or its signature is wrong.
    #[error("request token: {0}")]
    Token(#[from] JwtError),
    /// Another key than the server's own has signed it.
    #[error("request is issued by {issuer}, but names the server {named}")]
    Issuer {
        /// Who signed.
        issuer: ServerId,
        /// Who is named.
        named: String,
    },
    /// It is meant for something else.
    #[error("request has the audience {0:?} instead of {REQUEST_AUDIENCE:?}")]
    Audience(Option<String>),
    /// It has ended, or never ends.
    #[error(
        "request expired at {expires:?} and it is {now} now; if this repeats, the clocks of \
         nats-server and of this machine differ"
    )]
    Expired {
        /// Its end.
        expires: Option<UnixSeconds>,
        /// The time of the check.
        now: UnixSeconds,
    },
    /// The curve key that it was sealed with is not the one that its server has signed.
    #[error("request was sealed with another curve key than the one its server has signed")]
    Xkey,
    /// The key of the connection is none.
    #[error("request names no user nkey: {0}")]
    UserNkey(#[source] KeyError),
}

/// A request that a nats-server really made, for itself, now.
#[derive(Debug)]
pub struct VerifiedRequest {
    server: ServerId,
    server_name: String,
    user_nkey: UserNkey,
    client: ClientInfo,
    credentials: Credentials,
}

impl VerifiedRequest {
    /// Verifies an opened request: signature, issuer = server id, audience, expiry, and that the
    /// curve key of the envelope is the one that the server has signed.
    pub fn verify(opened: Opened, now: UnixSeconds) -> Result<(Self, Sealer), RequestError> {
        let Opened { token, sealer } = opened;
        let (claims, issuer) =
            Parsed::<AuthorizationRequestBody>::parse(&token)?.verify::<ServerId>()?;
        let mut body = claims.body;
        if issuer.as_str() != body.server.id {
            return Err(RequestError::Issuer { issuer, named: body.server.id });
        }
        if claims.audience.as_deref() != Some(REQUEST_AUDIENCE) {
            return Err(RequestError::Audience(claims.audience));
        }
        if claims.expires.is_none_or(|expires| expires.saturating_add(CLOCK_LEEWAY) < now) {
            return Err(RequestError::Expired { expires: claims.expires, now });
        }
        if sealer.peer().map_or("", |peer| peer.as_str()) != body.server.xkey {
            return Err(RequestError::Xkey);
        }
        let user_nkey = body.user_nkey.parse().map_err(RequestError::UserNkey)?;
        let credentials = Credentials::from_request(&mut body);
        let request = Self {
            server: issuer,
            server_name: body.server.name,
            user_nkey,
            client: body.client_info,
            credentials,
        };
        Ok((request, sealer))
    }

    /// The server that asks.
    #[must_use]
    pub fn server(&self) -> &ServerId {
        &self.server
    }

    /// That server's name.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The key that the server made for this one connection.
    #[must_use]
    pub fn user_nkey(&self) -> &UserNkey {
        &self.user_nkey
    }

    /// What the server knows of the client.
    #[must_use]
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// What the client offers.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}
