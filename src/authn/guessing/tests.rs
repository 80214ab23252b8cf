//! Who has to wait, who goes before whom, and what is remembered.

use super::super::fakes::far;
use super::suspicion::{Class, wait};
use super::*;

const EVIL: &str = "203.0.113.9";
const HOME: &str = "198.51.100.7";

fn guessing(account_failures: u32, source_failures: u32) -> Guessing {
    Guessing::new(GuessingLimits { account_failures, source_failures })
}

/// A wrong attempt, without its wait.
async fn wrong(guessing: &Guessing, user: &str, host: &str) {
    guessing.attempt(user, host).refused().await;
}

/// A right one; says whether it had to wait.
async fn right(guessing: &Guessing, user: &str, host: &str) -> bool {
    let before = guessing.stats().delayed;
    let attempt = guessing.attempt(user, host);
    attempt.enter(far()).await.note_place();
    attempt.accepted().await;
    guessing.stats().delayed > before
}

#[tokio::test]
async fn the_allowance_is_free_and_beyond_it_everybody_waits_but_nobody_is_shut_out() {
    let guessing = guessing(3, 100);
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
    let guessing = guessing(3, 5);
    for n in 0..5 {
        wrong(&guessing, &format!("user-{n}"), EVIL).await;
    }
    assert_eq!(guessing.stats().delayed, 0);
    assert!(right(&guessing, "bob", EVIL).await);
    assert!(!right(&guessing, "bob", HOME).await);
}

#[tokio::test]
async fn nothing_is_counted_where_the_allowance_is_zero() {
    let guessing = guessing(0, 0);
    for _ in 0..200 {
        wrong(&guessing, "alice", EVIL).await;
    }
    assert!(!right(&guessing, "alice", EVIL).await);
    assert_eq!(guessing.stats(), GuessingStats::default());
}

#[tokio::test]
async fn who_is_familiar_does_not_wait_until_he_is_wrong() {
    let guessing = guessing(3, 5);
    assert!(!right(&guessing, "alice", HOME).await);
    for n in 0..20 {
        wrong(&guessing, "alice", &format!("203.0.113.{n}")).await;
        wrong(&guessing, &format!("user-{n}"), HOME).await;
    }
    assert!(!right(&guessing, "alice", HOME).await, "neither account nor source holds her up");
    assert!(right(&guessing, "alice", "198.51.100.8").await, "from elsewhere she is not familiar");
    let now = Instant::now();
    let familiar = guessing.attempt("alice", HOME).suspicion().await.rank(now, false);
    let free = guessing.attempt("carol", "198.51.100.9").suspicion().await.rank(now, false);
    assert!(familiar < free);

    wrong(&guessing, "alice", HOME).await;
    assert!(right(&guessing, "alice", HOME).await);
}

#[tokio::test]
async fn what_one_turns_out_to_be_the_others_are_at_once() {
    let guessing = guessing(5, 100);
    right(&guessing, "alice", HOME).await;
    let [first, second] = [(), ()].map(|()| guessing.attempt("alice", HOME));
    let second = second.enter(far()).await;
    assert_eq!(second.rank(Instant::now(), false).class, Class::Familiar);
    first.refused().await;
    assert_ne!(second.rank(Instant::now(), false).class, Class::Familiar);
}

/// Or a hash that takes longer than a decision may would make guessing free.
#[tokio::test]
async fn who_gives_up_while_his_hash_is_computed_was_wrong_until_it_matches() {
    let guessing = guessing(3, 100);
    right(&guessing, "alice", HOME).await;
    let count = async |user: &str| {
        let suspicion = guessing.attempt(user, HOME).look_up().await;
        let now = Instant::now();
        [&suspicion.account, &suspicion.source].map(|it| it.as_ref().unwrap().count(now).wrong)
    };
    let familiar =
        async || guessing.attempt("alice", HOME).look_up().await.rank(Instant::now(), false);
    let begin = async |user| {
        let attempt = guessing.attempt(user, HOME);
        attempt.enter(far()).await.begin();
        attempt
    };
    drop(guessing.attempt("alice", HOME));
    let waiting = guessing.attempt("alice", HOME);
    waiting.enter(far()).await;
    drop(waiting);
    assert_eq!(count("alice").await, [0, 0], "no hash had begun");

    let attempt = begin("alice").await;
    let suspicion = Arc::clone(attempt.suspicion().await);
    drop(attempt);
    assert_eq!((count("alice").await, guessing.stats().unfinished), ([1, 1], 1));
    assert_ne!(familiar().await.class, Class::Familiar);
    suspicion.end(true);
    suspicion.end(true);
    assert_eq!(count("alice").await, [0, 0]);
    assert_eq!(familiar().await.class, Class::Familiar);

    // Each attempt counts once, however it ends.
    let attempt = begin("bob").await;
    attempt.refused().await;
    attempt.refused().await;
    drop(attempt);
    let attempt = begin("bob").await;
    attempt.suspicion().await.end(true);
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
    let guessing = guessing(100, 4);
    for n in 0..4 {
        wrong(&guessing, &format!("user-{n}"), EVIL).await;
    }
    let count = async || {
        let suspicion = guessing.attempt("mallory", EVIL).look_up().await;
        suspicion.source.as_ref().unwrap().count(Instant::now()).wrong
    };
    assert_eq!(count().await, 4);
    right(&guessing, "mallory", EVIL).await;
    right(&guessing, "mallory", EVIL).await;
    assert_eq!(count().await, 4);
    assert!(right(&guessing, "alice", EVIL).await, "he still waits");
}

#[tokio::test]
async fn the_order_of_classes() {
    let guessing = guessing(3, 5);
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
        ranks.push(guessing.attempt(user, host).suspicion().await.rank(now, false));
    }
    assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] != pair[1]), "{ranks:?}");
    assert_eq!(ranks.iter().filter(|rank| rank.is_guess()).count(), 3);
}

#[test]
fn the_wait_doubles_up_to_a_second() {
    let millis: Vec<u128> = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|n| wait(n).as_millis()).into();
    assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
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
    let guessing = guessing(2, 2);
    for _ in 0..2 {
        wrong(&guessing, "alice", "").await;
    }
    assert!(right(&guessing, "alice", "").await);
    assert!(!right(&guessing, "bob", "").await);
}

/// Names and addresses that nobody repeats neither grow memory nor push out those that count.
#[tokio::test]
async fn memory_is_bounded_and_who_is_guessed_is_not_forgotten() {
    let guessing = Guessing::remembering(GuessingLimits::default(), 100);
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
    assert!(alice.rank(Instant::now(), false).is_guess(), "{alice:?}");
}
