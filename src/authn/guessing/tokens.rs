//! Tokens that nobody has, by the source that sends them. Nobody guesses 128 random bits, but each of them costs
//! a question to the database, and a program may go on for months with one that was taken away.
//!
//! Beyond the allowance, a source's tokens are looked up a few at a time, in the order in which they come. What
//! finds no place to wait in, or is not reached in time, gets no answer, since it may be right. Nobody else waits
//! for that: not the other sources, nor who logs in from the same one by a password.

use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failures::{Failures, WINDOW};
use super::{Guessing, source};
use crate::authn::AuthnError;

/// A source beyond its allowance may have one part in so many of the places looked up at once.
const SOURCE_PART: usize = 16;

/// The sources, and the places for those beyond their allowance.
pub(super) struct Sources {
    counted: Cache<IpNet, Arc<Source>>,
    places: Arc<Semaphore>,
    at_once: usize,
}

/// What has come from a source, and the places of its own.
#[derive(Debug)]
struct Source {
    unknown: Failures,
    lookups: Arc<Semaphore>,
}

/// Leave to ask whose a token is, as long as this lasts.
pub(crate) struct TokenAttempt<'a> {
    guessing: &'a Guessing,
    from: Option<(IpNet, Arc<Source>)>,
    _places: Option<[OwnedSemaphorePermit; 2]>,
}

impl Sources {
    pub(super) fn new(places: usize, capacity: u64) -> Self {
        let counted = Cache::builder().max_capacity(capacity).time_to_idle(2 * WINDOW).build();
        let at_once = (places / SOURCE_PART).max(1);
        Self { counted, places: Arc::new(Semaphore::new(places.max(1))), at_once }
    }

    async fn of(&self, network: IpNet, allowance: u32) -> Arc<Source> {
        let new = async {
            let lookups = Arc::new(Semaphore::new(self.at_once));
            Arc::new(Source { unknown: Failures::new(allowance), lookups })
        };
        self.counted.get_with(network, new).await
    }

    async fn enter(&self, source: &Source, deadline: Instant) -> Option<[OwnedSemaphorePermit; 2]> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let lookup = Arc::clone(&source.lookups).acquire_owned();
        let lookup = tokio::time::timeout_at(deadline.into(), lookup).await.ok()?.ok()?;
        Some([place, lookup])
    }
}

impl Guessing {
    /// Leave to look up a token that comes from `host`, an IP address: at once, or when it is its source's turn.
    pub(crate) async fn token(
        &self,
        host: &str,
        deadline: Instant,
    ) -> Result<TokenAttempt<'_>, AuthnError> {
        let allowance = self.limits.source_failures;
        let network = source(host).filter(|_| allowance > 0);
        let Some(network) = network else {
            return Ok(TokenAttempt { guessing: self, from: None, _places: None });
        };
        let source = self.tokens.of(network, allowance).await;
        let is_beyond = source.unknown.count(Instant::now()).wrong >= allowance;
        let places = match is_beyond {
            true => Some(self.tokens.enter(&source, deadline).await.ok_or(AuthnError::Strangers)?),
            false => None,
        };
        Ok(TokenAttempt { guessing: self, from: Some((network, source)), _places: places })
    }
}

impl TokenAttempt<'_> {
    /// Notes that nobody has it.
    pub(crate) fn unknown(&self) {
        let Some((network, source)) = &self.from else { return };
        let now = Instant::now();
        source.unknown.add_wrong(now);
        if source.unknown.begins_trouble(now)
            && let Some(others) = self.guessing.may_say(now)
        {
            tracing::warn!(
                source = %network,
                tokens = source.unknown.count(now).wrong,
                others,
                "a source sends tokens that nobody has: its tokens are looked up a few at a time"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authn::guessing::GuessingLimits;

    const ALLOWANCE: u32 = 3;

    fn guessing(places: usize) -> Guessing {
        Guessing::new(GuessingLimits { account_failures: 1, source_failures: ALLOWANCE }, places)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Uses up the allowance of a source.
    async fn use_up(guessing: &Guessing, host: &str) {
        for _ in 0..ALLOWANCE {
            guessing.token(host, later()).await.unwrap().unknown();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_allowance_a_source_has_a_few_at_once() {
        let guessing = guessing(3);
        let free: Vec<_> =
            futures_util::future::join_all((0..100).map(|_| guessing.token("10.0.0.1", later())))
                .await;
        assert!(free.iter().all(Result::is_ok), "until some are unknown");
        use_up(&guessing, "10.0.0.1").await;

        let first = guessing.token("10.0.0.1", later()).await.unwrap();
        let second = guessing.token("10.0.0.1", later());
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending(), "it waits for the first");
        let third = guessing.token("10.0.0.1", Instant::now()).await;
        assert!(matches!(third, Err(AuthnError::Strangers)), "its time is up");
        let fourth = guessing.token("10.0.0.1", later());
        tokio::pin!(fourth);
        assert!(futures_util::poll!(&mut fourth).is_pending());
        let fifth = guessing.token("10.0.0.1", later()).await;
        assert!(matches!(fifth, Err(AuthnError::Strangers)), "all places are taken");
        assert!(
            guessing.token("10.0.0.2", later()).await.is_ok(),
            "another source waits for nothing"
        );

        drop(first);
        let second = futures_util::poll!(&mut second);
        assert!(second.is_ready(), "in the order in which they came");
        assert!(futures_util::poll!(&mut fourth).is_pending());
    }

    #[tokio::test]
    async fn they_slow_down_no_password() {
        let guessing = guessing(1);
        use_up(&guessing, "10.0.0.1").await;
        assert!(!guessing.attempt("alice", "10.0.0.1").is_guess().await);
        let wrong = guessing.attempt("alice", "10.0.0.2");
        for _ in 0..ALLOWANCE {
            wrong.refused().await;
        }
        assert!(guessing.token("10.0.0.2", later()).await.is_ok(), "nor do passwords a token");
    }

    #[tokio::test]
    async fn what_is_not_counted_is_free() {
        let none = GuessingLimits { account_failures: 1, source_failures: 0 };
        for (guessing, host) in [(Guessing::new(none, 1), "10.0.0.1"), (guessing(1), "no address")]
        {
            use_up(&guessing, host).await;
            let (one, other) =
                tokio::join!(guessing.token(host, later()), guessing.token(host, later()));
            assert!(one.is_ok() && other.is_ok(), "{host}");
        }
    }
}
