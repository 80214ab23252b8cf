//! Tokens that nobody has, by the source that sends them. Nobody guesses 128 random bits, but each of them costs
//! a question to the database, and a program may go on for months with one that was taken away.
//!
//! Beyond the allowance, a source's tokens are looked up a few at a time, in the order in which they come. What
//! finds no place to wait in, or is not reached in time, gets no answer, since it may be right. Nobody else waits
//! for that: not the other sources, nor who logs in from the same one by a password, or with a token that was
//! somebody's a while ago.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ipnet::IpNet;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failures::{Failures, WINDOW};
use super::{FAMILIAR_FOR, Guessing, source};
use crate::authn::AuthnError;
use crate::store::TokenHash;

/// Of the decisions under way, one part in so many may be tokens of sources beyond their allowance.
pub(super) const PART: usize = 2;

/// Such a source may have one part in so many of these looked up at once.
const SOURCE_PART: usize = 32;

/// The sources, and the places for those beyond their allowance.
pub(super) struct Sources {
    counted: Cache<IpNet, Arc<Source>>,
    places: Arc<Semaphore>,
    at_once: usize,
    /// Tokens that were somebody's.
    known: Cache<TokenHash, ()>,
}

/// What has come from a source, and the places of its own.
#[derive(Debug)]
struct Source {
    unknown: Failures,
    lookups: Arc<Semaphore>,
}

/// One of all, and one of its source.
type Places = [OwnedSemaphorePermit; 2];

/// Leave to ask whose a token is, as long as this lasts.
pub(crate) struct TokenAttempt<'a> {
    guessing: &'a Guessing,
    hash: TokenHash,
    from: Option<(IpNet, Arc<Source>)>,
    _places: Option<Places>,
}

impl Sources {
    pub(super) fn new(places: usize, capacity: u64) -> Self {
        let counted = Cache::builder().max_capacity(capacity).time_to_idle(2 * WINDOW).build();
        let known = Cache::builder().max_capacity(capacity).time_to_idle(FAMILIAR_FOR).build();
        let (places, at_once) = (places.max(1), (places / SOURCE_PART).max(1));
        Self { counted, places: Arc::new(Semaphore::new(places)), at_once, known }
    }

    async fn of(&self, network: IpNet, allowance: u32) -> Arc<Source> {
        let new = async {
            let lookups = Arc::new(Semaphore::new(self.at_once));
            Arc::new(Source { unknown: Failures::new(allowance), lookups })
        };
        self.counted.get_with(network, new).await
    }

    /// Whether it had to wait, and its places.
    async fn enter(&self, source: &Source, deadline: Instant) -> Option<(bool, Places)> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        if let Ok(lookup) = Arc::clone(&source.lookups).try_acquire_owned() {
            return Some((false, [place, lookup]));
        }
        let lookup = Arc::clone(&source.lookups).acquire_owned();
        let lookup = tokio::time::timeout_at(deadline.into(), lookup).await.ok()?.ok()?;
        Some((true, [place, lookup]))
    }
}

impl Guessing {
    /// Leave to look up a token that comes from `host`, an IP address: at once, or when it is its source's turn.
    pub(crate) async fn token(
        &self,
        hash: TokenHash,
        host: &str,
        deadline: Instant,
    ) -> Result<TokenAttempt<'_>, AuthnError> {
        let allowance = self.limits.source_failures;
        let Some(network) = source(host).filter(|_| allowance > 0) else {
            return Ok(TokenAttempt { guessing: self, hash, from: None, _places: None });
        };
        let source = self.tokens.of(network, allowance).await;
        let is_free = source.unknown.count(Instant::now()).wrong < allowance
            || self.tokens.known.get(&hash).await.is_some();
        let places = match is_free {
            true => None,
            false => Some(self.token_places(&source, deadline).await?),
        };
        Ok(TokenAttempt { guessing: self, hash, from: Some((network, source)), _places: places })
    }

    async fn token_places(&self, source: &Source, deadline: Instant) -> Result<Places, AuthnError> {
        let Some((has_waited, places)) = self.tokens.enter(source, deadline).await else {
            self.dropped.fetch_add(1, Relaxed);
            return Err(AuthnError::UnknownTokens);
        };
        self.delayed.fetch_add(u64::from(has_waited), Relaxed);
        Ok(places)
    }
}

impl TokenAttempt<'_> {
    /// Notes that it is somebody's.
    pub(crate) async fn known(&self) {
        self.guessing.tokens.known.insert(self.hash, ()).await;
    }

    /// Notes that nobody has it.
    pub(crate) async fn unknown(&self) {
        self.guessing.tokens.known.invalidate(&self.hash).await;
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
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use futures_util::future::join_all;
    use futures_util::poll;

    use super::*;
    use crate::authn::guessing::GuessingLimits;

    const ALLOWANCE: u32 = 3;

    fn guessing(places: usize) -> Guessing {
        let limits = GuessingLimits { account_failures: 1, source_failures: ALLOWANCE };
        Guessing::new(limits, PART * places)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn other() -> TokenHash {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        TokenHash::of(&NEXT.fetch_add(1, Relaxed).to_string())
    }

    /// Uses up the allowance of a source.
    async fn use_up(guessing: &Guessing, host: &str) {
        for _ in 0..ALLOWANCE {
            guessing.token(other(), host, later()).await.unwrap().unknown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_allowance_a_source_has_a_few_at_once() {
        let guessing = guessing(3);
        let from = |host| guessing.token(other(), host, later());
        let known = TokenHash::of("known");
        guessing.token(known, "10.0.0.1", later()).await.unwrap().known().await;
        let free = join_all((0..100).map(|_| from("10.0.0.1"))).await;
        assert!(free.iter().all(Result::is_ok), "until some are unknown");
        use_up(&guessing, "10.0.0.1").await;

        let first = from("10.0.0.1").await.unwrap();
        let second = from("10.0.0.1");
        tokio::pin!(second);
        assert!(poll!(&mut second).is_pending(), "it waits for the first");
        let third = guessing.token(other(), "10.0.0.1", Instant::now()).await;
        assert!(matches!(third, Err(AuthnError::UnknownTokens)), "its time is up");
        let fourth = from("10.0.0.1");
        tokio::pin!(fourth);
        assert!(poll!(&mut fourth).is_pending());
        let fifth = from("10.0.0.1").await;
        assert!(matches!(fifth, Err(AuthnError::UnknownTokens)), "all places are taken");
        assert_eq!(guessing.stats().dropped, 2);
        assert!(from("10.0.0.2").await.is_ok(), "another source waits for nothing");
        let known = guessing.token(known, "10.0.0.1", later()).await;
        assert!(known.is_ok(), "nor does a token that was somebody's");
        known.unwrap().unknown().await;

        drop(first);
        let second = poll!(&mut second);
        assert!(second.is_ready(), "in the order in which they came");
        assert_eq!(guessing.stats().delayed, 1);
        assert!(poll!(&mut fourth).is_pending());
        let taken_back = guessing.token(TokenHash::of("known"), "10.0.0.1", Instant::now()).await;
        assert!(matches!(taken_back, Err(AuthnError::UnknownTokens)), "it is nobody's any more");
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
        let token = guessing.token(other(), "10.0.0.2", later()).await;
        assert!(token.is_ok(), "nor do passwords a token");
    }

    #[tokio::test]
    async fn what_is_not_counted_is_free() {
        let none = GuessingLimits { account_failures: 1, source_failures: 0 };
        for (guessing, host) in [(Guessing::new(none, 1), "10.0.0.1"), (guessing(1), "no address")]
        {
            use_up(&guessing, host).await;
            let token = || guessing.token(other(), host, later());
            let (one, another) = tokio::join!(token(), token());
            assert!(one.is_ok() && another.is_ok(), "{host}");
        }
    }
}
