//! What `/metrics` shows: the decisions, counted as they are made, and everything else, which each part
//! shows at each scrape as it says itself. The recorder is this service's own and is installed nowhere.

use std::time::Duration;

use metrics::{describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{
    BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use parking_lot::Mutex;

use super::health::Word;
use crate::clock::UnixSeconds;
use crate::telemetry::DecisionMetrics;

/// How often recorded latencies are sorted in.
const TIDY: Duration = Duration::from_secs(5);

/// Upper bounds of the latency histograms, in seconds.
const BUCKETS: [f64; 15] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.0,
];

/// The metrics of this service.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    shown: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
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
        Ok(Self { recorder, handle, shown: Mutex::default() })
    }

    /// What counts decisions here.
    pub(super) fn decisions(&self) -> DecisionMetrics {
        with_local_recorder(&self.recorder, DecisionMetrics::new)
    }

    /// Has `show` set what it counts at each scrape.
    pub(super) fn show(&self, show: impl Fn() + Send + Sync + 'static) {
        self.shown.lock().push(Box::new(show));
    }

    /// Sorts what was recorded into its histograms from time to time; without it, it would pile up
    /// between scrapes.
    pub(super) async fn tidy(&self) {
        loop {
            tokio::time::sleep(TIDY).await;
            self.handle.run_upkeep();
        }
    }

    /// Everything as it is now, in Prometheus' text format.
    pub(super) fn render(&self, word: &Word) -> String {
        with_local_recorder(&self.recorder, || {
            set("nats_callout_ready", word.is_ready());
            for (name, standing) in &word.parts {
                gauge!("nats_callout_part_up", "part" => name.to_string())
                    .set(flag(standing.is_ok()));
            }
            for show in self.shown.lock().iter() {
                show();
            }
        });
        self.handle.render()
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
        (
            "nats_callout_issuer_up",
            "Whether this issuer's keys came at the last fetch, and its answer to the last question about a token",
        ),
        ("nats_callout_issuer_keys", "Usable keys that are held of this issuer"),
        ("nats_callout_requests_in_flight", "Decisions under way"),
        ("nats_callout_requests_waiting", "Requests that wait to be decided"),
        (
            "nats_callout_reply_way_longest_seconds",
            "How long nats-server holds an answer up now: on its way, and before it goes out",
        ),
        ("nats_callout_nats_connected", "Whether this connection to NATS stands"),
        ("nats_callout_outbox_pending", "Events of changes that wait to be published"),
        (
            "nats_callout_database_blocked",
            "Sessions of the database that wait for this role's locks",
        ),
        ("nats_callout_database_notices", "Notices a second of a role that floods the database"),
        ("nats_callout_intake_connected", "Whether tenants' events are taken in"),
        ("nats_callout_policies_broken", "Whether an edit of the policies was not taken"),
        (
            "nats_callout_renewals_held",
            "Grants that are kept in mind, to be renewed while their connections last",
        ),
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
        ("nats_callout_cache_stale_total", "Records found in memory while changes cannot be read"),
        ("nats_callout_hashing_done_total", "Passwords hashed"),
        ("nats_callout_hashing_shed_total", "Passwords not hashed, by reason"),
        (
            "nats_callout_guesses_delayed_total",
            "Logins that had to wait before their hash, or until their token was looked up",
        ),
        ("nats_callout_guesses_dropped_total", "Logins that found no place to wait in"),
        (
            "nats_callout_guesses_unfinished_total",
            "Logins whose hash did not end in time: counted as wrong, until it matches",
        ),
        ("nats_callout_issuer_fetches_total", "How often this issuer's keys were fetched"),
        ("nats_callout_issuer_fetch_failures_total", "Fetches that brought no keys"),
        ("nats_callout_issuer_questions_total", "How often this issuer was asked about a token"),
        (
            "nats_callout_issuer_questions_unanswered_total",
            "Questions about a token without an answer",
        ),
        (
            "nats_callout_grants_sampled_total",
            "Grants that were looked after a second later, by how their connections were found",
        ),
        ("nats_callout_requests_shed_total", "Requests dropped unanswered under overload"),
        ("nats_callout_nats_connects_total", "How often this connection was made"),
        ("nats_callout_connections_closed_total", "Connections of clients closed by changes"),
        (
            "nats_callout_renewals_total",
            "Connections that were due to begin anew, by what became of them",
        ),
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

pub(super) fn set(name: &'static str, value: bool) {
    gauge!(name).set(flag(value));
}

pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

pub(super) fn size(count: impl TryInto<u32>) -> f64 {
    count.try_into().map_or(f64::INFINITY, f64::from)
}

fn precise(seconds: UnixSeconds) -> f64 {
    u32::try_from(seconds).map_or(0.0, f64::from)
}
