//! The service as a configuration describes it: the parts of this crate, wired together. The
//! program `nats-callout` runs this; so can any application, beside its own work.

mod connect;
pub(crate) mod generations;
mod health;
mod hindrances;
mod http;
mod intake;
pub(crate) mod isolation;
pub(crate) mod logins;
mod metrics;
mod mode;
pub(crate) mod old_servers;
mod policies;
mod told;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_nats::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::connect::with_tls;
use self::connect::{Login, connect};
use self::health::{Chain, Health, Phase};
use self::hindrances::Hindrances;
use self::http::Observed;
pub(crate) use self::intake::logins as intake_logins;
use self::intake::{Following, Heard};
pub use self::isolation::Violation;
use self::isolation::{Denials, Isolation};
use self::logins::Logins;
use self::metrics::{Metrics, Sources};
use self::mode::{Parts, SigningKeys, config_mode, operator_mode};
pub(crate) use self::mode::{account_issuer, places};
use self::policies::Policies;
use self::told::Told;
use crate::authn::hashing::HashingError;
use crate::authn::random::NoRandomness;
use crate::authorize::Authorizer;
use crate::clock::{Clock, SystemClock};
use crate::config::exposure::Exposure;
use crate::config::{Config, Mode};
use crate::events::changes::ChangeEvents;
use crate::instance::{CONFIRMED_WITHIN, Instance, LoginLog, LoginObserver};
use crate::intake::{Gauge, Running};
use crate::keyfile::{self, KeyFileError};
use crate::keys::AccountId;
use crate::peers::Peers;
use crate::placement::TargetError;
use crate::policy::Form;
use crate::policy::rules::PolicyError;
use crate::protocol::envelope::Envelope;
use crate::provision::connections::Cluster;
use crate::provision::revoke::Revoker;
use crate::provision::servers::Servers;
use crate::provision::streams::{self, readers};
use crate::service::{AuthCallout, ServiceError, Settings};
use crate::store::Store;
use crate::store::cache::{CacheOptions, Cached};

/// How long readiness waits for the events of shared tenants.
const ALL_TAKEN: Duration = Duration::from_secs(5);

/// Why the service cannot start. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Key files are missing, unusable, or readable by others: all of them at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Keys(Vec<KeyFileError>),
    /// Others can change files that the service goes by: all that was found.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Exposed(Vec<Exposure>),
    /// A policy is malformed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// `[placement]` names an account that must not be a target.
    #[error("[placement]: {0}")]
    Targets(#[from] TargetError),
    /// `[operator] users_account` names an account of the system.
    #[error(
        "[operator] users_account: {0} is one of SYS, AUTH, BB, EVENTS and INTAKE; name the account USERS"
    )]
    Users(AccountId),
    /// Password hashing could not be set up.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The service could not begin on its connection.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A subscription was not taken.
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// Health and metrics cannot be served where the configuration says.
    #[error(
        "cannot serve health and metrics on {listen}: {source}; another program or instance may \
         listen there: choose another address in [http] listen or NATS_CALLOUT_HTTP_LISTEN, or \
         \"\" to serve none"
    )]
    Http {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Others than the service are in AUTH, or can be: all that was found.
    #[error("{}", .0.iter().map(|it| format!("{it}; {}", it.remedy())).collect::<Vec<_>>().join("\n"))]
    Isolation(Vec<Violation>),
    /// Files hold logins, but in other accounts than they are for.
    #[error(
        "{}",
        .0.iter()
            .map(|(file, account)| {
                let file = file.display();
                format!(
                    "{file}: is no login in the account {account}, so that tenants' events would be lost; \
                     restore the one that `init` wrote"
                )
            })
            .collect::<Vec<_>>()
            .join("\n")
    )]
    Misplaced(Vec<(PathBuf, String)>),
    /// Servers on which tenants can use every account's JetStream.
    #[error("{}", .0.join("\n"))]
    OldServers(Vec<String>),
    /// Tenants' events cannot be taken from these servers.
    #[error(
        "[nats] url: tenants' events are taken over nats:// or tls:// alone; name such an address too"
    )]
    Intake,
    /// It was told to stop before it had begun.
    #[error("stopped before it was ready")]
    Stopped,
}

impl From<KeyFileError> for DaemonError {
    fn from(error: KeyFileError) -> Self {
        Self::Keys(vec![error])
    }
}

/// Runs until `shutdown`: connects (for as long as it takes), serves, calls `ready` once a request
/// to itself has come back and the streams of events are there, and stops without losing a request.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), DaemonError> {
    let faults = config.audit();
    if !faults.is_empty() {
        return Err(DaemonError::Keys(faults));
    }
    let exposures = config.exposures();
    if !exposures.is_empty() {
        return Err(DaemonError::Exposed(exposures));
    }
    let policies = Arc::new(Policies::read(config.policies.clone(), config.trust())?);
    let envelope = Envelope::new(keyfile::xkeys(&config.callout.xkey)?);
    let keys = SigningKeys::read(config)?;
    let generations = generations::of(config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // What outlives the last decision: account look-ups, the heartbeat, the change feed.
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let tasks = TaskTracker::new();
    let observed = Arc::new(Observed {
        health: Health::new(),
        metrics: Metrics::new(config.mode.name(), clock.now())?,
    });
    tasks.spawn(http::serve(config.http_listen, Arc::clone(&observed), stop.clone()).await?);
    let cache = Arc::new(Cached::new(
        store.clone(),
        &CacheOptions {
            ttl: config.cache.ttl,
            capacity: config.cache.entries as u64,
            confirmed_within: Some(CONFIRMED_WITHIN),
        },
    ));
    let logins = Logins::open(config, &cache, &clock)?;
    for issuer in &logins.issuers {
        tasks.spawn(Arc::clone(issuer).keep(stop.clone()));
    }

    let connections = connect_all(config, &shutdown).await?;
    let system = match &config.mode {
        Mode::Operator(mode) => Login::Credentials(mode.system_credentials.clone()),
        Mode::Config(mode) => Login::Nkey(mode.system_nkey.clone()),
    };
    let system = connect("system", &config.nats, &system, &Denials::default(), &shutdown).await?;
    let servers = Arc::new(Servers::default());
    tasks.spawn({
        let watching = Arc::clone(&servers).watch(system.clone(), stop.clone()).await?;
        async move { watching.await.unwrap_or_default() }
    });
    let cluster = Cluster::new(system.clone());
    let denials = connections.denials.clone();
    let isolation = Isolation::new(config, connections.main.clone(), denials, cluster)?;
    let found = isolation.look().await;
    if !found.violations.is_empty() {
        return Err(DaemonError::Isolation(found.violations));
    }
    for what in &found.unknown {
        tracing::warn!("who else is in AUTH is not known yet: {what}");
    }
    if let Some(exports) = &found.exports {
        for fault in readers::judge(exports, &config.streams.events).faults() {
            tracing::warn!("{fault}; {}", readers::REMEDY);
        }
    }
    let cluster = Cluster::new(system.clone());
    match old_servers::faults(config, &cluster).await {
        Ok(faults) if faults.is_empty() => {}
        Ok(faults) => return Err(DaemonError::OldServers(faults)),
        Err(error) => tracing::warn!(%error, "the servers' versions are not known yet"),
    }
    let arrivals = servers.arrivals();
    tasks.spawn(old_servers::watch(config.clone(), cluster, arrivals, stop.clone()));
    let isolated = Arc::new(AtomicBool::new(true));
    tasks.spawn(isolation.watch(Arc::clone(&isolated), stop.clone()));
    let id = nats_id(&connections.main);
    let told = Told::new(config, &connections.events, &cache, &clock, &id);
    let cluster = Cluster::new(system.clone()).with_observer(told.decisions.clone());
    let parts = match keys {
        SigningKeys::Operator(keys, mode) => {
            let (cache, servers) = (cache.clone(), Arc::clone(&servers));
            let system = (system.clone(), cluster.clone());
            operator_mode(
                config, mode, *keys, &store, cache, servers, system, &clock, &tasks, &stop,
            )
            .await?
        }
        SigningKeys::Config(issuer, mode) => config_mode(config, mode, issuer)?,
    };
    let Parts { placement, mint, responder, own, issuers } = parts;

    let intake = intake::start(config, &id)?;
    let (connected_system, id_of_intake) = (system.clone(), id.clone());
    if intake.is_none() {
        tracing::warn!(
            "there is no [intake] in the configuration: BB takes events itself, and a tenant with \
             JetStream or leaf nodes can send them under another tenant's name; see \"Taking events \
             in\" in deploy/README.md"
        );
    }
    let taking = intake.as_ref().map(|running| Following {
        tenants: running.tenants(),
        store: store.clone(),
        placement: placement.clone(),
        clock: Arc::clone(&clock),
    });
    let mut authorizer = Authorizer::new(envelope, placement, policies.clone(), mint, responder)
        .with_issuers(issuers);
    if let Some(running) = &intake {
        authorizer = authorizer.with_entrance(Arc::new(Heard(running.tenants())));
    }
    let authorizer = logins.chain.into_iter().fold(authorizer, Authorizer::with_authenticator);
    let log = Arc::new(LoginLog::default());
    let observer = LoginObserver { log: Arc::clone(&log), clock: Arc::clone(&clock) };
    let mut callout = AuthCallout::new(Arc::new(authorizer))
        .with_settings(Settings {
            deadline: config.callout.deadline,
            max_in_flight: config.callout.max_in_flight,
            ..Settings::default()
        })
        .with_reply_connections(connections.replies.clone())
        .with_loading_connection(connections.loading.clone())
        .with_observer(Arc::new(observer))
        .with_observer(Arc::new(observed.metrics.decisions()));
    if let Some(decisions) = told.decisions {
        callout = callout.with_observer(decisions);
    }
    if let Some(gate) = told.gate {
        callout = callout.with_gate(gate);
    }
    let running = callout.start(connections.main.clone()).await?;

    let peers = Peers::default();
    let watching = peers.start(
        id.clone(),
        connections.main.clone(),
        cluster.clone(),
        isolation::own_login(config)?,
        intake::logins(config)?,
        stop.clone(),
    );
    tasks.spawn(watching.await?);
    let changes = ChangeEvents::new(store.clone(), told.publisher, id.clone());
    let hindrances = Arc::new(Hindrances::default());
    observed.metrics.attach(Sources {
        cache: cache.clone(),
        issuers: logins.issuers,
        lane: Arc::clone(&logins.lane),
        guessing: logins.guessing,
        load: running.load(),
        connections: connections.named(&system),
        cluster: cluster.clone(),
        peers,
        changes: changes.counts(),
        dropped: told.dropped,
        isolated,
        hindrances: Arc::clone(&hindrances),
        policies: Arc::clone(&policies),
        intake: intake.as_ref().map(Running::gauge),
        delivery: own.as_ref().map(|own| Arc::clone(&own.delivery)),
    });
    tasks.spawn(hindrances.watch(store.clone(), stop.clone()));
    observed.health.attach(Chain {
        main: connections.main.clone(),
        system,
        intake: intake.as_ref().map(Running::gauge),
        store: store.clone(),
    });

    let (effects, signals) = mpsc::unbounded_channel();
    let mut listeners = vec![effects];
    if let Some(following) = taking {
        let (changed, signals) = mpsc::unbounded_channel();
        listeners.push(changed);
        tasks.spawn(following.run(signals, stop.clone()));
    }
    let revoker = Revoker {
        provisioning: store.clone(),
        coordination: store.clone(),
        cluster,
        places: places(config)?,
        own,
        ttl: config.callout.ttl,
        clock: Arc::clone(&clock),
    };
    let decisions = running.decisions();
    tasks.spawn(revoker.run(signals, servers.arrivals(), decisions, stop.clone()));
    Instance::with_effects(id.clone(), store.clone(), cache, listeners)
        .start(&connections.main, running.decisions(), &tasks, stop.clone())
        .await?;
    let telling = generations::tell(
        &connections.main,
        id.clone(),
        generations,
        config.callout.ttl,
        stop.clone(),
    );
    tasks.spawn(telling.await?);
    tasks.spawn(log.write(store.clone(), stop.clone()));
    tasks.spawn(Arc::clone(&policies).watch(stop.clone()));
    tasks.spawn(logins::rehash(logins.lane, store.clone(), logins.rehashes, stop.clone()));
    if streams::ensure(&connections.main, &config.streams, &shutdown).await
        && is_taking(intake.as_ref(), &shutdown).await
    {
        if let Some(intake) = &intake {
            let cluster = Cluster::new(connected_system);
            let found = intake::misplaced(config, &intake.gauge(), &cluster, &id_of_intake).await?;
            if !found.is_empty() {
                return Err(DaemonError::Misplaced(found));
            }
        }
        observed.health.enter(Phase::Ready);
        if let Some(events) = told.events {
            tasks.spawn(events.run(stop.clone()));
        }
        tasks.spawn(changes.run(stop.clone()));
        ready();
    }

    shutdown.cancelled().await;
    observed.health.enter(Phase::Stopping);
    tracing::info!("stopping: no new requests are taken, those at hand are answered");
    running.stop().await;
    if let Some(intake) = intake {
        intake.stop().await;
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    connections.drain().await;
    Ok(())
}

/// Waits until tenants' events are taken; `false` if `shutdown` came first. USERS is not waited for
/// forever: while a deployment of before is brought over, it admits nobody yet.
async fn is_taking(intake: Option<&Running>, shutdown: &CancellationToken) -> bool {
    let Some(intake) = intake.map(Running::gauge) else { return true };
    let until = |is_there: fn(&Gauge) -> bool| {
        let intake = intake.clone();
        async move {
            while !is_there(&intake) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let taking = async {
        until(|intake| intake.takes(Form::Own)).await;
        let all = tokio::time::timeout(ALL_TAKEN, until(Gauge::is_connected)).await;
        if all.is_err() {
            tracing::warn!("events of shared tenants are not taken: there is no login to USERS");
        }
    };
    shutdown.run_until_cancelled(taking).await.is_some()
}

/// The connections to the account AUTH.
struct Connections {
    main: Client,
    /// What was refused on the main one.
    denials: Denials,
    replies: Vec<Client>,
    loading: Client,
    /// Its own: an event must not wait behind replies, nor they behind events.
    events: Client,
}

impl Connections {
    /// All connections, by their names in the log.
    fn named(&self, system: &Client) -> Vec<(String, Client)> {
        let replies = self.replies.iter().enumerate();
        let replies = replies.map(|(n, client)| (format!("replies-{}", n + 1), client));
        let others = [
            ("main", &self.main),
            ("loading", &self.loading),
            ("events", &self.events),
            ("system", system),
        ];
        let others = others.map(|(name, client)| (name.to_owned(), client));
        others.into_iter().chain(replies).map(|(name, client)| (name, client.clone())).collect()
    }

    async fn drain(&self) {
        for client in self.replies.iter().chain([&self.loading, &self.events, &self.main]) {
            if let Err(error) = client.drain().await {
                tracing::debug!(%error, "a connection was closed already");
            }
        }
    }
}

async fn connect_all(
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<Connections, DaemonError> {
    let login = match &config.mode {
        Mode::Operator(mode) => Login::Credentials(mode.credentials.clone()),
        Mode::Config(mode) => Login::Nkey(mode.nkey.clone()),
    };
    let denials = Denials::default();
    let main = connect("main", &config.nats, &login, &denials, shutdown).await?;
    let mut replies = Vec::new();
    for _ in 1..config.nats.connections {
        let none = Denials::default();
        replies.push(connect("replies", &config.nats, &login, &none, shutdown).await?);
    }
    let none = Denials::default();
    let loading = connect("loading", &config.nats, &login, &none, shutdown).await?;
    let events = connect("events", &config.nats, &login, &none, shutdown).await?;
    Ok(Connections { main, denials, replies, loading, events })
}

/// An id that no other instance has: the connection's inbox is random.
fn nats_id(client: &Client) -> String {
    client.new_inbox().replace("_INBOX.", "").replace('.', "-")
}
