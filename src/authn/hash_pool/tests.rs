//! What the pool does under load: it is filled with jobs that wait to be told to end.

mod guesses;

use std::sync::mpsc;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::poll;

use super::super::fakes::far;
use super::super::guessing::{Guessing, GuessingLimits};
use super::*;

const RIGHT: &str = "right";

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn right() -> PasswordHash {
    hashing::hash(RIGHT).unwrap()
}

fn overloaded<T: fmt::Debug>(result: &Result<T, AuthnError>) -> bool {
    matches!(result, Err(AuthnError::Overloaded))
}

fn free() -> Arc<Suspicion> {
    Arc::default()
}

impl HashPool {
    /// As somebody whom nothing is held against.
    async fn verify(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
        deadline: Instant,
    ) -> Result<Verdict, AuthnError> {
        self.verify_as(free(), password, hash, deadline, || ()).await
    }
}

/// Somebody whose allowance is used up.
fn guesser() -> Arc<Suspicion> {
    Suspicion::of_source(9, 1)
}

fn dead(_: &mut Memory) {
    panic!("worked for the dead");
}

/// What a thread is kept busy with until told.
type Blocked = (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), AuthnError>>);

async fn block(pool: &Arc<HashPool>) -> Blocked {
    block_as(pool, free()).await
}

/// A job that keeps the only thread for this suspicion busy, and is known to have begun.
async fn block_as(pool: &Arc<HashPool>, suspicion: Arc<Suspicion>) -> Blocked {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let pool = Arc::clone(pool);
    let job = tokio::spawn(async move {
        let work = move |_: &mut Memory| {
            let _ = begin.send(());
            let _ = released.recv();
        };
        pool.run(suspicion, false, far(), work).await
    });
    begun.await.unwrap();
    (release, job)
}

#[tokio::test]
async fn each_call_is_one_hash() {
    let pool = HashPool::new(1, 8).unwrap();
    let unusable = PasswordHash::new("$1$old$old");
    for (done, (hash, expected)) in [
        (Some(right()), Verdict::Match),
        (None, Verdict::Mismatch),
        (Some(unusable), Verdict::Unusable(hashing::Unusable::Scheme)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(pool.stats().done, done as u64);
        assert_eq!(pool.verify(secret(RIGHT), hash, far()).await.unwrap(), expected);
    }
    let hash = pool.hash(secret(RIGHT), far()).await.unwrap();
    assert_eq!(pool.verify(secret(RIGHT), Some(hash), far()).await.unwrap(), Verdict::Match);
    assert_eq!(pool.stats(), HashPoolStats { threads: 1, done: 5, ..HashPoolStats::default() });
}

#[tokio::test]
async fn an_unusable_hash_costs_a_dummy() {
    let pool = HashPool::new(1, 8).unwrap();
    let unusable = PasswordHash::new("$1$old$old");
    let timed = |_| {
        let begun = Instant::now();
        hashing::hash(RIGHT).unwrap();
        begun.elapsed()
    };
    // To refuse without work takes a thousandth of a hash.
    let floor = (0..3).map(timed).min().unwrap() / 10;
    for hash in [Some(unusable), None] {
        let begun = Instant::now();
        pool.verify(secret(RIGHT), hash, far()).await.unwrap();
        assert!(begun.elapsed() > floor);
    }
}

#[tokio::test]
async fn the_dummy_has_current_parameters_and_matches_nothing() {
    let pool = HashPool::new(1, 8).unwrap();
    assert!(!hashing::is_outdated(&pool.dummy));
    for password in ["", "dummy", RIGHT] {
        let verdict = pool.verify(secret(password), None, far()).await.unwrap();
        assert_eq!(verdict, Verdict::Mismatch);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let pool = Arc::new(HashPool::new(1, 2).unwrap());
    let (release, blocked) = block(&pool).await;
    let mut first = Box::pin(pool.run(free(), false, far(), |_| 1));
    let mut second = Box::pin(pool.run(free(), false, far(), |_| 2));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert_eq!(pool.stats().waiting, 2);

    let third = pool.verify(secret(RIGHT), Some(right()), far());
    let mut third = Box::pin(third);
    let Poll::Ready(refused) = poll!(&mut third) else { panic!("it waits") };
    assert!(overloaded(&refused));
    assert_eq!(pool.stats().refused_full, 1);

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
    assert_eq!(pool.run(free(), false, far(), |_| 3).await.unwrap(), 3);
    assert_eq!(pool.stats().waiting, 0);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_refuses_and_the_work_is_never_done() {
    let pool = Arc::new(HashPool::new(1, 8).unwrap());
    let (release, blocked) = block(&pool).await;
    // Nobody is ahead in the queue, so the estimate does not refuse it.
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = pool.run(free(), false, deadline, dead).await;
    assert!(overloaded(&late));
    assert!(Instant::now() >= deadline);
    assert_eq!(pool.stats().refused_late, 1);

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    pool.run(free(), false, far(), |_| ()).await.unwrap();
    assert_eq!(pool.stats().skipped, 1);
    assert_eq!(pool.stats().done, 2);
}

#[tokio::test]
async fn a_job_whose_caller_is_gone_is_skipped() {
    let pool = Arc::new(HashPool::new(1, 8).unwrap());
    let (release, blocked) = block(&pool).await;
    let mut gone: Vec<_> =
        (0..3).map(|_| pool.run(free(), false, far(), dead).boxed_local()).collect();
    for job in &mut gone {
        assert!(poll!(job).is_pending());
    }
    drop(gone);
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    pool.run(free(), false, far(), |_| ()).await.unwrap();
    assert_eq!(pool.stats().skipped, 3);
}

#[tokio::test]
async fn a_job_whose_deadline_has_passed_is_skipped_though_its_caller_has_not_noticed() {
    let pool = Arc::new(HashPool::new(1, 8).unwrap());
    let (release, blocked) = block(&pool).await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let mut job = Box::pin(pool.run(free(), false, deadline, dead));
    assert!(poll!(&mut job).is_pending());
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    pool.run(free(), false, far(), |_| ()).await.unwrap();
    assert_eq!(pool.stats().skipped, 1);
    assert!(overloaded(&job.await));
}

#[tokio::test]
async fn a_match_found_too_late_is_still_noted() {
    let pool = HashPool::new(1, 8).unwrap();
    let (note, noted) = mpsc::channel();
    let matched = move || note.send(()).unwrap();
    let hash = PasswordHash::new("$2b$12$wIWPHhX3SdhVkyhKYdJc6.gwNfOqVp6knENXECgMYjoydyJx4fmRe");
    let job = pool.verify_as(free(), secret(RIGHT), Some(hash), far(), matched);
    let mut job = Box::pin(job);
    assert!(poll!(&mut job).is_pending());
    // It has begun as soon as it no longer waits, and takes a good while.
    while pool.stats().waiting > 0 {
        std::thread::yield_now();
    }
    drop(job);
    noted.recv_timeout(Duration::from_secs(60)).unwrap();

    let (note, noted) = mpsc::channel();
    let matched = move || note.send(()).unwrap();
    pool.verify_as(free(), secret("wrong"), Some(right()), far(), matched).await.unwrap();
    assert!(noted.recv().is_err());
}

#[tokio::test]
async fn a_deadline_that_the_queue_cannot_meet_refuses_at_once() {
    let pool = Arc::new(HashPool::new(1, 8).unwrap());
    let (release, blocked) = block(&pool).await;
    let mut ahead = Box::pin(pool.run(free(), false, far(), |_| ()));
    assert!(poll!(&mut ahead).is_pending());
    pool.shared.high.cost.store(60_000_000_000, Relaxed);

    let mut late =
        Box::pin(pool.run(free(), false, Instant::now() + Duration::from_secs(30), |_| ()));
    let Poll::Ready(refused) = poll!(&mut late) else { panic!("it waits") };
    assert!(overloaded(&refused));
    assert_eq!((pool.stats().refused_late, pool.stats().waiting), (1, 1));

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    ahead.await.unwrap();
    // An idle pool tries in spite of the estimate, and so corrects it.
    pool.run(free(), false, Instant::now() + Duration::from_secs(30), |_| ()).await.unwrap();
    assert!(pool.shared.high.cost() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_deadline_in_the_past_refuses_at_once() {
    let pool = HashPool::new(1, 8).unwrap();
    assert!(overloaded(&pool.run(free(), false, Instant::now(), |_| ()).await));
    assert_eq!(pool.stats().done, 0);
    assert_eq!(pool.stats().waiting, 0);
}

#[tokio::test]
async fn a_panic_fails_its_own_job_alone() {
    let pool = HashPool::new(1, 8).unwrap();
    let failed: Result<(), AuthnError> =
        pool.run(free(), false, far(), |_| panic!("on purpose")).await;
    assert!(matches!(failed, Err(AuthnError::Other(_))));
    pool.run(free(), false, far(), |_| ()).await.unwrap();
}

#[tokio::test]
async fn never_more_jobs_at_once_than_threads() {
    let pool = HashPool::new(2, 64).unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs = (0..32).map(|_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        pool.run(free(), false, far(), move |_| {
            most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
            hashing::hash(RIGHT).unwrap();
            now.fetch_sub(1, Relaxed);
        })
    });
    for result in join_all(jobs).await {
        result.unwrap();
    }
    assert!(most.load(Relaxed) <= 2);
}

#[test]
fn threads_end_with_the_pool() {
    let pool = HashPool::new(2, 8).unwrap();
    let shared = Arc::downgrade(&pool.shared);
    drop(pool);
    let begun = Instant::now();
    while shared.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}
