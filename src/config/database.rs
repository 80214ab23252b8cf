//! Where the tenant table is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Config;
use crate::problem::Origin;
use crate::redact::shown_path;
use crate::store::{self, OpenError, Store, StoreOptions};

/// `[database]`
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// The address, relative SQLite paths made absolute.
    pub(crate) url: DatabaseUrl,
    /// Where that is written.
    pub(crate) origin: Origin,
    /// How long one statement may take, its wait for a connection or a lock included.
    pub(crate) timeout: Duration,
}

/// A database's address, which may hold a password: shown by no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(pub(super) String);

/// What a database's address has to look like.
pub(crate) const DATABASE_REMEDY: &str = "write sqlite://PATH or \
    postgres://USER:PASSWORD@HOST/DATABASE, with @ / # ? % in a password percent-encoded";

impl DatabaseUrl {
    /// Checks an address and makes a relative SQLite path start at `folder`. The text may hold a
    /// password, so no message repeats it.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            store::open::check_url(text)?;
            check_parts(text)?;
            return Ok(Self(text.to_owned()));
        }
        let Some(rest) = text.strip_prefix("sqlite:") else {
            return Err("neither an address of SQLite nor one of PostgreSQL".to_owned());
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if rest.contains('?') {
            return Err("the address of an SQLite database takes no parameters".to_owned());
        }
        if rest.is_empty() || rest.contains(":memory:") {
            return Err("an SQLite database has to be a file, since processes share it".to_owned());
        }
        let file = folder.join(rest);
        if rest.ends_with('/') || file.is_dir() {
            let shown = shown_path(&file);
            return Err(format!(
                "{} is a folder, and a database is a file in one",
                shown.display()
            ));
        }
        let base = if rest.starts_with('/') { String::new() } else { Self::escape(folder)? + "/" };
        Ok(Self(format!("sqlite://{base}{rest}")))
    }

    /// The address of an SQLite file.
    #[cfg(feature = "cli")]
    pub(crate) fn sqlite(file: &Path) -> Result<Self, String> {
        Ok(Self(format!("sqlite://{}", Self::escape(file)?)))
    }

    fn escape(path: &Path) -> Result<String, String> {
        let path = path.to_str().ok_or("the path is not UTF-8")?;
        Ok(path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
    }

    /// The address itself, for the driver alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is an SQLite file.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

/// Refuses an address of PostgreSQL that names no user, or has something twice: no default would be the one that
/// was meant. (The database's name is the user's where none is written, as PostgreSQL has it.)
fn check_parts(url: &str) -> Result<(), String> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(login, _)| login);
    let user = user.split(':').next().unwrap_or_default();
    let mut names = Vec::new();
    for name in query.split('&').map(|it| it.split('=').next().unwrap_or_default()) {
        if !name.is_empty() && names.contains(&name) {
            return Err(format!("the parameter {name} is written twice"));
        }
        names.push(name);
    }
    let is_missing = user.is_empty() && !names.contains(&"user");
    match is_missing && std::env::var_os("PGUSER").is_none() {
        true => Err("it names no user".to_owned()),
        false => Ok(()),
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_sqlite() { &self.0 } else { "DatabaseUrl(redacted)" })
    }
}

impl Config {
    /// Where the address of the tenant table is written, for messages about it.
    pub(crate) fn database_origin(&self) -> String {
        let Origin::Env(variable) = &self.database.origin else {
            return format!("[database] url of {}", self.file.display());
        };
        match self.value_files.iter().find(|it| it.variable == *variable) {
            Some(file) => format!("{} of {variable}", shown_path(&file.path).display()),
            None => variable.clone(),
        }
    }

    /// Opens the tenant table as the service needs it.
    pub async fn open_store(&self) -> Result<Arc<dyn Store>, OpenError> {
        let timeout = self.database.timeout;
        let options = StoreOptions {
            read_timeout: timeout,
            write_timeout: timeout,
            ..StoreOptions::default()
        };
        store::open(self.database.url.expose(), &options).await
    }
}
