//! The tenant table in one SQLite file, shared with whatever else has it open: several instances
//! of the service, the command line, the sqlite3 shell. Reads go to a small pool of connections
//! and never wait for writers (WAL). Writes go one at a time through a connection of their own and
//! hold the file's lock for one short transaction, since other programs may not wait for it.
//!
//! `open` makes the file and its schema, `write` carries out the statements of [`crate::store`],
//! `accounts` is what a first login writes, `feed` tells what others committed, `fault` makes sense
//! of the database's errors.

mod accounts;
mod fault;
mod feed;
mod open;
mod write;

use std::path::PathBuf;

use sqlx::sqlite::SqlitePool;

use self::accounts::Keeping;
use self::feed::Feed;
use super::options::{OpenError, StoreOptions};

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
}
