//! The service on a NATS connection: a queue subscription on the callout subject, bounded
//! concurrency, a deadline for every request, exactly one reply, and a stop that loses nothing.
//!
//! Requests that cannot be begun at once wait for their turns here, since the client library drops what its
//! channel cannot hold, and a server answers in order whom nobody waits for any more. Under overload those
//! who can still be helped come first ([`turns`]).

mod decisions;
mod fates;
mod lines;
mod patience;
mod receipts;
mod rejections;
mod replies;
mod running;
mod standby;
mod taker;
mod turns;
mod way;
mod worker;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::future::OptionFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(crate) use self::decisions::Decisions;
use self::receipts::Receipts;
use self::replies::{Replies, Via};
pub use self::running::Running;
pub(crate) use self::standby::Standby;
use self::taker::Taker;
pub(crate) use self::turns::Turns;
pub(crate) use self::way::Way;
use self::worker::Worker;
use crate::audit::{Observer, Observers};
use crate::authorize::{Authorizer, Gate};

/// The subject on which servers ask.
pub const CALLOUT_SUBJECT: &str = "$SYS.REQ.USER.AUTH";

/// The queue group of all instances: each request is answered by exactly one of them.
pub(crate) const QUEUE_GROUP: &str = "nats-callout";

/// A bound that ends a subscription at once on the server, which reads at most nine digits
/// (`parseSize` in nats-server's util.go), and never in the client library, which counts to it.
const ENDED_BY_THE_SERVER: u64 = u64::MAX;

/// Before requests are taken again after a panic.
const AFTER_A_PANIC: Duration = Duration::from_millis(100);

/// No server waits for longer.
const LONGEST_DEADLINE: Duration = Duration::from_secs(60);

/// How long a request to ourselves may take before the service counts as unable to start.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service cannot run on a connection. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ServiceError(#[from] CannotServe);

/// What a [`ServiceError`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotServe {
    /// The connection is in another account than servers ask in.
    #[error(
        "the connection is in the account {found:?}, and servers ask in {expected:?}: log in to that \
         one, or say which one it is (auth_account, OperatorKeys::auth)"
    )]
    Account {
        /// The callout account, as far as the service knows.
        expected: String,
        /// The connection's.
        found: String,
    },
    /// The subscription was not taken.
    #[error("cannot subscribe to {CALLOUT_SUBJECT}: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// A request to ourselves did not come back.
    #[error(
        "a request to ourselves did not come back within {PROOF_TIMEOUT:?}: {0}; check that the \
         connection's user may publish and subscribe _CALLOUT.> and _INBOX.> in its account"
    )]
    Unproven(String),
}

/// Settings of an [`AuthCallout`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a decision may take at most, from its turn on. It never takes longer than until nine
    /// tenths of the time have gone for which the server waits, which its request says.
    pub deadline: Duration,
    /// Logins under way at once: in decision, or answered and not yet read by the server.
    pub max_in_flight: usize,
    /// Requests that wait for one of those; who has waited for longest is dropped for one more.
    pub max_waiting: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(1800), max_in_flight: 1024, max_waiting: 16_384 }
    }
}

/// Answers authorization requests with an [`Authorizer`].
pub struct AuthCallout {
    authorizer: Arc<Authorizer>,
    settings: Settings,
    replies: Vec<Client>,
    loading: Option<Client>,
    standby: Option<Standby>,
    observers: Observers,
    gate: Option<Arc<dyn Gate>>,
}

impl AuthCallout {
    /// A service with the default [`Settings`], which replies on the connection that it is run on
    /// and writes an audit log.
    #[must_use]
    pub fn new(authorizer: Arc<Authorizer>) -> Self {
        Self {
            authorizer,
            settings: Settings::default(),
            replies: Vec::new(),
            loading: None,
            standby: None,
            observers: Observers::default(),
            gate: None,
        }
    }

    /// Replaces the settings: at least one decision under way, and a deadline of a minute at most.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = Settings {
            deadline: settings.deadline.min(LONGEST_DEADLINE),
            max_in_flight: settings.max_in_flight.max(1),
            max_waiting: settings.max_waiting,
        };
        self
    }

    /// Spreads replies over further connections of the same account: a server verifies replies one
    /// after the other on each connection.
    #[must_use]
    pub fn with_reply_connections(mut self, clients: Vec<Client>) -> Self {
        self.replies = clients;
        self
    }

    /// Sends replies that make a server load an account, which is slow and holds up everything
    /// behind it, over a connection of their own.
    #[must_use]
    pub fn with_loading_connection(mut self, client: Client) -> Self {
        self.loading = Some(client);
        self
    }

    /// Takes requests there while the connection that it is run on is away.
    #[must_use]
    pub(crate) fn with_standby(mut self, standby: Option<Standby>) -> Self {
        self.standby = standby;
        self
    }

    /// Has every outcome shown to `observer` as well.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Has the log name the instance that this is.
    #[must_use]
    pub(crate) fn with_instance(mut self, instance: String) -> Self {
        self.observers.name_instance(instance);
        self
    }

    /// Has what happens shown to these alone.
    #[must_use]
    pub(crate) fn with_observers(mut self, observers: Observers) -> Self {
        self.observers = observers;
        self
    }

    /// Has every grant wait until `gate` has recorded it. One that is not recorded by the deadline
    /// is not given: the client hears nothing, as with any fault of ours.
    #[must_use]
    pub fn with_gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Runs on `client` until `shutdown`, then stops without losing a request.
    pub async fn run(
        self,
        client: Client,
        shutdown: CancellationToken,
    ) -> Result<(), ServiceError> {
        let running = self.start(client).await?;
        shutdown.cancelled().await;
        running.stop().await;
        Ok(())
    }

    /// Starts on `client`. Returns once a request to ourselves has come back, which proves that
    /// the server has taken the subscription.
    pub async fn start(self, client: Client) -> Result<Running, ServiceError> {
        let standby = self.standby.as_ref().map(|standby| standby.client.clone());
        let replies = Replies::new(client.clone(), self.replies, self.loading, standby);
        let (receipts, follower) =
            Receipts::subscribe(&client, replies.all(), self.observers.clone())
                .await
                .map_err(CannotServe::from)?;
        let requests = client.queue_subscribe(CALLOUT_SUBJECT, QUEUE_GROUP.to_owned()).await;
        let requests = requests.map_err(CannotServe::from)?;
        prove(&client).await?;
        let decisions = Decisions::default();
        let stop = CancellationToken::new();
        let Settings { max_in_flight, max_waiting, deadline } = self.settings;
        let way = receipts.way();
        let turns = Turns::new(max_in_flight, max_waiting, way.clone());
        let watching = turns.clone();
        let worker = Arc::new(Worker {
            authorizer: self.authorizer,
            replies,
            observers: self.observers,
            receipts,
            gate: self.gate,
            turns: turns.clone(),
            decisions: decisions.clone(),
            time: deadline,
        });
        let taker = Arc::new(Taker {
            // Those that wait, those under way, and as many that are just being opened.
            most: max_waiting.saturating_add(max_in_flight.saturating_mul(2)),
            worker,
            requests: TaskTracker::new(),
        });
        let standby = self.standby.map(|standby| {
            tokio::spawn(standby.run(client.clone(), Arc::clone(&taker), stop.clone()))
        });
        let dispatcher = Dispatcher {
            client,
            taker,
            standby,
            panics: watch::Sender::default(),
            _following: follower.follow(),
            _watching: AbortOnDropHandle::new(tokio::spawn(async move { watching.watch().await })),
        };
        let panics = dispatcher.panics.subscribe();
        let task = tokio::spawn(dispatcher.run(requests, stop.clone()));
        Ok(Running { decisions, turns, way, stop, task: Some(task), panics })
    }
}

impl fmt::Debug for AuthCallout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthCallout").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A request that goes through the server and back. The server handles a connection's lines in
/// order, so by then it has taken all subscriptions before; a flush would not prove that.
pub(crate) async fn prove(client: &Client) -> Result<(), ServiceError> {
    let unproven = |reason: String| ServiceError(CannotServe::Unproven(reason));
    let subject = format!("_CALLOUT.proof.{}", client.new_inbox().replace('.', "-"));
    let mut proof = client.subscribe(subject.clone()).await.map_err(CannotServe::from)?;
    client.publish(subject, "proof".into()).await.map_err(|error| unproven(error.to_string()))?;
    match tokio::time::timeout(PROOF_TIMEOUT, proof.next()).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(unproven("the connection was closed".to_owned())),
        Err(_) => Err(unproven("no answer".to_owned())),
    }
}

/// Takes requests, whatever happens, until the stop.
struct Dispatcher {
    client: Client,
    taker: Arc<Taker>,
    standby: Option<JoinHandle<()>>,
    panics: watch::Sender<()>,
    /// What becomes of replies.
    _following: AbortOnDropHandle<()>,
    /// Who waits while decisions take long.
    _watching: AbortOnDropHandle<()>,
}

impl Dispatcher {
    async fn run(self, mut requests: Subscriber, stop: CancellationToken) {
        loop {
            let taking = self.taker.take_until(&mut requests, Via::Main, stop.cancelled());
            if AssertUnwindSafe(taking).catch_unwind().await.is_ok() {
                break;
            }
            // One request must not end the logins of all.
            self.panics.send_replace(());
            tracing::error!("taking requests panicked and begins again in {AFTER_A_PANIC:?}");
            tokio::time::sleep(AFTER_A_PANIC).await;
        }
        self.finish(requests).await;
    }

    async fn finish(self, requests: Subscriber) {
        self.taker.end(requests, Via::Main, &self.client).await;
        if let Some(Err(error)) = OptionFuture::from(self.standby).await {
            tracing::error!(%error, "the standby connection's part failed");
        }
        let Taker { worker, requests, .. } = &*self.taker;
        requests.close();
        requests.wait().await;
        worker.replies.flush().await;
        worker.receipts.finish().await;
    }
}
