//! Which database is meant, in words that hold no password.

use std::fmt;

use super::servers::Servers;

/// A database, for messages: its name, server and user, never a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) database: String,
    pub(super) server: String,
    pub(super) user: String,
}

impl Place {
    pub(super) fn of(servers: &Servers) -> Self {
        let options = servers.right();
        let user = options.get_username().to_owned();
        Self {
            database: options.get_database().map_or_else(|| user.clone(), str::to_owned),
            server: match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => servers
                    .all()
                    .map(|one| format!("{}:{}", one.get_host(), one.get_port()))
                    .collect::<Vec<_>>()
                    .join(","),
            },
            user,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.database, self.server)
    }
}
