//! The tenant table in one SQLite file, shared with whatever else has it open: several instances
//! of the service, the command line, the sqlite3 shell. Reads go to a small pool of connections
//! and never wait for writers (WAL). Writes go one at a time through a connection of their own and
//! hold the file's lock for one short transaction, since other programs may not wait for it.
//!
//! `open` makes the file and its schema, `read` and `write` are the traits of [`crate::store`],
//! `accounts` is what a first login writes, `feed` tells what others committed, `fault` makes sense of the database's errors.

mod accounts;
mod fault;
mod feed;
mod open;
mod read;
mod row;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::SqlitePool;

use self::accounts::Keeping;
use self::fault::unavailable;
use self::feed::Feed;
pub use self::open::OpenError;
use super::{StoreError, queries};

/// How long a [`SqliteStore`] waits, and with how many connections it reads.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// How long a read waits, for a connection and for the file: nearly as long as a login can
    /// wait, so that a fault that passes costs nobody a login.
    pub read_timeout: Duration,
    /// How long a write waits for its turn and for the file's lock. A login writes once in the
    /// life of a tenant; a command can afford to wait longer.
    pub write_timeout: Duration,
    /// How long opening waits for others that are just creating or migrating the file.
    pub open_timeout: Duration,
    /// How many reads can run at the same time.
    pub readers: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_millis(1_500),
            write_timeout: Duration::from_millis(1_500),
            open_timeout: Duration::from_secs(5),
            readers: 4,
        }
    }
}

/// The tenant table in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    readers: SqlitePool,
    writer: SqlitePool,
    feed: Feed,
    keeping: Keeping,
}

impl SqliteStore {
    /// Opens the file named by a URL of the form `sqlite://PATH`, after creating it and bringing
    /// its schema up to date where needed. A file that is made here can be read and written by its
    /// owner alone. A schema newer than this build is used as it is.
    pub async fn open(url: &str, options: &SqliteOptions) -> Result<Self, OpenError> {
        open::open(url, options).await
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the database answers and has its tables: the version of its schema.
    pub async fn ping(&self) -> Result<i64, StoreError> {
        let version: Option<i64> = sqlx::query_scalar(queries::PING)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| unavailable(&self.path, &error))?;
        match version {
            Some(version) => Ok(version),
            None => Err(StoreError::Unavailable(format!("{}: no schema", self.path.display()))),
        }
    }

    /// Lets running statements end and closes the file.
    pub async fn close(&self) {
        self.feed.close().await;
        self.writer.close().await;
        self.readers.close().await;
    }
}
