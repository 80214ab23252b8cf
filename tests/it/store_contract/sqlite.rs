//! An SQLite file for a test, and the two other programs that write to it: the sqlite3 shell, with
//! its defaults (no foreign keys, no wait for locks), and sqlx with its own.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use nats_callout::internals::SqliteStore;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::{Database, Store, patient};
use crate::harness::{loudly, turn};

pub(crate) struct SqliteFile {
    folder: tempfile::TempDir,
    /// Open as long as the test runs: whoever closes a database last locks it for a moment, and
    /// the shell waits for nobody.
    kept_open: tokio::sync::OnceCell<Arc<SqliteStore>>,
}

impl SqliteFile {
    pub(crate) fn new() -> Self {
        turn::take();
        Self { folder: tempfile::tempdir().unwrap(), kept_open: tokio::sync::OnceCell::new() }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("tenants.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.url(), &patient()).await.unwrap()
    }

    async fn keep_open(&self) -> Arc<SqliteStore> {
        self.kept_open.get_or_init(async || Arc::new(self.open().await)).await.clone()
    }

    /// Closes what is kept open.
    pub(crate) async fn release(&self) {
        self.kept_open.get().unwrap().close().await;
    }

    async fn with_sqlx(&self, sql: &str) -> Result<Vec<String>, String> {
        self.keep_open().await;
        let mut connection =
            SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap();
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_string())).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        Ok(rows.map_err(|error| error.to_string())?.iter().map(as_text).collect())
    }

    async fn with_shell(&self, sql: &str) -> Result<Vec<String>, String> {
        self.keep_open().await;
        shell(&self.path(), sql)
    }
}

fn as_text(row: &SqliteRow) -> String {
    let column = |at| {
        let number =
            || row.try_get_unchecked::<Option<i64>, _>(at).map(|n| n.map(|n| n.to_string()));
        row.try_get_unchecked::<Option<String>, _>(at).or_else(|_| number()).unwrap()
    };
    (0..row.len()).map(|at| column(at).unwrap_or_default()).collect::<Vec<_>>().join("|")
}

/// The sqlite3 shell as it is when somebody types into it.
pub(crate) fn shell(path: &std::path::Path, sql: &str) -> Result<Vec<String>, String> {
    let mut child = Command::new("sqlite3")
        .args(["-bail", "-batch", "-init", "/dev/null"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && error.is_empty() {
        Ok(String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect())
    } else {
        Err(error)
    }
}

pub(crate) fn has_shell() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let version = Command::new("sqlite3").arg("-version").stdout(Stdio::null()).status();
        if version.is_err() {
            loudly("SKIPPED: no sqlite3 shell on PATH; its statements are tried with sqlx alone");
        }
        version.is_ok()
    })
}

#[async_trait]
impl Database for SqliteFile {
    async fn store(&self) -> Arc<dyn Store> {
        self.keep_open().await;
        Arc::new(self.open().await) as Arc<dyn Store>
    }

    async fn kept(&self) -> Arc<dyn Store> {
        self.keep_open().await as Arc<dyn Store>
    }

    fn programs(&self) -> Vec<&'static str> {
        if has_shell() { vec!["sqlx", "sqlite3"] } else { vec!["sqlx"] }
    }

    async fn run_with(&self, client: &'static str, sql: &str) -> Result<Vec<String>, String> {
        match client {
            "sqlite3" => self.with_shell(sql).await,
            _ => self.with_sqlx(sql).await,
        }
    }
}
