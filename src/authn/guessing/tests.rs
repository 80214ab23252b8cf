//! Who waits, who goes before whom, and what is remembered.

use std::pin::Pin;
use std::task::Poll;

use futures_util::poll;

use super::super::fakes::far;
use super::standing::Class;
use super::*;

const EVIL: &str = "203.0.113.9";
const HOME: &str = "198.51.100.7";

fn guessing(account_failures: u32, source_failures: u32, waiting: usize) -> Guessing {
    Guessing::new(GuessingLimits { account_failures, source_failures }, PART * waiting)
}

/// A wrong attempt, without its wait.
async fn wrong(guessing: &Guessing, user: &str, host: &str) {
    guessing.attempt(user, host).refused().await;
}

/// A right one; says whether it had to wait.
async fn right(guessing: &Guessing, user: &str, host: &str) -> bool {
    let before = guessing.stats().delayed;
    let attempt = guessing.attempt(user, host);
    attempt.admit(far()).await.unwrap();
    attempt.accepted().await;
    guessing.stats().delayed > before
}

/// What an attempt comes to at once: leave, no place, or a wait.
async fn begin<'a>(
    attempt: &'a GuessAttempt<'a>,
) -> (
    Poll<Result<Arc<Standing>, AuthnError>>,
    Pin<Box<dyn Future<Output = Result<Arc<Standing>, AuthnError>> + 'a>>,
) {
    // The test is one task, whose budget many attempts would use up.
    let mut admitted = Box::pin(tokio::task::unconstrained(attempt.admit(far())));
    let begun = poll!(&mut admitted);
    (begun, admitted)
}

#[tokio::test]
async fn the_allowance_is_free_and_beyond_it_everybody_waits_but_nobody_is_shut_out() {
    let guessing = guessing(3, 100, 128);
    for _ in 0..3 {
        wrong(&guessing, "alice", EVIL).await;
    }
    assert_eq!(guessing.stats(), GuessingStats::default());
    assert!(right(&guessing, "alice", EVIL).await);
    assert!(right(&guessing, "alice", HOME).await, "she was never here");
    assert!(!right(&guessing, "bob", EVIL).await, "another account");
    assert_eq!(
        guessing.stats(),
        GuessingStats { waiting: 0, delayed: 2, dropped: 0, unfinished: 0 }
    );
}

#[tokio::test]
async fn a_source_that_tries_many_accounts_waits() {
    let guessing = guessing(3, 5, 128);
    for n in 0..5 {
        wrong(&guessing, &format!("user-{n}"), EVIL).await;
    }
    assert_eq!(guessing.stats().delayed, 0);
    assert!(right(&guessing, "bob", EVIL).await);
    assert!(!right(&guessing, "bob", HOME).await);
}

#[tokio::test]
async fn nothing_is_counted_where_the_allowance_is_zero() {
    let guessing = guessing(0, 0, 128);
    for _ in 0..200 {
        wrong(&guessing, "alice", EVIL).await;
    }
    assert!(!right(&guessing, "alice", EVIL).await);
    assert_eq!(guessing.stats(), GuessingStats::default());
}

/// Or whoever sends all of his guesses at once had them all for free.
#[tokio::test]
async fn guesses_at_once_do_not_widen_the_allowance_and_have_a_share_of_the_places() {
    let guessing = guessing(10, 1_000, 64);
    let attempts: Vec<_> = (0..100).map(|_| guessing.attempt("alice", EVIL)).collect();
    let mut seen = [0, 0, 0];
    let mut waiting = Vec::new();
    for attempt in &attempts {
        let (begun, admitted) = begin(attempt).await;
        match begun {
            Poll::Ready(Ok(_)) => seen[0] += 1,
            Poll::Ready(Err(error)) => {
                assert!(matches!(error, AuthnError::Throttled));
                seen[1] += 1;
            }
            Poll::Pending => {
                seen[2] += 1;
                waiting.push(admitted);
            }
        }
    }
    assert_eq!(seen, [10, 74, 16]);
    assert_eq!(
        guessing.stats(),
        GuessingStats { waiting: 16, delayed: 16, dropped: 0, unfinished: 0 }
    );
    drop(waiting);
    drop(attempts);
    assert_eq!(guessing.stats().waiting, 0);
}

#[tokio::test]
async fn a_source_has_a_smaller_share_of_the_places() {
    let guessing = guessing(0, 2, 64);
    wrong(&guessing, "a", EVIL).await;
    wrong(&guessing, "b", EVIL).await;
    let names: Vec<String> = (0..20).map(|n| format!("user-{n}")).collect();
    let attempts: Vec<_> = names.iter().map(|name| guessing.attempt(name, EVIL)).collect();
    let mut waiting = Vec::new();
    for attempt in &attempts {
        let (begun, admitted) = begin(attempt).await;
        if begun.is_pending() {
            waiting.push(admitted);
        }
    }
    assert_eq!(waiting.len(), 4);
}

#[tokio::test]
async fn who_comes_from_elsewhere_takes_the_place_of_one_who_guesses() {
    let guessing = guessing(2, 1_000, 8);
    for n in 0..6 {
        wrong(&guessing, "alice", &format!("203.0.113.{}", n % 2)).await;
    }
    let evil: Vec<_> = (0..3)
        .map(|n| (n, guessing.attempt("alice", ["203.0.113.0", "203.0.113.1"][n % 2])))
        .collect();
    let mut waiting = Vec::new();
    for (_, attempt) in &evil {
        waiting.push(begin(attempt).await);
    }
    let places = waiting.iter().filter(|(begun, _)| begun.is_pending()).count();
    assert_eq!(places, 2, "all there are for one account");

    let alice = guessing.attempt("alice", HOME);
    let (begun, admitted) = begin(&alice).await;
    assert!(begun.is_pending());
    let displaced = evil.iter().filter(|(_, attempt)| attempt.displaced.is_cancelled()).count();
    assert_eq!((displaced, guessing.stats().waiting), (1, 2));
    admitted.await.unwrap();
    alice.accepted().await;
    assert!(!alice.displaced.is_cancelled());
    // Another of the same standing displaces nobody.
    let again = guessing.attempt("alice", "198.51.100.8");
    let other = guessing.attempt("alice", "198.51.100.9");
    drop(alice);
    let first = begin(&again).await;
    assert!(first.0.is_pending());
    let second = begin(&other).await;
    assert!(second.0.is_pending(), "in the place of the second guesser");
    let third = guessing.attempt("alice", "198.51.100.10");
    let third = begin(&third).await.0;
    assert!(matches!(third, Poll::Ready(Err(AuthnError::Throttled))));
}

#[tokio::test]
async fn who_is_familiar_does_not_wait_until_he_is_wrong() {
    let guessing = guessing(3, 5, 128);
    assert!(!right(&guessing, "alice", HOME).await);
    for n in 0..20 {
        wrong(&guessing, "alice", &format!("203.0.113.{n}")).await;
        wrong(&guessing, &format!("user-{n}"), HOME).await;
    }
    assert!(!right(&guessing, "alice", HOME).await, "neither account nor source holds her up");
    assert!(right(&guessing, "alice", "198.51.100.8").await, "from elsewhere she is not familiar");
    let now = Instant::now();
    let familiar = guessing.attempt("alice", HOME).standing().await.rank(now);
    let free = guessing.attempt("carol", "198.51.100.9").standing().await.rank(now);
    assert!(familiar < free);

    wrong(&guessing, "alice", HOME).await;
    assert!(right(&guessing, "alice", HOME).await);
}

#[tokio::test]
async fn a_source_that_is_familiar_has_no_more_guesses_at_once_than_others() {
    let guessing = guessing(5, 100, 128);
    right(&guessing, "alice", HOME).await;
    let attempts: Vec<_> = (0..8).map(|_| guessing.attempt("alice", HOME)).collect();
    let mut free = 0;
    let mut held = Vec::new();
    for attempt in &attempts {
        let (begun, admitted) = begin(attempt).await;
        free += usize::from(begun.is_ready());
        held.push(admitted);
    }
    assert_eq!(free, 5);
    // What the first one turns out to be, the others are at once.
    let second = Arc::clone(attempts[1].standing().await);
    assert_eq!(second.rank(Instant::now()).class, Class::Familiar);
    attempts[0].refused().await;
    assert_ne!(second.rank(Instant::now()).class, Class::Familiar);
}

/// Or a hash that takes longer than a decision may would make guessing free.
#[tokio::test]
async fn who_gives_up_while_his_hash_is_computed_was_wrong_until_it_matches() {
    let guessing = guessing(3, 100, 128);
    right(&guessing, "alice", HOME).await;
    let count = async |user: &str| {
        let standing = guessing.attempt(user, HOME).look_up().await;
        let now = Instant::now();
        [&standing.account, &standing.source].map(|it| it.as_ref().unwrap().count(now).wrong)
    };
    let familiar = async || guessing.attempt("alice", HOME).look_up().await.rank(Instant::now());
    let begin = async |user| {
        let attempt = guessing.attempt(user, HOME);
        attempt.admit(far()).await.unwrap().begin();
        attempt
    };
    drop(guessing.attempt("alice", HOME));
    let waiting = guessing.attempt("alice", HOME);
    waiting.admit(far()).await.unwrap();
    drop(waiting);
    assert_eq!(count("alice").await, [0, 0], "no hash had begun");

    let attempt = begin("alice").await;
    let standing = Arc::clone(attempt.standing().await);
    drop(attempt);
    assert_eq!((count("alice").await, guessing.stats().unfinished), ([1, 1], 1));
    assert_ne!(familiar().await.class, Class::Familiar);
    standing.matched();
    standing.matched();
    assert_eq!(count("alice").await, [0, 0]);
    assert_eq!(familiar().await.class, Class::Familiar);

    // Each attempt counts once, however it ends.
    let attempt = begin("bob").await;
    attempt.refused().await;
    attempt.refused().await;
    drop(attempt);
    let attempt = begin("bob").await;
    attempt.standing().await.matched();
    drop(attempt);
    assert_eq!((count("bob").await, guessing.stats().unfinished), ([1, 1], 1));
    for _ in 0..2 {
        drop(begin("bob").await);
    }
    assert!(right(&guessing, "bob", HOME).await, "he waits: three were wrong");
}

/// An attacker's own account buys him nothing.
#[tokio::test]
async fn a_success_makes_nothing_forgotten() {
    let guessing = guessing(100, 4, 128);
    for n in 0..4 {
        wrong(&guessing, &format!("user-{n}"), EVIL).await;
    }
    let count = async || {
        let standing = guessing.attempt("mallory", EVIL).look_up().await;
        standing.source.as_ref().unwrap().count(Instant::now()).wrong
    };
    assert_eq!(count().await, 4);
    right(&guessing, "mallory", EVIL).await;
    right(&guessing, "mallory", EVIL).await;
    assert_eq!(count().await, 4);
    assert!(right(&guessing, "alice", EVIL).await, "he still waits");
}

#[tokio::test]
async fn the_order_of_standings() {
    let guessing = guessing(3, 5, 128);
    right(&guessing, "alice", HOME).await;
    for n in 0..5 {
        wrong(&guessing, "alice", &format!("203.0.113.{n}")).await;
    }
    for n in 0..9 {
        wrong(&guessing, &format!("user-{n}"), EVIL).await;
    }
    wrong(&guessing, "bob", "192.0.2.1").await;
    let now = Instant::now();
    let mut ranks = Vec::new();
    for (user, host) in [
        ("alice", HOME),
        ("carol", "192.0.2.2"),
        ("carol", "192.0.2.1"),
        ("alice", "192.0.2.2"),
        ("alice", "192.0.2.1"),
        ("carol", EVIL),
    ] {
        ranks.push(guessing.attempt(user, host).standing().await.rank(now));
    }
    assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] != pair[1]), "{ranks:?}");
    assert_eq!(ranks.iter().filter(|rank| rank.is_guess()).count(), 3);
}

#[test]
fn the_wait_doubles_up_to_a_second() {
    let millis: Vec<u128> = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|n| wait(n).as_millis()).into();
    assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
}

#[tokio::test]
async fn half_of_the_time_is_left_for_the_hash() {
    let guessing = guessing(1, 0, 128);
    for _ in 0..8 {
        wrong(&guessing, "alice", EVIL).await;
    }
    let deadline = Instant::now() + Duration::from_millis(900);
    guessing.attempt("alice", HOME).admit(deadline).await.unwrap();
    let half = deadline - Duration::from_millis(450);
    assert!(Instant::now() >= half && Instant::now() < deadline);
}

#[test]
fn a_source_is_an_address_or_a_network() {
    for (host, expected) in [
        ("192.0.2.1", Some("192.0.2.1/32")),
        ("::ffff:192.0.2.1", Some("192.0.2.1/32")),
        ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
        ("2001:db8:1:2:ffff::", Some("2001:db8:1:2::/64")),
        ("fe80::1%eth0", Some("fe80::/64")),
        ("", None),
        ("localhost", None),
        ("192.0.2.1:4222", None),
    ] {
        assert_eq!(source(host).map(|source| source.to_string()).as_deref(), expected, "{host}");
    }
}

#[tokio::test]
async fn an_attempt_without_an_address_is_counted_for_its_account() {
    let guessing = guessing(2, 2, 128);
    for _ in 0..2 {
        wrong(&guessing, "alice", "").await;
    }
    assert!(right(&guessing, "alice", "").await);
    assert!(!right(&guessing, "bob", "").await);
}

/// Names and addresses that nobody repeats neither grow memory nor push out those that count.
#[tokio::test]
async fn memory_is_bounded_and_who_is_guessed_is_not_forgotten() {
    let guessing = Guessing::remembering(GuessingLimits::default(), PART * 128, 100);
    for round in 0..50 {
        wrong(&guessing, "alice", "203.0.113.1").await;
        for n in 0..100 {
            let (user, host) = (format!("user-{round}-{n}"), format!("203.0.{round}.{n}"));
            wrong(&guessing, &user, &host).await;
        }
    }
    for cache in [&guessing.accounts, &guessing.sources] {
        cache.run_pending_tasks().await;
        assert!(cache.entry_count() <= 100, "{}", cache.entry_count());
    }
    let alice = guessing.attempt("alice", HOME).look_up().await;
    assert!(alice.rank(Instant::now()).is_guess(), "{alice:?}");
}
