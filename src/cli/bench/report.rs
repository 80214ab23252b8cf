//! The result of a run, for people and as JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;

use super::cost::Cpu;
use super::login::Failure;
use super::{Kind, Run};

const PERCENTILES: [(&str, &str, f64); 4] =
    [("p50", "p50", 0.5), ("p90", "p90", 0.9), ("p99", "p99", 0.99), ("p99.9", "p99_9", 0.999)];

/// A finished run.
pub(super) struct Report {
    pub(super) run: Arc<Run>,
    pub(super) elapsed: Duration,
    pub(super) cpu: Cpu,
    pub(super) concurrency: u32,
    pub(super) users: usize,
    pub(super) kind: Kind,
    pub(super) warm_up: Duration,
    pub(super) interrupted: bool,
}

impl Report {
    pub(super) fn logins(&self) -> u64 {
        self.run.latencies.count()
    }

    fn rate(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn failures(&self) -> impl Iterator<Item = (Failure, u64)> {
        Failure::iter()
            .zip(&self.run.failures)
            .map(|(failure, counter)| (failure, counter.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// CPU time of the bench for one attempt, in milliseconds.
    fn own_cost(&self) -> f64 {
        let attempts = self.logins() + self.run.failed();
        self.cpu.bench.as_secs_f64() * 1e3 / attempts.max(1) as f64
    }

    pub(super) fn json(&self) -> Value {
        let latencies = &self.run.latencies;
        let mut latency: Map<String, Value> = PERCENTILES
            .into_iter()
            .map(|(_, key, share)| (key.to_owned(), millis(latencies.percentile(share))))
            .collect();
        latency.insert("max".to_owned(), millis(latencies.max()));
        latency.insert("mean".to_owned(), millis(latencies.mean()));
        let errors: Map<String, Value> = self
            .failures()
            .map(|(failure, count)| (failure.code().to_owned(), json!(count)))
            .collect();
        let failed = self.run.failed();
        json!({
            "logins": self.logins(),
            "failed": failed,
            "attempts": self.logins() + failed,
            "seconds": rounded(self.elapsed.as_secs_f64()),
            "logins_per_second": rounded(self.rate(self.logins())),
            "connections_per_second": rounded(self.rate(self.logins() + failed)),
            "latency_ms": latency,
            "errors": errors,
            "concurrency": self.concurrency,
            "kind": self.kind.name(),
            "users": self.users,
            "warm_up_seconds": rounded(self.warm_up.as_secs_f64()),
            "interrupted": self.interrupted,
            "cpu": {
                "bench_seconds": rounded(self.cpu.bench.as_secs_f64()),
                "bench_ms_per_login": rounded(self.own_cost()),
                "server_seconds": self.cpu.server.map(|cpu| rounded(cpu.as_secs_f64())),
                "service_seconds": self.cpu.service.map(|cpu| rounded(cpu.as_secs_f64())),
                "bench_share": self.cpu.share().map(rounded),
            },
        })
    }

    pub(super) fn text(&self) -> String {
        let latencies = &self.run.latencies;
        let mut lines = vec![
            format!(
                "{:.1} logins/s: {} logins in {:.2} s, {} at once, {} users by {}{}",
                self.rate(self.logins()),
                self.logins(),
                self.elapsed.as_secs_f64(),
                self.concurrency,
                self.users,
                self.kind.name(),
                if self.interrupted { " (interrupted)" } else { "" },
            ),
            String::new(),
        ];
        if self.logins() > 0 {
            let mut parts: Vec<String> = PERCENTILES
                .into_iter()
                .map(|(name, _, share)| format!("{name} {}", shown(latencies.percentile(share))))
                .collect();
            parts.push(format!("max {}", shown(latencies.max())));
            lines.push(format!("latency  {}", parts.join(", ")));
        }
        lines.push(format!("failed   {}", self.run.failed()));
        for (failure, count) in self.failures() {
            lines.push(format!("         {count} {}: {}", failure.code(), failure.meaning()));
        }
        let mut cost = format!(
            "cost     the bench itself used {:.2} s of CPU, {:.3} ms a login",
            self.cpu.bench.as_secs_f64(),
            self.own_cost()
        );
        for (name, cpu) in [("nats-server", self.cpu.server), ("nats-callout", self.cpu.service)] {
            if let Some(cpu) = cpu {
                cost.push_str(&format!("; {name} {:.2} s", cpu.as_secs_f64()));
            }
        }
        if let Some(share) = self.cpu.share() {
            cost.push_str(&format!(": {:.0} % of the whole is the bench's", share * 100.0));
        }
        lines.push(cost);
        lines.join("\n")
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn millis(duration: Duration) -> Value {
    json!(rounded(duration.as_secs_f64() * 1e3))
}

fn shown(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
