//! Whom guesses wait behind, and how many of them may wait.

use super::*;

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
