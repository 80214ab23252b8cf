//! Opens the tenant table that a URL names, in whichever database.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cli")]
use super::Coordination;
use super::Store;
#[cfg(feature = "postgres")]
use super::postgres::{self, PostgresStore};
#[cfg(feature = "sqlite")]
use super::sqlite::{self, SqliteStore};

/// How long a store waits, and with how many connections it reads.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// How long a read waits, for a connection and for the database: nearly as long as a login can
    /// wait, so that a fault that passes costs nobody a login.
    pub read_timeout: Duration,
    /// How long a write waits for its turn and for locks. A login writes once in the life of a
    /// tenant; a command can afford to wait longer.
    pub write_timeout: Duration,
    /// How long opening waits for others that are just creating or migrating the database.
    pub open_timeout: Duration,
    /// How many reads can run at the same time. On PostgreSQL as many writes, too; with the two
    /// connections that follow changes, that is ten with the default.
    pub readers: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_millis(1_500),
            write_timeout: Duration::from_millis(1_500),
            open_timeout: Duration::from_secs(5),
            readers: 4,
        }
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An SQLite file.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The URL is one of no database that this build knows.
    #[error("no database that this build knows: write {KNOWN}")]
    Unknown,
}

const KNOWN: &str = match (cfg!(feature = "sqlite"), cfg!(feature = "postgres")) {
    (true, true) => "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE",
    (true, false) => "sqlite://PATH",
    _ => "postgres://USER:PASSWORD@HOST/DATABASE",
};

/// Opens the tenant table at `url`, after bringing its schema up to date where needed:
/// `sqlite://PATH`, which is created where it is not there, or
/// `postgres://USER:PASSWORD@HOST/DATABASE`.
pub async fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(SqliteStore::open(url, options).await?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(PostgresStore::open(url, options).await?)),
        _ => Err(OpenError::Unknown),
    }
}

/// For a look at who holds others up ([`Coordination::hindrances`]), which may hold up [`open`] as well;
/// `None` where the database cannot tell.
#[cfg(feature = "cli")]
pub(crate) fn sessions(url: &str, options: &StoreOptions) -> Option<Arc<dyn Coordination>> {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return Some(Arc::new(PostgresStore::unopened(url, options)?));
    }
    let _ = (url, options);
    None
}

/// Whether [`open`] can make sense of `url`, or why not. No reason holds a password.
pub fn check_url(url: &str) -> Result<(), String> {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return postgres::check_url(url);
    }
    let _ = url;
    Ok(())
}
