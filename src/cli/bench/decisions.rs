//! What the service says of its own decisions, on `/metrics` of its instances.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::admin::endpoint::{get, reachable};

/// For one instance's answer.
const PATIENCE: Duration = Duration::from_secs(2);

const SUM: &str = "nats_callout_decision_seconds_sum";
const COUNT: &str = "nats_callout_decision_seconds_count";
const DECISIONS: &str = "nats_callout_decisions_total";
const SHED: &str = "nats_callout_requests_shed_total";

/// What instances have decided so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decided {
    /// How many decisions.
    pub(super) count: f64,
    /// How long they took, all together.
    pub(super) seconds: f64,
    /// Those that ended without an answer, and requests that nobody looked at.
    pub(super) unanswered: f64,
}

impl Decided {
    /// What was decided since `earlier`; `None` where an instance began anew.
    pub(super) fn since(self, earlier: Self) -> Option<Self> {
        let since = Self {
            count: self.count - earlier.count,
            seconds: self.seconds - earlier.seconds,
            unanswered: self.unanswered - earlier.unanswered,
        };
        (since.count >= 0.0 && since.seconds >= 0.0 && since.unanswered >= 0.0).then_some(since)
    }

    /// How long one took.
    pub(super) fn mean(self) -> Option<Duration> {
        (self.count > 0.0).then(|| Duration::from_secs_f64(self.seconds / self.count))
    }
}

/// What all instances together say; `None` if one of them says nothing.
pub(super) async fn ask(instances: &[SocketAddr]) -> Option<Decided> {
    let answers = join_all(instances.iter().map(|at| async move {
        tokio::time::timeout(PATIENCE, get(reachable(*at), "/metrics")).await.ok()?.ok()
    }));
    let mut all = Decided::default();
    for answer in answers.await {
        let Decided { count, seconds, unanswered } = parse(&answer?)?;
        all.count += count;
        all.seconds += seconds;
        all.unanswered += unanswered;
    }
    (!instances.is_empty()).then_some(all)
}

fn parse(answer: &str) -> Option<Decided> {
    let sum = |name: &str, label: &str| {
        let values = answer.lines().filter_map(|line| {
            let (head, value) = line.rsplit_once(' ')?;
            let labels = head.strip_prefix(name)?;
            let is_it = labels.is_empty() || labels.starts_with('{');
            (is_it && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    Some(Decided {
        count: sum(COUNT, "")?,
        seconds: sum(SUM, "")?,
        unanswered: sum(DECISIONS, "outcome=\"aborted\"").unwrap_or(0.0)
            + sum(SHED, "").unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# HELP x\n\
                    nats_callout_decision_seconds_bucket{le=\"0.5\"} 4\n\
                    nats_callout_decision_seconds_sum 0.5\n\
                    nats_callout_decision_seconds_count 4\n\
                    nats_callout_decisions_total{outcome=\"granted\",reason=\"\"} 3\n\
                    nats_callout_decisions_total{outcome=\"aborted\",reason=\"deadline\"} 1\n\
                    nats_callout_decisions_total{outcome=\"aborted\",reason=\"request\"} 2\n\
                    nats_callout_requests_shed_total 5\n";
        let decided = parse(text).unwrap();
        assert_eq!(decided, Decided { count: 4.0, seconds: 0.5, unanswered: 8.0 });
        assert_eq!(decided.mean(), Some(Duration::from_millis(125)));
        assert_eq!(decided.since(decided).unwrap().mean(), None);
        assert_eq!(Decided::default().since(decided), None);
        assert_eq!(parse("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }
}
