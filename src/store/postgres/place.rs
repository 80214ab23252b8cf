//! Which database is meant, in words that hold no password.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

/// A database, for messages: its name, server and user, never a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    database: String,
    server: String,
    user: String,
}

impl Place {
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        let user = options.get_username().to_owned();
        Self {
            database: options.get_database().map_or_else(|| user.clone(), str::to_owned),
            server: match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => format!("{}:{}", options.get_host(), options.get_port()),
            },
            user,
        }
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The user who connects.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.database, self.server)
    }
}
