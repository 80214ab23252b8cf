//! What others committed, and who they are. Every change carries the id of its transaction. The feed
//! keeps the snapshot that it last read with, and reads what is visible now and was not then: commits
//! overtake each other, and a number would pass by the one that comes late. Both questions, what is
//! new and since when, are one statement on a connection of their own.
//!
//! Another connection listens, in a task of its own. It says when to look, and no more than that: a
//! notice that is lost costs at most [`PAUSE`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{Connection as _, Row as _};
use tokio::sync::{Mutex, Notify, OnceCell};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::fault::is_broken;
use super::pool::silent;
use super::servers::Servers;
use crate::store::sql::row;
use crate::store::{Hindrance, News};

/// More changes than this at once are not worth telling apart.
const MANY: usize = 4096;

/// How long nobody looks when nothing is heard.
const PAUSE: Duration = Duration::from_millis(250);

/// How long connecting the listener may take, and the pause before it is tried again.
const CONNECT: Duration = Duration::from_secs(5);

const CHANNEL: &str = "nats_callout";

const SNAPSHOT: &str = "SELECT pg_current_snapshot()::TEXT";

/// The sessions that others wait for, and do not wait themselves, and those of `$1`, which sent so
/// many notices, by role.
const HINDRANCES: &str = "\
    WITH waiting AS MATERIALIZED (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted), \
    blocking AS ( \
      SELECT b.pid, count(*) AS blocks \
      FROM waiting AS w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid) \
      WHERE b.pid NOT IN (SELECT pid FROM waiting) GROUP BY b.pid), \
    noisy AS (SELECT key::INT AS pid, value::BIGINT AS notices FROM json_each_text($1::JSON)) \
    SELECT a.usename::TEXT AS role, pid::BIGINT AS session, coalesce(blocks, 0)::BIGINT AS blocks, \
      coalesce(notices, 0)::BIGINT AS notices \
    FROM blocking FULL JOIN noisy USING (pid) JOIN pg_stat_activity AS a USING (pid) \
    WHERE a.datname = current_database() AND a.usename IS NOT NULL \
    ORDER BY blocks DESC, notices DESC LIMIT 16";

/// A session that sends more notices a second does not send those of changes alone.
const NOISY: u64 = 2_000;

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
      c.seq, c.kind, c.key, c.account, c.closes, c.revokes, c.ends_at, c.pushes, \
      greatest(0, extract(epoch FROM clock_timestamp() - c.at))::FLOAT8 AS age \
    FROM since LEFT JOIN found AS c ON TRUE ORDER BY c.seq";

pub(super) struct Feed {
    servers: Servers,
    patience: Duration,
    watch: Mutex<Option<Watch>>,
    /// For looks at who holds others up.
    looking: Mutex<Option<PgConnection>>,
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
    pub(super) fn new(servers: &Servers, patience: Duration) -> Self {
        // The few rows that are new are always found by their index.
        let servers = servers.with(|options| options.options([("enable_seqscan", "off")]));
        Self {
            servers,
            patience,
            watch: Mutex::default(),
            looking: Mutex::default(),
            listener: OnceCell::new(),
        }
    }

    pub(super) async fn news(&self) -> Result<News, sqlx::Error> {
        timeout(self.patience, self.read()).await.unwrap_or_else(|_| Err(silent()))
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
        let mut connection = self.servers.connect().await?;
        let snapshot = sqlx::query_scalar(SNAPSHOT).fetch_one(&mut connection).await?;
        let mut watch = Watch { connection, snapshot };
        // What cannot be read now either is not over because a connection can be had.
        watch.advance().await?;
        *kept = Some(watch);
        Ok(News::everything())
    }

    /// Who holds others up. Asked on a connection of its own: all others may be waiting, and the news
    /// may not wait for this.
    pub(super) async fn hindrances(&self) -> Result<Vec<Hindrance>, sqlx::Error> {
        let noisy = self.listener.get().map(Listener::noisy).unwrap_or_default();
        let noisy = serde_json::json!(noisy).to_string();
        let asking = async {
            let mut kept = self.looking.lock().await;
            // As in `read`: a caller that gives up leaves none.
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.servers.connect().await?,
            };
            let rows = sqlx::query(HINDRANCES).bind(noisy).fetch_all(&mut connection).await?;
            *kept = Some(connection);
            Ok(rows)
        };
        let rows = timeout(self.patience, asking).await.unwrap_or_else(|_| Err(silent()))?;
        rows.iter()
            .map(|row| {
                let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
                Ok(Hindrance {
                    role: row.try_get("role")?,
                    session: row.try_get("session")?,
                    blocks: count("blocks")?,
                    notices: count("notices")?,
                })
            })
            .collect()
    }

    /// Returns when something was heard, or after a while.
    pub(super) async fn wait(&self) {
        let listener = self.listener.get_or_init(async || Listener::start(&self.servers)).await;
        // The time that has passed says as much as a notice.
        let _ = timeout(PAUSE, listener.heard.notified()).await;
    }

    pub(super) async fn close(&self) {
        if let Some(listener) = self.listener.get() {
            listener.task.abort();
        }
        let watching = self.watch.lock().await.take().map(|watch| watch.connection);
        let looking = self.looking.lock().await.take();
        for connection in watching.into_iter().chain(looking) {
            // A connection that cannot be closed in order is closed all the same.
            let _ = timeout(self.patience, connection.close()).await;
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
    notices: Arc<Notices>,
    task: AbortHandle,
}

/// How many notices each session has sent since this was last asked.
struct Notices(parking_lot::Mutex<(Instant, HashMap<u32, u64>)>);

impl Notices {
    fn note(&self, session: u32) {
        let mut noted = self.0.lock();
        if noted.1.len() < MANY || noted.1.contains_key(&session) {
            *noted.1.entry(session).or_default() += 1;
        }
    }

    /// The sessions that sent too many a second, with how many.
    fn noisy(&self) -> BTreeMap<String, u64> {
        let mut noted = self.0.lock();
        let (since, noted) = std::mem::replace(&mut *noted, (Instant::now(), HashMap::new()));
        let seconds = since.elapsed().as_secs().max(1);
        let rates = noted.into_iter().map(|(session, count)| (session, count / seconds));
        let noisy = rates.filter(|(_, rate)| *rate >= NOISY);
        noisy.map(|(session, rate)| (session.to_string(), rate)).collect()
    }
}

impl Listener {
    fn start(servers: &Servers) -> Self {
        let (heard, lost) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let notices = Arc::new(Notices(parking_lot::Mutex::new((Instant::now(), HashMap::new()))));
        let listening =
            listen(servers.clone(), Arc::clone(&heard), Arc::clone(&lost), Arc::clone(&notices));
        Self { heard, lost, notices, task: tokio::spawn(listening).abort_handle() }
    }

    fn noisy(&self) -> BTreeMap<String, u64> {
        self.notices.noisy()
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

async fn listen(
    servers: Servers,
    heard: Arc<Notify>,
    lost: Arc<AtomicBool>,
    notices: Arc<Notices>,
) {
    loop {
        match connect(servers.right()).await {
            Ok(mut listener) => {
                heard.notify_one();
                while let Ok(Some(notice)) = listener.try_recv().await {
                    heard.notify_one();
                    notices.note(notice.process_id());
                    // What has been read already is given without a pause: a flood of it would keep
                    // others from their turn.
                    tokio::task::yield_now().await;
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
