//! What an instance does beside deciding: it forgets what others have changed, says that it is
//! alive, answers when it is asked whether it has forgotten, and notes who logged in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::audit::Observer;
use crate::authorize::{Outcome, Verdict};
use crate::clock::{Clock, UnixSeconds};
use crate::revoke::Signal;
use crate::service::Decisions;
use crate::store::cache::Cached;
use crate::store::{Change, Coordination, News, ProvisioningStore, StoreError};

/// Where the CLI asks all instances whether they have forgotten what it has changed; each answers
/// `{"instance":"<id>"}` once it has, and once the decisions begun before are answered.
pub(crate) const SYNC_SUBJECT: &str = "_CALLOUT.sync";

/// How long cached records answer after changes were last read: with what a decision takes, well
/// under the second within which a change has to be known.
pub(crate) const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);
// Promised in SECURITY.md.
const _: () = assert!(CONFIRMED_WITHIN.as_millis() <= 500);

/// How often an instance notes that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An instance whose heartbeat is older is taken for dead.
pub(crate) const HEARTBEAT_SECONDS: u32 = 3;

/// How often logins are written to the database.
const LOGINS: Duration = Duration::from_secs(2);

/// How many users' logins are held back at most between two writes.
const MAX_LOGINS: usize = 100_000;

/// One running instance.
#[derive(Debug)]
pub(crate) struct Instance {
    id: String,
    coordination: Arc<dyn Coordination>,
    cache: Arc<Cached>,
    /// Who acts upon changes.
    effects: Vec<mpsc::UnboundedSender<Signal>>,
    /// Held from the reading of changes until they are forgotten, so that whoever finds nothing
    /// to read knows that everything before is forgotten. Whether a reading was lost before that, in a
    /// panic: what it was is not known.
    forgetting: tokio::sync::Mutex<bool>,
}

impl Instance {
    /// An instance with an id of its own. What changes mean for connections and servers is passed on,
    /// once they are forgotten: to a [`Revoker`](crate::revoke::Revoker), say.
    pub(crate) fn new(
        id: String,
        coordination: Arc<dyn Coordination>,
        cache: Arc<Cached>,
        effects: Vec<mpsc::UnboundedSender<Signal>>,
    ) -> Arc<Self> {
        let forgetting = tokio::sync::Mutex::default();
        Arc::new(Self { id, coordination, cache, effects, forgetting })
    }

    /// Subscribes on `client` to what is asked on [`SYNC_SUBJECT`].
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        client: &Client,
        decisions: Decisions,
    ) -> Result<Questions, SubscribeError> {
        let questions = client.subscribe(SYNC_SUBJECT).await?;
        Ok(Questions { instance: Arc::clone(self), client: client.clone(), decisions, questions })
    }

    /// Follows changes. May be called again.
    pub(crate) async fn follow(&self) {
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
                    if !was_lost && self.cache.is_in_doubt() {
                        tracing::error!(
                            %error,
                            "changes cannot be read; users seen lately are let in by what was known of \
                             them ([cache] stale_if_error)"
                        );
                    } else if !was_lost {
                        tracing::error!(%error, "changes cannot be read; nothing is cached");
                    }
                    was_lost = true;
                }
            }
        }
    }

    /// Notes that it is alive until `stop`, and then that it is not. May be called again.
    pub(crate) async fn beat(&self, stop: &CancellationToken) {
        let mut ticks = ticks(HEARTBEAT);
        let beating = async {
            loop {
                ticks.tick().await;
                if let Err(error) = self.coordination.heartbeat(&self.id).await {
                    tracing::warn!(%error, "the heartbeat could not be written");
                }
            }
        };
        stop.run_until_cancelled(beating).await;
        if let Err(error) = self.coordination.depart(&self.id).await {
            tracing::debug!(%error, "the heartbeat could not be removed");
        }
    }

    /// Forgets whatever has changed. With an error, everything: what changed is not known.
    async fn forget_changes(&self) -> Result<(), StoreError> {
        let mut is_lost = self.forgetting.lock().await;
        let was_lost = std::mem::replace(&mut *is_lost, true);
        let asked = Instant::now();
        let read = self.coordination.news().await;
        let news = match read {
            Ok(news) => news,
            Err(error) => {
                self.cache.doubt();
                *is_lost = was_lost;
                return Err(error);
            }
        };
        if was_lost || self.cache.is_in_doubt() {
            self.cache.forget(&Change::Everything);
        }
        for change in &news.changes {
            self.cache.forget(change);
        }
        let unread = self.cache.unconfirmed_for(asked);
        self.cache.confirm(asked);
        if was_lost || news.changes.contains(&Change::Everything) {
            self.pass_on(&Signal::Unknown(unread));
        } else if news != News::default() {
            self.pass_on(&Signal::News(news));
        }
        *is_lost = false;
        Ok(())
    }

    fn pass_on(&self, signal: &Signal) {
        for effects in &self.effects {
            // Nobody listens any more once the service stops.
            let _ = effects.send(signal.clone());
        }
    }
}

/// What is asked on [`SYNC_SUBJECT`].
#[derive(Debug)]
pub(crate) struct Questions {
    instance: Arc<Instance>,
    client: Client,
    decisions: Decisions,
    questions: Subscriber,
}

impl Questions {
    /// Answers until `stop`. May be called again.
    pub(crate) async fn answer(&mut self, stop: &CancellationToken) {
        while let Some(Some(question)) = stop.run_until_cancelled(self.questions.next()).await {
            self.answer_one(question).await;
        }
    }

    async fn answer_one(&self, question: Message) {
        let Some(reply) = question.reply else { return };
        if let Err(error) = self.instance.forget_changes().await {
            tracing::error!(%error, "asked to forget changes, which cannot be read");
            return;
        }
        self.decisions.settle().await;
        let answer = serde_json::json!({ "instance": self.instance.id }).to_string();
        // Without a connection the asker's time-out says it.
        let _ = self.client.publish(reply, answer.into()).await;
    }
}

/// Notes who logged in and writes it to the database from time to time.
#[derive(Debug, Default)]
pub(crate) struct LoginLog {
    pending: Mutex<HashMap<String, UnixSeconds>>,
}

impl LoginLog {
    fn take(&self) -> Vec<(String, UnixSeconds)> {
        self.pending.lock().drain().collect()
    }

    /// Writes logins until `stop`, and then those that are left. May be called again.
    pub(crate) async fn write(&self, store: &dyn ProvisioningStore, stop: &CancellationToken) {
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
pub(crate) struct LoginObserver {
    /// Where logins are noted.
    pub(crate) log: Arc<LoginLog>,
    /// What stamps them.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Observer for LoginObserver {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let Outcome::Reply(reply) = outcome else { return };
        let Verdict::Granted { user, .. } = &reply.verdict else { return };
        let mut pending = self.log.pending.lock();
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

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::keys::AccountId;
    use crate::store::cache::CacheOptions;
    use crate::store::open::{StoreOptions, open};
    use crate::store::{Effect, Hindrance, Store};

    /// A table whose news are lost the first time that they are read.
    #[derive(Debug)]
    struct Lost {
        table: Arc<dyn Store>,
        read: AtomicBool,
    }

    #[async_trait]
    impl Coordination for Lost {
        async fn news(&self) -> Result<News, StoreError> {
            assert!(self.read.swap(true, Ordering::Relaxed), "on purpose");
            self.table.news().await
        }

        async fn effects(&self) -> Result<Vec<Effect>, StoreError> {
            self.table.effects().await
        }

        async fn removed_accounts(&self) -> Result<Vec<AccountId>, StoreError> {
            self.table.removed_accounts().await
        }

        async fn heartbeat(&self, instance: &str) -> Result<(), StoreError> {
            self.table.heartbeat(instance).await
        }

        async fn depart(&self, instance: &str) -> Result<(), StoreError> {
            self.table.depart(instance).await
        }

        async fn wait_for_news(&self) {
            self.table.wait_for_news().await
        }

        async fn hindrances(&self) -> Result<Vec<Hindrance>, StoreError> {
            self.table.hindrances().await
        }

        async fn instances(&self, seconds: u32) -> Result<Vec<String>, StoreError> {
            self.table.instances(seconds).await
        }
    }

    #[tokio::test]
    async fn news_that_a_panic_has_lost_may_have_been_anything() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("table.db").display());
        let table = open(&url, &StoreOptions::default()).await.unwrap();
        let cache = Arc::new(Cached::new(table.clone(), &CacheOptions::default()));
        let (effects, mut signals) = mpsc::unbounded_channel();
        let lost = Arc::new(Lost { table, read: AtomicBool::new(false) });
        let instance = Instance::new("a".to_owned(), lost, cache, vec![effects]);
        let panicked = AssertUnwindSafe(instance.forget_changes()).catch_unwind().await;
        assert!(panicked.is_err() && signals.try_recv().is_err());
        instance.forget_changes().await.unwrap();
        assert!(matches!(signals.try_recv(), Ok(Signal::Unknown(_))));
        instance.forget_changes().await.unwrap();
        assert!(signals.try_recv().is_err());
    }
}
