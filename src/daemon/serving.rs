//! The third phase: requests are taken, and one to itself has come back. Once the streams are there the
//! service is ready, until it stops.

use std::sync::Arc;

use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::connect::{Nats, keep_apart};
use super::connected::Connected;
use super::event_sinks::EventSinks;
use super::health::Dependencies;
use super::intake::{Following, Heard};
use super::metrics::{Metrics, size};
use super::parts::{Falls, Part, Parts};
use super::prepared::Deciding;
use super::renewal::Renewing;
use super::room::{self, Counts, Hearing, Room};
use super::{Result, intake, isolation, own_keys, samples};
use crate::authorize::Authorizer;
use crate::config::Mode;
use crate::deployment::places;
use crate::events::changes::{ChangeCounts, ChangeEvents};
use crate::events::decisions::DecisionEvents;
use crate::instance::{Instance, LoginLog, LoginObserver};
use crate::intake::{Gauge, Tenants};
use crate::peers::Peers;
use crate::placement::Placement;
use crate::renewal::Renewals;
use crate::revoke::{Causes, OwnAccounts, Revoker};
use crate::servers::Cluster;
use crate::service::{AuthCallout, Decisions, Running, Settings, Turns};
use crate::streams;

/// A service that answers.
pub(super) struct Serving<'a> {
    base: Base<'a>,
    nats: Nats,
    /// What takes requests ends first, then what takes events, and then all others.
    requests: Parts,
    intake: Parts,
    taking: Option<Gauge>,
    /// What begins once the streams are there.
    decisions: Option<DecisionEvents>,
    changes: Option<ChangeEvents>,
}

impl<'a> Serving<'a> {
    pub(super) async fn new(connected: Connected<'a>) -> Result<Self> {
        let Connected { base, deciding, keys, nats, mut sinks, placement, own } = connected;
        let (requests, intake) = (base.parts.apart(), base.parts.apart());
        let (tenants, taking) = take_events(&base, &nats, &intake)?.unzip();
        let mut authorizer =
            authorizer(&base, &nats, deciding, placement.clone(), tenants.clone()).await?;
        if base.config.callout.renew {
            authorizer = authorizer.with_renewals();
        }
        let authorizer = Arc::new(authorizer);
        let (renewals, closed) = (Arc::<Renewals>::default(), sinks.decisions.clone());
        let mut callout = callout(&base, &nats, Arc::clone(&authorizer), &mut sinks);
        if base.config.callout.renew {
            callout = callout.with_observer(renewals.clone());
        }
        let running = callout.start(nats.connections.main.clone()).await?;
        let (begun, turns, way) = (running.decisions(), running.turns(), running.way());
        let part = Part::vital("requests").with_farewell();
        let (falls, stop) = (requests.falls(), requests.stop());
        requests.once(part.clone(), answer(running, falls, part, stop));
        if let Some(standby) = &nats.connections.standby {
            let apart = (standby.client.clone(), nats.connections.main.clone());
            base.parts.spawn(Part::minor("standby"), apart, |(standby, main), _| {
                keep_apart(standby, main).boxed()
            });
        }
        let peers = Peers::default();
        watch_peers(&base, &nats, peers.clone()).await?;
        if base.config.callout.renew {
            let renewing =
                Renewing { renewals, authorizer, peers, turns: turns.clone(), observer: closed };
            renewing.start(&base, &nats, &requests).await?;
        }
        let changes = ChangeEvents::new(base.store.clone(), sinks.publisher, nats.id.clone());
        show(&base.observed.metrics, turns.clone(), changes.counts(), nats.cluster.clone());
        base.observed.health.probes(Dependencies {
            instance: nats.id.clone(),
            main: nats.connections.main.clone(),
            system: nats.connections.system.clone(),
            way,
            turns,
            intake: taking.clone(),
            unrecorded: sinks.unrecorded,
            store: base.store.clone(),
        });
        follow_changes(&base, &nats, own, tenants.map(|it| (it, placement)), begun).await?;
        let (main, id) = (&nats.connections.main, nats.id.clone());
        let asked = own_keys::Questions::subscribe(main, id, keys, base.config.callout.ttl);
        base.parts.spawn(Part::minor("keys"), asked.await?, |it, _| it.answer().boxed());
        let decisions = sinks.events;
        Ok(Self { base, nats, requests, intake, taking, decisions, changes: Some(changes) })
    }

    /// Waits for the streams and for tenants' events; `false` if `shutdown` came first.
    pub(super) async fn settle(&mut self, shutdown: &CancellationToken) -> Result<bool> {
        let Base { config, observed, parts, .. } = &self.base;
        let Nats { connections, cluster, id, .. } = &self.nats;
        if !streams::ensure(&connections.main, &config.streams, shutdown).await {
            return Ok(false);
        }
        if let Some(taking) = &self.taking
            && !intake::settled(config, taking, cluster, id, shutdown).await?
        {
            return Ok(false);
        }
        observed.health.becomes_ready();
        if let Some(decisions) = self.decisions.take() {
            let part = Part::minor("decision-events").with_farewell();
            parts.spawn(part, decisions, |it, stop| it.run(stop).boxed());
        }
        if let Some(changes) = self.changes.take() {
            let part = Part::minor("change-events").with_farewell();
            parts.spawn(part, changes, |it, stop| it.run(stop).boxed());
        }
        Ok(true)
    }

    /// What becomes of its parts.
    pub(super) fn falls(&self) -> Falls {
        self.base.parts.falls()
    }

    /// Answers what was asked, and gives up.
    pub(super) async fn abandon(self) {
        self.requests.end().await;
    }

    /// Takes no more requests, and ends when all that were taken are answered.
    pub(super) async fn stop(self) {
        self.base.observed.health.stops();
        tracing::info!("stopping: no new requests are taken, those at hand are answered");
        self.requests.end().await;
        self.intake.end().await;
        self.base.parts.end().await;
        self.nats.connections.drain().await;
    }
}

fn take_events(base: &Base<'_>, nats: &Nats, parts: &Parts) -> Result<Option<(Tenants, Gauge)>> {
    let Some(running) = intake::start(base.config, &nats.id)? else {
        tracing::warn!(
            "there is no [intake] in the configuration: BB takes events itself, and a tenant with \
             JetStream or leaf nodes can send them under another tenant's name; see \"Taking events \
             in\" in deploy/README.md"
        );
        return Ok(None);
    };
    let (tenants, taking) = (running.tenants(), running.gauge());
    intake::show(taking.clone(), &base.observed.metrics);
    let part = Part::vital("intake-connections").with_farewell();
    parts.once(part, intake::take(running, parts.stop()));
    Ok(Some((tenants, taking)))
}

async fn authorizer(
    base: &Base<'_>,
    nats: &Nats,
    deciding: Deciding,
    placement: Placement,
    tenants: Option<Tenants>,
) -> Result<Authorizer> {
    let Deciding { envelope, logins, policies, signing, .. } = deciding;
    let others = &nats.connections.main;
    let counts = Arc::<Counts>::default();
    counts.show(&base.observed.metrics);
    let hearing = Hearing::subscribe(Arc::clone(&counts), others).await?;
    base.parts.spawn(Part::vital("room"), hearing, |it, _| it.run().boxed());
    let room = Room {
        cluster: nats.cluster.clone().with_patience(room::PATIENCE),
        store: base.store.clone(),
        places: places(base.config)?,
        own_is_counted: matches!(base.config.mode, Mode::Operator(_)),
        counts,
        others: others.clone(),
    };
    let mut authorizer =
        Authorizer::new(envelope, placement, policies, signing.mint, signing.responder)
            .with_issuers(signing.issuers);
    if let Some(tenants) = tenants {
        authorizer = authorizer.with_entrance(Arc::new(Heard(tenants)));
    }
    let authorizer = authorizer.with_entrance(Arc::new(room));
    Ok(logins.into_iter().fold(authorizer, Authorizer::with_authenticator))
}

fn callout(
    base: &Base<'_>,
    nats: &Nats,
    authorizer: Arc<Authorizer>,
    sinks: &mut EventSinks,
) -> AuthCallout {
    let log = Arc::new(LoginLog::default());
    let observer = LoginObserver { log: Arc::clone(&log), clock: Arc::clone(&base.clock) };
    let part = Part::minor("last-logins").with_farewell();
    base.parts.spawn(part, (log, base.store.clone()), |(log, store), stop| {
        log.write(&**store, stop).boxed()
    });
    let (picked, samples) = samples::samples(nats.cluster.clone());
    samples.show(&base.observed.metrics);
    base.parts.spawn(Part::minor("samples"), samples, |it, _| it.run().boxed());
    let mut callout = AuthCallout::new(authorizer)
        .with_instance(nats.id.clone())
        .with_settings(Settings {
            deadline: base.config.callout.deadline,
            max_in_flight: base.config.callout.max_in_flight,
            ..Settings::default()
        })
        .with_reply_connections(nats.connections.replies.clone())
        .with_loading_connection(nats.connections.loading.clone())
        .with_standby(nats.connections.standby.clone())
        .with_observer(Arc::new(observer))
        .with_observer(Arc::new(picked))
        .with_observer(Arc::new(base.observed.metrics.decisions()));
    if let Some(decisions) = sinks.decisions.take() {
        callout = callout.with_observer(decisions);
    }
    if let Some(gate) = sinks.gate.take() {
        callout = callout.with_gate(gate);
    }
    callout
}

async fn answer(mut running: Running, falls: Falls, part: Part, stop: CancellationToken) {
    let panics = running.panics();
    tokio::select! {
        () = stop.cancelled() => running.stop().await,
        () = async { tokio::join!(running.ended(), falls.follow(&part, panics)); } => {}
    }
}

fn show(metrics: &Metrics, turns: Turns, counts: Arc<ChangeCounts>, cluster: Cluster) {
    metrics.show(move || {
        let load = turns.stats();
        gauge!("nats_callout_reply_way_longest_seconds").set(turns.held_up().as_secs_f64());
        gauge!("nats_callout_requests_in_flight").set(size(load.in_flight));
        gauge!("nats_callout_requests_waiting").set(size(load.waiting));
        counter!("nats_callout_requests_shed_total").absolute(load.shed);
        counter!("nats_callout_connections_closed_total").absolute(cluster.closed());
        counter!("nats_callout_outbox_published_total").absolute(counts.published());
        gauge!("nats_callout_outbox_pending").set(size(counts.pending()));
    });
}

async fn watch_peers(base: &Base<'_>, nats: &Nats, peers: Peers) -> Result<()> {
    let watch = peers.subscribe(
        nats.id.clone(),
        nats.connections.main.clone(),
        nats.cluster.clone(),
        isolation::own_login(base.config)?,
        intake::logins(base.config)?,
    );
    let part = Part::vital("peers").with_farewell();
    base.parts.spawn(part, watch.await?, |it, stop| it.run(stop).boxed());
    base.observed.metrics.show(move || {
        gauge!("nats_callout_instances").set(size(peers.alive()));
        counter!("nats_callout_instances_closed_total").absolute(peers.closed());
    });
    Ok(())
}

/// Follows the tenant table: forgets what has changed, takes the events of the tenants that there are,
/// and closes connections that are no longer allowed.
async fn follow_changes(
    base: &Base<'_>,
    nats: &Nats,
    own: Option<OwnAccounts>,
    taken: Option<(Tenants, Placement)>,
    decisions: Decisions,
) -> Result<()> {
    let Base { config, store, cache, clock, parts, .. } = base;
    let (effects, signals) = mpsc::unbounded_channel();
    let mut listeners = vec![effects];
    if let Some((tenants, placement)) = taken {
        let (changed, signals) = mpsc::unbounded_channel();
        listeners.push(changed);
        let (store, clock) = (store.clone(), Arc::clone(clock));
        let following = Following { tenants, store, placement, clock, signals };
        parts.spawn(Part::vital("intake-tenants"), following, |it, _| it.run().boxed());
    }
    let revoker = Revoker {
        provisioning: store.clone(),
        coordination: store.clone(),
        cluster: nats.cluster.clone(),
        places: places(config)?,
        own,
        ttl: config.callout.ttl,
        stale: config.cache.stale_if_error,
        clock: Arc::clone(clock),
    };
    let revoker = Arc::new(revoker);
    let (causes, accounts) =
        Causes::new(signals, nats.servers.arrivals(), decisions.clone(), &revoker);
    if revoker.own.is_some() {
        parts.spawn(Part::vital("accounts"), accounts, |it, _| it.run().boxed());
    }
    let part = Part::vital("revoker").with_farewell();
    parts.spawn(part, (revoker, causes), |(it, causes), stop| it.run(causes, stop).boxed());
    let instance = Instance::new(nats.id.clone(), store.clone(), Arc::clone(cache), listeners);
    let questions = instance.subscribe(&nats.connections.main, decisions).await?;
    let part = Part::vital("sync").with_farewell();
    parts.spawn(part, questions, |it, stop| it.answer(stop).boxed());
    parts.spawn(Part::vital("feed"), Arc::clone(&instance), |it, _| it.follow().boxed());
    let part = Part::vital("heartbeat").with_farewell();
    parts.spawn(part, instance, |it, stop| it.beat(stop).boxed());
    Ok(())
}
