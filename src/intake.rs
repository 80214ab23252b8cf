//! The intake: takes tenants' events in and hands them on to BB under their true names.
//!
//! ```text
//!  a tenant's account      INTAKE                          BB
//!    Events ------------>  own.<id>.Events
//!                            | whose subscription was matched?
//!  USERS                     v
//!    user.<id>.Events -->  headers made anew, bounds, turn --> bb.<id>.Events = user.<id>.Events
//!                            |                                   | stored by ReceivedEvents
//!    the answer  <---------  BB's acknowledgement, or an error <-+
//! ```
//!
//! **Whose event it is** is decided by the subscription that was matched, one for each tenant in
//! INTAKE: the tenant's account imports the service `own.<id>.Events` alone. Subject and headers
//! come from the sender, and say nothing. In USERS, where nobody has JetStream or leaf nodes, the
//! subject's second token is the sender's by permission.
//!
//! **A request is always answered**: with BB's own acknowledgement once its stream has stored the
//! event, else with an error in the same form. In an own account the answer goes to the subject
//! that the server has put in the place of the sender's; in USERS to one below `_INBOX_<id>.` alone.
//!
//! **What is held is bounded**, for each tenant and in all ([`Settings`]), and what is beyond is
//! refused at once: nothing that a tenant sends makes another wait for more than its turn. The
//! order of a tenant's events is kept where one instance takes them; several instances share a queue
//! group, and do not wait for each other.
//!
//! **The body goes on untouched; the header is made anew** ([`MAX_HEADERS`], [`HeaderFault`]): an
//! app's own names and CloudEvents', and of the server's own the message id as `<id>:<value>`. An
//! event with a malformed header is refused.
//!
//! It needs a login in INTAKE that publishes `bb.*.Events` and `_R_.>` and subscribes
//! `own.*.Events` and `_INBOX.>`, and one in USERS that publishes below `_INBOX_<id>.` of each
//! tenant and subscribes `user.*.Events`.

mod carrier;
mod dial;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used, reason = "what does not hold is a panic")]
pub(crate) mod fuzzing;
mod headers;
mod line;
mod link;
mod refusal;
mod tenants;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::carrier::Carrier;
pub(crate) use self::dial::{Address, client_config};
pub use self::dial::{Login, Servers};
pub use self::headers::HeaderFault;
pub use self::refusal::Refusal;
pub(crate) use self::refusal::Tally;
use crate::authn::random::NoRandomness;
use crate::store::{Isolation, TenantId};

/// The queue group of all instances: each event is taken by one of them.
pub(crate) const QUEUE_GROUP: &str = "nats-callout";

/// Between two looks at what has been here for too long.
const TICK: Duration = Duration::from_millis(100);

/// How long a stop waits for the server's word that the last event has come.
const PROOF: Duration = Duration::from_secs(2);

/// A connection to be kept.
#[derive(Debug)]
pub struct Place {
    /// To one of these.
    pub servers: Servers,
    /// As whom.
    pub login: Login,
}

/// The bounds. An event counts as its bytes and 1 KiB.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of BB's stream, whose word alone is passed on.
    pub stream: String,
    /// The longest event with its header: `max_msg_size` of BB's stream.
    pub max_message: usize,
    /// What waits and is under way of one tenant. It is less while there is little room in all.
    pub held_per_tenant: usize,
    /// The same of all tenants.
    pub held: usize,
    /// What BB's stream has been sent of one tenant and not acknowledged.
    pub window_per_tenant: usize,
    /// The same of all tenants.
    pub window: usize,
    /// How long a request waits for its answer at the most: below the `response_threshold` of the
    /// export, after which the server takes none.
    pub patience: Duration,
    /// How long a shared tenant that was removed is remembered: as long as a grant may last.
    pub remembered: Duration,
    /// How long a stop waits for what is under way.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream: "ReceivedEvents".to_owned(),
            max_message: 64 << 10,
            held_per_tenant: 16 << 20,
            held: 128 << 20,
            window_per_tenant: 1 << 20,
            window: 4 << 20,
            patience: Duration::from_secs(4),
            remembered: Duration::from_secs(3600),
            drain: Duration::from_secs(5),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Intake {
    own: Place,
    shared: Option<Place>,
    settings: Settings,
    instance: String,
}

impl Intake {
    /// One that takes events of tenants with accounts of their own, by a login in INTAKE.
    #[must_use]
    pub fn new(own: Place, settings: Settings) -> Self {
        Self { own, shared: None, settings, instance: String::new() }
    }

    /// Names its connections after an instance, by which they are found if that hangs.
    #[must_use]
    pub fn named(mut self, instance: &str) -> Self {
        self.instance = format!(" {instance}");
        self
    }

    /// Takes events of shared tenants too, by a login in USERS.
    #[must_use]
    pub fn with_shared(mut self, place: Place) -> Self {
        self.shared = Some(place);
        self
    }

    /// Starts to connect, in tasks of its own on the current runtime. `all` are the tenants that
    /// there are, each of them suspended or not.
    pub fn start(self, all: &[(TenantId, Isolation, bool)]) -> Result<Running, NoRandomness> {
        let drain = self.settings.drain;
        let carrier = Arc::new(Mutex::new(Carrier::new(self.settings)?));
        Tenants(Arc::clone(&carrier)).replace(all);
        let (mut tasks, end) = (JoinSet::new(), CancellationToken::new());
        let places =
            [Some((Isolation::Account, self.own)), self.shared.map(|it| (Isolation::Shared, it))];
        let has_shared = places.iter().flatten().count() > 1;
        for (isolation, place) in places.into_iter().flatten() {
            let (carrier, end) = (Arc::clone(&carrier), end.clone());
            let name = format!("{}{}", name(isolation), self.instance);
            tasks.spawn(async move { link::keep(isolation, &name, place, &carrier, end).await });
        }
        tasks.spawn(tick(Arc::clone(&carrier), end.clone()));
        let end = end.drop_guard();
        Ok(Running { tenants: Tenants(carrier), has_shared, drain, tasks, end })
    }
}

async fn tick(carrier: Arc<Mutex<Carrier>>, end: CancellationToken) {
    let ticking = || async {
        while end.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
            carrier.lock().tick(Instant::now());
        }
    };
    link::outlive("the intake's clock", ticking, || {}, &end).await;
}

/// How a connection's name in the log and in connz begins.
pub(crate) fn name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Account => "nats-callout intake",
        Isolation::Shared => "nats-callout intake of shared tenants",
    }
}

/// A started intake. Dropping it ends it at once; [`Running::stop`] loses nothing.
#[derive(Debug)]
pub struct Running {
    tenants: Tenants,
    has_shared: bool,
    drain: Duration,
    tasks: JoinSet<()>,
    end: DropGuard,
}

impl Running {
    /// Where tenants come and go.
    #[must_use]
    pub fn tenants(&self) -> Tenants {
        self.tenants.clone()
    }

    /// What there is to be seen of it while it runs.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge { carrier: Arc::clone(&self.tenants.0), has_shared: self.has_shared }
    }

    /// How many events had which end.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.gauge().tally()
    }

    /// Whether all of its connections stand.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.gauge().is_connected()
    }

    /// Takes no new events, passes on and answers those that are here, and returns when all is said.
    /// What BB's stream does not acknowledge within [`Settings::drain`] is refused.
    pub async fn stop(mut self) {
        let carrier = &self.tenants.0;
        let idle = carrier.lock().idle();
        // The server's word comes behind the last event.
        self.round_trip(|carrier, waiters| carrier.stop(waiters)).await;
        let emptied = async {
            loop {
                let emptied = idle.notified();
                if carrier.lock().is_idle() {
                    return;
                }
                emptied.await;
            }
        };
        if tokio::time::timeout(self.drain, emptied).await.is_err() {
            carrier.lock().give_up(Instant::now());
        }
        self.round_trip(|carrier, [own, shared]| {
            carrier.line(Isolation::Account).ping(vec![own]);
            carrier.line(Isolation::Shared).ping(vec![shared]);
        })
        .await;
        drop(self.end);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Returns once the servers have read what `say` writes and everything before it.
    async fn round_trip(&self, say: impl FnOnce(&mut Carrier, [oneshot::Sender<()>; 2])) {
        let (own, own_read) = oneshot::channel();
        let (shared, shared_read) = oneshot::channel();
        say(&mut self.tenants.0.lock(), [own, shared]);
        let read = async {
            let _ = own_read.await;
            if self.has_shared {
                let _ = shared_read.await;
            }
        };
        if tokio::time::timeout(PROOF, read).await.is_err() {
            tracing::warn!("no word of the servers: events on their way at the stop may be lost");
        }
    }
}

/// What there is to be seen of an intake.
#[derive(Debug, Clone)]
pub struct Gauge {
    carrier: Arc<Mutex<Carrier>>,
    has_shared: bool,
}

impl Gauge {
    /// How many events had which end.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.carrier.lock().tally()
    }

    /// Whether what tenants of this form send is taken: the connection is there.
    #[must_use]
    pub fn takes(&self, isolation: Isolation) -> bool {
        self.carrier.lock().line(isolation).is_up()
    }

    /// Whether all connections are there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.takes(Isolation::Account) && (!self.has_shared || self.takes(Isolation::Shared))
    }
}

/// Whose events are taken. A tenant with an account of its own is added before its first user is let
/// in; nobody hears it before. In USERS nobody can send who has no grant, and what a grant allows is
/// taken of a tenant that is new to this instance, too; not of one that is suspended or was removed.
///
/// A tenant takes some 200 bytes.
#[derive(Clone)]
pub struct Tenants(Arc<Mutex<Carrier>>);

impl Tenants {
    /// Takes a tenant's events from now on, from where `form` says: also of one that was suspended,
    /// or that has moved. The future is ready when the server knows, which may take as long as there
    /// is no connection; without it being awaited the same happens.
    pub fn add(
        &self,
        id: &TenantId,
        isolation: Isolation,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (waiter, told) = oneshot::channel();
        self.0.lock().add(id, isolation, waiter, Instant::now());
        async move {
            // Without randomness nobody tells, and the log says so.
            let _ = told.await;
        }
    }

    /// Takes on a tenant with an account of its own, one of whose users is about to be let in, if it
    /// is new here. The future is ready when the server knows, and at once where there is no
    /// connection.
    pub fn expect(&self, id: &TenantId) -> impl Future<Output = ()> + Send + use<> {
        let (waiter, told) = oneshot::channel();
        self.0.lock().expect(id, waiter, Instant::now());
        async move {
            let _ = told.await;
        }
    }

    /// Whether a tenant's events are refused, since it is suspended, has expired or was removed.
    #[must_use]
    pub fn is_over(&self, id: &TenantId) -> bool {
        self.0.lock().is_over(id)
    }

    /// Knows a tenant that is suspended or has expired: [`Self::add`], then [`Self::suspend`].
    pub fn close(&self, id: &TenantId, isolation: Isolation) {
        let (mut carrier, now) = (self.0.lock(), Instant::now());
        carrier.add(id, isolation, oneshot::channel().0, now);
        carrier.suspend(id, now);
    }

    /// Answers a tenant's events with an error from now on, those that wait included. What BB's
    /// stream was sent before may still be stored.
    pub fn suspend(&self, id: &TenantId) {
        self.0.lock().suspend(id, Instant::now());
    }

    /// Takes a tenant's events no longer. If it comes again it is another one.
    pub fn remove(&self, id: &TenantId) {
        self.0.lock().remove(id, Instant::now());
    }

    /// Makes these all there are, each of them suspended or not.
    pub fn replace(&self, all: &[(TenantId, Isolation, bool)]) {
        let named: HashSet<&TenantId> = all.iter().map(|(id, ..)| id).collect();
        // Each in a step of its own: events go on in between.
        let known = self.0.lock().ids();
        for gone in known.iter().filter(|id| !named.contains(id)) {
            self.remove(gone);
        }
        for (id, isolation, is_suspended) in all {
            match is_suspended {
                true => self.close(id, *isolation),
                false => drop(self.add(id, *isolation)),
            }
        }
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").finish_non_exhaustive()
    }
}
