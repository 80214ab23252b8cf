//! A PostgreSQL database for a test, and the two other programs that write to it: psql with its
//! defaults, and sqlx with its own.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use nats_callout::store::open::StoreOptions;
use nats_callout::store::postgres::PostgresStore;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::harness::postgres::{PostgresDatabase, database, psql};

use super::{Database, Store};

pub(crate) struct Postgres {
    database: PostgresDatabase<'static>,
    made: tokio::sync::OnceCell<()>,
}

impl Postgres {
    pub(crate) fn new() -> Self {
        Self { database: database(), made: tokio::sync::OnceCell::new() }
    }

    pub(crate) fn url(&self) -> String {
        self.database.url()
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url(), &StoreOptions::default()).await.unwrap()
    }

    /// Makes the schema.
    pub(crate) async fn make(&self) {
        self.made.get_or_init(async || Store::close(&self.open().await).await).await;
    }

    async fn with_sqlx(&self, sql: &str) -> Result<Vec<String>, String> {
        let options: PgConnectOptions = self.url().parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        Ok(rows.map_err(|error| error.to_string())?.iter().map(as_text).collect())
    }
}

/// Rows of the simple protocol are text already.
fn as_text(row: &PgRow) -> String {
    let column = |at| row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or_default();
    (0..row.len()).map(column).collect::<Vec<_>>().join("|")
}

impl Database for Postgres {
    fn store(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(self.open().await) as Arc<dyn Store> })
    }

    fn clients(&self) -> Vec<&'static str> {
        vec!["psql", "sqlx"]
    }

    fn run_with<'a>(
        &'a self,
        client: &'static str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, String>> {
        Box::pin(async move {
            self.make().await;
            // The same things have other names here.
            let sql = sql.replace("BEGIN IMMEDIATE", "BEGIN").replace(" char(", " chr(");
            match client {
                "psql" => {
                    let rows = psql(&self.url(), &sql)?;
                    Ok(rows.lines().map(Into::into).collect())
                }
                _ => self.with_sqlx(&sql).await,
            }
        })
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
