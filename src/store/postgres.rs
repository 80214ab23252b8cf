//! The tenant table in a PostgreSQL database, shared by any number of instances and by whatever else
//! writes to it. Whatever is asked has an answer within the time that a login can wait, also from a
//! server that is frozen, from one without a free connection, and from a table that is locked.
//!
//! `open` connects and makes the schema, `servers` finds the one that takes writes, `pool` lends connections, `statements` carries out the
//! statements of [`crate::store`], `feed` tells what others committed, `fault` makes sense of the
//! database's errors.

mod fault;
mod feed;
mod open;
mod place;
mod pool;
mod servers;
mod statements;

use self::feed::Feed;
use self::place::Place;
use self::pool::Pool;
use super::options::{OpenError, StoreOptions};

/// The tenant table in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    place: Place,
    readers: Pool,
    writers: Pool,
    feed: Feed,
}

impl PostgresStore {
    /// Opens the database named by a URL of the form `postgres://USER:PASSWORD@HOST:PORT/DATABASE`,
    /// after bringing its schema up to date where needed. A schema newer than this build is used as
    /// it is, and one that is up to date needs no right to make tables, nor to write.
    ///
    /// Several servers, one of which takes writes, are written `HOST:PORT,HOST:PORT`. The URL takes some of libpq's
    /// parameters, such as `sslmode=verify-full` and `sslrootcert=FILE`, and no others.
    pub async fn open(url: &str, options: &StoreOptions) -> Result<Self, OpenError> {
        open::open(url, options).await
    }

    /// A store of which nothing is known but where it is: its tables may be locked, or not there.
    #[cfg(feature = "daemon")]
    pub(super) fn unopened(url: &str, options: &StoreOptions) -> Option<Self> {
        open::unopened(url, options).ok().map(|(_, store)| store)
    }
}

/// Whether a URL is one of a PostgreSQL database, or why not.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    servers::Servers::parse(url).map(drop)
}
