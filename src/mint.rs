//! The one place where a user JWT is made, and the last line of defence: a server takes a JWT with
//! no expiry, with empty lists (which mean everything) or for its system account as readily as any
//! other.
//!
//! A [`UserJwt`] always expires, names an account that is allowed, denies what it does not allow,
//! and holds legal subjects alone.

use std::sync::Arc;
use std::time::Duration;

use crate::authn::Principal;
use crate::clock::UnixSeconds;
use crate::keys::{AccountId, Signer, UserNkey};
use crate::placement::{Placed, Target};
use crate::policy::subject::Pattern;
use crate::policy::{Form, Grant};
use crate::protocol::claims::{Permission, Permissions, ResponsePermission, UserBody};
use crate::protocol::jwt::{Claims, JwtError};

/// How much a grant's life is shortened at random, so that what came together does not end
/// together.
const JITTER: f64 = 0.2;

/// A signed user JWT for one connection.
#[derive(Clone)]
pub struct UserJwt {
    token: String,
    expires: UnixSeconds,
}

impl UserJwt {
    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> UnixSeconds {
        self.expires
    }

    pub(crate) fn into_string(self) -> String {
        self.token
    }
}

impl std::fmt::Debug for UserJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserJwt").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why nothing was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The account is one that no user is ever placed in.
    #[error("account {0} is not for users")]
    ForbiddenAccount(String),
    /// A response permission in a shared account would let a user write to other tenants.
    #[error("a response permission must not be granted in a shared account")]
    SharedResponses,
    /// The principal has ended before the grant could begin.
    #[error("the principal has expired")]
    Expired,
    /// Signing failed.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

/// Makes user JWTs.
#[derive(Debug)]
pub struct Mint {
    signer: Arc<dyn Signer>,
    ttl: Duration,
    forbidden: Vec<AccountId>,
}

impl Mint {
    /// A mint whose JWTs live at most `ttl`. `forbidden` are the identities of the accounts SYS,
    /// AUTH and BB in operator mode.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, ttl: Duration, forbidden: Vec<AccountId>) -> Self {
        Self { signer, ttl, forbidden }
    }

    /// Makes the JWT of one connection.
    pub(crate) async fn mint(
        &self,
        connection: &UserNkey,
        principal: &Principal,
        grant: Grant,
        placed: &Placed,
        now: UnixSeconds,
    ) -> Result<UserJwt, MintError> {
        if placed.form == Form::Shared && grant.responses.is_some() {
            return Err(MintError::SharedResponses);
        }
        let (audience, issuer_account) = match &placed.target {
            Target::Account(id) if self.forbidden.contains(id) => {
                return Err(MintError::ForbiddenAccount(id.to_string()));
            }
            Target::Account(id) => (None, Some(*id)),
            Target::Named(name) => (Some(name.clone()), None),
        };
        let expires = self.expiry(connection, principal, grant.ttl, now)?;
        let mut body = UserBody::new(permissions(grant));
        body.issuer_account = issuer_account;
        let claims = Claims {
            audience,
            expires: Some(expires),
            issued_at: now,
            name: Some(principal.record().user.name.clone()),
            not_before: None,
            subject: connection.to_string(),
            body,
        };
        Ok(UserJwt { token: claims.encode(&*self.signer).await?, expires })
    }

    /// The configured life, shortened by the jitter that the connection's random key brings along,
    /// and by the end of the principal.
    fn expiry(
        &self,
        connection: &UserNkey,
        principal: &Principal,
        ttl: Option<Duration>,
        now: UnixSeconds,
    ) -> Result<UnixSeconds, MintError> {
        let [a, b, ..] = *connection.raw();
        let share = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
        let ttl = ttl.map_or(self.ttl, |ttl| ttl.min(self.ttl)).mul_f64(1.0 - JITTER * share);
        let life = UnixSeconds::try_from(ttl.as_secs()).unwrap_or(UnixSeconds::MAX).max(1);
        let expires = principal
            .expires_at()
            .map_or(now.saturating_add(life), |end| end.min(now.saturating_add(life)));
        if expires > now { Ok(expires) } else { Err(MintError::Expired) }
    }
}

fn permissions(grant: Grant) -> Permissions {
    Permissions {
        publish: permission(grant.publish, grant.deny_publish),
        subscribe: permission(grant.subscribe, grant.deny_subscribe),
        responses: grant.responses.map(|responses| ResponsePermission {
            max: i64::from(responses.max),
            ttl: i64::try_from(responses.expires.as_nanos()).unwrap_or(i64::MAX),
        }),
    }
}

fn permission(allow: Vec<Pattern>, mut deny: Vec<Pattern>) -> Permission {
    if allow.is_empty() {
        deny = vec![Pattern::everything()];
    }
    let texts = |patterns: Vec<Pattern>| patterns.iter().map(ToString::to_string).collect();
    Permission { allow: texts(allow), deny: texts(deny) }
}
