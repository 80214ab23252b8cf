//! The ways to log in: the authenticators in the order in which they are asked, and what they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use tokio::sync::mpsc;

use super::base::Base;
use super::metrics::{flag, size};
use super::parts::Part;
use super::{DaemonError, Result};
use crate::authn::guessing::GuessingStats;
use crate::authn::hashing::Pace;
use crate::authn::jwt::{Issuer, JwtAuthenticator};
use crate::authn::lane::{HashingLane, LaneStats};
use crate::authn::password::{PasswordAuthenticator, PasswordSettings, Rehash};
use crate::authn::{self, Authenticator};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::{CredentialStore, Store};

/// Outdated hashes that wait to be replaced; a login that finds no room leaves it to the next.
const REHASHES: usize = 64;

/// Opens all ways to log in, in the order in which they are asked, and has their keys and hashes kept. Gives
/// how fast this machine hashes, too.
pub(super) fn open(base: &Base<'_>) -> Result<(Vec<Arc<dyn Authenticator>>, Pace)> {
    let Base { config, clock, parts, .. } = base;
    let store = base.cache.clone() as Arc<dyn CredentialStore>;
    let settings = PasswordSettings {
        threads: config.hashing.threads,
        queue: config.hashing.queue,
        deadline: config.callout.deadline,
        max_in_flight: config.callout.max_in_flight,
        idle: config.cache.password_idle,
        guessing: config.guessing,
    };
    let mut password = PasswordAuthenticator::new(settings, Arc::clone(&store), Arc::clone(clock))?;
    let (lane, guessing) = (password.lane(), password.guessing());
    let pace = lane.pace();
    if config.hashing.rehash {
        let (sender, rehashes) = mpsc::channel(REHASHES);
        password = password.with_rehash(sender);
        let outdated = (Arc::clone(&lane), base.store.clone(), rehashes);
        parts.spawn(Part::minor("rehash").until_done(), outdated, |(lane, store, rehashes), _| {
            rehash(lane, &**store, rehashes).boxed()
        });
    }
    let issuers = open_issuers(config)?;
    for issuer in &issuers {
        let part = Part::vital(format!("issuer-{}", issuer.settings().name)).until_done();
        parts.spawn(part, Arc::clone(issuer), |issuer, stop| {
            Arc::clone(issuer).keep(stop.clone()).boxed()
        });
    }
    let logins = chain(issuers.clone(), password, &store, clock, base.config.callout.max_in_flight);
    base.observed.metrics.show(move || {
        show_lane(lane.stats());
        show_guesses(guessing.stats());
        issuers.iter().for_each(|issuer| show_issuer(issuer));
    });
    Ok((logins, pace))
}

/// All ways to log in. JWTs come before what they look like otherwise: tokens and passwords.
pub(crate) fn chain(
    issuers: Vec<Arc<Issuer>>,
    password: PasswordAuthenticator,
    store: &Arc<dyn CredentialStore>,
    clock: &Arc<dyn Clock>,
    max_in_flight: usize,
) -> Vec<Arc<dyn Authenticator>> {
    let asking = max_in_flight / 2;
    let jwt = JwtAuthenticator::new(issuers, Arc::clone(store), Arc::clone(clock), asking);
    let mut chain: Vec<Arc<dyn Authenticator>> = vec![Arc::new(jwt)];
    chain.extend(authn::of_table(password, store, clock));
    chain
}

/// The issuers whose JWTs are logins; their keys are not fetched yet.
pub(crate) fn open_issuers(config: &Config) -> Result<Vec<Arc<Issuer>>> {
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
async fn rehash(lane: &HashingLane, store: &dyn Store, rehashes: &mut mpsc::Receiver<Rehash>) {
    while let Some(rehash) = rehashes.recv().await {
        let patience = Instant::now() + Duration::from_secs(60);
        let Ok(new) = lane.hash(rehash.password, patience).await else { continue };
        if let Err(error) = store.rehash(&rehash.user, &rehash.old, &new).await {
            tracing::warn!(user = ?rehash.user, %error, "an outdated hash was not replaced");
        }
    }
}

fn show_lane(lane: LaneStats) {
    gauge!("nats_callout_hashing_threads").set(size(lane.threads));
    gauge!("nats_callout_hashing_running").set(size(lane.running));
    gauge!("nats_callout_hashing_waiting").set(size(lane.waiting));
    counter!("nats_callout_hashing_done_total").absolute(lane.done);
    let shed = |reason, count| {
        counter!("nats_callout_hashing_shed_total", "reason" => reason).absolute(count);
    };
    shed("full", lane.refused_full);
    shed("late", lane.refused_late);
    shed("abandoned", lane.skipped);
}

fn show_guesses(guesses: GuessingStats) {
    gauge!("nats_callout_guesses_waiting").set(size(guesses.waiting));
    counter!("nats_callout_guesses_delayed_total").absolute(guesses.delayed);
    counter!("nats_callout_guesses_dropped_total").absolute(guesses.dropped);
    counter!("nats_callout_guesses_unfinished_total").absolute(guesses.unfinished);
}

fn show_issuer(issuer: &Issuer) {
    let (name, status) = (issuer.settings().name.clone(), issuer.status());
    let is_up = status.fault.is_none() && (status.keys > 0 || !issuer.has_keys());
    gauge!("nats_callout_issuer_up", "issuer" => name.clone()).set(flag(is_up));
    gauge!("nats_callout_issuer_keys", "issuer" => name.clone()).set(size(status.keys));
    counter!("nats_callout_issuer_fetches_total", "issuer" => name.clone())
        .absolute(status.fetches);
    counter!("nats_callout_issuer_fetch_failures_total", "issuer" => name.clone())
        .absolute(status.failures);
    counter!("nats_callout_issuer_questions_total", "issuer" => name.clone())
        .absolute(status.questions);
    counter!("nats_callout_issuer_questions_unanswered_total", "issuer" => name)
        .absolute(status.unanswered);
}
