//! What others committed, and who they are. Every change carries the id of its transaction. The feed
//! keeps the snapshot that it last read with, and reads what is visible now and was not then: commits
//! overtake each other, and a number would pass by the one that comes late. Both questions, what is
//! new and since when, are one statement on a connection of their own.
//!
//! Another connection listens, in a task of its own. It says when to look, and no more than that: a
//! notice that is lost costs at most [`PAUSE`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::fault::is_broken;
use super::pool::late;
use crate::store::News;
use crate::store::sql::row;

/// More changes than this at once are not worth telling apart.
const MANY: usize = 4096;

/// How long nobody looks when nothing is heard.
const PAUSE: Duration = Duration::from_millis(250);

/// How long connecting the listener may take, and the pause before it is tried again.
const CONNECT: Duration = Duration::from_secs(5);

const CHANNEL: &str = "nats_callout";

const SNAPSHOT: &str = "SELECT pg_current_snapshot()::TEXT";

/// The snapshot of this statement, and the changes that it sees and `$1` did not: those of the
/// transactions that were running then, and of those that began later. That costs what is new, however
/// long a transaction stays open. On a standby a snapshot does not tell what was running, so there
/// some may be read again.
///
/// Notes that were deleted are unread where their transactions are not all older than `$1`.
const NEWS: &str = "\
    WITH since AS MATERIALIZED (SELECT $1::PG_SNAPSHOT AS snapshot), \
    found AS ( \
      SELECT * FROM changes WHERE xid >= ( \
        SELECT CASE WHEN pg_is_in_recovery() THEN pg_snapshot_xmin(snapshot) \
          ELSE pg_snapshot_xmax(snapshot) END FROM since) \
        AND xid < pg_snapshot_xmax(pg_current_snapshot()) \
      UNION ALL \
      SELECT * FROM changes WHERE xid = ANY (ARRAY( \
        SELECT pg_snapshot_xip(snapshot) FROM since WHERE NOT pg_is_in_recovery())) \
      LIMIT $2) \
    SELECT pg_current_snapshot()::TEXT AS snapshot, \
      pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(since.snapshot) \
        OR (c.kind = 'pruned' AND c.key::XID8 >= pg_snapshot_xmin(since.snapshot)) AS lost, \
      c.seq, c.kind, c.key, c.account, c.closes, c.ends_at, c.pushes, \
      greatest(0, extract(epoch FROM clock_timestamp() - c.at))::FLOAT8 AS age \
    FROM since LEFT JOIN found AS c ON TRUE ORDER BY c.seq";

pub(super) struct Feed {
    options: PgConnectOptions,
    patience: Duration,
    watch: Mutex<Option<Watch>>,
    listener: OnceCell<Listener>,
}

struct Watch {
    connection: PgConnection,
    snapshot: String,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    pub(super) fn new(options: PgConnectOptions, patience: Duration) -> Self {
        // The few rows that are new are always found by their index.
        let options = options.options([("enable_seqscan", "off")]);
        Self { options, patience, watch: Mutex::default(), listener: OnceCell::new() }
    }

    pub(super) async fn news(&self) -> Result<News, sqlx::Error> {
        let late = |_| Err(late("changes could not be read in time"));
        timeout(self.patience, self.read()).await.unwrap_or_else(late)
    }

    async fn read(&self) -> Result<News, sqlx::Error> {
        let mut kept = self.watch.lock().await;
        if self.listener.get().is_some_and(Listener::was_lost) {
            // What was on the way is lost with it, and perhaps it is another server by now.
            *kept = None;
        }
        // Out of its place until all is read: a caller that gives up, and an error, leave none,
        // and the next call forgets everything.
        if let Some(mut watch) = kept.take() {
            match watch.advance().await {
                Ok(news) => {
                    *kept = Some(watch);
                    return Ok(news);
                }
                Err(error) if is_broken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.options.connect().await?;
        let snapshot = sqlx::query_scalar(SNAPSHOT).fetch_one(&mut connection).await?;
        *kept = Some(Watch { connection, snapshot });
        Ok(News::everything())
    }

    /// Returns when something was heard, or after a while.
    pub(super) async fn wait(&self) {
        let listener = self.listener.get_or_init(async || Listener::start(&self.options)).await;
        // The time that has passed says as much as a notice.
        let _ = timeout(PAUSE, listener.heard.notified()).await;
    }

    pub(super) async fn close(&self) {
        if let Some(listener) = self.listener.get() {
            listener.task.abort();
        }
        if let Some(watch) = self.watch.lock().await.take() {
            // A connection that cannot be closed in order is closed all the same.
            let _ = timeout(self.patience, watch.connection.close()).await;
        }
    }
}

impl Watch {
    async fn advance(&mut self) -> Result<News, sqlx::Error> {
        let limit = i64::try_from(MANY).unwrap_or(i64::MAX) + 1;
        let rows = sqlx::query(NEWS)
            .bind(&self.snapshot)
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await?;
        let Some(first) = rows.first() else { return Ok(News::everything()) };
        self.snapshot = first.try_get("snapshot")?;
        let mut lost = rows.len() > MANY;
        for row in &rows {
            lost |= row.try_get::<Option<bool>, _>("lost")?.unwrap_or(false);
        }
        if lost {
            return Ok(News::everything());
        }
        if first.try_get::<Option<i64>, _>("seq")?.is_none() {
            return Ok(News::default());
        }
        Ok(row::news(&rows).unwrap_or_else(News::everything))
    }
}

/// The task that listens.
struct Listener {
    heard: Arc<Notify>,
    lost: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Listener {
    fn start(options: &PgConnectOptions) -> Self {
        let (heard, lost) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let listening = listen(options.clone(), Arc::clone(&heard), Arc::clone(&lost));
        Self { heard, lost, task: tokio::spawn(listening).abort_handle() }
    }

    /// Whether it has lost its connection since this was last asked.
    fn was_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(options: PgConnectOptions, heard: Arc<Notify>, lost: Arc<AtomicBool>) {
    loop {
        match connect(&options).await {
            Ok(mut listener) => {
                heard.notify_one();
                while let Ok(Some(_)) = listener.try_recv().await {
                    heard.notify_one();
                }
                tracing::warn!("the database closed the connection that listens for changes");
                lost.store(true, Ordering::Release);
                heard.notify_one();
            }
            Err(error) => tracing::debug!(%error, "cannot listen for changes"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
