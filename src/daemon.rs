//! The service as a configuration describes it: the parts of this crate, wired together. The
//! program `nats-callout` runs this; so can any application, beside its own work.

mod connect;
mod error;
mod health;
mod hindrances;
mod http;
mod intake;
pub(crate) mod isolation;
pub(crate) mod logins;
mod metrics;
mod mode;
pub(crate) mod old_servers;
mod own_keys;
mod policies;
mod room;
pub(crate) mod takers;
mod told;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_nats::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connect::{connect, connect_all};
pub use self::error::DaemonError;
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
use self::policies::Policies;
use self::room::{Counts, Room};
use self::told::Told;
use crate::authorize::Authorizer;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Mode};
use crate::deployment::{Login, key_role, places};
use crate::events::changes::ChangeEvents;
use crate::instance::{CONFIRMED_WITHIN, Instance, LoginLog, LoginObserver};
use crate::intake::Running;
use crate::keyfile;
use crate::peers::Peers;
use crate::protocol::envelope::Envelope;
use crate::revoke::Revoker;
use crate::servers::{Cluster, Servers};
use crate::service::{AuthCallout, Settings};
use crate::store::Store;
use crate::store::cache::{CacheOptions, Cached};
use crate::streams::{self, readers};

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
    let generations = key_role::of(config)?;
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
    let none = Denials::default();
    let system = connect("system", config, Login::System, &none, &shutdown).await?;
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
    // Of each account there is a question, and nobody waits for the answers.
    let saying = takers::say(config.clone(), cluster.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(saying));
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
    let counts = Arc::<Counts>::default();
    let (others, hearing) = (&connections.main, Arc::clone(&counts));
    tasks.spawn(room::follow(hearing, others, stop.clone()).await?);
    let room = Room {
        cluster: cluster.clone().with_patience(room::PATIENCE),
        store: store.clone(),
        places: places(config)?,
        own_is_counted: matches!(config.mode, Mode::Operator(_)),
        counts: Arc::clone(&counts),
        others: connections.main.clone(),
    };
    let authorizer = authorizer.with_entrance(Arc::new(room));
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
        counts,
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
        cluster: cluster.clone(),
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
    let telling = own_keys::tell(
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
    let is_settled = async {
        let has_streams = streams::ensure(&connections.main, &config.streams, &shutdown).await;
        match intake.as_ref().map(Running::gauge).filter(|_| has_streams) {
            Some(taking) => intake::settled(config, &taking, &cluster, &id, &shutdown).await,
            None => Ok(has_streams),
        }
    };
    match is_settled.await {
        Ok(true) => {
            observed.health.enter(Phase::Ready);
            if let Some(events) = told.events {
                tasks.spawn(events.run(stop.clone()));
            }
            tasks.spawn(changes.run(stop.clone()));
            ready();
        }
        Ok(false) => {}
        Err(error) => {
            running.stop().await;
            return Err(error);
        }
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

/// An id that no other instance has: the connection's inbox is random.
fn nats_id(client: &Client) -> String {
    client.new_inbox().replace("_INBOX.", "").replace('.', "-")
}
