//! What an instance does beside deciding: it forgets what others have changed, says that it is
//! alive, answers when it is asked whether it has forgotten, and notes who logged in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{Client, Message, SubscribeError};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Observer;
use crate::authorize::{Outcome, Verdict};
use crate::clock::{Clock, UnixSeconds};
use crate::revoke::Signal;
use crate::service::Decisions;
use crate::store::cache::Cached;
use crate::store::{Change, Coordination, News, ProvisioningStore, StoreError};

/// Where the CLI asks all instances whether they have forgotten what it has changed; each answers
/// `{"instance":"<id>"}` once it has, and once the decisions begun before are answered.
pub const SYNC_SUBJECT: &str = "_CALLOUT.sync";

/// How long cached records answer after changes were last read: with what a decision takes, well
/// under the second within which a change has to be known.
pub const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);
// Promised in SECURITY.md.
const _: () = assert!(CONFIRMED_WITHIN.as_millis() <= 500);

/// How often an instance notes that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An instance whose heartbeat is older is taken for dead.
pub const HEARTBEAT_SECONDS: u32 = 3;

/// How often logins are written to the database.
const LOGINS: Duration = Duration::from_secs(2);

/// How many users' logins are held back at most between two writes.
const MAX_LOGINS: usize = 100_000;

/// One running instance.
#[derive(Debug)]
pub struct Instance {
    id: String,
    coordination: Arc<dyn Coordination>,
    cache: Arc<Cached>,
    /// Who acts upon changes.
    effects: Vec<mpsc::UnboundedSender<Signal>>,
    /// Held from the reading of changes until they are forgotten, so that whoever finds nothing
    /// to read knows that everything before is forgotten.
    forgetting: tokio::sync::Mutex<()>,
}

impl Instance {
    /// An instance with an id of its own.
    #[must_use]
    pub fn new(id: String, coordination: Arc<dyn Coordination>, cache: Arc<Cached>) -> Arc<Self> {
        Self::with_effects(id, coordination, cache, Vec::new())
    }

    /// [`Self::new`] that passes on what changes mean for connections and servers, once they are
    /// forgotten: to a [`Revoker`](crate::revoke::Revoker), say.
    #[must_use]
    pub fn with_effects(
        id: String,
        coordination: Arc<dyn Coordination>,
        cache: Arc<Cached>,
        effects: Vec<mpsc::UnboundedSender<Signal>>,
    ) -> Arc<Self> {
        let forgetting = tokio::sync::Mutex::default();
        Arc::new(Self { id, coordination, cache, effects, forgetting })
    }

    /// Starts following changes, the heartbeat and the answers on [`SYNC_SUBJECT`], until `stop`.
    pub async fn start(
        self: Arc<Self>,
        client: &Client,
        decisions: Decisions,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), SubscribeError> {
        let mut questions = client.subscribe(SYNC_SUBJECT).await?;
        let (instance, client) = (Arc::clone(&self), client.clone());
        let stopped = stop.clone();
        tasks.spawn(async move {
            while let Some(Some(question)) = stopped.run_until_cancelled(questions.next()).await {
                instance.answer(&client, &decisions, question).await;
            }
        });
        let (instance, stopped) = (Arc::clone(&self), stop.clone());
        tasks.spawn(async move { stopped.run_until_cancelled(instance.follow()).await });
        tasks.spawn(async move {
            stop.run_until_cancelled(self.beat()).await;
            if let Err(error) = self.coordination.depart(&self.id).await {
                tracing::debug!(%error, "the heartbeat could not be removed");
            }
        });
        Ok(())
    }

    /// Forgets whatever has changed. With an error, everything: what changed is not known.
    async fn forget_changes(&self) -> Result<(), StoreError> {
        let _forgetting = self.forgetting.lock().await;
        let asked = Instant::now();
        match self.coordination.news().await {
            Ok(news) => {
                for change in &news.changes {
                    self.cache.forget(change);
                }
                self.cache.confirm(asked);
                if news.changes.contains(&Change::Everything) {
                    self.pass_on(&Signal::Unknown);
                } else if news != News::default() {
                    self.pass_on(&Signal::News(news));
                }
                Ok(())
            }
            Err(error) => {
                self.cache.forget(&Change::Everything);
                Err(error)
            }
        }
    }

    fn pass_on(&self, signal: &Signal) {
        for effects in &self.effects {
            // Nobody listens any more once the service stops.
            let _ = effects.send(signal.clone());
        }
    }

    async fn follow(&self) {
        let mut was_lost = false;
        loop {
            self.coordination.wait_for_news().await;
            match self.forget_changes().await {
                Ok(()) if was_lost => {
                    tracing::info!("changes can be read again");
                    was_lost = false;
                }
                Ok(()) => {}
                Err(error) => {
                    if !was_lost {
                        tracing::error!(%error, "changes cannot be read; nothing is cached");
                    }
                    was_lost = true;
                }
            }
        }
    }

    async fn beat(&self) {
        let mut ticks = ticks(HEARTBEAT);
        loop {
            ticks.tick().await;
            if let Err(error) = self.coordination.heartbeat(&self.id).await {
                tracing::warn!(%error, "the heartbeat could not be written");
            }
        }
    }

    async fn answer(&self, client: &Client, decisions: &Decisions, question: Message) {
        let Some(reply) = question.reply else { return };
        if let Err(error) = self.forget_changes().await {
            tracing::error!(%error, "asked to forget changes, which cannot be read");
            return;
        }
        decisions.settle().await;
        let answer = serde_json::json!({ "instance": self.id }).to_string();
        // Without a connection the asker's time-out says it.
        let _ = client.publish(reply, answer.into()).await;
    }
}

/// Notes who logged in and writes it to the database from time to time.
#[derive(Debug, Default)]
pub struct LoginLog {
    pending: Mutex<HashMap<String, UnixSeconds>>,
}

impl LoginLog {
    fn take(&self) -> Vec<(String, UnixSeconds)> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    /// Writes logins until `stop`, and then those that are left.
    pub async fn write(
        self: Arc<Self>,
        store: Arc<dyn ProvisioningStore>,
        stop: CancellationToken,
    ) {
        let mut ticks = ticks(LOGINS);
        loop {
            let stopping = stop.run_until_cancelled(ticks.tick()).await.is_none();
            let logins = self.take();
            if !logins.is_empty()
                && let Err(error) = store.record_logins(&logins).await
            {
                tracing::warn!(%error, count = logins.len(), "last logins could not be written");
            }
            if stopping {
                return;
            }
        }
    }
}

/// [`LoginLog`] as an observer, with the clock that stamps the logins.
#[derive(Debug)]
pub struct LoginObserver {
    /// Where logins are noted.
    pub log: Arc<LoginLog>,
    /// What stamps them.
    pub clock: Arc<dyn Clock>,
}

impl Observer for LoginObserver {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let Outcome::Reply(reply) = outcome else { return };
        let Verdict::Granted { user, .. } = &reply.verdict else { return };
        let mut pending = self.log.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_LOGINS || pending.contains_key(user) {
            pending.insert(user.clone(), self.clock.now());
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
