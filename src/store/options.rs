//! How a store is opened, whichever database it is in, and why not.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

/// Why a database could not be opened, and what to do about it. No text holds a password.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct OpenError {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Another program holds its lock.
    pub(super) is_locked: bool,
}

impl OpenError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, is_locked: false }
    }

    /// What is wrong with this database.
    pub(super) fn of(database: impl Display, what: impl Display) -> Self {
        Self::new(format!("database {database}: {what}"))
    }

    pub(super) fn locked(self) -> Self {
        Self { is_locked: true, ..self }
    }

    pub(super) fn by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

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
