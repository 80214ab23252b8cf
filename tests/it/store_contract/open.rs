//! Opening an SQLite file: its modes, its schema, and what is wrong with it. (Several at once are in
//! `within::store`.)

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nats_callout::internals::{Coordination as _, ProvisioningStore as _, SqliteStore};
use nats_callout::store::{CredentialStore as _, Freshness, Store as _, StoreError, StoreOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::{loudly, service};

use super::sqlite::SqliteFile;
use super::{ALICE, Database, patient};

async fn refusal(path: &Path) -> String {
    let url = format!("sqlite://{}", path.display());
    SqliteStore::open(&url, &patient()).await.expect_err("it opened").to_string()
}

/// The real program on a file, as another process: lists the tenants.
pub(crate) fn list(config: &Path, file: &SqliteFile) -> Command {
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
    assert_eq!(db.run("SELECT version FROM schema_version").await, ["13"]);
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
    db.run(
        "INSERT INTO tenants (id, name) VALUES ('43', 'x');
         PRAGMA ignore_check_constraints = 1;
         UPDATE tenants SET js_streams = -1 WHERE id = '42';",
    )
    .await;
    let rows = store.tenants().await.unwrap();
    assert!(matches!(&rows[0], Err(StoreError::Corrupt { key, .. }) if key == "42"), "{rows:?}");
    let ids: Vec<_> =
        rows.into_iter().filter_map(Result::ok).map(|tenant| tenant.id.to_string()).collect();
    assert_eq!(ids, ["43"], "the others are read");
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
    let init = Initialised::on(Mode::Config, Table::Default);
    std::fs::copy(init.config(), &config).unwrap();
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
