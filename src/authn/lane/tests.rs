//! What the lane does under load: it is filled with jobs that wait to be told to end.

use std::sync::mpsc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::poll;

use super::super::fakes::far;
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

impl HashingLane {
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

fn free() -> Arc<Standing> {
    Arc::default()
}

/// Somebody whose allowance is used up.
fn guesser() -> Arc<Standing> {
    Standing::of_source(9, 1)
}

fn dead(_: &mut Memory) {
    panic!("worked for the dead");
}

/// What a thread is kept busy with until told.
type Blocked = (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), AuthnError>>);

async fn block(lane: &Arc<HashingLane>) -> Blocked {
    block_as(lane, free()).await
}

/// A job that keeps the only thread for this standing busy, and is known to have begun.
async fn block_as(lane: &Arc<HashingLane>, standing: Arc<Standing>) -> Blocked {
    block_by(lane, standing, Duty::Others).await
}

/// Likewise, with one that takes so long.
async fn block_by(lane: &Arc<HashingLane>, standing: Arc<Standing>, least: Duty) -> Blocked {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let lane = Arc::clone(lane);
    let job = tokio::spawn(async move {
        let work = move |_: &mut Memory| {
            let _ = begin.send(());
            let _ = released.recv();
        };
        lane.run(standing, least, far(), work).await
    });
    begun.await.unwrap();
    (release, job)
}

#[tokio::test]
async fn each_call_is_one_hash() {
    let lane = HashingLane::new(1, 8).unwrap();
    let unusable = PasswordHash::new("$1$old$old");
    for (done, (hash, expected)) in [
        (Some(right()), Verdict::Match),
        (None, Verdict::Mismatch),
        (Some(unusable), Verdict::Unusable(hashing::Unusable::Scheme)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(lane.stats().done, done as u64);
        assert_eq!(lane.verify(secret(RIGHT), hash, far()).await.unwrap(), expected);
    }
    let hash = lane.hash(secret(RIGHT), far()).await.unwrap();
    assert_eq!(lane.verify(secret(RIGHT), Some(hash), far()).await.unwrap(), Verdict::Match);
    assert_eq!(lane.stats(), LaneStats { threads: 1, done: 5, ..LaneStats::default() });
}

#[tokio::test]
async fn an_unusable_hash_costs_a_dummy() {
    let lane = HashingLane::new(1, 8).unwrap();
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
        lane.verify(secret(RIGHT), hash, far()).await.unwrap();
        assert!(begun.elapsed() > floor);
    }
}

#[tokio::test]
async fn the_dummy_has_current_parameters_and_matches_nothing() {
    let lane = HashingLane::new(1, 8).unwrap();
    assert!(!hashing::is_outdated(&lane.dummy));
    for password in ["", "dummy", RIGHT] {
        let verdict = lane.verify(secret(password), None, far()).await.unwrap();
        assert_eq!(verdict, Verdict::Mismatch);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let lane = Arc::new(HashingLane::new(1, 2).unwrap());
    let (release, blocked) = block(&lane).await;
    let mut first = Box::pin(lane.run(free(), Duty::Others, far(), |_| 1));
    let mut second = Box::pin(lane.run(free(), Duty::Others, far(), |_| 2));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert_eq!(lane.stats().waiting, 2);

    let third = lane.verify(secret(RIGHT), Some(right()), far());
    let mut third = Box::pin(third);
    let std::task::Poll::Ready(refused) = poll!(&mut third) else { panic!("it waits") };
    assert!(overloaded(&refused));
    assert_eq!(lane.stats().refused_full, 1);

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
    assert_eq!(lane.run(free(), Duty::Others, far(), |_| 3).await.unwrap(), 3);
    assert_eq!(lane.stats().waiting, 0);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_refuses_and_the_work_is_never_done() {
    let lane = Arc::new(HashingLane::new(1, 8).unwrap());
    let (release, blocked) = block(&lane).await;
    // Nobody is ahead in the queue, so the estimate does not refuse it.
    let deadline = Instant::now() + Duration::from_millis(50);
    let late = lane.run(free(), Duty::Others, deadline, dead).await;
    assert!(overloaded(&late));
    assert!(Instant::now() >= deadline);
    assert_eq!(lane.stats().refused_late, 1);

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    lane.run(free(), Duty::Others, far(), |_| ()).await.unwrap();
    assert_eq!(lane.stats().skipped, 1);
    assert_eq!(lane.stats().done, 2);
}

#[tokio::test]
async fn a_job_whose_caller_is_gone_is_skipped() {
    let lane = Arc::new(HashingLane::new(1, 8).unwrap());
    let (release, blocked) = block(&lane).await;
    let mut gone: Vec<_> =
        (0..3).map(|_| lane.run(free(), Duty::Others, far(), dead).boxed_local()).collect();
    for job in &mut gone {
        assert!(poll!(job).is_pending());
    }
    drop(gone);
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    lane.run(free(), Duty::Others, far(), |_| ()).await.unwrap();
    assert_eq!(lane.stats().skipped, 3);
}

#[tokio::test]
async fn a_job_whose_deadline_has_passed_is_skipped_though_its_caller_has_not_noticed() {
    let lane = Arc::new(HashingLane::new(1, 8).unwrap());
    let (release, blocked) = block(&lane).await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let mut job = Box::pin(lane.run(free(), Duty::Others, deadline, dead));
    assert!(poll!(&mut job).is_pending());
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    lane.run(free(), Duty::Others, far(), |_| ()).await.unwrap();
    assert_eq!(lane.stats().skipped, 1);
    assert!(overloaded(&job.await));
}

#[tokio::test]
async fn a_match_found_too_late_is_still_noted() {
    let lane = HashingLane::new(1, 8).unwrap();
    let (note, noted) = mpsc::channel();
    let matched = move || note.send(()).unwrap();
    let hash = PasswordHash::new("$2b$12$wIWPHhX3SdhVkyhKYdJc6.gwNfOqVp6knENXECgMYjoydyJx4fmRe");
    let job = lane.verify_as(free(), secret(RIGHT), Some(hash), far(), matched);
    let mut job = Box::pin(job);
    assert!(poll!(&mut job).is_pending());
    // It has begun as soon as it no longer waits, and takes a good while.
    while lane.stats().waiting > 0 {
        std::thread::yield_now();
    }
    drop(job);
    noted.recv_timeout(Duration::from_secs(60)).unwrap();

    let (note, noted) = mpsc::channel();
    let matched = move || note.send(()).unwrap();
    lane.verify_as(free(), secret("wrong"), Some(right()), far(), matched).await.unwrap();
    assert!(noted.recv().is_err());
}

#[tokio::test]
async fn a_deadline_that_the_queue_cannot_meet_refuses_at_once() {
    let lane = Arc::new(HashingLane::new(1, 8).unwrap());
    let (release, blocked) = block(&lane).await;
    let mut ahead = Box::pin(lane.run(free(), Duty::Others, far(), |_| ()));
    assert!(poll!(&mut ahead).is_pending());
    lane.shared.counters.cost.store(60_000_000_000, Relaxed);

    let mut late =
        Box::pin(lane.run(free(), Duty::Others, Instant::now() + Duration::from_secs(30), |_| ()));
    let std::task::Poll::Ready(refused) = poll!(&mut late) else { panic!("it waits") };
    assert!(overloaded(&refused));
    assert_eq!((lane.stats().refused_late, lane.stats().waiting), (1, 1));

    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    ahead.await.unwrap();
    // An idle lane tries in spite of the estimate, and so corrects it.
    lane.run(free(), Duty::Others, Instant::now() + Duration::from_secs(30), |_| ()).await.unwrap();
    assert!(lane.shared.counters.cost(Duty::Others) < Duration::from_secs(60));
}

#[tokio::test]
async fn a_deadline_in_the_past_refuses_at_once() {
    let lane = HashingLane::new(1, 8).unwrap();
    assert!(overloaded(&lane.run(free(), Duty::Others, Instant::now(), |_| ()).await));
    assert_eq!(lane.stats().done, 0);
    assert_eq!(lane.stats().waiting, 0);
}

#[tokio::test]
async fn a_panic_fails_its_own_job_alone() {
    let lane = HashingLane::new(1, 8).unwrap();
    let failed: Result<(), AuthnError> =
        lane.run(free(), Duty::Others, far(), |_| panic!("on purpose")).await;
    assert!(matches!(failed, Err(AuthnError::Other(_))));
    lane.run(free(), Duty::Others, far(), |_| ()).await.unwrap();
}

#[tokio::test]
async fn never_more_jobs_at_once_than_threads() {
    let lane = HashingLane::new(2, 64).unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs = (0..32).map(|_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        lane.run(free(), Duty::Others, far(), move |_| {
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

/// Fills the queue of a blocked lane with a job for each standing, and gives the order in which
/// they are done, each of the two threads after the other.
async fn order(standings: &[Arc<Standing>], meanwhile: impl FnOnce()) -> Vec<usize> {
    let lane = Arc::new(HashingLane::new(1, 64).unwrap());
    let blocked = [block(&lane).await, block_as(&lane, guesser()).await];
    let (note, noted) = mpsc::channel();
    let mut jobs: Vec<_> = standings
        .iter()
        .enumerate()
        .map(|(n, standing)| {
            let note = note.clone();
            lane.run(Arc::clone(standing), Duty::Others, far(), move |_| note.send(n).unwrap())
                .boxed_local()
        })
        .collect();
    for job in &mut jobs {
        assert!(poll!(job).is_pending());
    }
    meanwhile();
    let guesses = standings.iter().filter(|it| it.rank(Instant::now()).is_guess()).count();
    let mut order = Vec::new();
    for ((release, blocked), count) in blocked.into_iter().zip([standings.len() - guesses, guesses])
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
    let guesses = |count| Standing::of_source(count, 100);
    let standings = [guesses(500), guesses(3), free(), guesses(200), free(), guesses(3)];
    assert_eq!(order(&standings, || ()).await, [2, 4, 1, 5, 3, 0]);
}

/// Many guesses at once, none of which has anything against it when it comes.
#[tokio::test]
async fn the_order_is_that_of_what_is_known_by_now() {
    let evil = Standing::of_source(0, 100);
    let standings = [Arc::clone(&evil), Arc::clone(&evil), free()];
    assert_eq!(order(&standings, || evil.fail()).await, [2, 0, 1]);
}

#[tokio::test]
async fn a_full_queue_gives_up_a_guess_for_a_better_job_and_no_other() {
    let lane = Arc::new(HashingLane::new(1, 2).unwrap());
    let blocked = [block(&lane).await, block_as(&lane, guesser()).await];
    let mut first = Box::pin(lane.run(guesser(), Duty::Others, far(), |_| 1));
    let mut second = Box::pin(lane.run(guesser(), Duty::Others, far(), |_| 2));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    assert!(
        overloaded(&lane.run(guesser(), Duty::Others, far(), |_| 3).await),
        "no better than they"
    );

    let mut better = Box::pin(lane.run(free(), Duty::Others, far(), |_| 4));
    assert!(poll!(&mut better).is_pending());
    assert!(overloaded(&second.await));
    assert_eq!((lane.stats().refused_full, lane.stats().waiting), (2, 2));
    for (release, blocked) in blocked {
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
    }
    assert_eq!((better.await.unwrap(), first.await.unwrap()), (4, 1));
}

/// An estimate of what is behind a job must not refuse it.
#[tokio::test]
async fn only_those_ahead_count_for_the_deadline() {
    let lane = Arc::new(HashingLane::new(1, 64).unwrap());
    let blocked = [block(&lane).await, block_as(&lane, guesser()).await];
    let evil = guesser();
    let mut guesses: Vec<_> = (0..8)
        .map(|_| lane.run(Arc::clone(&evil), Duty::Others, far(), |_| ()).boxed_local())
        .collect();
    for guess in &mut guesses {
        assert!(poll!(guess).is_pending());
    }
    lane.shared.counters.cost.store(60_000_000_000, Relaxed);
    lane.shared.counters.cost_of_guess.store(60_000_000_000, Relaxed);
    let soon = Instant::now() + Duration::from_secs(100);
    assert!(overloaded(&lane.run(evil, Duty::Others, soon, |_| ()).await));
    let mut better = Box::pin(lane.run(free(), Duty::Others, soon, |_| ()));
    assert!(poll!(&mut better).is_pending());
    for (release, blocked) in blocked {
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
    }
    better.await.unwrap();
}

#[tokio::test]
async fn guesses_take_no_thread_of_others_and_theirs_gives_way() {
    let lane = Arc::new(HashingLane::new(1, 64).unwrap());
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let evil = guesser();
    let mut guesses: Vec<_> = (0..4)
        .map(|_| {
            let released = Arc::clone(&released);
            let wait = move |_: &mut Memory| {
                let _ = released.lock().recv();
            };
            lane.run(Arc::clone(&evil), Duty::Others, far(), wait).boxed_local()
        })
        .collect();
    for guess in &mut guesses {
        assert!(poll!(guess).is_pending());
    }
    // Each of them would go on for ever.
    let patience = Instant::now() + Duration::from_secs(30);
    for n in 0..8 {
        assert_eq!(lane.run(free(), Duty::Others, patience, move |_| n).await.unwrap(), n);
    }
    while (lane.stats().running, lane.stats().waiting) != (1, 3) {
        assert!(Instant::now() < patience, "{:?}", lane.stats());
        std::thread::yield_now();
    }
    drop(release);
    join_all(guesses).await.into_iter().for_each(|done| done.unwrap());

    #[cfg(target_os = "linux")]
    for (standing, duty) in [(free(), Duty::Others), (guesser(), Duty::Guesses)] {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let wanted = (own() + duty.niceness()).min(19);
        assert_eq!(lane.run(standing, Duty::Others, far(), move |_| own()).await.unwrap(), wanted);
    }
}

/// Whoever has a hash that takes long waits among those who guess, and nobody behind him.
#[tokio::test]
async fn slow_hashes_are_the_guesses_threads_work() {
    let lane = HashingLane::new(1, 8).unwrap();
    let time = lane.pace().time_of(&right()).unwrap();
    let lane = Arc::new(lane.with_deadline(2 * time));
    assert!(lane.pace().is_slow(time) && !lane.pace().is_too_slow(time));
    let (release, blocked) = block(&lane).await;
    let slow = lane.verify(secret(RIGHT), Some(right()), far()).await;
    assert_eq!(slow.unwrap(), Verdict::Match);
    let mut nobody = Box::pin(lane.verify(secret(RIGHT), None, far()));
    assert!(poll!(&mut nobody).is_pending());
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();

    let guesses = block_as(&lane, guesser()).await;
    assert_eq!(nobody.await.unwrap(), Verdict::Mismatch);
    let mut slow = Box::pin(lane.verify(secret(RIGHT), Some(right()), far()));
    assert!(poll!(&mut slow).is_pending());
    // Of those who wait there, he is the first.
    let (note, order) = mpsc::channel();
    let matched = note.clone();
    let job = lane.run(guesser(), Duty::Others, far(), move |_| note.send("guess").unwrap());
    let mut guess = Box::pin(job);
    assert!(poll!(&mut guess).is_pending());
    let late = move || matched.send("slow").unwrap();
    let late = lane.verify_as(free(), secret(RIGHT), Some(right()), far(), late);
    let mut late = Box::pin(late);
    assert!(poll!(&mut late).is_pending());
    guesses.0.send(()).unwrap();
    guesses.1.await.unwrap().unwrap();
    assert_eq!(slow.await.unwrap(), Verdict::Match);
    assert_eq!(late.await.unwrap(), Verdict::Match);
    guess.await.unwrap();
    assert_eq!(order.iter().collect::<Vec<_>>(), ["slow", "guess"]);
}

/// Or one attempt on such a hash would shut out all whose hashes are slow.
#[tokio::test]
async fn hashes_that_cannot_end_in_time_hold_up_no_others() {
    let lane = HashingLane::new(1, 8).unwrap();
    let time = lane.pace().time_of(&right()).unwrap();
    let too_slow = Arc::new(lane.with_deadline(time / 2));
    assert!(too_slow.pace().is_too_slow(time));
    let (release, blocked) = block(&too_slow).await;
    let guesses = block_as(&too_slow, guesser()).await;
    let verdict = too_slow.verify(secret(RIGHT), Some(right()), far()).await;
    assert_eq!(verdict.unwrap(), Verdict::Match, "on a thread of its own");
    // Neither waits for those that wait there.
    let waits_there = block_by(&too_slow, free(), Duty::TooSlow).await;
    let mut waits = Box::pin(too_slow.verify(secret(RIGHT), Some(right()), far()));
    assert!(poll!(&mut waits).is_pending());
    for (send, blocked) in [(release, blocked), guesses] {
        send.send(()).unwrap();
        blocked.await.unwrap().unwrap();
    }
    too_slow.run(guesser(), Duty::Others, far(), |_| ()).await.unwrap();
    too_slow.run(free(), Duty::Guesses, far(), |_| ()).await.unwrap();
    too_slow.run(free(), Duty::Others, far(), |_| ()).await.unwrap();
    assert!(poll!(&mut waits).is_pending());
    waits_there.0.send(()).unwrap();
    waits_there.1.await.unwrap().unwrap();
    assert_eq!(waits.await.unwrap(), Verdict::Match);
}

#[test]
fn the_rest_after_a_guess_counts_for_those_behind_it() {
    let (counters, millis) = (Counters::default(), Duration::from_millis);
    counters.note_cost(Duty::Others, millis(20));
    counters.note_cost(Duty::Guesses, millis(20));
    assert_eq!(counters.cost(Duty::Others), millis(20));
    assert_eq!(counters.cost(Duty::Guesses), millis(80));
    assert_eq!(Duty::Guesses.rest(millis(1_000)), LONGEST_REST);
}

/// Threads that give way are slow on a busy machine, and nobody else's wait is reckoned by that.
#[tokio::test]
async fn what_guesses_take_refuses_nobody_else() {
    let lane = Arc::new(HashingLane::new(1, 64).unwrap());
    lane.shared.counters.cost_of_guess.store(60_000_000_000, Relaxed);
    let (release, blocked) = block(&lane).await;
    let soon = Instant::now() + Duration::from_secs(30);
    let mut ahead = Box::pin(lane.run(free(), Duty::Others, far(), |_| ()));
    let mut next = Box::pin(lane.run(free(), Duty::Others, soon, |_| ()));
    assert!(poll!(&mut ahead).is_pending());
    assert!(poll!(&mut next).is_pending());
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    ahead.await.unwrap();
    next.await.unwrap();
    let before = lane.shared.counters.cost(Duty::Others);
    lane.run(guesser(), Duty::Others, far(), |_| std::thread::sleep(Duration::from_millis(100)))
        .await
        .unwrap();
    assert_eq!(lane.shared.counters.cost(Duty::Others), before);
}

#[test]
fn threads_end_with_the_lane() {
    let lane = HashingLane::new(2, 8).unwrap();
    let shared = Arc::downgrade(&lane.shared);
    drop(lane);
    let begun = Instant::now();
    while shared.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}
