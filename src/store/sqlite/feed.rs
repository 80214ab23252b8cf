//! What others committed, and who they are. A connection of its own watches `data_version`, which
//! moves with every commit made through any other connection of this or another process, and
//! reads the table `changes` only then.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use super::fault::unavailable;
use super::{SqliteStore, row};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::store::{Change, Coordination, Effect, News, StoreError, queries};

/// More changes than this at once are not worth telling apart.
const MANY: i64 = 4096;

/// How often `data_version` is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The number of the last change, whether or not its row is still there.
const LAST_CHANGE: &str =
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";

/// The connection that watches, made when it is first asked and again after every failure.
pub(super) struct Feed {
    options: SqliteConnectOptions,
    watch: Mutex<Option<Watch>>,
}

struct Watch {
    connection: SqliteConnection,
    data_version: i64,
    last: i64,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, watch: Mutex::new(None) }
    }

    pub(super) async fn close(&self) {
        if let Some(watch) = self.watch.lock().await.take() {
            // A connection that cannot be closed in order is closed all the same.
            let _ = watch.connection.close().await;
        }
    }

    async fn news(&self) -> Result<News, sqlx::Error> {
        let mut kept = self.watch.lock().await;
        // Out of its place until all is read: a caller that gives up, and an error, leave none,
        // and the next call forgets everything.
        let (watch, news) = match kept.take() {
            Some(mut watch) => {
                let news = watch.advance().await?;
                (watch, news)
            }
            None => (self.connect().await?, everything()),
        };
        *kept = Some(watch);
        Ok(news)
    }

    async fn connect(&self) -> Result<Watch, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let data_version = data_version(&mut connection).await?;
        let last = sqlx::query_scalar(LAST_CHANGE).fetch_one(&mut connection).await?;
        Ok(Watch { connection, data_version, last })
    }
}

fn everything() -> News {
    News { changes: vec![Change::Everything], effects: Vec::new() }
}

async fn data_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
}

impl Watch {
    async fn advance(&mut self) -> Result<News, sqlx::Error> {
        // Read before the rows: a commit in between moves it once more.
        let data_version = data_version(&mut self.connection).await?;
        if data_version == self.data_version {
            return Ok(News::default());
        }
        let mut transaction = self.connection.begin().await?;
        let latest: i64 = sqlx::query_scalar(LAST_CHANGE).fetch_one(&mut *transaction).await?;
        let behind = latest - self.last;
        let rows = if (1..=MANY).contains(&behind) {
            sqlx::query(queries::CHANGES).bind(self.last).fetch_all(&mut *transaction).await?
        } else {
            Vec::new()
        };
        transaction.rollback().await?;
        self.data_version = data_version;
        self.last = latest;
        // Rows have been pruned, or the file is another one than before.
        if usize::try_from(behind) != Ok(rows.len()) {
            return Ok(everything());
        }
        let mut news = News::default();
        for found in &rows {
            let (Ok(change), Ok(effect)) = (row::change(found), row::effect(found)) else {
                return Ok(everything());
            };
            if let Some(change) = change
                && news.changes.last() != Some(&change)
            {
                news.changes.push(change);
            }
            news.effects.extend(effect);
        }
        Ok(news)
    }
}

impl SqliteStore {
    fn unavailable(&self, error: &sqlx::Error) -> StoreError {
        unavailable(Path::new(&self.path), error)
    }
}

impl Coordination for SqliteStore {
    fn news(&self) -> BoxFuture<'_, Result<News, StoreError>> {
        Box::pin(async move { self.feed.news().await.map_err(|error| self.unavailable(&error)) })
    }

    fn effects(&self) -> BoxFuture<'_, Result<Vec<Effect>, StoreError>> {
        Box::pin(async move {
            let rows = sqlx::query(queries::EFFECTS)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.unavailable(&error))?;
            rows.iter().filter_map(|found| row::effect(found).transpose()).collect()
        })
    }

    fn removed_accounts(&self) -> BoxFuture<'_, Result<Vec<AccountId>, StoreError>> {
        Box::pin(async move {
            let accounts: Vec<String> = sqlx::query_scalar(queries::REMOVED_ACCOUNTS)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.unavailable(&error))?;
            // What is no account's key is no account of ours.
            Ok(accounts.iter().filter_map(|account| account.parse().ok()).collect())
        })
    }

    fn heartbeat<'a>(
        &'a self,
        instance: &'a str,
        now: UnixSeconds,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut connection = self.passing_writer().await?;
            sqlx::query(queries::HEARTBEAT)
                .bind(instance)
                .bind(now)
                .execute(&mut *connection)
                .await
                .map_err(|error| self.unavailable(&error))?;
            Ok(())
        })
    }

    fn depart<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut connection = self.passing_writer().await?;
            sqlx::query(queries::DEPART)
                .bind(instance)
                .execute(&mut *connection)
                .await
                .map_err(|error| self.unavailable(&error))?;
            Ok(())
        })
    }

    fn wait_for_news(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(POLL))
    }

    fn instances(&self, since: UnixSeconds) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            sqlx::query_scalar(queries::INSTANCES)
                .bind(since)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.unavailable(&error))
        })
    }
}
