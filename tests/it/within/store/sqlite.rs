//! What a login experiences while another program does not let go of the SQLite file, what other
//! programs experience while we write, and many that open a new file at once.

use std::time::{Duration, Instant};

use nats_callout::internals::{Coordination as _, ProvisioningStore as _, SqliteStore};
use nats_callout::store::{CredentialStore as _, Freshness, Store as _, StoreError, StoreOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::depth;
use crate::harness::turn::{measured, measured_under_load};
use crate::store_contract::open::list;
use crate::store_contract::sqlite::{SqliteFile, has_shell, shell};
use crate::store_contract::{ALICE, Database, bob};

async fn open(file: &SqliteFile) -> SqliteStore {
    SqliteStore::open(&file.url(), &StoreOptions::default()).await.unwrap()
}

/// Each of them in the time that opening waits for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_one_new_file_at_once() {
    measured_under_load();
    let file = SqliteFile::new();
    let init = Initialised::on(Mode::Config, Table::Default);
    let others: Vec<_> = (0..6).map(|_| list(&init.config(), &file).spawn().unwrap()).collect();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let url = file.url();
            tokio::spawn(async move {
                SqliteStore::open(&url, &StoreOptions::default()).await.unwrap().ping().await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for other in others {
        let output = other.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let versions = (&file as &dyn Database).run("SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(versions, ["13"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_lock_delays_no_read_and_fails_a_write_in_time() {
    measured();
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = open(&file).await;
    let mut other = SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let began = Instant::now();
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    // Opening needs no lock where the schema is there.
    open(&file).await.ping().await.unwrap();
    let tenant = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    let began = Instant::now();
    let error = store.add_user(&bob()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("locked")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // A login sits the lock out for as long as it can itself wait.
    let candidate = nats_callout::internals::random_account_id().unwrap();
    let error = store.account_of(&tenant, candidate).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let waiting = (0..50).map(|_| {
        let candidate = nats_callout::internals::random_account_id().unwrap();
        store.account_of(&tenant, candidate)
    });
    let waiting = futures_util::future::join_all(waiting);
    let (kept, ()) = futures_util::future::join(waiting, async {
        lock.rollback().await.unwrap();
    })
    .await;
    let first = kept[0].as_ref().unwrap().unwrap();
    assert!(kept.iter().all(|kept| *kept.as_ref().unwrap() == Some(first)), "{kept:?}");
    store.add_user(&bob()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_locked_even_for_readers_fails_in_time() {
    measured();
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    file.release().await;
    let options = StoreOptions { readers: 1, ..StoreOptions::default() };
    let mut other = SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    for statement in ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let began = Instant::now();
    let hurried =
        StoreOptions { open_timeout: Duration::from_millis(200), ..StoreOptions::default() };
    let text = SqliteStore::open(&file.url(), &hurried).await.expect_err("it opened").to_string();
    assert!(text.contains("locked by another program"), "{text}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let store = SqliteStore::open(&file.url(), &options).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
    let error = store.user("alice", Freshness::Fresh).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.ping().await.is_err());
}

/// The shell waits for no lock: our own transactions have to leave it room. On a machine that is
/// busy, one of them may last longer than an attempt of the shell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_gets_in_between_our_writes() {
    measured();
    if !has_shell() {
        return;
    }
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = std::sync::Arc::new(open(&file).await);
    let beating = {
        let store = store.clone();
        tokio::spawn(async move {
            for now in 0.. {
                store.heartbeat("i").await.unwrap();
                store.record_logins(&[("alice".into(), now)]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let (path, times) = (file.path(), depth(40, 100));
    let refused = tokio::task::spawn_blocking(move || {
        let gets_in = |n: &i32| {
            let sql = format!("UPDATE tenants SET js_memory = {n};");
            (0..10).any(|_| shell(&path, &sql).is_ok())
        };
        (1..=times).filter(|n| !gets_in(n)).count()
    });
    let refused = refused.await.unwrap();
    beating.abort();
    assert_eq!(refused, 0, "of {times} that were tried ten times each");
}
