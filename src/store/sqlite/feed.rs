//! What others committed, and who they are. A connection of its own watches `data_version`, which
//! moves with every commit made through any other connection of this or another process, and
//! reads the table `changes` only then.

use std::fmt;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use crate::store::News;
use crate::store::sql::row;

/// More changes than this at once are not worth telling apart.
const MANY: i64 = 4096;

/// How often `data_version` is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The number of the last change, whether or not its row is still there.
const LAST_CHANGE: &str =
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)";

const CHANGES: &str = "SELECT * FROM change_records WHERE seq > $1 ORDER BY seq";

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

    /// Returns when it is time to look again.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(POLL).await;
    }

    pub(super) async fn close(&self) {
        if let Some(watch) = self.watch.lock().await.take() {
            // A connection that cannot be closed in order is closed all the same.
            let _ = watch.connection.close().await;
        }
    }

    pub(super) async fn news(&self) -> Result<News, sqlx::Error> {
        let mut kept = self.watch.lock().await;
        // Out of its place until all is read: a caller that gives up, and an error, leave none,
        // and the next call forgets everything.
        let (watch, news) = match kept.take() {
            Some(mut watch) => {
                let news = watch.advance().await?;
                (watch, news)
            }
            None => (self.connect().await?, News::everything()),
        };
        *kept = Some(watch);
        Ok(news)
    }

    async fn connect(&self) -> Result<Watch, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let data_version = data_version(&mut connection).await?;
        let last: i64 = sqlx::query_scalar(LAST_CHANGE).fetch_one(&mut connection).await?;
        // What cannot be read now either is not over because a connection can be had.
        sqlx::query(CHANGES).bind(last).fetch_all(&mut connection).await?;
        Ok(Watch { connection, data_version, last })
    }
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
            sqlx::query(CHANGES).bind(self.last).fetch_all(&mut *transaction).await?
        } else {
            Vec::new()
        };
        transaction.rollback().await?;
        self.data_version = data_version;
        self.last = latest;
        // Rows have been pruned, or the file is another one than before.
        if usize::try_from(behind) != Ok(rows.len()) {
            return Ok(News::everything());
        }
        Ok(row::news(&rows).unwrap_or_else(News::everything))
    }
}
