//! Opening an SQLite file: its modes, its schema, several at once, and what is wrong with it; and
//! what happens when another program does not let go of it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nats_callout::store::Store as _;
use nats_callout::store::open::StoreOptions;
use nats_callout::store::sqlite::SqliteStore;
use nats_callout::store::{Change, Coordination as _, StoreError, UserKind};
use nats_callout::store::{CredentialStore as _, Freshness, NewUser, ProvisioningStore as _};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::deployment::{Initialised, Mode};
use crate::harness::{loudly, service};

use super::sqlite::{SqliteFile, has_shell, shell};
use super::{ALICE, Database};

async fn refusal(path: &Path) -> String {
    let options =
        StoreOptions { open_timeout: Duration::from_millis(200), ..StoreOptions::default() };
    let url = format!("sqlite://{}", path.display());
    SqliteStore::open(&url, &options).await.expect_err("it opened").to_string()
}

/// The real program on a file, as another process: lists the tenants.
fn list(config: &Path, file: &SqliteFile) -> Command {
    let mut command = service::program();
    command.arg("--config").arg(config).arg("list").env("NATS_CALLOUT_DATABASE_URL", file.url());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn a_new_file_is_its_owners_alone() {
    let file = SqliteFile::new();
    let store = file.open().await;
    store.heartbeat("i").await.unwrap();
    store.ping().await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file.path().display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
    }
    let left = std::fs::read_dir(file.path().parent().unwrap()).unwrap().count();
    assert_eq!(left, 3, "nothing else is left in the folder");
    (&file as &dyn Database).run("SELECT 1").await;
    let mut connection =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    assert_eq!(mode, "wal");
    connection.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_there_keeps_its_mode() {
    let file = SqliteFile::new();
    std::fs::write(file.path(), "").unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o660)).unwrap();
    file.open().await.ping().await.unwrap();
    assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn the_schemas_version_is_readable_and_may_be_newer() {
    let file = SqliteFile::new();
    let db: &dyn Database = &file;
    db.run(ALICE).await;
    assert_eq!(db.run("SELECT version FROM schema_version").await, ["6"]);
    db.run(
        "ALTER TABLE tenants ADD COLUMN added_later TEXT;
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
           VALUES (9999, 'of a later release', TRUE, x'00', 0)",
    )
    .await;
    let store = file.open().await;
    store.ping().await.unwrap();
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
    assert_eq!(db.run("SELECT version FROM schema_version").await, ["9999"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_one_new_file_at_once() {
    let file = SqliteFile::new();
    let init = Initialised::new(Mode::Config);
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
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let versions = (&file as &dyn Database).run("SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(versions, ["6"]);
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = refusal(&at("gone/x.db")).await;
    assert!(text.contains("gone does not exist; create it"), "{text}");
    let text = refusal(folder.path()).await;
    assert!(text.contains("directory") && text.contains("name a file"), "{text}");
    std::fs::write(at("notes.txt"), "what I wanted to say\n".repeat(100)).unwrap();
    let text = refusal(&at("notes.txt")).await;
    assert!(text.contains("notes.txt: not an SQLite database"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    for (url, words) in [
        ("postgres://localhost/x", "not an SQLite URL"),
        ("sqlite://", "no path"),
        ("sqlite::memory:", "in memory"),
        ("sqlite://x.db?mode=ro", "no parameters"),
    ] {
        let text = SqliteStore::open(url, &StoreOptions::default()).await.unwrap_err();
        assert!(text.to_string().contains(words), "{text}");
    }
}

#[tokio::test]
async fn the_database_of_another_program_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.db");
    let mut theirs = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE users (id INTEGER)").execute(&mut theirs).await.unwrap();
    let text = refusal(&path).await;
    assert!(text.contains("is it the database of another program?"), "{text}");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut theirs)
        .await
        .unwrap();
    assert_eq!(tables, 1);
}

/// A row that was written with its checks turned off.
#[tokio::test]
async fn a_corrupt_row_is_an_error_of_its_own() {
    let file = SqliteFile::new();
    let db: &dyn Database = &file;
    db.run(ALICE).await;
    db.run(
        "INSERT INTO users (tenant_id, name) VALUES ('42', 'bob'), ('42', 'carol');
         PRAGMA ignore_check_constraints = 1;
         UPDATE users SET status = 'odd' WHERE name = 'bob';
         UPDATE users SET expires_at = 'never' WHERE name = 'carol';",
    )
    .await;
    let store = file.open().await;
    let error = store.user("bob", Freshness::Fresh).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { table: "users", key, .. } if key == "bob"),
        "{error}"
    );
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
    let carol = store.user("carol", Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!(carol.user.expires_at, Some(0), "a time that cannot be read is long past");
}

/// Root may do anything, so another user tries; where that is impossible, this is skipped.
#[tokio::test]
async fn a_file_out_of_reach_is_an_error() {
    let file = SqliteFile::new();
    file.open().await.close().await;
    let path = file.path();
    let folder = path.parent().unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    let config = folder.join("nats-callout.toml");
    std::fs::copy(Initialised::new(Mode::Config).config(), &config).unwrap();
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o644)).unwrap();
    for mode in [0o600, 0o644] {
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        match list(&config, &file).uid(65534).gid(65534).output() {
            Ok(output) => {
                assert_eq!(output.status.code(), Some(1));
                assert!(stderr(&output).contains("cannot be read and written"), "{output:?}");
            }
            Err(error) => loudly(&format!("SKIPPED: cannot run as another user: {error}")),
        }
    }
}

fn bob() -> NewUser {
    NewUser {
        tenant: "42".parse().unwrap(),
        name: "bob".into(),
        kind: UserKind::Bb,
        password_hash: None,
        nkey: None,
        certificate: None,
        publish: vec![],
        subscribe: vec![],
        policy: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_lock_delays_no_read_and_fails_a_write_in_time() {
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = file.open().await;
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let began = Instant::now();
    assert!(store.user("alice", Freshness::Fresh).await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_millis(400));
    // Opening needs no lock where the schema is there.
    file.open().await.ping().await.unwrap();
    let tenant = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    let began = Instant::now();
    let error = store.add_user(&bob()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("locked")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // A login sits the lock out for as long as it can itself wait.
    let candidate = nats_callout::keys::random_account_id().unwrap();
    let error = store.account_of(&tenant, candidate).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let waiting = (0..50).map(|_| {
        let candidate = nats_callout::keys::random_account_id().unwrap();
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
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    file.release().await;
    let options = StoreOptions { readers: 1, ..StoreOptions::default() };
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    for statement in ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let began = Instant::now();
    let text = refusal(&file.path()).await;
    assert!(text.contains("locked by another program"), "{text}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    let store = SqliteStore::open(&file.url(), &options).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
    let error = store.user("alice", Freshness::Fresh).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.ping().await.is_err());
}

/// A login's deadline drops whatever it waits for: no lock and no connection may stay behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_leave_no_lock() {
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = file.open().await;
    let hash = nats_callout::store::PasswordHash::new("$2b$10$new");
    let tenant = "42".parse().unwrap();
    let mut given_up = 0;
    for n in 0..300 {
        let patience = Duration::from_micros(n * 3);
        let write = store.set_password(&tenant, "alice", &hash);
        given_up += u32::from(tokio::time::timeout(patience, write).await.is_err());
        let read = store.user("alice", Freshness::Fresh);
        given_up += u32::from(tokio::time::timeout(patience, read).await.is_err());
        let feed = store.news();
        given_up += u32::from(tokio::time::timeout(patience, feed).await.is_err());
    }
    assert!(given_up > 0);
    store.add_user(&bob()).await.unwrap();
    assert!(store.user("bob", Freshness::Fresh).await.unwrap().is_some());
    let noted = store.news().await.unwrap().changes;
    assert!(noted.contains(&Change::Everything) || noted.contains(&Change::User("bob".into())));
    let mut other =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file.path()).connect().await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut other).await.unwrap();
    other.begin_with("BEGIN IMMEDIATE").await.unwrap().commit().await.unwrap();
}

/// The shell waits for no lock: our own transactions have to leave it room. On a machine that is
/// busy, one of them may last longer than an attempt of the shell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_gets_in_between_our_writes() {
    if !has_shell() {
        return;
    }
    let file = SqliteFile::new();
    (&file as &dyn Database).run(ALICE).await;
    let store = std::sync::Arc::new(file.open().await);
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
    let path = file.path();
    let refused = tokio::task::spawn_blocking(move || {
        let gets_in = |n: &i32| {
            let sql = format!("UPDATE tenants SET js_memory = {n};");
            (0..10).any(|_| shell(&path, &sql).is_ok())
        };
        (1..=100).filter(|n| !gets_in(n)).count()
    });
    let refused = refused.await.unwrap();
    beating.abort();
    assert_eq!(refused, 0, "of 100 that were tried ten times each");
}
