//! The ways to log in: the authenticators in the order in which they are asked, and what they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use crate::authn::Authenticator;
use crate::authn::certificate::CertificateAuthenticator;
use crate::authn::guessing::{Guessing, GuessingLimits};
use crate::authn::jwt::{Issuer, JwtAuthenticator};
use crate::authn::lane::HashingLane;
use crate::authn::nkey::NkeyAuthenticator;
use crate::authn::password::{PasswordAuthenticator, Rehash};
use crate::authn::token::TokenAuthenticator;
use crate::authn::verified::{VerifiedLimits, VerifiedPasswords};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::cache::Cached;
use crate::store::{CredentialStore, ProvisioningStore};

/// Outdated hashes that wait to be replaced; a login that finds no room leaves it to the next.
const REHASHES: usize = 64;

/// Of the decisions under way, one part in so many may be guesses that wait.
const GUESSES_PART: usize = 8;

/// All authenticators of a service.
pub(super) struct Logins {
    pub(super) chain: Vec<Arc<dyn Authenticator>>,
    pub(super) issuers: Vec<Arc<Issuer>>,
    pub(super) lane: Arc<HashingLane>,
    pub(super) guessing: Arc<Guessing>,
    pub(super) rehashes: mpsc::Receiver<Rehash>,
}

impl Logins {
    pub(super) fn open(
        config: &Config,
        cache: &Arc<Cached>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, DaemonError> {
        let lane = HashingLane::new(config.hashing.threads, config.hashing.queue)?;
        let lane = Arc::new(lane.with_deadline(config.callout.deadline));
        let guessing = Arc::new(Guessing::new(GuessingLimits {
            account_failures: config.guessing.account_failures,
            source_failures: config.guessing.source_failures,
            waiting: config.callout.max_in_flight / GUESSES_PART,
        }));
        let verified = VerifiedPasswords::new(VerifiedLimits {
            idle: config.cache.password_idle,
            ..VerifiedLimits::default()
        })?;
        let store = Arc::clone(cache) as Arc<dyn CredentialStore>;
        let (sender, rehashes) = mpsc::channel(REHASHES);
        let mut password = PasswordAuthenticator::new(
            Arc::clone(&store),
            Arc::clone(&lane),
            verified,
            Arc::clone(clock),
        )
        .with_guessing(Arc::clone(&guessing));
        if config.hashing.rehash {
            password = password.with_rehash(sender);
        }
        let issuers = open_issuers(config)?;
        let chain = chain(issuers.clone(), password, &store, clock);
        Ok(Self { chain, issuers, lane, guessing, rehashes })
    }
}

/// All ways to log in. JWTs come before what they look like otherwise: tokens and passwords.
pub(crate) fn chain(
    issuers: Vec<Arc<Issuer>>,
    password: PasswordAuthenticator,
    store: &Arc<dyn CredentialStore>,
    clock: &Arc<dyn Clock>,
) -> Vec<Arc<dyn Authenticator>> {
    let (store, clock) = (|| Arc::clone(store), || Arc::clone(clock));
    vec![
        Arc::new(JwtAuthenticator::new(issuers, store(), clock())),
        Arc::new(password),
        Arc::new(TokenAuthenticator::new(store(), clock())),
        Arc::new(NkeyAuthenticator::new(store(), clock())),
        Arc::new(CertificateAuthenticator::new(store(), clock())),
    ]
}

/// The issuers whose JWTs are logins; their keys are not fetched yet.
pub(crate) fn open_issuers(config: &Config) -> Result<Vec<Arc<Issuer>>, DaemonError> {
    let (mut issuers, mut faults) = (Vec::new(), Vec::new());
    for settings in &config.issuers {
        match Issuer::open(settings.clone()) {
            Ok(issuer) => issuers.push(Arc::new(issuer)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(issuers) } else { Err(DaemonError::Keys(faults)) }
}

/// Replaces outdated hashes, one at a time, so that at most one of them is in the queue.
pub(super) async fn rehash(
    lane: Arc<HashingLane>,
    store: Arc<dyn ProvisioningStore>,
    mut rehashes: mpsc::Receiver<Rehash>,
    stop: CancellationToken,
) {
    while let Some(Some(rehash)) = stop.run_until_cancelled(rehashes.recv()).await {
        let patience = Instant::now() + Duration::from_secs(60);
        let Ok(new) = lane.hash(rehash.password, patience).await else { continue };
        if let Err(error) = store.rehash(&rehash.user, &rehash.old, &new).await {
            tracing::warn!(user = ?rehash.user, %error, "an outdated hash was not replaced");
        }
    }
}
