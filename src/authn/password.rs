//! Logins with a user name and a password, or with one of the user's tokens in its place.
//!
//! Every refusal of a password costs one hash, whether the user is unknown, suspended, expired
//! or without a password, or the password is wrong: the time taken tells nothing. A password that
//! has been verified a short while ago needs none, nor does an empty one; all others pass [`Guessing`]
//! before.
//!
//! What may be a token is looked up as one of the user's first, unless it is the password that has been
//! verified a short while ago. What is made here as a token can be nothing else.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::guessing::{GuessAttempt, Guessing, GuessingLimits};
use super::hashing::{self, HashingError, NoHash, Verdict};
use super::lane::HashingLane;
use super::token::{self, Token, TokenCheck};
use super::verified::{Fingerprint, VerifiedLimits, VerifiedPasswords};
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Found, Principal,
    Proof, Rejected, confirmed,
};
use crate::clock::Clock;
use crate::protocol::credentials::{Credentials, Secret};
use crate::redact::shown;
use crate::store::{CredentialStore, Freshness, LoginRecord, PasswordHash};

const MAX_PASSWORD_BYTES: usize = 4_096;

/// The longest name of a user.
pub(crate) const MAX_USER_CHARS: usize = 128;

/// The word for the log.
const METHOD: &str = "password";

/// A user whose password was right and whose stored hash is outdated: to be hashed anew and handed
/// to [`ProvisioningStore::rehash`](crate::store::ProvisioningStore::rehash).
#[derive(Debug, Clone)]
pub struct Rehash {
    /// The login name.
    pub user: String,
    /// The hash that was verified.
    pub old: PasswordHash,
    /// The password.
    pub password: Secret,
}

/// Verifies user names and passwords.
#[derive(Debug)]
pub struct PasswordAuthenticator {
    store: Arc<dyn CredentialStore>,
    clock: Arc<dyn Clock>,
    tokens: TokenCheck,
    lane: Arc<HashingLane>,
    verified: VerifiedPasswords,
    guessing: Arc<Guessing>,
    rehash: Option<mpsc::Sender<Rehash>>,
}

/// What verifying passwords may take, and how much guessing is free.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSettings {
    /// Threads that hash; 0 is one per core.
    pub threads: usize,
    /// How many passwords may wait for one.
    pub queue: usize,
    /// How long a decision takes at most.
    pub deadline: Duration,
    /// How many decisions may be under way.
    pub max_in_flight: usize,
    /// How long a password that was right is remembered when it is not used.
    pub idle: Duration,
    /// How many wrong passwords slow down nobody.
    pub guessing: GuessingLimits,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            queue: HashingLane::DEFAULT_QUEUE,
            deadline: HashingLane::DEFAULT_DEADLINE,
            max_in_flight: 1_024,
            idle: VerifiedLimits::default().idle,
            guessing: GuessingLimits::default(),
        }
    }
}

/// A password that somebody offers.
struct Offer<'a> {
    user: &'a str,
    password: &'a Secret,
    guess: &'a GuessAttempt<'a>,
    deadline: Instant,
    found: &'a Found,
}

/// What comes of a password as a token.
enum AsToken {
    /// It is nothing else, or is one that lets the user in.
    Decided(Result<Principal, Rejected>),
    /// It is none that lets him in, or that is not known; it may be his password all the same.
    Rejected(Rejected),
    /// It is none of the user's.
    No,
}

/// What came of comparing it.
#[derive(Default)]
struct Compared {
    /// The row that it was last compared with.
    record: Option<Arc<LoginRecord>>,
    verdict: Option<Verdict>,
    /// Whether a hash was computed for it.
    hashed: bool,
    /// Whether there was another row before.
    is_second: bool,
}

impl PasswordAuthenticator {
    /// Looks users up in `store`, and verifies their passwords on a lane of its own.
    pub fn new(
        settings: PasswordSettings,
        store: Arc<dyn CredentialStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HashingError> {
        let lane = HashingLane::new(settings.threads, settings.queue)?;
        let lane = Arc::new(lane.with_deadline(settings.deadline));
        let remembered = VerifiedLimits { idle: settings.idle, ..VerifiedLimits::default() };
        let verified = VerifiedPasswords::new(remembered).map_err(NoHash::from)?;
        let guessing = Arc::new(Guessing::new(settings.guessing, settings.max_in_flight));
        let tokens = TokenCheck {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            guessing: Arc::clone(&guessing),
        };
        Ok(Self { store, clock, tokens, lane, verified, guessing, rehash: None })
    }

    /// What hashes.
    pub(crate) fn lane(&self) -> Arc<HashingLane> {
        Arc::clone(&self.lane)
    }

    /// What knows users' tokens.
    pub(super) fn tokens(&self) -> TokenCheck {
        self.tokens.clone()
    }

    /// What slows down who guesses.
    pub(crate) fn guessing(&self) -> Arc<Guessing> {
        Arc::clone(&self.guessing)
    }

    /// Hands users with an outdated hash to `rehash`, as long as it has room.
    #[must_use]
    pub fn with_rehash(mut self, rehash: mpsc::Sender<Rehash>) -> Self {
        self.rehash = Some(rehash);
        self
    }

    async fn authenticate_user(
        &self,
        user: &str,
        password: &Secret,
        attempt: Attempt<'_>,
    ) -> Result<Principal, Rejected> {
        let Attempt { client, deadline, found, .. } = attempt;
        if password.expose().is_empty() {
            let denied = Denied::from(DenyReason::NoCredentials);
            return Err(denied.with_detail("a user name without a password").into());
        }
        let hopeless = hopeless(user, password.expose());
        let as_token = match hopeless {
            None => self.authenticate_token(user, password, attempt).await,
            Some(_) => AsToken::No,
        };
        let no_token = match as_token {
            AsToken::Decided(decided) => return decided,
            AsToken::Rejected(why) => Some(why),
            AsToken::No => None,
        };
        let guess = self.guessing.attempt(user, &client.host);
        let offer = Offer { user, password, guess: &guess, deadline, found };
        let decide = async {
            match hopeless {
                Some(reason) => {
                    self.hash_nothing(&offer).await?;
                    Err(reason.into())
                }
                None => self.decide(&offer).await,
            }
        };
        let decided = tokio::select! {
            decided = decide => decided,
            () = guess.displaced() => Err(AuthnError::Throttled.into()),
        };
        match &decided {
            Err(Rejected::Fault(
                AuthnError::Overloaded | AuthnError::SlowHash { .. } | AuthnError::Throttled,
            )) if guess.is_guess().await => {
                guess.dropped();
                return Err(AuthnError::Throttled.into());
            }
            Err(Rejected::Fault(_)) => {}
            Err(Rejected::Denied(_)) => guess.refused().await,
            Ok(_) => guess.accepted().await,
        }
        match (decided, no_token) {
            (Err(Rejected::Denied(_)), Some(why)) => Err(why),
            (decided, _) => decided,
        }
    }

    /// What comes of it as one of the user's tokens.
    async fn authenticate_token(
        &self,
        user: &str,
        password: &Secret,
        attempt: Attempt<'_>,
    ) -> AsToken {
        let text = password.expose().trim_end();
        let Some(hash) = token::hash_of(text) else { return AsToken::No };
        let authenticate = || self.tokens.authenticate(&hash, Some(user), attempt);
        if Token::parse(text).is_some() {
            return AsToken::Decided(authenticate().await);
        }
        let is_of = async {
            let record = self.find(user, Freshness::Cached).await?;
            let stored = hash_of(record.as_ref());
            let is_known = self.verified.knows(&self.verified.fingerprint(user, stored, password));
            Ok(!is_known && self.tokens.is_of(&hash, user).await?)
        };
        match is_of.await {
            Ok(false) => AsToken::No,
            Ok(true) => match authenticate().await {
                Err(why) => AsToken::Rejected(why),
                accepted => AsToken::Decided(accepted),
            },
            Err(fault) => AsToken::Rejected(Rejected::Fault(fault)),
        }
    }

    async fn decide(&self, offer: &Offer<'_>) -> Result<Principal, Rejected> {
        let mut known = Compared::default();
        let cached = self.compare(offer, Freshness::Cached, &mut known).await;
        let fresh = self.compare(offer, Freshness::Fresh, &mut known);
        let mut decided = confirmed(ready(cached), fresh).await;
        // Nor does a grant rest on a row that changed during the work, unless it was read again already.
        if decided.is_ok()
            && known.hashed
            && !known.is_second
            && self.find(offer.user, Freshness::Cached).await? != known.record
        {
            decided = self.compare(offer, Freshness::Fresh, &mut known).await;
        }
        if matches!(decided, Err(Rejected::Denied(_))) && !known.hashed {
            // The password was known to be right, and the user may not log in; or another attempt
            // has just found it to be wrong.
            self.hash_nothing(offer).await?;
        }
        decided
    }

    /// Compares the password with a row's hash, unless it has been compared with the same before.
    async fn compare(
        &self,
        offer: &Offer<'_>,
        freshness: Freshness,
        known: &mut Compared,
    ) -> Result<Principal, Rejected> {
        let record = self.find(offer.user, freshness).await?;
        record.iter().for_each(|record| offer.found.note(record));
        let hash = hash_of(record.as_ref());
        // Without a hash there is nothing to verify: better to read again before the work than to do
        // it twice.
        if freshness == Freshness::Cached && hash.is_none() {
            return Err(DenyReason::UnknownUser.into());
        }
        let verdict = match known.verdict {
            Some(verdict) if hash == hash_of(known.record.as_ref()) => verdict,
            Some(_) if hash.is_none() => Verdict::Mismatch,
            _ => {
                let (verdict, hashed) = self.check(offer, record.as_ref()).await?;
                known.hashed |= hashed;
                verdict
            }
        };
        let is_second = known.verdict.is_some();
        *known = Compared { record, verdict: Some(verdict), hashed: known.hashed, is_second };
        let record = known.record.as_ref().ok_or(DenyReason::UnknownUser)?;
        let denied = match verdict {
            Verdict::Match => {
                let now = self.clock.now();
                let principal = Principal::new(Arc::clone(record), METHOD, None, now)?;
                let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
                let proved = Proved { store, clock, record: Arc::clone(record) };
                return Ok(principal.with_proof(Arc::new(proved)));
            }
            Verdict::Mismatch if record.user.password_hash.is_none() => {
                Denied::from(DenyReason::WrongPassword)
                    .with_detail("the user's row has no password")
            }
            Verdict::Mismatch => DenyReason::WrongPassword.into(),
            Verdict::Unusable(why) => Denied::from(DenyReason::UnusableHash)
                .with_detail(format!("the stored password hash cannot be used: {why}")),
        };
        Err(Denied::of(denied, record).into())
    }

    /// One hash for nothing.
    async fn hash_nothing(&self, offer: &Offer<'_>) -> Result<(), AuthnError> {
        let standing = offer.guess.admit(offer.deadline).await?;
        let empty = Secret::new(String::new());
        self.lane.verify_as(standing, empty, None, offer.deadline, || ()).await?;
        Ok(())
    }

    async fn find(
        &self,
        user: &str,
        freshness: Freshness,
    ) -> Result<Option<Arc<LoginRecord>>, AuthnError> {
        Ok(self.store.user(user, freshness).await?)
    }

    /// Compares the password with the record's hash: one hash, unless it is known to match. Says
    /// whether that hash was computed.
    async fn check(
        &self,
        offer: &Offer<'_>,
        record: Option<&Arc<LoginRecord>>,
    ) -> Result<(Verdict, bool), AuthnError> {
        let &Offer { user, password, guess, deadline, .. } = offer;
        let (hash, asked) = (hash_of(record), Instant::now());
        let fingerprint = self.verified.fingerprint(user, hash, password);
        let hashed = AtomicBool::new(false);
        let verify = || async {
            let standing = guess.admit(deadline).await?;
            hashed.store(true, Ordering::Relaxed);
            let matched = self.on_match(user, hash, password, fingerprint.clone());
            let (password, hash) = (password.clone(), hash.cloned());
            self.lane.verify_as(standing, password, hash, deadline, matched).await
        };
        // Nobody waits for the hash of a guess: each has a place of its own to wait in, or none.
        let verified = if !self.verified.knows(&fingerprint) && guess.is_guess().await {
            verify().await
        } else {
            self.verified.check(&fingerprint, deadline, verify).await
        };
        match (verified, record) {
            (Err(AuthnError::Overloaded), Some(record))
                if self.is_slow(record, asked, guess.unfinished_since()) =>
            {
                let (tenant, user) = (record.tenant.id.to_string(), shown(&record.user.name));
                Err(AuthnError::SlowHash { tenant, user: user.to_owned() })
            }
            (verified, _) => Ok((verified?, hashed.into_inner())),
        }
    }

    /// Whether a login ran out of time for its own hash rather than for others': that takes longer than a
    /// decision here, or is a slow one and has had three quarters of the time.
    fn is_slow(&self, record: &LoginRecord, asked: Instant, begun: Option<Instant>) -> bool {
        let (pace, hash) = (self.lane.pace(), record.user.password_hash.as_ref());
        let Some(time) = hash.and_then(|hash| pace.time_of(hash).ok()) else { return false };
        let has_had_most = |begun: Instant| begun.elapsed() > 3 * begun.duration_since(asked);
        pace.is_too_slow(time) || (pace.is_slow(time) && begun.is_some_and(has_had_most))
    }

    /// What is to be done once the password is known to be right, in time or not. A full queue
    /// loses nothing: when the password is next verified, the hash is offered again.
    fn on_match(
        &self,
        user: &str,
        hash: Option<&PasswordHash>,
        password: &Secret,
        fingerprint: Fingerprint,
    ) -> impl FnOnce() + Send + 'static {
        let verified = self.verified.clone();
        let outdated = hash.filter(|hash| hashing::is_outdated(hash));
        let rehash = self.rehash.clone().zip(outdated).map(|(sender, old)| {
            let user = user.to_owned();
            (sender, Rehash { user, old: old.clone(), password: password.clone() })
        });
        move || {
            verified.remember(fingerprint);
            if let Some((sender, job)) = rehash
                && sender.try_send(job).is_err()
            {
                tracing::debug!("no room to hash an outdated password anew");
            }
        }
    }
}

/// Somebody has shown the password of this row.
#[derive(Debug)]
struct Proved {
    store: Arc<dyn CredentialStore>,
    clock: Arc<dyn Clock>,
    record: Arc<LoginRecord>,
}

#[async_trait]
impl Proof for Proved {
    /// A hash that was outdated has been made anew, of the same password unless somebody has just set
    /// another.
    async fn again(&self) -> Result<Principal, Rejected> {
        let Self { store, clock, record } = self;
        let now =
            store.user(&record.user.name, Freshness::Fresh).await.map_err(AuthnError::from)?;
        let now = now.ok_or(DenyReason::UnknownUser)?;
        let (before, after) = (&record.user.password_hash, &now.user.password_hash);
        let is_outdated = before.as_ref().is_some_and(hashing::is_outdated);
        if before != after && (!is_outdated || after.is_none()) {
            return Err(Denied::from(DenyReason::WrongPassword).of(&now).into());
        }
        Ok(Principal::new(now, METHOD, None, clock.now())?)
    }
}

#[async_trait]
impl Authenticator for PasswordAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        match attempt.credentials {
            Credentials::Password { user, password } => {
                Authentication::of(self.authenticate_user(user, password, attempt).await)
            }
            _ => Ok(Authentication::NotMine),
        }
    }
}

/// Why no row could make this a login: the database is not asked, and may not be able to be.
fn hopeless(user: &str, password: &str) -> Option<DenyReason> {
    let printable = !user.chars().any(char::is_control);
    if user.is_empty() || user.chars().nth(MAX_USER_CHARS).is_some() || !printable {
        Some(DenyReason::UnknownUser)
    } else if password.len() > MAX_PASSWORD_BYTES {
        Some(DenyReason::WrongPassword)
    } else {
        None
    }
}

fn hash_of(record: Option<&Arc<LoginRecord>>) -> Option<&PasswordHash> {
    record?.user.password_hash.as_ref()
}

#[cfg(test)]
mod tests;
