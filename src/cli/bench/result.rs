//! The document of a run: what is printed, saved, compared and drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator as _;

use super::args::{Kind, Load, Plan};
use super::bottleneck::Bottleneck;
use super::cost::{Cpu, Memory};
use super::decisions::Decided;
use super::failure::Failure;
use super::histogram::{Percentiles, millis, rounded};
use super::record::Tally;
use super::series::Row;

/// A finished run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) settings: Settings,
    pub(super) interrupted: bool,
    /// While clients came; for a storm, until the last was in or gave up.
    pub(super) seconds: f64,
    /// Clients that got in, attempts that did not, and both: until the last has given up, which may be long
    /// after `seconds`.
    pub(super) logins: u64,
    pub(super) failed: u64,
    pub(super) attempts: u64,
    /// Of those that got in, and of attempts, within `seconds`.
    pub(super) logins_per_second: f64,
    pub(super) connections_per_second: f64,
    pub(super) latency_ms: Percentiles,
    pub(super) errors: BTreeMap<String, u64>,
    /// Of an open model and a storm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clients: Option<Clients>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<Limit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Held>,
    pub(super) cpu: CpuUsed,
    pub(super) decisions: Option<Decisions>,
    pub(super) bottleneck: Bottleneck,
    #[serde(default)]
    pub(super) series: Vec<Row>,
}

/// What was asked for: two runs can be compared if it is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) load: Shape,
    /// How accounts come to the servers, where it is known.
    pub(super) mode: Option<String>,
    pub(super) kind: Kind,
    pub(super) users: usize,
    /// Of users that the bench has made: their tenants, and how those are kept apart.
    #[serde(default)]
    pub(super) tenants: Option<u32>,
    #[serde(default)]
    pub(super) isolation: Option<String>,
    /// The scheme of the server's URL.
    pub(super) transport: String,
    pub(super) concurrency: u32,
    /// Clients a second that come.
    pub(super) rate: Option<f64>,
    /// Clients that come at once.
    pub(super) storm: Option<u32>,
    /// The bound of the search for a limit.
    pub(super) p99_ms: Option<f64>,
    pub(super) hold: u32,
    /// How many logins, or for how long; of a search each step.
    #[serde(default)]
    pub(super) count: Option<u64>,
    #[serde(default)]
    pub(super) duration_seconds: Option<f64>,
    pub(super) timeout_seconds: f64,
    pub(super) retry_seconds: Option<f64>,
    pub(super) give_up_seconds: f64,
    pub(super) warm_up_seconds: f64,
}

/// What is known of those who log in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users {
    pub(super) kind: Kind,
    /// The word for how accounts come to the servers.
    pub(super) mode: Option<&'static str>,
    /// Of those that the bench makes.
    pub(super) tenants: Option<u32>,
    pub(super) isolation: Option<&'static str>,
}

/// How clients come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    Closed,
    Rate,
    Limit,
    Storm,
}

/// What became of clients that came by the clock, or at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Clients {
    pub(super) started: u64,
    pub(super) first_try: u64,
    /// At a later one.
    pub(super) later: u64,
    pub(super) not_in: u64,
    /// By how much the bench was late with starting them.
    pub(super) late_ms: Late,
    /// Of a storm: when the last was in; `None` if some never were.
    pub(super) all_in_seconds: Option<f64>,
}

/// What the bench was late by.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Late {
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// The highest rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Limit {
    /// `None` where none did.
    pub(super) logins_per_second: Option<f64>,
    /// In their order.
    pub(super) steps: Vec<Step>,
}

/// One rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) rate: f64,
    pub(super) p99_ms: f64,
    pub(super) failed: u64,
    pub(super) passed: bool,
}

/// Connections that were held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) connections: u32,
    /// Until all were in.
    pub(super) seconds: f64,
    /// While others were measured: ended by no wish of the client, and come back.
    pub(super) closed: u64,
    pub(super) back: u64,
    pub(super) failed: u64,
    /// Memory that each took.
    pub(super) server_kb_each: Option<f64>,
    pub(super) service_kb_each: Option<f64>,
}

impl Held {
    pub(super) fn kb_each(
        before: Option<u64>,
        after: Option<u64>,
        connections: u32,
    ) -> Option<f64> {
        let grown = after?.saturating_sub(before?);
        Some(rounded(grown as f64 / 1_024.0 / f64::from(connections.max(1))))
    }
}

/// CPU time in seconds, while clients came; `null` where it cannot be seen from here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct CpuUsed {
    pub(super) bench_seconds: f64,
    pub(super) bench_ms_per_login: f64,
    pub(super) server_seconds: Option<f64>,
    pub(super) service_seconds: Option<f64>,
    pub(super) idle_seconds: Option<f64>,
    pub(super) bench_share: Option<f64>,
    pub(super) server_memory_mb: Option<f64>,
    pub(super) service_memory_mb: Option<f64>,
}

impl CpuUsed {
    /// `attempts` are those of the same time.
    pub(super) fn new(cpu: Cpu, memory: Memory, attempts: u64) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| rounded(time.as_secs_f64()));
        let megabytes =
            |bytes: Option<u64>| bytes.map(|it| rounded(it as f64 / f64::from(1 << 20)));
        Self {
            bench_seconds: rounded(cpu.bench.as_secs_f64()),
            bench_ms_per_login: rounded(cpu.bench.as_secs_f64() * 1e3 / attempts.max(1) as f64),
            server_seconds: seconds(cpu.server),
            service_seconds: seconds(cpu.service),
            idle_seconds: seconds(cpu.idle),
            bench_share: cpu.share().map(rounded),
            server_memory_mb: megabytes(memory.server),
            service_memory_mb: megabytes(memory.service),
        }
    }
}

/// What the service said of itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Decisions {
    pub(super) count: f64,
    /// From a request's arrival.
    pub(super) mean_ms: Option<f64>,
    /// Of those that were answered: the wait for a turn, and all else.
    #[serde(default)]
    pub(super) turn_ms: Option<f64>,
    #[serde(default)]
    pub(super) own_ms: Option<f64>,
    pub(super) unanswered: f64,
}

impl From<Decided> for Decisions {
    fn from(decided: Decided) -> Self {
        Self {
            count: decided.all.count,
            mean_ms: decided.all.mean().map(millis),
            turn_ms: decided.turns.mean().map(millis),
            own_ms: decided.stages.mean().map(millis),
            unanswered: decided.unanswered,
        }
    }
}

impl Settings {
    pub(super) fn of(plan: &Plan, who: Users, users: usize, transport: &str) -> Self {
        let (mut rate, mut storm, mut p99_ms) = (None, None, None);
        let load = match plan.load {
            Load::Closed(_) => Shape::Closed,
            Load::Rate(asked) => {
                rate = Some(asked);
                Shape::Rate
            }
            Load::Limit(bound) => {
                p99_ms = Some(millis(bound));
                Shape::Limit
            }
            Load::Storm(clients) => {
                storm = Some(clients);
                Shape::Storm
            }
        };
        let seconds = |time: Duration| rounded(time.as_secs_f64());
        let is_timed = plan.count.is_none() && storm.is_none();
        Self {
            load,
            mode: who.mode.map(ToOwned::to_owned),
            kind: who.kind,
            users,
            tenants: who.tenants,
            isolation: who.isolation.map(ToOwned::to_owned),
            transport: transport.to_owned(),
            concurrency: plan.concurrency,
            rate,
            storm,
            p99_ms,
            hold: plan.hold,
            count: plan.count,
            duration_seconds: is_timed.then(|| seconds(plan.duration)),
            timeout_seconds: seconds(plan.patience.timeout),
            retry_seconds: plan.patience.retry.map(seconds),
            give_up_seconds: seconds(plan.patience.give_up),
            warm_up_seconds: seconds(plan.warm_up),
        }
    }
}

/// The failures of a tally that there were, by their codes.
pub(super) fn errors(tally: &Tally) -> BTreeMap<String, u64> {
    Failure::iter()
        .zip(tally.failures)
        .filter(|(_, count)| *count > 0)
        .map(|(failure, count)| (failure.code().to_owned(), count))
        .collect()
}
