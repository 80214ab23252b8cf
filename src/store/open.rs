//! Opens the tenant table that a URL names, in whichever database.

use std::sync::Arc;
use std::time::Duration;

use super::Store;
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
    /// How many reads can run at the same time.
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
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
}

/// Opens the tenant table at `url`, after creating it and bringing its schema up to date where
/// needed: `sqlite://PATH`.
pub async fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(SqliteStore::open(url, options).await?))
}
