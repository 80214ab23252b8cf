//! Connections that are lent for one statement or one transaction. A connection comes back only from
//! a borrower that has come to the end of what it asked: whoever fails, gives up or is dropped in the
//! middle takes it along, and the server notices that it is closed. sqlx's own pool asks again after a
//! refused connection, but not after one that broke, and at the deadline it no longer knows what the
//! server said.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::fault::is_passing;
use super::servers::Servers;

/// A connection that nobody has used for so long may have been cut by what lies in between.
const STALE: Duration = Duration::from_secs(60);

/// Between two attempts.
pub(super) const RETRY: Duration = Duration::from_millis(50);

pub(super) struct Pool {
    servers: Servers,
    patience: Duration,
    free: Semaphore,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    closed: AtomicBool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A connection that is lent.
pub(super) struct Lent<'p> {
    connection: PgConnection,
    is_new: bool,
    pool: &'p Pool,
    _free: SemaphorePermit<'p>,
}

impl Pool {
    /// At most `most` connections, each of which is waited for at most `patience`.
    pub(super) fn new(servers: Servers, most: u32, patience: Duration) -> Self {
        Self {
            servers,
            patience,
            free: Semaphore::new(most.max(1) as usize),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// When whatever begins now has to be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Lends a connection. While the server has none to give, it is asked again until `deadline`.
    pub(super) async fn lend(&self, deadline: Instant) -> Result<Lent<'_>, sqlx::Error> {
        let waiting = timeout_at(deadline, self.free.acquire()).await;
        let free = match waiting {
            Ok(free) => free.map_err(|_| sqlx::Error::PoolClosed)?,
            Err(_) => return Err(late("all connections wait for its answer")),
        };
        if let Some(connection) = self.take() {
            return Ok(Lent { connection, is_new: false, pool: self, _free: free });
        }
        let connection = self.connect(deadline).await?;
        Ok(Lent { connection, is_new: true, pool: self, _free: free })
    }

    async fn connect(&self, deadline: Instant) -> Result<PgConnection, sqlx::Error> {
        let mut last = None;
        loop {
            let error = match timeout_at(deadline, self.servers.connect()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                // What it said before tells more.
                Err(_) => return Err(last.unwrap_or_else(silent)),
            };
            if !is_passing(&error) || Instant::now() + RETRY >= deadline {
                return Err(error);
            }
            last = Some(error);
            tokio::time::sleep(RETRY).await;
        }
    }

    fn take(&self) -> Option<PgConnection> {
        let mut idle = self.idle.lock();
        // The one that was used last; the others below are older.
        let (connection, since) = idle.pop()?;
        if since.elapsed() > STALE {
            idle.clear();
            return None;
        }
        Some(connection)
    }

    /// Forgets the connections that nobody has: the server has closed one, and so probably all.
    pub(super) fn forget(&self) {
        self.idle.lock().clear();
    }

    /// Closes the connections that nobody has, and the others as they come back.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.free.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        let deadline = self.deadline();
        for (connection, _) in idle {
            // A connection that cannot be closed in order is closed all the same.
            let _ = timeout_at(deadline, connection.close()).await;
        }
    }
}

impl Lent<'_> {
    /// Gives back the connection, on which nothing is going on.
    pub(super) fn give_back(self) {
        if !self.pool.closed.load(Ordering::Relaxed) {
            let mut idle = self.pool.idle.lock();
            idle.push((self.connection, Instant::now()));
        }
    }

    /// Whether it was made for this loan: what fails on another may only mean that the server has
    /// been started anew since.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Deref for Lent<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// The server has not answered in time, whatever it was asked: it hangs, or is not to be reached.
pub(super) fn silent() -> sqlx::Error {
    late("it does not answer")
}

fn late(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}
