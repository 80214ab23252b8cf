//! What `/metrics` shows: the decisions, counted as they are made, and everything else, read from
//! its owner at each scrape. The recorder is this service's own and is installed nowhere.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use async_nats::Client;
use async_nats::connection::State;
use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{
    BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::health::{Health, Phase};
use super::hindrances::{Held, Hindrances};
use super::policies::Policies;
use super::room::Counts;
use crate::accounts::delivery::Delivery;
use crate::authn::guessing::Guessing;
use crate::authn::jwt::Issuer;
use crate::authn::lane::HashingLane;
use crate::clock::UnixSeconds;
use crate::events::changes::ChangeCounts;
use crate::intake::Gauge;
use crate::peers::Peers;
use crate::servers::Cluster;
use crate::service::Load;
use crate::store::cache::Cached;
use crate::telemetry::DecisionMetrics;

/// Upper bounds of the latency histograms, in seconds.
const BUCKETS: [f64; 15] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.0,
];

/// Where the numbers come from that are read at each scrape.
pub(super) struct Sources {
    pub(super) cache: Arc<Cached>,
    pub(super) issuers: Vec<Arc<Issuer>>,
    pub(super) lane: Arc<HashingLane>,
    pub(super) guessing: Arc<Guessing>,
    pub(super) load: Load,
    /// The connections to NATS, by name.
    pub(super) connections: Vec<(String, Client)>,
    pub(super) cluster: Cluster,
    pub(super) peers: Peers,
    pub(super) counts: Arc<Counts>,
    pub(super) changes: Arc<ChangeCounts>,
    /// Decisions that could not be kept.
    pub(super) dropped: Arc<AtomicU64>,
    /// Whether the last look found nobody else in AUTH.
    pub(super) isolated: Arc<AtomicBool>,
    pub(super) hindrances: Arc<Hindrances>,
    pub(super) policies: Arc<Policies>,
    /// Where there is one.
    pub(super) intake: Option<Gauge>,
    /// Operator mode.
    pub(super) delivery: Option<Arc<Delivery>>,
}

/// The metrics of this service.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    sources: OnceLock<Sources>,
}

impl Metrics {
    /// Begins with what does not change. `mode` is a word for the label.
    pub(super) fn new(mode: &'static str, started: UnixSeconds) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
        with_local_recorder(&recorder, || {
            describe();
            let version = env!("CARGO_PKG_VERSION");
            gauge!("nats_callout_build_info", "version" => version, "mode" => mode).set(1.0);
            gauge!("process_start_time_seconds").set(precise(started));
        });
        let handle = recorder.handle();
        Ok(Self { recorder, handle, sources: OnceLock::new() })
    }

    /// What counts decisions here.
    pub(super) fn decisions(&self) -> DecisionMetrics {
        with_local_recorder(&self.recorder, DecisionMetrics::new)
    }

    /// Says where the other numbers are, once their owners are there.
    pub(super) fn attach(&self, sources: Sources) {
        // A second one would be that of another service.
        let _ = self.sources.set(sources);
    }

    /// Sorts what was recorded into its histograms; without it, it would pile up between scrapes.
    pub(super) fn tidy(&self) {
        self.handle.run_upkeep();
    }

    /// Everything as it is now, in Prometheus' text format.
    pub(super) async fn render(&self, health: &Health) -> String {
        let report = health.report().await;
        with_local_recorder(&self.recorder, || {
            let parts = report.map(|report| report.parts());
            let is_ready = health.phase() == Phase::Ready
                && parts.is_some_and(|parts| parts.iter().all(|(_, part)| part.is_ok()));
            set("nats_callout_ready", is_ready);
            for (name, part) in parts.into_iter().flatten() {
                gauge!("nats_callout_part_up", "part" => name).set(flag(part.is_ok()));
            }
            if let Some(sources) = self.sources.get() {
                sources.read();
            }
        });
        self.handle.render()
    }
}

impl Sources {
    fn read(&self) {
        let cache = self.cache.stats();
        counter!("nats_callout_cache_hits_total").absolute(cache.hits);
        counter!("nats_callout_cache_misses_total").absolute(cache.misses);
        counter!("nats_callout_cache_loads_total").absolute(cache.loads);
        counter!("nats_callout_cache_load_failures_total").absolute(cache.failures);

        let lane = self.lane.stats();
        gauge!("nats_callout_hashing_threads").set(size(lane.threads));
        gauge!("nats_callout_hashing_running").set(size(lane.running));
        gauge!("nats_callout_hashing_waiting").set(size(lane.waiting));
        counter!("nats_callout_hashing_done_total").absolute(lane.done);
        let shed = |reason, count| {
            counter!("nats_callout_hashing_shed_total", "reason" => reason).absolute(count);
        };
        shed("full", lane.refused_full);
        shed("late", lane.refused_late);
        shed("abandoned", lane.skipped);

        let guesses = self.guessing.stats();
        gauge!("nats_callout_guesses_waiting").set(size(guesses.waiting));
        counter!("nats_callout_guesses_delayed_total").absolute(guesses.delayed);
        counter!("nats_callout_guesses_dropped_total").absolute(guesses.dropped);
        counter!("nats_callout_guesses_unfinished_total").absolute(guesses.unfinished);
        for issuer in &self.issuers {
            let (name, status) = (issuer.settings().name.clone(), issuer.status());
            gauge!("nats_callout_issuer_up", "issuer" => name.clone())
                .set(flag(status.fault.is_none() && status.keys > 0));
            gauge!("nats_callout_issuer_keys", "issuer" => name.clone()).set(size(status.keys));
            counter!("nats_callout_issuer_fetches_total", "issuer" => name.clone())
                .absolute(status.fetches);
            counter!("nats_callout_issuer_fetch_failures_total", "issuer" => name)
                .absolute(status.failures);
        }

        let load = self.load.stats();
        gauge!("nats_callout_requests_in_flight").set(size(load.in_flight));
        gauge!("nats_callout_requests_waiting").set(size(load.waiting));
        counter!("nats_callout_requests_shed_total").absolute(load.shed);

        for (name, client) in &self.connections {
            let is_up = client.connection_state() == State::Connected;
            gauge!("nats_callout_nats_connected", "connection" => name.clone()).set(flag(is_up));
            let connects = client.statistics().connects.load(Relaxed);
            counter!("nats_callout_nats_connects_total", "connection" => name.clone())
                .absolute(connects);
        }
        counter!("nats_callout_connections_closed_total").absolute(self.cluster.closed());
        counter!("nats_callout_connections_uncounted_total").absolute(self.counts.uncounted());
        gauge!("nats_callout_instances").set(size(self.peers.alive()));
        counter!("nats_callout_instances_closed_total").absolute(self.peers.closed());
        counter!("nats_callout_outbox_published_total").absolute(self.changes.published());
        gauge!("nats_callout_outbox_pending").set(size(self.changes.pending()));
        counter!("nats_callout_events_dropped_total").absolute(self.dropped.load(Relaxed));
        gauge!("nats_callout_auth_isolated").set(flag(self.isolated.load(Relaxed)));
        let nobody = (String::new(), Held::default());
        for (role, held) in self.hindrances.by_role().into_iter().chain([nobody]) {
            gauge!("nats_callout_database_blocked", "role" => role.clone()).set(size(held.blocks));
            gauge!("nats_callout_database_notices", "role" => role).set(size(held.notices));
        }
        if let Some(intake) = &self.intake {
            let tally = intake.tally();
            set("nats_callout_intake_connected", intake.is_connected());
            counter!("nats_callout_intake_stored_total").absolute(tally.stored);
            counter!("nats_callout_intake_connections_lost_total").absolute(tally.lost);
            for (reason, count) in tally.by_reason() {
                counter!("nats_callout_intake_refused_total", "reason" => reason).absolute(count);
            }
        }
        set("nats_callout_policies_broken", self.policies.are_broken());
        counter!("nats_callout_policy_reloads_total").absolute(self.policies.reloads());
        let pushed = self.delivery.as_ref().map_or(0, |delivery| delivery.pushed());
        counter!("nats_callout_accounts_pushed_total").absolute(pushed);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn describe() {
    for (name, what) in [
        ("nats_callout_build_info", "1, with the version and the mode as labels"),
        ("nats_callout_ready", "Whether the whole chain works: what /readyz says"),
        ("nats_callout_part_up", "Whether this part of the chain works"),
        ("nats_callout_hashing_threads", "Threads that hash passwords"),
        ("nats_callout_hashing_running", "Passwords being hashed now"),
        ("nats_callout_hashing_waiting", "Passwords that wait for a thread"),
        (
            "nats_callout_guesses_waiting",
            "Logins beyond the allowance of wrong passwords that wait",
        ),
        ("nats_callout_issuer_up", "Whether this issuer's keys came at the last fetch"),
        ("nats_callout_issuer_keys", "Usable keys that are held of this issuer"),
        ("nats_callout_requests_in_flight", "Decisions under way"),
        ("nats_callout_requests_waiting", "Requests that wait to be decided"),
        ("nats_callout_nats_connected", "Whether this connection to NATS stands"),
        ("nats_callout_outbox_pending", "Events of changes that wait to be published"),
        (
            "nats_callout_database_blocked",
            "Sessions of the database that wait for this role's locks",
        ),
        ("nats_callout_database_notices", "Notices a second of a role that floods the database"),
        ("nats_callout_intake_connected", "Whether tenants' events are taken in"),
        ("nats_callout_policies_broken", "Whether an edit of the policies was not taken"),
        ("nats_callout_instances", "Instances that this one hears, itself included"),
        ("nats_callout_auth_isolated", "Whether AUTH is the service's alone, by the last look"),
        ("process_start_time_seconds", "When the service began, in seconds since 1970"),
    ] {
        describe_gauge!(name, what);
    }
    for (name, what) in [
        ("nats_callout_cache_hits_total", "Records found in memory"),
        ("nats_callout_cache_misses_total", "Records that had to be read from the database"),
        ("nats_callout_cache_loads_total", "Reads of the database, some shared by many misses"),
        ("nats_callout_cache_load_failures_total", "Reads of the database that failed"),
        ("nats_callout_hashing_done_total", "Passwords hashed"),
        ("nats_callout_hashing_shed_total", "Passwords not hashed, by reason"),
        ("nats_callout_guesses_delayed_total", "Logins that had to wait before their hash"),
        ("nats_callout_guesses_dropped_total", "Logins that found no place to wait in"),
        (
            "nats_callout_guesses_unfinished_total",
            "Logins whose hash did not end in time: counted as wrong, until it matches",
        ),
        ("nats_callout_issuer_fetches_total", "How often this issuer's keys were fetched"),
        ("nats_callout_issuer_fetch_failures_total", "Fetches that brought no keys"),
        ("nats_callout_requests_shed_total", "Requests dropped unanswered under overload"),
        ("nats_callout_nats_connects_total", "How often this connection was made"),
        ("nats_callout_connections_closed_total", "Connections of clients closed by changes"),
        (
            "nats_callout_connections_uncounted_total",
            "Clients let in while servers did not say how many connections their tenant has",
        ),
        (
            "nats_callout_instances_closed_total",
            "Connections of instances that had fallen silent, closed by this one",
        ),
        ("nats_callout_outbox_published_total", "Events of changes published by this instance"),
        ("nats_callout_events_dropped_total", "Decisions whose events could not be kept"),
        ("nats_callout_intake_stored_total", "Tenants' events that BB's stream has stored"),
        (
            "nats_callout_intake_refused_total",
            "Tenants' events that were not acknowledged, by reason",
        ),
        (
            "nats_callout_intake_connections_lost_total",
            "Connections of the intake that were lost and made again",
        ),
        ("nats_callout_policy_reloads_total", "Edits of the policies that were taken"),
        ("nats_callout_accounts_pushed_total", "Account JWTs pushed to the servers"),
    ] {
        describe_counter!(name, what);
    }
}

fn set(name: &'static str, value: bool) {
    gauge!(name).set(flag(value));
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn size(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or(f64::INFINITY, f64::from)
}

fn precise(seconds: UnixSeconds) -> f64 {
    u32::try_from(seconds).map_or(0.0, f64::from)
}
