//! The cache in front of a store: what it may answer, and what it must not.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nats_callout::internals::{CacheOptions, Cached, Change, random_account_id};
use nats_callout::store::Freshness::{Cached as Kept, Fresh};
use nats_callout::store::{
    CredentialStore as _, Freshness, Identity, StoreError, TenantRecord, TokenHash,
};

use self::fake::Fake;

fn cached(fake: &Arc<Fake>) -> Arc<Cached> {
    Arc::new(Cached::new(fake.clone(), &CacheOptions::default()))
}

/// The generation of the user's row that the cache answers with.
async fn ask(cache: &Cached, name: &str, freshness: Freshness) -> Result<Option<i64>, StoreError> {
    Ok(cache.user(name, freshness).await?.map(|login| login.user.updated_at))
}

fn asking(
    cache: &Arc<Cached>,
    freshness: Freshness,
) -> tokio::task::JoinHandle<Result<Option<i64>, StoreError>> {
    let cache = cache.clone();
    tokio::spawn(async move { ask(&cache, "alice", freshness).await })
}

/// Lets the spawned tasks run until none can go on (the test's runtime has one thread).
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_found_is_read_once() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let cache = cached(&fake);
    for _ in 0..5 {
        assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(1));
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads, stats.failures), (4, 1, 1, 0));
}

#[tokio::test]
async fn each_change_forgets_what_it_concerns() {
    let fake = Arc::new(Fake::default());
    let hash = TokenHash([7; 32]);
    fake.set("alice", 1);
    fake.tokens.lock().unwrap().insert(hash, "alice".into());
    let cache = cached(&fake);
    let reads = async || {
        let before = fake.reads.load(Ordering::SeqCst);
        cache.user("alice", Kept).await.unwrap().unwrap();
        let user = fake.reads.load(Ordering::SeqCst) - before;
        let holder = Identity::Certificate("alice".into());
        cache.holder(&holder, Kept).await.unwrap().unwrap();
        let holder = fake.reads.load(Ordering::SeqCst) - before - user;
        cache.tenant_of(&"42".parse().unwrap(), Kept).await.unwrap().unwrap();
        let tenant = fake.reads.load(Ordering::SeqCst) - before - user - holder;
        cache.token(&hash, Kept).await.unwrap().unwrap();
        let token = fake.reads.load(Ordering::SeqCst) - before - user - holder - tenant;
        [user, holder, tenant, token]
    };
    assert_eq!(reads().await, [1; 4]);
    assert_eq!(reads().await, [0; 4]);
    for (change, wanted) in [
        (Change::User("alice".into()), [1, 1, 0, 1]),
        (Change::Tenant("42".into()), [1, 1, 1, 0]),
        (Change::Token(hash.to_hex()), [0, 0, 0, 1]),
        (Change::Everything, [1; 4]),
    ] {
        cache.forget(&change);
        // Another thing may lie in the same place by chance: a load too many, never one too few.
        let read = reads().await;
        assert!(read.iter().zip(wanted).all(|(read, wanted)| *read >= wanted), "{change:?}");
        assert_eq!(reads().await, [0; 4], "{change:?}");
    }
}

#[tokio::test]
async fn others_are_not_forgotten() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let cache = cached(&fake);
    ask(&cache, "alice", Kept).await.unwrap();
    let mut spurious = 0;
    for n in 0..100 {
        let loads = cache.stats().loads;
        cache.forget(&Change::User(format!("other-{n}")));
        ask(&cache, "alice", Kept).await.unwrap();
        spurious += cache.stats().loads - loads;
    }
    assert!(spurious < 10, "{spurious} of 100");
}

#[tokio::test]
async fn an_unknown_user_is_found_as_soon_as_it_is_inserted() {
    let fake = Arc::new(Fake::default());
    let cache = cached(&fake);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), None);
    fake.set("alice", 1);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_user_inserted_while_it_is_looked_for_is_found_by_who_comes_later() {
    let (fake, mut readings) = Fake::gated();
    let cache = cached(&fake);
    let early = asking(&cache, Kept);
    let reading = readings.recv().await.unwrap();
    fake.set("alice", 1);
    let late = asking(&cache, Kept);
    settle().await;
    reading.go.send(()).unwrap();
    assert_eq!(early.await.unwrap().unwrap(), None);
    readings.recv().await.unwrap().go.send(()).unwrap();
    assert_eq!(late.await.unwrap().unwrap(), Some(1));
}

#[tokio::test]
async fn errors_are_told_and_not_kept() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    *fake.fails.lock().unwrap() = true;
    let cache = cached(&fake);
    assert!(ask(&cache, "alice", Kept).await.is_err());
    *fake.fails.lock().unwrap() = false;
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(1));
    *fake.fails.lock().unwrap() = true;
    assert!(ask(&cache, "alice", Fresh).await.is_err(), "fresh means the database");
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(1), "an outage forgets nothing");
    cache.forget(&Change::User("alice".into()));
    assert!(ask(&cache, "alice", Kept).await.is_err(), "what is outdated is not served instead");
    assert_eq!(cache.stats().failures, 3);
}

#[tokio::test]
async fn many_callers_share_one_load() {
    let (fake, mut readings) = Fake::gated();
    fake.set("alice", 1);
    let cache = cached(&fake);
    let callers: Vec<_> = (0..50).map(|_| asking(&cache, Kept)).collect();
    let reading = readings.recv().await.unwrap();
    settle().await;
    reading.go.send(()).unwrap();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), Some(1));
    }
    assert_eq!(fake.reads.load(Ordering::SeqCst), 1);
    // And so they do when what is kept has to be replaced.
    cache.forget(&Change::Everything);
    let callers: Vec<_> = (0..50).map(|_| asking(&cache, Kept)).collect();
    let reading = readings.recv().await.unwrap();
    settle().await;
    reading.go.send(()).unwrap();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), Some(1));
    }
    assert_eq!(fake.reads.load(Ordering::SeqCst), 2);
    assert_eq!(cache.stats().misses, 100);
}

#[tokio::test]
async fn an_invalidation_during_a_load_is_not_lost() {
    for change in [Change::User("alice".into()), Change::Tenant("42".into()), Change::Everything] {
        let (fake, mut readings) = Fake::gated();
        fake.set("alice", 1);
        let cache = cached(&fake);
        let before = asking(&cache, Kept);
        let reading = readings.recv().await.unwrap();
        // It has read generation 1. Now the row changes, and the cache is told.
        fake.set("alice", 2);
        cache.forget(&change);
        let after = asking(&cache, Kept);
        settle().await;
        reading.go.send(()).unwrap();
        assert_eq!(before.await.unwrap().unwrap(), Some(1), "it came before the change");
        readings.recv().await.unwrap().go.send(()).unwrap();
        assert_eq!(after.await.unwrap().unwrap(), Some(2), "{change:?}: it came after");
        assert_eq!(
            ask(&cache, "alice", Kept).await.unwrap(),
            Some(2),
            "{change:?}: nothing old is kept"
        );
        assert_eq!(fake.reads.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn fresh_is_read_after_the_question_and_kept() {
    let (fake, mut readings) = Fake::gated();
    fake.set("alice", 1);
    let cache = cached(&fake);
    let first = asking(&cache, Kept);
    let reading = readings.recv().await.unwrap();
    fake.set("alice", 2);
    let callers: Vec<_> = (0..20).map(|_| asking(&cache, Fresh)).collect();
    settle().await;
    reading.go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), Some(1));
    let reading = readings.recv().await.unwrap();
    settle().await;
    reading.go.send(()).unwrap();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), Some(2));
    }
    assert_eq!(fake.reads.load(Ordering::SeqCst), 2, "they shared the second load");
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_fresh_answer_that_a_user_is_gone_is_remembered_as_nothing() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let cache = cached(&fake);
    ask(&cache, "alice", Kept).await.unwrap();
    fake.users.lock().unwrap().clear();
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(1), "nobody told");
    assert_eq!(ask(&cache, "alice", Fresh).await.unwrap(), None);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), None);
}

#[tokio::test]
async fn callers_that_give_up_harm_nobody() {
    let (fake, mut readings) = Fake::gated();
    fake.set("alice", 1);
    let cache = cached(&fake);
    // The one that began the load gives up; the one that joined it gets the answer all the same.
    let first = asking(&cache, Kept);
    let reading = readings.recv().await.unwrap();
    let second = asking(&cache, Kept);
    settle().await;
    first.abort();
    settle().await;
    reading.go.send(()).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), Some(1));
    assert_eq!(fake.reads.load(Ordering::SeqCst), 1);
    // All give up: the load ends with them, and the next caller begins another.
    cache.forget(&Change::Everything);
    let only = asking(&cache, Kept);
    let mut reading = readings.recv().await.unwrap();
    only.abort();
    reading.go.closed().await;
    let next = asking(&cache, Kept);
    readings.recv().await.unwrap().go.send(()).unwrap();
    assert_eq!(next.await.unwrap().unwrap(), Some(1));
}

#[tokio::test]
async fn no_more_is_held_than_the_capacity() {
    let fake = Arc::new(Fake::default());
    let options = CacheOptions { capacity: 10, ..CacheOptions::default() };
    let cache = Cached::new(fake.clone(), &options);
    for n in 0..200 {
        fake.set(&format!("user-{n}"), n);
        ask(&cache, &format!("user-{n}"), Kept).await.unwrap();
        ask(&cache, &format!("unknown-{n}"), Kept).await.unwrap();
    }
    let held = cache.held().await;
    assert!((1..=10).contains(&held), "{held}");
}

#[tokio::test]
async fn nothing_is_held_longer_than_its_time() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let options = CacheOptions { ttl: Duration::from_millis(20), ..CacheOptions::default() };
    let cache = Cached::new(fake.clone(), &options);
    ask(&cache, "alice", Kept).await.unwrap();
    fake.set("alice", 2);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(2));
    let none = Cached::new(fake, &CacheOptions { ttl: Duration::ZERO, ..CacheOptions::default() });
    for _ in 0..3 {
        ask(&none, "alice", Kept).await.unwrap();
    }
    assert_eq!(none.stats().hits, 0);
}

/// An instance that was stopped for a while, or cannot read changes, does not know what was changed.
#[tokio::test]
async fn records_answer_only_while_changes_are_read() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let within = Some(Duration::from_secs(3_600));
    let options = CacheOptions { confirmed_within: within, ..CacheOptions::default() };
    let cache = Cached::new(fake.clone(), &options);
    ask(&cache, "alice", Kept).await.unwrap();
    fake.set("alice", 2);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(2), "never confirmed");

    let long_ago = Instant::now().checked_sub(Duration::from_secs(7_200)).expect("an instant");
    cache.confirm(long_ago);
    fake.set("alice", 3);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(3), "too long ago");

    cache.confirm(Instant::now());
    cache.confirm(long_ago);
    fake.set("alice", 4);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(3), "confirmed just now");
}

/// Where that is wanted, a record answers while changes cannot be read: one that is there and not too old,
/// and until they can be.
#[tokio::test]
async fn records_answer_while_changes_cannot_be_read_where_that_is_wanted() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let confirmed_within = Some(Duration::ZERO);
    let (long, short) = (Duration::from_secs(3_600), Duration::from_millis(20));
    for (stale_if_error, wanted) in [(Duration::ZERO, 2), (long, 1), (short, 2)] {
        let options = CacheOptions { confirmed_within, stale_if_error, ..CacheOptions::default() };
        let cache = Cached::new(fake.clone(), &options);
        fake.set("alice", 1);
        ask(&cache, "alice", Kept).await.unwrap();
        fake.set("alice", 2);
        tokio::time::sleep(2 * short).await;
        cache.doubt();
        let found = ask(&cache, "alice", Kept).await.unwrap();
        assert_eq!(found, Some(wanted), "{stale_if_error:?}");
        assert_eq!(ask(&cache, "alice", Fresh).await.unwrap(), Some(2), "fresh means the database");
        fake.set("alice", 3);
        *fake.fails.lock().unwrap() = true;
        cache.forget(&Change::User("alice".into()));
        assert!(ask(&cache, "alice", Kept).await.is_err(), "it is known to be outdated");
        *fake.fails.lock().unwrap() = false;
        cache.confirm(Instant::now());
        assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(3), "no longer in doubt");
    }
}

#[tokio::test]
async fn a_tenant_that_got_its_account_is_read_again() {
    let fake = Arc::new(Fake::default());
    fake.set("alice", 1);
    let cache = cached(&fake);
    ask(&cache, "alice", Kept).await.unwrap();
    let account = random_account_id().unwrap();
    let kept = cache.account_of(&TenantRecord::new("42".parse().unwrap()), account).await.unwrap();
    assert_eq!(kept, Some(account));
    fake.set("alice", 2);
    assert_eq!(ask(&cache, "alice", Kept).await.unwrap(), Some(2));
}
