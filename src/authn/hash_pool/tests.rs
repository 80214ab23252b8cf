//! What the pool does under load: it is filled with jobs that wait to be told to end.

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

/// Fills the queue of a blocked pool with a job for each suspicion, and gives the order in which
/// they are done, each of the two threads after the other.
async fn order(suspicions: &[Arc<Suspicion>], meanwhile: impl FnOnce()) -> Vec<usize> {
    let pool = Arc::new(HashPool::new(1, 64).unwrap());
    let blocked = [block(&pool).await, block_as(&pool, guesser()).await];
    let (note, noted) = mpsc::channel();
    let mut jobs: Vec<_> = suspicions
        .iter()
        .enumerate()
        .map(|(n, suspicion)| {
            let note = note.clone();
            pool.run(Arc::clone(suspicion), false, far(), move |_| note.send(n).unwrap())
                .boxed_local()
        })
        .collect();
    for job in &mut jobs {
        assert!(poll!(job).is_pending());
    }
    meanwhile();
    let guesses = suspicions.iter().filter(|it| it.rank(Instant::now(), false).is_guess()).count();
    let mut order = Vec::new();
    for ((release, blocked), count) in
        blocked.into_iter().zip([suspicions.len() - guesses, guesses])
    {
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        order.extend(noted.iter().take(count));
    }
    join_all(jobs).await.into_iter().for_each(|done| done.unwrap());
    order
}

#[tokio::test]
async fn who_guesses_goes_behind_and_equals_keep_their_order() {
    let guesses = |count| Suspicion::of_source(count, 100);
    let suspicions = [guesses(500), guesses(3), free(), guesses(200), free(), guesses(3)];
    assert_eq!(order(&suspicions, || ()).await, [2, 4, 1, 5, 3, 0]);
}

/// Many guesses at once, none of which has anything against it when it comes.
#[tokio::test]
async fn the_order_is_that_of_what_is_known_by_now() {
    let evil = Suspicion::of_source(0, 100);
    let suspicions = [Arc::clone(&evil), Arc::clone(&evil), free()];
    assert_eq!(order(&suspicions, || evil.end(false)).await, [2, 0, 1]);
}

#[tokio::test]
async fn a_full_queue_gives_up_a_guess_for_a_better_job_and_no_other() {
    let pool = Arc::new(HashPool::new(1, 2).unwrap());
    let blocked = [block(&pool).await, block_as(&pool, guesser()).await];
    let mut first = Box::pin(pool.run(guesser(), false, far(), |_| 1));
    let mut second = Box::pin(pool.run(guesser(), false, far(), |_| 2));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert!(overloaded(&pool.run(guesser(), false, far(), |_| 3).await), "no better than they");

    let mut better = Box::pin(pool.run(free(), false, far(), |_| 4));
    assert!(poll!(&mut better).is_pending());
    assert!(overloaded(&second.await));
    assert_eq!((pool.stats().refused_full, pool.stats().waiting), (2, 2));
    for (release, blocked) in blocked {
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
    }
    assert_eq!((better.await.unwrap(), first.await.unwrap()), (4, 1));
}

/// An estimate of what is behind a job must not refuse it.
#[tokio::test]
async fn only_those_ahead_count_for_the_deadline() {
    let pool = Arc::new(HashPool::new(1, 64).unwrap());
    let blocked = [block(&pool).await, block_as(&pool, guesser()).await];
    let evil = guesser();
    let mut guesses: Vec<_> =
        (0..8).map(|_| pool.run(Arc::clone(&evil), false, far(), |_| ()).boxed_local()).collect();
    for guess in &mut guesses {
        assert!(poll!(guess).is_pending());
    }
    pool.shared.high.cost.store(60_000_000_000, Relaxed);
    pool.shared.low.cost.store(60_000_000_000, Relaxed);
    let soon = Instant::now() + Duration::from_secs(100);
    assert!(overloaded(&pool.run(evil, false, soon, |_| ()).await));
    let mut better = Box::pin(pool.run(free(), false, soon, |_| ()));
    assert!(poll!(&mut better).is_pending());
    for (release, blocked) in blocked {
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
    }
    better.await.unwrap();
}

#[tokio::test]
async fn guesses_take_no_thread_of_others_and_theirs_gives_way() {
    let pool = Arc::new(HashPool::new(1, 64).unwrap());
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let evil = guesser();
    let mut guesses: Vec<_> = (0..4)
        .map(|_| {
            let released = Arc::clone(&released);
            let wait = move |_: &mut Memory| {
                let _ = released.lock().recv();
            };
            pool.run(Arc::clone(&evil), false, far(), wait).boxed_local()
        })
        .collect();
    for guess in &mut guesses {
        assert!(poll!(guess).is_pending());
    }
    // Each of them would go on for ever.
    let patience = Instant::now() + Duration::from_secs(30);
    for n in 0..8 {
        assert_eq!(pool.run(free(), false, patience, move |_| n).await.unwrap(), n);
    }
    while (pool.stats().running, pool.stats().waiting) != (1, 3) {
        assert!(Instant::now() < patience, "{:?}", pool.stats());
        std::thread::yield_now();
    }
    drop(release);
    join_all(guesses).await.into_iter().for_each(|done| done.unwrap());

    #[cfg(target_os = "linux")]
    for (suspicion, priority) in [(free(), Priority::High), (guesser(), Priority::Low)] {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let wanted = (own() + priority.niceness()).min(19);
        assert_eq!(pool.run(suspicion, false, far(), move |_| own()).await.unwrap(), wanted);
    }
}

/// Whoever has a hash that takes long waits among those who guess, and nobody behind him.
#[tokio::test]
async fn slow_hashes_are_the_guesses_threads_work() {
    let pool = HashPool::new(1, 8).unwrap().with_deadline(Duration::from_millis(1));
    let pool = Arc::new(pool);
    assert!(pool.pace().is_too_slow(pool.pace().time_of(&right()).unwrap()));
    let (release, blocked) = block(&pool).await;
    let slow = pool.verify(secret(RIGHT), Some(right()), far()).await;
    assert_eq!(slow.unwrap(), Verdict::Match);
    let mut nobody = Box::pin(pool.verify(secret(RIGHT), None, far()));
    assert!(poll!(&mut nobody).is_pending());
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();

    let guesses = block_as(&pool, guesser()).await;
    assert_eq!(nobody.await.unwrap(), Verdict::Mismatch);
    let mut slow = Box::pin(pool.verify(secret(RIGHT), Some(right()), far()));
    assert!(poll!(&mut slow).is_pending());
    // Of those who wait there, he is the first.
    let (note, order) = mpsc::channel();
    let matched = note.clone();
    let job = pool.run(guesser(), false, far(), move |_| note.send("guess").unwrap());
    let mut guess = Box::pin(job);
    assert!(poll!(&mut guess).is_pending());
    let late = move || matched.send("slow").unwrap();
    let late = pool.verify_as(free(), secret(RIGHT), Some(right()), far(), late);
    let mut late = Box::pin(late);
    assert!(poll!(&mut late).is_pending());
    guesses.0.send(()).unwrap();
    guesses.1.await.unwrap().unwrap();
    assert_eq!(slow.await.unwrap(), Verdict::Match);
    assert_eq!(late.await.unwrap(), Verdict::Match);
    guess.await.unwrap();
    assert_eq!(order.iter().collect::<Vec<_>>(), ["slow", "guess"]);
}

#[test]
fn the_rest_after_a_guess_counts_for_those_behind_it() {
    let millis = Duration::from_millis;
    assert_eq!(Level::new(1, Priority::High, millis(20)).cost(), millis(20));
    assert_eq!(Level::new(1, Priority::Low, millis(20)).cost(), millis(80));
    assert_eq!(Priority::Low.rest(millis(1_000)), level::LONGEST_REST);
}

/// Threads that give way are slow on a busy machine, and nobody else's wait is reckoned by that.
#[tokio::test]
async fn what_guesses_take_refuses_nobody_else() {
    let pool = Arc::new(HashPool::new(1, 64).unwrap());
    pool.shared.low.cost.store(60_000_000_000, Relaxed);
    let (release, blocked) = block(&pool).await;
    let soon = Instant::now() + Duration::from_secs(30);
    let mut ahead = Box::pin(pool.run(free(), false, far(), |_| ()));
    let mut next = Box::pin(pool.run(free(), false, soon, |_| ()));
    assert!(poll!(&mut ahead).is_pending());
    assert!(poll!(&mut next).is_pending());
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    ahead.await.unwrap();
    next.await.unwrap();
    let before = pool.shared.high.cost();
    pool.run(guesser(), false, far(), |_| std::thread::sleep(Duration::from_millis(100)))
        .await
        .unwrap();
    assert_eq!(pool.shared.high.cost(), before);
}

const EVIL: &str = "203.0.113.9";
const HOME: &str = "198.51.100.7";

fn guessing(account_failures: u32, source_failures: u32) -> Guessing {
    Guessing::new(GuessingLimits { account_failures, source_failures })
}

/// Of wrong passwords of these users that come all at once: how many are hashed as others' are, given
/// up, and wait.
async fn at_once(guessing: &Guessing, users: &[&str], decisions: usize) -> [usize; 3] {
    let pool = Arc::new(HashPool::new(1, 128).unwrap().with_max_in_flight(decisions));
    let (high, _low) = (block(&pool).await, block_as(&pool, guesser()).await);
    let attempts: Vec<_> = users.iter().map(|user| guessing.attempt(user, EVIL)).collect();
    let mut jobs = Vec::new();
    for attempt in &attempts {
        let suspicion = attempt.enter(far()).await;
        let wrong = Arc::clone(&suspicion);
        let work = move |_: &mut Memory| wrong.end(false);
        // The test is one task, whose budget many jobs would use up.
        let job = tokio::task::unconstrained(pool.run(suspicion, false, far(), work));
        let mut job = Box::pin(job);
        let begun = poll!(&mut job);
        jobs.push((begun, job));
    }
    high.0.send(()).unwrap();
    // Behind all that are not guesses.
    pool.run(Suspicion::of_source(99, 100), false, far(), |_| ()).await.unwrap();
    let mut ended = [0, 0];
    for (begun, job) in &mut jobs {
        if begun.is_pending() {
            *begun = poll!(job);
        }
        match begun {
            Poll::Ready(Ok(())) => ended[0] += 1,
            Poll::Ready(Err(_)) => ended[1] += 1,
            Poll::Pending => {}
        }
    }
    [ended[0], ended[1], pool.shared.list().len()]
}

/// Or who sends all of his guesses at once had them all for free.
#[tokio::test]
async fn guesses_at_once_do_not_widen_the_allowance_and_have_a_share_of_the_places() {
    let guessing = guessing(10, 1_000);
    assert_eq!(at_once(&guessing, &["alice"; 100], 512).await, [10, 74, 16]);
}

#[tokio::test]
async fn a_source_has_a_smaller_share_of_the_places() {
    let guessing = guessing(0, 2);
    for user in ["a", "b"] {
        guessing.attempt(user, EVIL).refused().await;
    }
    assert_eq!(at_once(&guessing, &["user"; 20], 512).await, [0, 16, 4]);
    assert_eq!(guessing.stats().delayed, 4);
}

#[tokio::test]
async fn a_source_that_is_familiar_has_no_more_guesses_at_once_than_others() {
    let guessing = guessing(5, 100);
    let attempt = guessing.attempt("alice", EVIL);
    attempt.enter(far()).await;
    attempt.accepted().await;
    drop(attempt);
    assert_eq!(at_once(&guessing, &["alice"; 8], 1_024).await, [5, 0, 3]);
}

#[tokio::test]
async fn who_comes_from_elsewhere_takes_the_place_of_one_who_guesses() {
    let guessing = guessing(2, 1_000);
    for n in 0..6 {
        guessing.attempt("alice", &format!("203.0.113.{}", n % 2)).refused().await;
    }
    let pool = Arc::new(HashPool::new(1, 8).unwrap().with_max_in_flight(64));
    let low = block_as(&pool, guesser()).await;
    let begin = async |host: &str| {
        let suspicion = guessing.attempt("alice", host).enter(far()).await;
        let mut job = pool.run(suspicion, false, far(), |_| ()).boxed_local();
        (poll!(&mut job), job)
    };
    let mut evil = Vec::new();
    for n in 0..3 {
        evil.push(begin(["203.0.113.0", "203.0.113.1"][n % 2]).await);
    }
    evil.retain(|(begun, _)| begun.is_pending());
    assert_eq!(evil.len(), 2, "all there are for one account");

    let (begun, alice) = begin(HOME).await;
    assert!(begun.is_pending());
    let mut displaced = 0;
    for (_, job) in &mut evil {
        displaced += usize::from(poll!(job).is_ready());
    }
    assert_eq!((displaced, pool.shared.list().len()), (1, 2));
    // Another of the same standing displaces nobody.
    let (second, _kept) = begin("198.51.100.8").await;
    assert!(second.is_pending(), "in the place of the second guesser");
    let (third, _) = begin("198.51.100.9").await;
    assert!(matches!(third, Poll::Ready(Err(AuthnError::Overloaded))));
    drop(low);
    alice.await.unwrap();
}

#[tokio::test]
async fn half_of_the_time_is_left_for_the_hash() {
    let guessing = guessing(1, 0);
    for _ in 0..8 {
        guessing.attempt("alice", EVIL).refused().await;
    }
    let pool = HashPool::new(1, 8).unwrap();
    let deadline = Instant::now() + Duration::from_millis(900);
    let suspicion = guessing.attempt("alice", HOME).enter(deadline).await;
    pool.run(suspicion, false, deadline, |_| ()).await.unwrap();
    let half = deadline - Duration::from_millis(450);
    assert!(Instant::now() >= half && Instant::now() < deadline);
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
