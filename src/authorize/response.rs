//! The authorization response: a user JWT or one fixed refusal, never both.

use crate::clock::UnixSeconds;
use crate::keys::{AccountId, Signer};
use crate::mint::UserJwt;
use crate::protocol::claims::AuthorizationResponseBody;
use crate::protocol::jwt::{Claims, JwtError};
use crate::protocol::request::VerifiedRequest;

/// What every refused client's server is told, whatever the reason: it logs the text as it is.
const REFUSAL: &str = "access denied";

/// What to answer.
#[derive(Debug)]
pub(super) enum AuthorizationResponse {
    /// The client may connect, as this JWT says.
    Granted(UserJwt),
    /// It may not.
    Refused,
}

impl AuthorizationResponse {
    /// Signs the response to `request`. `issuer_account` is the callout account's identity where
    /// `signer` is one of its signing keys (operator mode).
    pub(super) async fn encode(
        self,
        request: &VerifiedRequest,
        signer: &dyn Signer,
        issuer_account: Option<AccountId>,
        now: UnixSeconds,
    ) -> Result<String, JwtError> {
        let (jwt, error) = match self {
            Self::Granted(jwt) => (Some(jwt.into_string()), None),
            Self::Refused => (None, Some(REFUSAL.to_owned())),
        };
        let claims = Claims {
            audience: Some(request.server().to_string()),
            expires: None,
            issued_at: now,
            name: None,
            not_before: None,
            subject: request.user_nkey().to_string(),
            body: AuthorizationResponseBody { jwt, error, issuer_account },
        };
        claims.encode(signer).await
    }
}
