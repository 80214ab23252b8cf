//! Every way in which a login with a password can end, and what it costs.

use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::join_all;
use futures_util::poll;

use super::super::fakes::{FakeStore, NOW, SetClock, accepted, attempt, far, record, refused};
use super::*;
use crate::store::{Status, StoreError, TokenHash};

const RIGHT: &str = "correct horse battery staple";
const BCRYPT: &str = "$2b$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS";
const UNUSABLE: &str = "$argon2id$v=19$m=4194304,t=1,p=1$8PHy8/T19vc$ar90BYdJii2cxAHccd64eQ";

struct Case {
    store: Arc<FakeStore>,
    lane: Arc<HashingLane>,
    clock: Arc<SetClock>,
    authenticator: PasswordAuthenticator,
}

fn case() -> Case {
    case_with(GuessingLimits::default())
}

fn case_with(guessing: GuessingLimits) -> Case {
    let store = Arc::new(FakeStore::default());
    let clock = Arc::new(SetClock::default());
    let authenticator = PasswordAuthenticator::new(
        PasswordSettings { threads: 1, queue: 64, guessing, ..PasswordSettings::default() },
        Arc::clone(&store) as Arc<dyn CredentialStore>,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    let authenticator = authenticator.unwrap();
    Case { store, lane: authenticator.lane(), clock, authenticator }
}

impl Case {
    async fn login(&self, user: &str, password: &str) -> Result<Authentication, AuthnError> {
        let password = Secret::new(password.to_owned());
        let credentials = Credentials::Password { user: user.to_owned(), password };
        self.authenticator.authenticate(attempt(&credentials, far())).await
    }

    fn hashes(&self) -> u64 {
        self.lane.stats().done
    }
}

fn hashed(password: &str) -> Option<PasswordHash> {
    Some(hashing::hash(password).unwrap())
}

fn with(change: impl FnOnce(&mut LoginRecord)) -> LoginRecord {
    let mut record = record("alice", hashed(RIGHT));
    change(&mut record);
    record
}

#[tokio::test]
async fn the_right_password_is_its_user() {
    let case = case();
    case.store.put(with(|record| record.tenant.expires_at = Some(NOW + 60)));
    let principal = accepted(case.login("alice", RIGHT).await);
    assert_eq!(principal.record().user.name, "alice");
    assert_eq!(principal.method(), "password");
    assert_eq!(principal.expires_at(), Some(NOW + 60));
    assert_eq!((case.hashes(), case.store.reads()), (1, (2, 0)));
}

#[tokio::test]
async fn a_reconnect_costs_no_hash() {
    let case = case();
    case.store.put(record("alice", hashed(RIGHT)));
    for _ in 0..3 {
        accepted(case.login("alice", RIGHT).await);
    }
    assert_eq!((case.hashes(), case.store.reads()), (1, (4, 0)));
    assert_eq!(refused(case.login("alice", "wrong").await), DenyReason::WrongPassword);
    assert_eq!(case.hashes(), 2);
}

#[tokio::test]
async fn a_verified_password_is_not_one_of_another_hash_or_user() {
    let case = case();
    case.store.put(record("alice", hashed(RIGHT)));
    accepted(case.login("alice", RIGHT).await);

    case.store.put(record("alice", hashed("changed")));
    assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::WrongPassword);
    assert_eq!(case.hashes(), 2);

    case.store.put(record("bob", hashed("his own")));
    assert_eq!(refused(case.login("bob", RIGHT).await), DenyReason::WrongPassword);
    assert_eq!(case.hashes(), 3);
}

/// A row that changes while its password is being hashed is a changed row.
#[tokio::test]
async fn a_change_during_the_work_counts() {
    let row = with(|_| {});
    let mut suspended = row.clone();
    suspended.user.status = Status::Suspended;
    let mut changed = row.clone();
    changed.user.password_hash = hashed("other");
    for (changed, reason, hashes) in
        [(suspended, DenyReason::UserSuspended, 1), (changed, DenyReason::WrongPassword, 2)]
    {
        let case = case();
        case.store.put(row.clone());
        let mut login = Box::pin(case.login("alice", RIGHT));
        assert!(poll!(&mut login).is_pending(), "the hash is being computed");
        case.store.put(changed);
        assert_eq!(refused(login.await), reason);
        assert_eq!(case.hashes(), hashes);
    }
}

#[tokio::test]
async fn many_logins_at_once_cost_one_hash() {
    let case = case();
    case.store.put(record("alice", hashed(RIGHT)));
    let logins = join_all((0..500).map(|_| case.login("alice", RIGHT))).await;
    logins.into_iter().for_each(|login| drop(accepted(login)));
    assert_eq!(case.hashes(), 1);
}

#[tokio::test]
async fn every_refusal_costs_exactly_one_hash() {
    let unusable = || Some(PasswordHash::new(UNUSABLE));
    let rows: [(&str, &str, DenyReason, Option<LoginRecord>); 11] = [
        ("unknown", RIGHT, DenyReason::UnknownUser, None),
        ("wrong", "wrong", DenyReason::WrongPassword, Some(with(|_| {}))),
        ("no hash", RIGHT, DenyReason::WrongPassword, Some(record("alice", None))),
        ("unusable", RIGHT, DenyReason::UnusableHash, Some(record("alice", unusable()))),
        (
            "suspended",
            RIGHT,
            DenyReason::UserSuspended,
            Some(with(|record| record.user.status = Status::Suspended)),
        ),
        (
            "suspended and wrong",
            "wrong",
            DenyReason::WrongPassword,
            Some(with(|record| record.user.status = Status::Suspended)),
        ),
        (
            "tenant suspended",
            RIGHT,
            DenyReason::TenantSuspended,
            Some(with(|record| record.tenant.status = Status::Suspended)),
        ),
        (
            "expired",
            RIGHT,
            DenyReason::UserExpired,
            Some(with(|record| record.user.expires_at = Some(NOW))),
        ),
        (
            "expired and wrong",
            "wrong",
            DenyReason::WrongPassword,
            Some(with(|record| record.user.expires_at = Some(NOW))),
        ),
        (
            "tenant expired",
            RIGHT,
            DenyReason::TenantExpired,
            Some(with(|record| record.tenant.expires_at = Some(NOW))),
        ),
        (
            "overlong",
            "x",
            DenyReason::WrongPassword,
            Some(record("alice", hashed(&"x".repeat(4_097)))),
        ),
    ];
    for (name, password, reason, row) in rows {
        let case = case();
        if let Some(row) = row {
            case.store.put(row);
        }
        let overlong = "x".repeat(4_097);
        let password = if name == "overlong" { &overlong } else { password };
        assert_eq!(refused(case.login("alice", password).await), reason, "{name}");
        assert_eq!(case.hashes(), 1, "{name}");
    }
}

/// Or the time would tell that the password of a suspended user has been found.
#[tokio::test]
async fn a_right_password_that_is_refused_again_costs_a_hash_again() {
    let case = case();
    case.store.put(with(|record| record.user.status = Status::Suspended));
    for hashes in 1..4 {
        assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::UserSuspended);
        assert_eq!(case.hashes(), hashes);
    }
}

/// Nor may it tell that the same wrong password was being tried already.
#[tokio::test]
async fn wrong_passwords_at_once_cost_a_hash_each() {
    let case = case();
    case.store.put(with(|_| {}));
    let logins = join_all((0..6).map(|_| case.login("alice", "wrong"))).await;
    for login in logins {
        assert_eq!(refused(login), DenyReason::WrongPassword);
    }
    assert_eq!(case.hashes(), 6);
}

/// Beyond the allowance, a right password still is right.
#[tokio::test]
async fn an_account_that_is_guessed_stays_open() {
    let case = case();
    case.store.put(with(|_| {}));
    for _ in 0..10 {
        assert_eq!(refused(case.login("alice", "wrong").await), DenyReason::WrongPassword);
    }
    assert_eq!(case.authenticator.guessing.stats().delayed, 0);
    accepted(case.login("alice", RIGHT).await);
    assert_eq!(case.authenticator.guessing.stats().delayed, 1);
    // What is known to be right waits no more.
    accepted(case.login("alice", RIGHT).await);
    assert_eq!(case.authenticator.guessing.stats().delayed, 1);
}

#[tokio::test]
async fn a_user_name_that_no_row_can_have_is_not_looked_up() {
    let case = case();
    let overlong = "é".repeat(129);
    for user in ["", overlong.as_str(), "nul\0", "line\nfeed"] {
        let before = case.hashes();
        assert_eq!(refused(case.login(user, RIGHT).await), DenyReason::UnknownUser);
        assert_eq!(case.hashes(), before + 1);
    }
    assert_eq!(case.store.reads(), (0, 0));

    let longest = "é".repeat(128);
    case.store.put(record(&longest, hashed(RIGHT)));
    accepted(case.login(&longest, RIGHT).await);
}

#[tokio::test]
async fn the_longest_password_is_accepted() {
    let case = case();
    let longest = "x".repeat(4_096);
    case.store.put(record("alice", hashed(&longest)));
    accepted(case.login("alice", &longest).await);
}

#[tokio::test]
async fn a_stale_row_never_refuses() {
    let suspended = with(|record| record.user.status = Status::Suspended);
    let expired = with(|record| record.user.expires_at = Some(NOW));
    let current = with(|_| {});
    for (name, cached, hashes) in [
        ("absent", None, 1),
        ("without a password", Some(record("alice", None)), 1),
        ("with the old password", Some(record("alice", hashed("old"))), 2),
        ("with an unusable hash", Some(record("alice", Some(PasswordHash::new(UNUSABLE)))), 2),
        ("suspended, same hash", Some(suspended), 2),
        ("expired, same hash", Some(expired), 2),
    ] {
        let case = case();
        let mut row = current.clone();
        if let Some(cached) = cached {
            if name.ends_with("same hash") {
                row.user.password_hash.clone_from(&cached.user.password_hash);
            }
            case.store.put_cached(cached);
        }
        let hashes = if name.ends_with("same hash") { 1 } else { hashes };
        case.store.put_database(row);
        accepted(case.login("alice", RIGHT).await);
        // Without a hash to verify the row is read again at once, and looked at once more after
        // the work; this cache goes on being stale.
        let reads = if matches!(name, "absent" | "without a password") { (2, 2) } else { (1, 1) };
        assert_eq!((case.hashes(), case.store.reads()), (hashes, reads), "{name}");
    }
}

#[tokio::test]
async fn what_the_database_says_now_is_the_reason() {
    let case = case();
    case.store.put(record("alice", hashed("old")));
    case.store.put_database(with(|record| record.user.status = Status::Suspended));
    assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::UserSuspended);

    case.store.put_database(record("alice", None));
    let before = case.hashes();
    assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::WrongPassword);
    assert_eq!(case.hashes(), before + 1);

    case.store.remove_database("alice");
    let before = case.hashes();
    assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::UnknownUser);
    assert_eq!(case.hashes(), before + 1);
}

#[tokio::test]
async fn an_outage_is_no_refusal_and_no_obstacle_to_a_cached_user() {
    let case = case();
    case.store.put(record("alice", hashed(RIGHT)));
    case.store.outage.store(true, SeqCst);
    accepted(case.login("alice", RIGHT).await);
    for (user, password) in [("alice", "wrong"), ("unknown", RIGHT)] {
        let answer = case.login(user, password).await;
        assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))));
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_is_an_overload() {
    let case = case();
    case.store.put(record("alice", hashed(RIGHT)));
    let password = Secret::new(RIGHT.to_owned());
    let credentials = Credentials::Password { user: "alice".into(), password };
    let found = Found::default();
    let late = Attempt { found: &found, ..attempt(&credentials, Instant::now()) };
    let answer = case.authenticator.authenticate(late).await;
    assert!(matches!(answer, Err(AuthnError::Overloaded)));
    assert_eq!(case.hashes(), 0);
    let tenant = found.login().map(|it| it.tenant.id.to_string());
    assert_eq!(tenant.as_deref(), Some("42"), "whose login it was");
}

#[tokio::test]
async fn expiry_follows_the_clock() {
    let case = case();
    case.store.put(with(|record| record.user.expires_at = Some(NOW + 10)));
    accepted(case.login("alice", RIGHT).await);
    case.clock.0.store(NOW + 10, SeqCst);
    assert_eq!(refused(case.login("alice", RIGHT).await), DenyReason::UserExpired);
}

#[tokio::test]
async fn an_outdated_hash_is_handed_out_once() {
    let mut case = case();
    let (sender, mut jobs) = mpsc::channel(1);
    case.authenticator = case.authenticator.with_rehash(sender);
    case.store.put(record("alice", Some(PasswordHash::new(BCRYPT))));
    case.store.put(record("bob", hashed(RIGHT)));

    assert_eq!(refused(case.login("alice", "wrong").await), DenyReason::WrongPassword);
    accepted(case.login("bob", RIGHT).await);
    assert!(jobs.try_recv().is_err());

    accepted(case.login("alice", RIGHT).await);
    accepted(case.login("alice", RIGHT).await);
    let job = jobs.try_recv().unwrap();
    assert_eq!((job.user.as_str(), job.old.expose()), ("alice", BCRYPT));
    assert_eq!(job.password.expose(), RIGHT);
    assert!(!format!("{job:?}").contains(RIGHT));
    assert!(jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_login_that_was_given_up_makes_the_next_one_succeed() {
    let mut case = case();
    let (sender, mut jobs) = mpsc::channel(1);
    case.authenticator = case.authenticator.with_rehash(sender);
    let slow = "$2b$12$wIWPHhX3SdhVkyhKYdJc6.gwNfOqVp6knENXECgMYjoydyJx4fmRe";
    case.store.put(record("alice", Some(PasswordHash::new(slow))));

    let mut given_up = Box::pin(case.login("alice", "right"));
    assert!(poll!(&mut given_up).is_pending());
    // The hash has begun as soon as it no longer waits, and takes a good while.
    while case.lane.stats().waiting > 0 {
        std::thread::yield_now();
    }
    drop(given_up);
    while case.hashes() == 0 {
        std::thread::yield_now();
    }
    accepted(case.login("alice", "right").await);
    assert_eq!(case.hashes(), 1);
    assert_eq!(jobs.try_recv().unwrap().user, "alice");
}

/// The attack has no end otherwise: no guess at a slow hash is ever decided.
#[tokio::test]
async fn guesses_that_run_out_of_time_are_counted_and_slowed_down() {
    let case = case_with(GuessingLimits { account_failures: 2, source_failures: 0 });
    let guessing = case.authenticator.guessing();
    let slow = "$2b$14$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS";
    case.store.put(record("alice", Some(PasswordHash::new(slow))));
    for unfinished in 1..=2 {
        let password = Secret::new(format!("guess {unfinished}"));
        let credentials = Credentials::Password { user: "alice".to_owned(), password };
        let login = case.authenticator.authenticate(attempt(&credentials, far()));
        let mut login = Box::pin(login);
        assert!(poll!(&mut login).is_pending());
        while case.lane.stats().running == 0 {
            std::thread::yield_now();
        }
        drop(login);
        let stats = guessing.stats();
        assert_eq!((stats.unfinished, stats.delayed, stats.dropped), (unfinished, 0, 0));
        while case.hashes() < unfinished {
            std::thread::yield_now();
        }
    }
    let mut login = Box::pin(case.login("alice", "guess 3"));
    assert!(poll!(&mut login).is_pending());
    assert_eq!(guessing.stats().delayed, 1);
}

/// What is told depends on what the time went for: the hash itself, or the wait for it.
#[tokio::test]
async fn a_hash_that_takes_too_long_is_no_overload() {
    let case = case();
    let pace = case.lane.pace();
    let of_cost = |cost| {
        PasswordHash::new(format!(
            "$2b${cost}$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS"
        ))
    };
    // Twice as slow as what is slow at most, and half as slow as what is too slow whoever else waits.
    let slow = (10..=15).map(of_cost).find(|it| pace.is_slow(pace.time_of(it).unwrap())).unwrap();
    for user in ["alice", "bob"] {
        case.store.put(record(user, Some(slow.clone())));
    }
    let login = async |user: &str| {
        let password = Secret::new(RIGHT.to_owned());
        let credentials = Credentials::Password { user: user.to_owned(), password };
        let soon = Instant::now() + Duration::from_millis(100);
        case.authenticator.authenticate(attempt(&credentials, soon)).await.unwrap_err()
    };
    let alices = login("alice").await;
    assert!(
        matches!(&alices, AuthnError::SlowHash { tenant, user } if tenant == "42" && user == "alice"),
        "{alices:?}"
    );
    assert!(alices.to_string().ends_with("with `nats-callout user passwd 42 alice`"), "{alices}");
    // Behind hers, which goes on.
    assert!(matches!(login("bob").await, AuthnError::Overloaded));
}

#[tokio::test]
async fn a_full_or_closed_rehash_queue_refuses_nobody() {
    let mut case = case();
    let (sender, jobs) = mpsc::channel(1);
    case.authenticator = case.authenticator.with_rehash(sender);
    for user in ["alice", "bob", "carol"] {
        case.store.put(record(user, Some(PasswordHash::new(BCRYPT))));
    }
    accepted(case.login("alice", RIGHT).await);
    accepted(case.login("bob", RIGHT).await);
    drop(jobs);
    accepted(case.login("carol", RIGHT).await);
}

#[tokio::test]
async fn a_token_of_the_user_stands_for_the_password() {
    let case = case();
    let token = Token::generate().unwrap();
    case.store.put(record("alice", hashed(RIGHT)));
    case.store.put(record("bob", hashed(RIGHT)));
    case.store.put_token(token.hash(), "alice", Some(NOW + 5));

    let principal = accepted(case.login("alice", token.expose()).await);
    assert_eq!((principal.method(), principal.expires_at()), ("token", Some(NOW + 5)));
    for user in ["bob", "unknown"] {
        assert_eq!(refused(case.login(user, token.expose()).await), DenyReason::UnknownToken);
    }
    let unknown = Token::generate().unwrap();
    assert_eq!(refused(case.login("alice", unknown.expose()).await), DenyReason::UnknownToken);
    assert_eq!(case.hashes(), 0);
}

/// Other programs make their own, which may look like passwords.
#[tokio::test]
async fn any_token_of_the_user_stands_for_the_password() {
    let case = case();
    let text = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    case.store.put(record("alice", hashed(RIGHT)));
    case.store.put(record("bob", hashed(text)));
    case.store.put_token(TokenHash::of(text), "alice", Some(NOW + 5));
    assert_eq!(accepted(case.login("alice", text).await).method(), "token");
    assert_eq!(accepted(case.login("alice", &format!("{text}\n")).await).method(), "token");
    assert_eq!(case.hashes(), 0);
    assert_eq!(accepted(case.login("bob", text).await).method(), "password", "it is his too");
    let before = case.store.reads();
    accepted(case.login("bob", text).await);
    assert_eq!(case.store.reads(), (before.0 + 2, 0), "what is remembered is no token");
}

/// What is both is good as long as either is; if neither, the token's reason is the one that is told.
#[tokio::test]
async fn a_token_that_has_ended_may_be_the_password() {
    let case = case();
    let text = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    case.store.put(record("alice", hashed(text)));
    case.store.put(record("bob", hashed(RIGHT)));
    case.store.put_token(TokenHash::of(text), "alice", Some(NOW));
    assert_eq!(accepted(case.login("alice", text).await).method(), "password");
    case.store.put_token(TokenHash::of(text), "bob", Some(NOW));
    assert_eq!(refused(case.login("bob", text).await), DenyReason::TokenExpired);
}

/// Where nobody knows whether it is a token, a wrong password is not said to be wrong.
#[tokio::test]
async fn a_token_that_cannot_be_looked_up_is_no_wrong_password() {
    let case = case();
    case.store.put(record("alice", hashed("correct-horse-battery")));
    case.store.outage.store(true, SeqCst);
    accepted(case.login("alice", "correct-horse-battery").await);
    let answer = case.login("alice", "wrong-horse-battery-staple").await;
    assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))), "{answer:?}");
}

#[tokio::test]
async fn an_empty_password_is_never_hashed() {
    let case = case();
    case.store.put(record("alice", hashed("")));
    for user in ["alice", "nobody"] {
        assert_eq!(refused(case.login(user, "").await), DenyReason::NoCredentials);
    }
    assert_eq!((case.hashes(), case.store.reads()), (0, (0, 0)));
}

#[tokio::test]
async fn a_password_that_only_begins_like_a_token_is_a_password() {
    let case = case();
    case.store.put(record("alice", hashed("nct_not-a-token")));
    accepted(case.login("alice", "nct_not-a-token").await);
}

#[tokio::test]
async fn other_credentials_are_left_to_others() {
    let case = case();
    for credentials in [Credentials::None, Credentials::token(None, Secret::new(RIGHT.to_owned()))]
    {
        let answer = case.authenticator.authenticate(attempt(&credentials, far())).await;
        assert!(matches!(answer, Ok(Authentication::NotMine)));
    }
    assert_eq!(case.hashes(), 0);
}
