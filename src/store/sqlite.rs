//! The tenant table in one SQLite file, shared with whatever else has it open: several instances
//! of the service, the command line, the sqlite3 shell. Reads go to a small pool of connections
//! and never wait for writers (WAL). Writes go one at a time through a connection of their own and
//! hold the file's lock for one short transaction, since other programs may not wait for it.
//!
//! `open` makes the file and its schema, `read` and `write` are the traits of [`crate::store`],
//! `accounts` is what a first login writes, `feed` tells what others committed, `outbox` holds the
//! events of changes, `fault` makes sense of the database's errors.

mod accounts;
mod fault;
mod feed;
mod open;
mod outbox;
mod read;
mod row;
mod write;

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqlitePool;

use self::accounts::Keeping;
use self::fault::unavailable;
use self::feed::Feed;
pub use self::open::OpenError;
use super::open::StoreOptions;
use super::{Store, StoreError, queries};

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
    pub async fn open(url: &str, options: &StoreOptions) -> Result<Self, OpenError> {
        open::open(url, options).await
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for SqliteStore {
    fn ping(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(async move {
            let version: Option<i64> = sqlx::query_scalar(queries::PING)
                .fetch_one(&self.readers)
                .await
                .map_err(|error| unavailable(&self.path, &error))?;
            version.ok_or_else(|| {
                StoreError::Unavailable(format!("{}: no schema", self.path.display()))
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.feed.close().await;
            self.writer.close().await;
            self.readers.close().await;
        })
    }
}
