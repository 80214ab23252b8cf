//! Looks at the processes every five seconds, and prints a row a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::crowd::{Crowd, silent_and_closed, words};
use super::figures::{EXPIRED, KEPT_OUT, Process, Sample};
use super::site::Site;
use crate::bb::notifier::Sent;
use crate::harness::staying::{Library, Record};
use crate::harness::{http, loudly, row};

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// So many looks are a row.
const ROW: usize = 12;

/// Of so many that close it is said at once.
const TOLD: usize = 20;

/// What is looked at of an instance and of a server.
#[derive(Debug, Clone)]
struct Instance {
    pid: u32,
    http: String,
}

#[derive(Debug, Clone)]
struct Server {
    pid: u32,
    monitor: String,
    log: PathBuf,
}

#[derive(Debug, Clone)]
struct Targets {
    instances: Vec<Instance>,
    servers: Vec<Server>,
}

impl Targets {
    fn of(site: &Site) -> Self {
        let instances = site.instances.iter();
        let servers = site.cluster.nodes.iter();
        Self {
            instances: instances
                .map(|it| Instance { pid: it.pid(), http: it.http().to_owned() })
                .collect(),
            servers: servers
                .map(|it| Server {
                    pid: it.pid(),
                    monitor: it.monitor().expect("its monitor"),
                    log: it.log_file().to_owned(),
                })
                .collect(),
        }
    }
}

/// See the module.
pub(super) struct Watch {
    targets: Arc<Mutex<Targets>>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    pub(super) fn start(site: &Site, crowd: &Crowd) -> Self {
        let targets = Arc::new(Mutex::new(Targets::of(site)));
        let ends = Arc::new(AtomicBool::new(false));
        let mut looking = Looking {
            targets: Arc::clone(&targets),
            ends: Arc::clone(&ends),
            sent: site.counter(),
            libraries: crowd.records().map(|(library, _)| library).collect(),
            records: crowd.records().map(|(_, it)| it.clone()).collect(),
            told: BTreeSet::new(),
            expired: BTreeSet::new(),
            counts: BTreeMap::new(),
        };
        Self { targets, ends, thread: std::thread::spawn(move || looking.look()) }
    }

    /// Follows processes that have been started anew.
    pub(super) fn follow(&self, site: &Site) {
        *self.targets.lock() = Targets::of(site);
    }

    /// Ends, with all that was seen.
    pub(super) fn end(self) -> Vec<Sample> {
        self.ends.store(true, Relaxed);
        self.thread.join().expect("it looks")
    }
}

struct Looking {
    targets: Arc<Mutex<Targets>>,
    ends: Arc<AtomicBool>,
    sent: Sent,
    libraries: Vec<Library>,
    records: Vec<Record>,
    /// Those that have closed, of whom it was said.
    told: BTreeSet<usize>,
    /// Connections that have been closed at the ends of their grants.
    expired: BTreeSet<String>,
    /// What was last read of each counter, by where it was read.
    counts: BTreeMap<(String, String), u64>,
}

impl Looking {
    fn look(&mut self) -> Vec<Sample> {
        let begun = Instant::now();
        row(Sample::HEAD);
        // What has been counted until now is not of this time.
        let mut samples = Vec::new();
        drop(self.sample(begun));
        let mut from = Instant::now();
        while !self.ends.load(Relaxed) {
            std::thread::sleep(LOOK.saturating_sub(from.elapsed()));
            let sample = self.sample(from);
            from = sample.to;
            samples.push(sample);
            self.tell_of_the_closed();
            if samples.len() % ROW == 0 {
                row(&Sample::row(&samples[samples.len() - ROW..], begun));
            }
        }
        samples
    }

    fn sample(&mut self, from: Instant) -> Sample {
        let Targets { instances, servers } = self.targets.lock().clone();
        let (silent, closed) = silent_and_closed(&self.records, self.sent.number());
        let mut sample = Sample::new(from, silent, closed);
        for instance in instances {
            let metrics = http::get(&instance.http, "/metrics").map(|it| it.body);
            for line in metrics.iter().flat_map(|it| it.lines()) {
                let Some((series, value)) = counted(line) else { continue };
                let more = self.more((instance.http.clone(), series.to_owned()), value);
                sample.count(series, more);
            }
            sample.instances.push(Process::read(instance.pid));
        }
        for server in servers {
            let log = std::fs::read_to_string(&server.log).unwrap_or_default();
            let lines = log.lines().filter(|it| it.contains("authentication error")).count() as u64;
            let more = self.more((server.monitor.clone(), KEPT_OUT.to_owned()), lines);
            sample.count(KEPT_OUT, more);
            sample.count(EXPIRED, self.expired(&server.monitor));
            let report = http::get(&server.monitor, "/varz").map(|it| it.body);
            let report: Option<serde_json::Value> =
                report.and_then(|it| serde_json::from_str(&it).ok());
            let connections = report.and_then(|it| it["connections"].as_u64());
            sample.connections.push(connections);
            sample.servers.push(Process::read(server.pid));
        }
        sample.to = Instant::now();
        sample
    }

    /// Says what the first ones said at last that have closed for good.
    fn tell_of_the_closed(&mut self) {
        let all = self.records.iter().zip(&self.libraries).enumerate();
        for (at, (record, library)) in all.filter(|(_, (it, _))| it.is_closed()) {
            if self.told.len() < TOLD && self.told.insert(at) {
                loudly(&format!("{} has closed: {}", library.name(), words(record)));
            }
        }
    }

    /// How many connections have been closed at the ends of their grants since the last look. A server logs
    /// that for nobody, but knows its last closed ones.
    fn expired(&mut self, monitor: &str) -> u64 {
        let report = http::get(monitor, "/connz?state=closed&sort=stop&limit=1024");
        let report: Option<serde_json::Value> =
            report.and_then(|it| serde_json::from_str(&it.body).ok());
        let closed = report.iter().flat_map(|it| it["connections"].as_array()).flatten();
        let expired = closed.filter(|it| it["reason"] == "Authentication Expired");
        // The number alone comes again when the server does.
        let new = expired
            .filter(|it| self.expired.insert(format!("{monitor} {} {}", it["cid"], it["start"])));
        new.count() as u64
    }

    /// How much a counter has grown; one that has begun anew has grown from nothing.
    fn more(&mut self, key: (String, String), value: u64) -> u64 {
        let before = self.counts.insert(key, value).unwrap_or_default();
        if value < before { value } else { value - before }
    }
}

/// A counter of decisions or renewals, and its value.
fn counted(line: &str) -> Option<(&str, u64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let counted = series.starts_with("nats_callout_decisions_total{")
        || series.starts_with("nats_callout_renewals_total{")
        || series.starts_with("nats_callout_requests_shed_total");
    counted.then_some((series, value.parse().ok()?))
}
