//! Logins with a token of a configured issuer, which a client sends as its token or in the place of
//! its password: a JWT, or one that its issuer is asked about.
//!
//! ```text
//! text -> Unverified -> issuer, by `iss` -> key -> Verified -> Identified -> Principal
//!         token         issuer             keys    token       issuer        this file
//!                                          keeper              claims
//!                                          origin
//!      -> issuer, by the token's beginning -> what it says --> Identified
//!         issuer                              introspection
//! ```
//!
//! Each arrow consumes its input, and `token` alone makes a `Verified`. Nothing that the
//! JWT itself says of keys (`jku`, `x5u`, `jwk`, `x5c`) is read: an issuer's keys come from where
//! the configuration says. [RFC 7519](https://www.rfc-editor.org/rfc/rfc7519),
//! [RFC 8725](https://www.rfc-editor.org/rfc/rfc8725).

mod claims;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod introspection;
mod issuer;
mod keeper;
mod keys;
mod named;
mod origin;
mod queue;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
pub(crate) use jsonwebtoken::Algorithm;

pub(crate) use self::fetch::{Way, check_proxy, check_url, shown_address};
pub(crate) use self::introspection::IntrospectionSettings;
use self::issuer::Identified;
pub(crate) use self::issuer::{Issuer, IssuerSettings, KeyLocation, PolicyClaim, TenantOf, Users};
pub(crate) use self::keys::TRIED;
use self::queue::{Logins, Network};
pub(crate) use self::token::{NEARLY_JWT, is_jwt};
use self::token::{Unverified, is_nearly_jwt};
use super::guessing::source;
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Named, Principal,
    Proof, Rejected, confirmed,
};
use crate::causes::quoted;
use crate::clock::Clock;
use crate::protocol::credentials::{Credentials, Secret};
use crate::redact::shortened;
use crate::store::{CredentialStore, Freshness, LoginRecord, UserRecord};

/// The words for the log.
const BY_KEY: &str = "jwt";
const BY_ANSWER: &str = "introspection";

/// A login stops waiting for an issuer so long before its deadline: there is time then to say why it got no
/// answer.
const MARGIN: Duration = Duration::from_millis(50);

/// A text that may be a token.
#[derive(Clone, Copy)]
struct Sent<'a> {
    /// The user beside it.
    user: Option<&'a str>,
    text: &'a str,
    /// Whether it is in the place of a password.
    is_password: bool,
    source: Network,
    deadline: Instant,
}

/// Verifies JWTs and finds their users.
#[derive(Debug)]
pub(crate) struct JwtAuthenticator {
    issuers: Vec<Arc<Issuer>>,
    rows: Rows,
    /// Those who wait for an issuer.
    waiting: Arc<Logins>,
}

/// Where the users of JWTs are found.
#[derive(Debug, Clone)]
struct Rows {
    store: Arc<dyn CredentialStore>,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticator {
    /// Takes JWTs of these issuers, whose keys are fetched by [`Issuer::keep`] as long as that
    /// runs. A JWT of another issuer is refused, unless it is a token of the table. At most `asking` logins wait
    /// for what issuers say of tokens.
    #[must_use]
    pub(crate) fn new(
        issuers: Vec<Arc<Issuer>>,
        store: Arc<dyn CredentialStore>,
        clock: Arc<dyn Clock>,
        asking: usize,
    ) -> Self {
        Self { issuers, rows: Rows { store, clock }, waiting: Arc::new(Logins::new(asking)) }
    }

    /// The issuer that has to have made this JWT.
    fn issuer_of(&self, token: &Unverified<'_>) -> Option<&Arc<Issuer>> {
        let issuer = token.issuer()?;
        self.issuers.iter().find(|known| known.settings().issuer == issuer)
    }

    /// What is a JWT by its looks is one, and nothing else but a token of the table; one beside a user's
    /// name, or in his password's place, is that user's alone.
    async fn authenticate_text(&self, sent: Sent<'_>) -> Result<Authentication, AuthnError> {
        if !is_jwt(sent.text) {
            return self.authenticate_opaque(sent).await;
        }
        let decided = async {
            let token = Unverified::parse(sent.text).map_err(Denied::from)?;
            match self.issuer_of(&token) {
                Some(issuer) if issuer.has_keys() => self.verify(issuer, token, sent.user).await,
                Some(issuer) => {
                    issuer.check_own_word(&token, self.rows.clock.now())?;
                    self.ask(issuer, sent).await
                }
                None => Err(unknown_issuer(token.issuer()).into()),
            }
        };
        match decided.await {
            Err(Rejected::Denied(denied))
                if denied.reason == DenyReason::UnknownIssuer
                    && self.is_of_table(sent.text).await? =>
            {
                Ok(Authentication::NotMine)
            }
            decided => Authentication::of(decided),
        }
    }

    /// What is no JWT is what an issuer says of it, unless the table has it. One issuer at most is asked, that with
    /// the longest beginning of such tokens: those of one are not shown to another.
    async fn authenticate_opaque(&self, sent: Sent<'_>) -> Result<Authentication, AuthnError> {
        let takes = |issuer: &&Arc<Issuer>| issuer.takes(sent.text, sent.is_password);
        let issuer = self.issuers.iter().filter(|it| takes(it).is_some()).max_by_key(takes);
        match issuer {
            Some(issuer) if !self.is_of_table(sent.text).await? => {
                // Whoever has such a name, and whether anybody has: that shows in nothing.
                let may_be_password = sent.is_password && sent.user.is_some();
                let deadline = if may_be_password {
                    // There has to be time left for the hash.
                    let left = sent.deadline.saturating_duration_since(Instant::now());
                    sent.deadline.checked_sub(left / 2).unwrap_or(sent.deadline)
                } else {
                    sent.deadline
                };
                match self.ask(issuer, Sent { deadline, ..sent }).await {
                    Err(Rejected::Denied(denied)) if may_be_password => {
                        Ok(Authentication::Perhaps(Ok(denied)))
                    }
                    Err(Rejected::Fault(fault)) if may_be_password => {
                        Ok(Authentication::Perhaps(Err(fault)))
                    }
                    decided => Authentication::of(decided),
                }
            }
            _ => Ok(Authentication::NotMine),
        }
    }

    /// Whether the table has it as a token, whatever it looks like.
    async fn is_of_table(&self, sent: &str) -> Result<bool, AuthnError> {
        let Some(hash) = super::token::hash_of(sent) else { return Ok(false) };
        Ok(self.rows.store.token(&hash, Freshness::Cached).await?.is_some())
    }

    async fn verify(
        &self,
        issuer: &Arc<Issuer>,
        token: Unverified<'_>,
        user: Option<&str>,
    ) -> Result<Principal, Rejected> {
        let verified = issuer.verify(token).await.map_err(|why| issuer.rejects(why))?;
        let identified = issuer.identify(&verified, user, self.rows.clock.now())?;
        let (rows, issuer) = (self.rows.clone(), Arc::clone(issuer));
        let proved = Arc::new(Proved { rows, issuer, identified });
        let find = |freshness| proved.find(freshness);
        let principal = confirmed(find(Freshness::Cached), find(Freshness::Fresh)).await?;
        Ok(principal.with_proof(proved))
    }

    /// Decides by what the issuer says of the token.
    async fn ask(&self, issuer: &Arc<Issuer>, sent: Sent<'_>) -> Result<Principal, Rejected> {
        let (rows, issuer) = (self.rows.clone(), Arc::clone(issuer));
        let (token, user) = (Secret::new(sent.text.to_owned()), sent.user.map(Box::from));
        let waiting = Arc::clone(&self.waiting);
        let asked = Arc::new(Asked { rows, issuer, token, user, waiting });
        let until = sent.deadline.checked_sub(MARGIN).unwrap_or(sent.deadline);
        let identified = tokio::time::timeout_at(until.into(), asked.identify(sent.source));
        let identified = identified.await.unwrap_or_else(|_| {
            let issuer = asked.issuer.settings().name.clone();
            let reason = "it has not answered in the time that a login has".into();
            Err(AuthnError::Introspection { issuer, reason }.into())
        })?;
        let find =
            |freshness| asked.rows.principal(&asked.issuer, &identified, freshness, BY_ANSWER);
        let principal = confirmed(find(Freshness::Cached), find(Freshness::Fresh)).await?;
        Ok(principal.with_proof(asked))
    }
}

/// Whether a token, or what stands in the place of a password, was meant as a JWT and is none.
pub(crate) fn was_meant(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Token { token: sent, .. } | Credentials::Password { password: sent, .. } => {
            is_nearly_jwt(sent.expose())
        }
        _ => false,
    }
}

fn unknown_issuer(named: Option<&str>) -> Denied {
    let detail = match named {
        Some(issuer) => {
            format!("no [issuers] table has exactly this `iss`: {}", quoted(shortened(issuer)))
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
        self.rows.principal(&self.issuer, &self.identified, freshness, BY_KEY).await
    }
}

#[async_trait]
impl Proof for Proved {
    async fn again(&self) -> Result<Principal, Rejected> {
        self.find(Freshness::Fresh).await
    }
}

/// Somebody has shown a token that his issuer answers for.
#[derive(Debug)]
struct Asked {
    rows: Rows,
    issuer: Arc<Issuer>,
    token: Secret,
    /// The user beside it.
    user: Option<Box<str>>,
    waiting: Arc<Logins>,
}

impl Asked {
    /// Whom the issuer names, asked for a login from there.
    async fn identify(&self, source: Network) -> Result<Identified, Rejected> {
        let (token, user) = (self.token.expose(), self.user.as_deref());
        self.issuer.introspect(token, user, (source, &self.waiting), self.rows.clock.now()).await
    }
}

#[async_trait]
impl Proof for Asked {
    async fn again(&self) -> Result<Principal, Rejected> {
        // Renewals wait together.
        let identified = self.identify(None).await?;
        self.rows.principal(&self.issuer, &identified, Freshness::Fresh, BY_ANSWER).await
    }
}

impl Rows {
    /// The user whom the token names, with what it says of him.
    async fn principal(
        &self,
        issuer: &Issuer,
        identified: &Identified,
        freshness: Freshness,
        method: &'static str,
    ) -> Result<Principal, Rejected> {
        let found = self.record(issuer, identified, freshness).await;
        let (record, has_row) = found.map_err(|why| match why {
            Rejected::Denied(denied) => {
                let (user, tenant) = (identified.user.clone(), identified.tenant.clone());
                denied.of_named(Named { user, tenant }).into()
            }
            why => why,
        })?;
        let (now, ends) = (self.clock.now(), identified.expires_at);
        let mut principal = Principal::new(record, method, ends, now)?;
        if !has_row {
            principal = principal.with_name(&identified.user);
        }
        let principal = principal.with_claims(identified.claims.clone());
        Ok(principal.with_issuer(Arc::clone(issuer.who())))
    }

    /// The user's record, and whether it is a row's.
    async fn record(
        &self,
        issuer: &Issuer,
        identified: &Identified,
        freshness: Freshness,
    ) -> Result<(Arc<LoginRecord>, bool), Rejected> {
        Ok(match self.row(issuer, identified, freshness).await? {
            Some(row) => (row, true),
            None => (self.without_row(issuer, identified, freshness).await?, false),
        })
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
                    let user = quoted(shortened(&identified.user));
                    let what =
                        format!("issuer {name}: the user {user} is not of the tenant {tenant}");
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
        let (user, tenant) = (quoted(shortened(&identified.user)), identified.tenant.as_ref());
        let (Users::Policy { kind, .. }, Some(id)) = (users, tenant) else {
            return Err(unknown(format!("there is no user {user}")).into());
        };
        let login = id.login(&identified.user);
        // A row may have any name. One of this tenant's that has this one is another user of it; who writes
        // rows of another tenant shuts nobody out.
        let row = self.store.user(&login, freshness).await?;
        if row.is_some_and(|row| row.tenant.id == *id) {
            let row = quoted(shortened(&login));
            let what = format!("the row {row} bars the user {user} of the tenant {id}");
            return Err(unknown(what).into());
        }
        let tenant = self.store.tenant_of(id, freshness).await?;
        let tenant = tenant.ok_or_else(|| unknown(format!("there is no tenant {id}")))?;
        let policy = identified.policy.clone()?;
        let user = UserRecord { policy, ..UserRecord::new(login, *kind) };
        Ok(Arc::new(LoginRecord { user, tenant: (*tenant).clone() }))
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let (user, text, is_password) = match attempt.credentials {
            Credentials::Token { user, token, is_password } => {
                (user.as_deref(), token.expose(), *is_password)
            }
            Credentials::Password { user, password } => {
                (Some(user.as_str()), password.expose(), true)
            }
            _ => return Ok(Authentication::NotMine),
        };
        let (text, deadline) = (text.trim_end(), attempt.deadline);
        let source = source(&attempt.client.host);
        self.authenticate_text(Sent { user, text, is_password, source, deadline }).await
    }
}

#[cfg(test)]
mod tests;
