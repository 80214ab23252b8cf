//! An issuer: what the configuration says of it, and the two questions that this decides. Has it
//! signed this JWT, and whom does the JWT name?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio_util::sync::CancellationToken;

use super::fetch::Way;
use super::introspection::{Introspection, IntrospectionSettings};
use super::keeper::{Keeper, NotVerified, Pace};
use super::keys::Found;
use super::origin::{Origin, Source};
use super::queue::{Logins, Network};
use super::token::{Flaw, Unverified, Verified};
use crate::authn::{AuthnError, Claims, Denied, DenyReason, IssuerOf, Rejected};
use crate::clock::UnixSeconds;
use crate::keyfile::{self, KeyFileError};
use crate::store::{TenantId, UserKind};

/// What is known of an issuer, and what its JWTs may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerSettings {
    /// A word for logs, metrics and messages.
    pub name: String,
    /// The exact `iss` of its JWTs.
    pub issuer: String,
    /// Where its keys are.
    pub keys: KeyLocation,
    /// How it is asked about tokens that no key verifies.
    pub introspection: Option<IntrospectionSettings>,
    /// Of these, [`Self::audience_claim`] has to name one.
    pub audience: Vec<String>,
    /// The claim that says whom a JWT is for.
    pub audience_claim: String,
    /// The algorithms that it may use: `HS256`, `HS384` and `HS512` with shared secrets alone, the
    /// others without.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may differ from ours.
    pub leeway: Duration,
    /// The claim that names the user.
    pub user_claim: String,
    /// Whether any user name may stand beside a JWT, and not only that of its user.
    pub any_name: bool,
    /// The claims that are handed to the policy.
    pub claims: Vec<String>,
    /// Those of them that are words in one text.
    pub split: Vec<String>,
    /// Whether values of theirs that are no subject tokens are left out.
    pub drops_unusable: bool,
    /// Which tenant its users belong to. Where it says nothing, a user's row does.
    pub tenant: Option<TenantOf>,
    /// Who is admitted.
    pub users: Users,
}

impl IssuerSettings {
    /// What a refusal says of it.
    pub(crate) fn who(&self) -> IssuerOf {
        IssuerOf { name: self.name.clone(), claims: self.claims.clone() }
    }
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyLocation {
    /// Where `<issuer>/.well-known/openid-configuration` says.
    Discovery(Way),
    /// At this URL, as a JWK set.
    Url(String, Way),
    /// In this file, as a JWK set; read again when it changes.
    File(PathBuf),
    /// Secrets that the issuer has too, one in each file: the one in use, then the next or the
    /// previous one.
    Secret(Vec<PathBuf>),
    /// Nowhere: it is asked about all of its tokens.
    None,
}

/// Which tenant the users of an issuer belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TenantOf {
    /// All to this one.
    Fixed(TenantId),
    /// Each to the one that this claim names.
    Claim(String),
}

/// Whom an issuer's JWT admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Users {
    /// Users that have a row in the table.
    Table,
    /// Users without a row too, of a tenant that has one: [`IssuerSettings::tenant`] names it. The
    /// login name of such a user is [`TenantId::login`].
    Policy {
        /// What they are.
        kind: UserKind,
        /// Their policy, where not the one of their tenant or their kind.
        policy: Option<String>,
        /// What chooses another one.
        by_claim: Option<PolicyClaim>,
    },
}

/// A claim that chooses a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyClaim {
    /// Its name.
    pub claim: String,
    /// A policy for each of its values, the first of which counts.
    pub policies: Vec<(String, String)>,
}

/// Whom a verified token names.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) user: String,
    pub(super) tenant: Option<TenantId>,
    /// When it ends; none where its issuer has to be asked whether it has.
    pub(super) expires_at: Option<UnixSeconds>,
    pub(super) claims: Claims,
    /// The policy of a user without a row, if one is named for it, or why its claims choose none.
    pub(super) policy: Result<Option<String>, Denied>,
}

/// How it stands with an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerStatus {
    /// How many usable keys are held.
    pub keys: usize,
    /// Why the last fetch brought nothing.
    pub fault: Option<Arc<str>>,
    /// How often they were fetched.
    pub fetches: u64,
    /// How many of these fetches brought nothing.
    pub failures: u64,
    /// How often it was asked about a token.
    pub questions: u64,
    /// How many of these questions got no answer.
    pub unanswered: u64,
}

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct Issuer {
    settings: IssuerSettings,
    who: Arc<IssuerOf>,
    keys: Keys,
    introspection: Option<Introspection>,
}

#[derive(Debug)]
enum Keys {
    Secrets(Vec<DecodingKey>),
    Kept(Box<Keeper>),
    None,
}

impl Issuer {
    /// Reads the secrets, if that is how its JWTs are verified. Keys of other kinds are fetched by
    /// [`Self::keep`].
    pub(crate) fn open(settings: IssuerSettings) -> Result<Self, KeyFileError> {
        let kept = |source, way: &Way| {
            let (way, algorithms) = (way.clone(), settings.algorithms.clone());
            let origin = Origin { source, way, algorithms };
            Keys::Kept(Box::new(Keeper::new(settings.name.clone(), origin, Pace::DEFAULT)))
        };
        let keys = match &settings.keys {
            KeyLocation::Discovery(way) => {
                kept(Source::Discovery { issuer: settings.issuer.clone() }, way)
            }
            KeyLocation::Url(url, way) => kept(Source::Url(url.clone()), way),
            KeyLocation::File(path) => kept(Source::File(path.clone()), &Way::default()),
            KeyLocation::Secret(files) => {
                let least = settings.algorithms.iter().map(|it| hash_size(*it)).max();
                let read = |path: &PathBuf| {
                    let secret = keyfile::shared_secret(path, least.unwrap_or(64))?;
                    Ok(DecodingKey::from_secret(secret.as_bytes()))
                };
                Keys::Secrets(files.iter().map(read).collect::<Result<_, KeyFileError>>()?)
            }
            KeyLocation::None => Keys::None,
        };
        Ok(Self::with_keys(settings, keys))
    }

    fn with_keys(settings: IssuerSettings, keys: Keys) -> Self {
        let who = settings.who();
        let introspection = settings.introspection.clone().map(Introspection::new);
        Self { settings, who: Arc::new(who), keys, introspection }
    }

    /// With a secret that is in no file.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn with_secret(settings: IssuerSettings, secret: DecodingKey) -> Self {
        Self::with_keys(settings, Keys::Secrets(vec![secret]))
    }

    /// What is known of it.
    #[must_use]
    pub(crate) fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// What a refusal says of it.
    pub(super) fn who(&self) -> &Arc<IssuerOf> {
        &self.who
    }

    /// Fetches its keys, renews them before they expire, and looks for those that JWTs name and
    /// are not known, until `stop`. Without it, only shared secrets verify anything.
    /// Says first what is wrong with the files that a question needs: nobody asks before a login does.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        if let Some(introspection) = &self.introspection
            && let Err(fault) = introspection.check().await
        {
            tracing::warn!(issuer = self.settings.name, %fault, "cannot be asked about tokens");
        }
        if let Keys::Kept(keeper) = &self.keys {
            keeper.run(stop).await;
        }
    }

    /// How it stands with its keys.
    #[must_use]
    pub(crate) fn status(&self) -> IssuerStatus {
        let asked = self.introspection.as_ref().map(Introspection::counts).unwrap_or_default();
        let (questions, unanswered) = (asked.asked, asked.failed);
        let (keys, fault, fetches, failures) = match &self.keys {
            Keys::Secrets(secrets) => (secrets.len(), None, 0, 0),
            Keys::Kept(keeper) => {
                let standing = keeper.standing();
                (standing.keys, standing.fault, standing.fetches, standing.failures)
            }
            Keys::None => (0, None, 0, 0),
        };
        let fault = fault.or(asked.fault);
        IssuerStatus { keys, fault, fetches, failures, questions, unanswered }
    }

    /// Whether its tokens are verified with keys, where they are JWTs.
    #[must_use]
    pub(crate) fn has_keys(&self) -> bool {
        !matches!(self.keys, Keys::None)
    }

    /// Fetches its keys once, for nobody but the caller: what is usable, or why nothing is.
    pub(crate) async fn probe(&self) -> Result<Found, String> {
        match &self.keys {
            Keys::Secrets(secrets) => Ok(Found { keys: secrets.len(), ..Found::default() }),
            Keys::Kept(keeper) => keeper.probe().await,
            Keys::None => Ok(Found::default()),
        }
    }

    /// Asks it about a token that nobody has, where it is asked about tokens: what is wrong with its answer.
    pub(crate) async fn probe_introspection(&self) -> Option<Result<(), String>> {
        Some(self.introspection.as_ref()?.probe().await)
    }

    /// How many characters tell that it is the issuer to be asked about this text.
    pub(super) fn takes(&self, text: &str, is_password: bool) -> Option<usize> {
        self.introspection.as_ref()?.takes(text, is_password)
    }

    /// Whom a token names by its own word, if that is active and for us, holds at `now`, and is that of the user
    /// beside it.
    pub(super) async fn introspect(
        &self,
        token: &str,
        user: Option<&str>,
        asker: (Network, &Logins),
        now: UnixSeconds,
    ) -> Result<Identified, Rejected> {
        let (name, unasked) = (&self.settings.name, "it has no `introspection_url`");
        let answer = match &self.introspection {
            Some(introspection) => introspection.ask(token, asker, now).await,
            None => Err(unasked.into()),
        };
        let answer = answer
            .map_err(|reason| AuthnError::Introspection { issuer: name.clone(), reason })?
            .ok_or_else(|| {
                Denied::from(DenyReason::UnknownToken).with_detail(format!(
                    "issuer {name}: it says that the token is not active; have it make another"
                ))
            })?;
        Ok(self.identify_said(&answer, user, now)?)
    }

    /// Verifies that it has signed the JWT.
    pub(super) async fn verify(&self, token: Unverified<'_>) -> Result<Verified, NotVerified> {
        let algorithm = token.algorithm(&self.settings.algorithms)?;
        match &self.keys {
            Keys::None => Err(Flaw::NoKey.into()),
            Keys::Secrets(secrets) => Ok(token.verify(secrets, algorithm)?),
            Keys::Kept(keeper) => {
                let mut keys = keeper.keys(token.key_id(), algorithm).await?;
                if !token.is_signed_by(keys.iter().map(|key| key.decoding()), algorithm)
                    && let Some(others) = keeper.others(token.key_id(), algorithm).await
                {
                    keys = others;
                }
                Ok(token.verify(keys.iter().map(|key| key.decoding()), algorithm)?)
            }
        }
    }

    /// What it means for a login that a JWT of this issuer is not verified.
    pub(super) fn rejects(&self, why: NotVerified) -> Rejected {
        let issuer = &self.settings.name;
        match why {
            NotVerified::Flaw(flaw) => {
                let detail = format!("issuer {issuer}: {flaw}");
                Denied::from(flaw).with_detail(detail).into()
            }
            NotVerified::Unavailable(reason) => {
                AuthnError::Keys { issuer: issuer.clone(), reason }.into()
            }
        }
    }
}

/// The least length of a secret, in bytes (RFC 7518, section 3.2).
fn hash_size(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        _ => 64,
    }
}
