//! Passwords that have been verified a short while ago, so that a reconnect costs no hash, and that
//! are being verified right now, so that many logins with the same one cost a single hash.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use futures_util::FutureExt;
use moka::future::Cache;

use super::AuthnError;
use super::hashing::Verdict;
use super::random::{self, NoRandomness};
use crate::protocol::credentials::Secret;
use crate::store::PasswordHash;

/// How many verified passwords are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedLimits {
    /// At most so many.
    pub capacity: u64,
    /// Forgotten when not used for so long.
    pub idle: Duration,
    /// Forgotten after so long in any case.
    pub total: Duration,
}

impl Default for VerifiedLimits {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            idle: Duration::from_secs(10 * 60),
            total: Duration::from_secs(60 * 60),
        }
    }
}

/// The verified passwords, each as a keyed hash over user, stored hash and password. Without the
/// key, which lives and dies with the process, nothing in it tells a password; and once the stored
/// hash changes, nothing in it is found any more.
#[derive(Clone)]
pub(crate) struct VerifiedPasswords {
    key: hmac::Key,
    known: Cache<Fingerprint, ()>,
}

/// What stands for one user, stored hash and password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

#[derive(Debug)]
enum Stop {
    Rejected(Verdict),
    Failed(AuthnError),
}

impl VerifiedPasswords {
    /// An empty cache with a key of its own.
    pub(crate) fn new(limits: VerifiedLimits) -> Result<Self, NoRandomness> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        random::fill(key.as_mut())?;
        let known = Cache::builder()
            .max_capacity(limits.capacity)
            .time_to_idle(limits.idle)
            .time_to_live(limits.total)
            .build();
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), known })
    }

    /// How many are kept, roughly.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.known.entry_count()
    }

    /// The fingerprint; no hash is none that could be stored.
    pub(super) fn fingerprint(
        &self,
        user: &str,
        hash: Option<&PasswordHash>,
        password: &Secret,
    ) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.map_or("", PasswordHash::expose), password.expose()] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        Fingerprint(fingerprint)
    }

    /// Whether the password is known to be right.
    pub(super) fn knows(&self, fingerprint: &Fingerprint) -> bool {
        self.known.contains_key(fingerprint)
    }

    /// Keeps a match that was found too late for the login that asked, so that the next one of the
    /// same client succeeds. In the rare case that the cache is busy it is not kept.
    pub(super) fn remember(&self, fingerprint: Fingerprint) {
        let _ = self.known.insert(fingerprint, ()).now_or_never();
    }

    /// Right, if it is known to be, else what `verify` says. Simultaneous calls with one
    /// fingerprint share one `verify`; only a match is kept. A failure is the caller's own: if the
    /// call that did the work for others fails, each of them tries by itself.
    pub(super) async fn check<F>(
        &self,
        fingerprint: &Fingerprint,
        deadline: Instant,
        verify: impl Fn() -> F,
    ) -> Result<Verdict, AuthnError>
    where
        F: Future<Output = Result<Verdict, AuthnError>>,
    {
        loop {
            let mut worked = false;
            let work = async {
                worked = true;
                match verify().await {
                    Ok(Verdict::Match) => Ok(()),
                    Ok(verdict) => Err(Stop::Rejected(verdict)),
                    Err(error) => Err(Stop::Failed(error)),
                }
            };
            let shared = self.known.try_get_with_by_ref(fingerprint, work);
            let result: Result<(), Arc<Stop>> =
                match tokio::time::timeout_at(deadline.into(), shared).await {
                    Ok(result) => result,
                    Err(_) => return Err(AuthnError::Overloaded),
                };
            return match result.as_ref().map_err(AsRef::as_ref) {
                Ok(()) => Ok(Verdict::Match),
                Err(&Stop::Rejected(verdict)) => Ok(verdict),
                Err(Stop::Failed(error)) if worked => Err(error.clone()),
                Err(Stop::Failed(_)) => continue,
            };
        }
    }
}

impl fmt::Debug for VerifiedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedPasswords").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::future::{join, join_all};
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::super::fakes::far;
    use super::*;

    fn cache() -> VerifiedPasswords {
        VerifiedPasswords::new(VerifiedLimits::default()).unwrap()
    }

    fn fingerprint(cache: &VerifiedPasswords, parts: [&str; 3]) -> Fingerprint {
        let [user, hash, password] = parts;
        let hash = PasswordHash::new(hash);
        cache.fingerprint(user, Some(&hash), &Secret::new(password.to_owned()))
    }

    #[test]
    fn any_difference_makes_another_fingerprint() {
        let cache = cache();
        let known = fingerprint(&cache, ["alice", "hash", "password"]);
        assert!(known == fingerprint(&cache, ["alice", "hash", "password"]));
        for parts in [
            ["alicf", "hash", "password"],
            ["alice", "hasi", "password"],
            ["alice", "hash", "passwore"],
            ["alicehash", "", "password"],
            ["alice", "hashpassword", ""],
            ["", "alicehash", "password"],
        ] {
            assert!(known != fingerprint(&cache, parts), "{parts:?}");
        }
    }

    #[test]
    fn the_fingerprint_depends_on_a_key_of_its_own() {
        let parts = ["alice", "hash", "password"];
        assert!(fingerprint(&cache(), parts) != fingerprint(&cache(), parts));
    }

    #[tokio::test]
    async fn a_match_is_kept_and_nothing_else() {
        let cache = cache();
        let calls = AtomicUsize::new(0);
        let mut found = Vec::new();
        for verdict in [Verdict::Mismatch, Verdict::Match, Verdict::Mismatch] {
            let parts = ["alice", "hash", "password"];
            let print = fingerprint(&cache, parts);
            let verify = || async {
                calls.fetch_add(1, SeqCst);
                Ok(verdict)
            };
            found.push(cache.check(&print, far(), verify).await.unwrap());
        }
        assert_eq!(found, [Verdict::Mismatch, Verdict::Match, Verdict::Match]);
        assert_eq!(calls.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_remembered_match_needs_no_work() {
        let cache = cache();
        let print = fingerprint(&cache, ["alice", "hash", "password"]);
        cache.clone().remember(print.clone());
        let verify = || async { panic!("verified again") };
        assert_eq!(cache.check(&print, far(), verify).await.unwrap(), Verdict::Match);
    }

    #[tokio::test]
    async fn simultaneous_checks_share_the_work() {
        let cache = cache();
        let print = fingerprint(&cache, ["alice", "hash", "password"]);
        let calls = AtomicUsize::new(0);
        let gate = tokio::sync::Semaphore::new(0);
        for verdict in [Verdict::Mismatch, Verdict::Match] {
            let checks = (0..5).map(|_| {
                cache.check(&print, far(), || async {
                    calls.fetch_add(1, SeqCst);
                    gate.acquire().await.unwrap().forget();
                    Ok(verdict)
                })
            });
            let (found, ()) = join(join_all(checks), async { gate.add_permits(1) }).await;
            assert!(found.into_iter().all(|found| found.unwrap() == verdict));
        }
        assert_eq!(calls.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_shared() {
        let cache = cache();
        let print = fingerprint(&cache, ["alice", "hash", "password"]);
        let (fail, failing) = oneshot::channel::<()>();
        let failing = std::sync::Mutex::new(Some(failing));
        let first = cache.check(&print, far(), || async {
            let failing = failing.lock().unwrap().take();
            let _ = failing.unwrap().await;
            Err(AuthnError::Overloaded)
        });
        let second = cache.check(&print, far(), || async { Ok(Verdict::Match) });
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(fail);
        assert!(matches!(first.await, Err(AuthnError::Overloaded)));
        assert_eq!(second.await.unwrap(), Verdict::Match);
    }

    #[tokio::test]
    async fn a_check_that_is_given_up_leaves_the_others_to_it() {
        let cache = cache();
        let print = fingerprint(&cache, ["alice", "hash", "password"]);
        let mut first = Box::pin(cache.check(&print, far(), std::future::pending::<Result<_, _>>));
        let second = cache.check(&print, far(), || async { Ok(Verdict::Match) });
        let mut second = Box::pin(second);
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.unwrap(), Verdict::Match);
    }

    #[tokio::test]
    async fn nobody_waits_for_another_beyond_his_own_deadline() {
        let cache = cache();
        let print = fingerprint(&cache, ["alice", "hash", "password"]);
        let mut first = Box::pin(cache.check(&print, far(), std::future::pending::<Result<_, _>>));
        assert!(poll!(&mut first).is_pending());
        let deadline = Instant::now() + Duration::from_millis(20);
        let second = cache.check(&print, deadline, || async { Ok(Verdict::Match) }).await;
        assert!(matches!(second, Err(AuthnError::Overloaded)));
    }

    #[test]
    fn the_limits_bind() {
        let limits = VerifiedLimits { capacity: 7, ..VerifiedLimits::default() };
        let policy = VerifiedPasswords::new(limits).unwrap().known.policy();
        assert_eq!(policy.max_capacity(), Some(7));
        assert_eq!(policy.time_to_idle(), Some(Duration::from_secs(600)));
        assert_eq!(policy.time_to_live(), Some(Duration::from_secs(3_600)));
    }
}
