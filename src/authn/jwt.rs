//! Logins with a JWT of a configured issuer, which a client sends as its token or in the place of
//! its password.
//!
//! ```text
//! text -> Unverified -> issuer, by `iss` -> key -> Verified -> Identified -> Principal
//!         token         issuer             keys    token       issuer        this file
//!                                          keeper
//!                                          origin
//! ```
//!
//! Each arrow consumes its input, and `token` alone makes a `Verified`. Nothing that the
//! JWT itself says of keys (`jku`, `x5u`, `jwk`, `x5c`) is read: an issuer's keys come from where
//! the configuration says. [RFC 7519](https://www.rfc-editor.org/rfc/rfc7519),
//! [RFC 8725](https://www.rfc-editor.org/rfc/rfc8725).

mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod issuer;
mod keeper;
mod keys;
mod origin;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
pub(crate) use jsonwebtoken::Algorithm;

use self::issuer::Identified;
pub(crate) use self::issuer::{Issuer, IssuerSettings, KeyLocation, PolicyClaim, TenantOf, Users};
pub(crate) use self::origin::{Way, check_proxy, check_url};
pub(crate) use self::token::is_jwt;
use self::token::{Flaw, Unverified};
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Principal, Proof,
    Rejected, confirmed,
};
use crate::clock::Clock;
use crate::protocol::credentials::Credentials;
use crate::redact::shortened;
use crate::store::{CredentialStore, Freshness, LoginRecord, UserRecord};

/// The word for the log.
const METHOD: &str = "jwt";

/// Verifies JWTs and finds their users.
#[derive(Debug)]
pub(crate) struct JwtAuthenticator {
    issuers: Vec<Arc<Issuer>>,
    rows: Rows,
}

/// Where the users of JWTs are found.
#[derive(Debug, Clone)]
struct Rows {
    store: Arc<dyn CredentialStore>,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticator {
    /// Takes JWTs of these issuers, whose keys are fetched by [`Issuer::keep`] as long as that
    /// runs. A JWT of another issuer is refused, unless it is a token of the table.
    #[must_use]
    pub(crate) fn new(
        issuers: Vec<Arc<Issuer>>,
        store: Arc<dyn CredentialStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { issuers, rows: Rows { store, clock } }
    }

    /// The issuer that has to have made this JWT.
    fn issuer_of(&self, token: &Unverified<'_>) -> Option<&Arc<Issuer>> {
        let issuer = token.issuer()?;
        self.issuers.iter().find(|known| known.settings().issuer == issuer)
    }

    /// What is a JWT by its looks is one, and nothing else but a token of the table; one beside a user's
    /// name, or in his password's place, is that user's alone.
    async fn authenticate_text(
        &self,
        user: Option<&str>,
        sent: &str,
    ) -> Result<Authentication, AuthnError> {
        let sent = sent.trim_end();
        if !is_jwt(sent) {
            return Ok(Authentication::NotMine);
        }
        let decided = async {
            let token = Unverified::parse(sent).map_err(Denied::from)?;
            match self.issuer_of(&token) {
                Some(issuer) => self.verify(issuer, token, user).await,
                None => Err(unknown_issuer(token.issuer()).into()),
            }
        };
        match decided.await {
            Err(Rejected::Denied(denied))
                if denied.reason == DenyReason::UnknownIssuer && self.is_opaque(sent).await? =>
            {
                Ok(Authentication::NotMine)
            }
            decided => Authentication::of(decided),
        }
    }

    /// Whether the table has it as a token: some programs make theirs as JWTs.
    async fn is_opaque(&self, sent: &str) -> Result<bool, AuthnError> {
        let Some(hash) = super::token::hash_of(sent) else { return Ok(false) };
        Ok(self.rows.store.token(&hash, Freshness::Cached).await?.is_some())
    }

    async fn verify(
        &self,
        issuer: &Arc<Issuer>,
        token: Unverified<'_>,
        user: Option<&str>,
    ) -> Result<Principal, Rejected> {
        let identified = async {
            let verified = issuer.verify(token).await?;
            let identified = issuer.identify(&verified, self.rows.clock.now())?;
            match user {
                Some(user) if user != identified.user && !issuer.settings().any_name => {
                    Err(Flaw::OtherUser.into())
                }
                _ => Ok(identified),
            }
        };
        let identified = identified.await.map_err(|unverified| issuer.rejects(unverified))?;
        let (rows, issuer) = (self.rows.clone(), Arc::clone(issuer));
        let proved = Arc::new(Proved { rows, issuer, identified });
        let find = |freshness| proved.find(freshness);
        let principal = confirmed(find(Freshness::Cached), find(Freshness::Fresh)).await?;
        Ok(principal.with_proof(proved))
    }
}

fn unknown_issuer(named: Option<&str>) -> Denied {
    let detail = match named {
        Some(issuer) => {
            format!("no [issuers] table has exactly this `iss`: {:?}", shortened(issuer))
        }
        None => "`iss` is missing, or no text".to_owned(),
    };
    Denied::from(DenyReason::UnknownIssuer).with_detail(detail)
}

/// Somebody has shown a JWT that says this of him.
#[derive(Debug)]
struct Proved {
    rows: Rows,
    issuer: Arc<Issuer>,
    identified: Identified,
}

impl Proved {
    async fn find(&self, freshness: Freshness) -> Result<Principal, Rejected> {
        let Self { rows, issuer, identified } = self;
        let principal = rows.find(issuer, identified, freshness).await?;
        let principal = principal.with_claims(identified.claims.clone());
        Ok(principal.with_issuer(Arc::clone(issuer.named())))
    }
}

#[async_trait]
impl Proof for Proved {
    async fn again(&self) -> Result<Principal, Rejected> {
        self.find(Freshness::Fresh).await
    }
}

impl Rows {
    /// The user whom the JWT names.
    async fn find(
        &self,
        issuer: &Issuer,
        identified: &Identified,
        freshness: Freshness,
    ) -> Result<Principal, Rejected> {
        let now = self.clock.now();
        let ends = Some(identified.expires_at);
        if let Some(row) = self.row(issuer, identified, freshness).await? {
            return Ok(Principal::new(row, METHOD, ends, now)?);
        }
        let record = self.without_row(issuer, identified, freshness).await?;
        Ok(Principal::new(record, METHOD, ends, now)?.with_name(&identified.user))
    }

    /// The user's row, which always comes first and has to be of the tenant that the issuer names, if it
    /// names one. Of users that need none, a row of that name in another tenant is somebody else.
    async fn row(
        &self,
        issuer: &Issuer,
        identified: &Identified,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, Rejected> {
        let IssuerSettings { name, users, .. } = issuer.settings();
        let row = self.store.user(&identified.user, freshness).await?;
        match (row, &identified.tenant) {
            (Some(row), Some(tenant)) if row.tenant.id != *tenant => match users {
                Users::Policy { .. } => Ok(None),
                Users::Table => {
                    let user = shortened(&identified.user);
                    let what =
                        format!("issuer {name}: the user {user:?} is not of the tenant {tenant}");
                    Err(Denied::from(DenyReason::UnknownUser).with_detail(what).into())
                }
            },
            (row, _) => Ok(row),
        }
    }

    /// A record that the issuer's rules make without a row.
    async fn without_row(
        &self,
        issuer: &Issuer,
        identified: &Identified,
        freshness: Freshness,
    ) -> Result<Arc<LoginRecord>, Rejected> {
        let IssuerSettings { name, users, .. } = issuer.settings();
        let unknown = |what: String| {
            Denied::from(DenyReason::UnknownUser).with_detail(format!("issuer {name}: {what}"))
        };
        let (user, tenant) = (shortened(&identified.user), identified.tenant.as_ref());
        let (Users::Policy { kind, policy, by_claim }, Some(id)) = (users, tenant) else {
            return Err(unknown(format!("there is no user {user:?}")).into());
        };
        let login = id.login(&identified.user);
        // A row may have any name. One of this tenant's that has this one is another user of it; who writes
        // rows of another tenant shuts nobody out.
        let row = self.store.user(&login, freshness).await?;
        if row.is_some_and(|row| row.tenant.id == *id) {
            let what = format!("a row has the name of the user {user:?} of the tenant {id}");
            return Err(unknown(what).into());
        }
        let tenant = self.store.tenant_of(id, freshness).await?;
        let tenant = tenant.ok_or_else(|| unknown(format!("there is no tenant {id}")))?;
        let policy = match by_claim {
            Some(_) if identified.policy.is_none() => {
                return Err(issuer.rejects(Flaw::NoPolicy.into()));
            }
            Some(_) => identified.policy.clone(),
            None => policy.clone(),
        };
        let user = UserRecord { policy, ..UserRecord::new(login, *kind) };
        Ok(Arc::new(LoginRecord { user, tenant: (*tenant).clone() }))
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        match attempt.credentials {
            Credentials::Token { user, token } => {
                self.authenticate_text(user.as_deref(), token.expose()).await
            }
            Credentials::Password { user, password } => {
                self.authenticate_text(Some(user), password.expose()).await
            }
            _ => Ok(Authentication::NotMine),
        }
    }
}

#[cfg(test)]
mod tests;
