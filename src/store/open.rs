//! Opens the tenant table that a URL names, in whichever database.

use std::sync::Arc;

#[cfg(feature = "daemon")]
use super::Coordination;
use super::Store;
pub use super::options::{OpenError, StoreOptions};
#[cfg(feature = "postgres")]
use super::postgres::{self, PostgresStore};
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteStore;

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
        _ => Err(OpenError::new(format!("no database that this build knows: write {KNOWN}"))),
    }
}

/// For a look at who holds others up ([`Coordination::hindrances`]), which may hold up [`open`] as well;
/// `None` where the database cannot tell.
#[cfg(feature = "daemon")]
pub(crate) fn sessions(url: &str, options: &StoreOptions) -> Option<Arc<dyn Coordination>> {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return Some(Arc::new(PostgresStore::unopened(url, options)?));
    }
    let _ = (url, options);
    None
}

/// Whether [`open`] can make sense of `url`, or why not. No reason holds a password.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    #[cfg(feature = "postgres")]
    if url.starts_with("postgres") {
        return postgres::check_url(url);
    }
    let _ = url;
    Ok(())
}
