//! A PostgreSQL database for a test, and the two other programs that write to it: psql with its
//! defaults, and sqlx with its own.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use nats_callout::internals::PostgresStore;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use tokio::sync::{Mutex, OnceCell};

use crate::harness::postgres::{PostgresDatabase, database, psql};
use crate::harness::{depth, turn};

use super::{Database, Store, patient};

pub(crate) struct Postgres {
    database: PostgresDatabase<'static>,
    kept: OnceCell<Arc<dyn Store>>,
    sqlx: Mutex<Option<PgConnection>>,
}

/// A database with the schema, which every test has a copy of: making the schema takes longer than
/// most of them.
fn template() -> &'static PostgresDatabase<'static> {
    static MADE: OnceLock<PostgresDatabase<'static>> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = database();
        let url = made.url();
        // The test's own thread may be running a task already.
        let making = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let store = PostgresStore::open(&url, &patient()).await.unwrap();
                Store::close(&store).await;
            });
        });
        making.join().unwrap();
        made
    })
}

impl Postgres {
    pub(crate) fn new() -> Self {
        turn::take();
        Self { database: template().copy(), kept: OnceCell::new(), sqlx: Mutex::default() }
    }

    pub(crate) fn url(&self) -> String {
        self.database.url()
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url(), &patient()).await.unwrap()
    }

    async fn with_sqlx(&self, sql: &str) -> Result<Vec<String>, String> {
        let mut kept = self.sqlx.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap(),
        };
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
        // What failed may have left a transaction open.
        if rows.is_err() {
            connection.execute("ROLLBACK").await.unwrap();
        }
        *kept = Some(connection);
        Ok(rows.map_err(|error| error.to_string())?.iter().map(as_text).collect())
    }
}

/// Rows of the simple protocol are text already.
fn as_text(row: &PgRow) -> String {
    let column = |at| row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or_default();
    (0..row.len()).map(column).collect::<Vec<_>>().join("|")
}

#[async_trait]
impl Database for Postgres {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await) as Arc<dyn Store>
    }

    async fn kept(&self) -> Arc<dyn Store> {
        self.kept.get_or_init(|| self.store()).await.clone()
    }

    fn programs(&self) -> Vec<&'static str> {
        vec!["psql", "sqlx"]
    }

    /// Both send the same bytes, and psql begins anew for each of them: in a commit it makes what is
    /// about other programs, and everything in the nightly run.
    fn clients(&self) -> Vec<&'static str> {
        depth(vec!["sqlx"], self.programs())
    }

    async fn run_with(&self, client: &'static str, sql: &str) -> Result<Vec<String>, String> {
        // The same things have other names here.
        let sql = sql.replace("BEGIN IMMEDIATE", "BEGIN").replace(" char(", " chr(");
        match client {
            "psql" => {
                let rows = psql(&self.url(), &sql)?;
                Ok(rows.lines().map(Into::into).collect())
            }
            _ => self.with_sqlx(&sql).await,
        }
    }

    fn says(&self, text: &str, words: &str) -> bool {
        let (table, column) = words
            .split_once([':', ' '])
            .map_or(words, |(name, _)| name)
            .split_once('.')
            .unwrap_or_default();
        let null = format!("null value in column \"{column}\" of relation \"{table}\"");
        // What is no value of the column's type is refused before any rule is looked at.
        let of_a_type = [
            "invalid input syntax for type",
            "is of type",
            "null character not permitted",
            "invalid byte sequence",
            "out of range",
        ];
        text.contains(words)
            || text.contains(&null)
            || of_a_type.iter().any(|start| text.contains(start))
    }

    fn is_sqlite(&self) -> bool {
        false
    }
}
