//! What the service says of its own decisions, on `/metrics` of its instances.

use std::time::Duration;

use futures_util::future::join_all;

use crate::admin::endpoint::get;

/// For one instance's answer. Nothing is measured while it is waited for, and whoever has been overloaded takes long.
const PATIENCE: Duration = Duration::from_secs(10);

const DECISION: &str = "nats_callout_decision_seconds";
const STAGE: &str = "nats_callout_stage_seconds";
const WAY: &str = "nats_callout_reply_way_seconds";
const DECISIONS: &str = "nats_callout_decisions_total";
const SHED: &str = "nats_callout_requests_shed_total";

const ABORTED: &str = "outcome=\"aborted\"";
const DROPPED: &str = "reason=\"shed\"";
const TURN: &str = "stage=\"turn\"";

/// The stage that every answer has.
const LAST: &str = "stage=\"seal\"";

/// What sums of the same numbers may differ by.
const NOISE: f64 = 1e-6;

/// So many of something, and for how long all of them went on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Taken {
    pub(super) count: f64,
    pub(super) seconds: f64,
}

impl Taken {
    fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, seconds: self.seconds + other.seconds }
    }

    /// What there was since `earlier`; `None` where it began anew.
    fn since(self, earlier: Self) -> Option<Self> {
        let seconds = self.seconds - earlier.seconds;
        let since = Self { count: self.count - earlier.count, seconds: seconds.max(0.0) };
        (since.count >= 0.0 && seconds >= -NOISE).then_some(since)
    }

    /// How long one went on.
    pub(super) fn mean(self) -> Option<Duration> {
        let mean = (self.count > 0.0).then(|| self.seconds / self.count)?;
        Duration::try_from_secs_f64(mean).ok()
    }
}

/// What instances have decided so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Decided {
    /// All decisions, from when their requests arrived.
    pub(super) all: Taken,
    /// Of those that were answered: the wait for a turn, and all else.
    pub(super) turns: Taken,
    pub(super) stages: Taken,
    /// Answers on their way through nats-server, of which some are measured.
    pub(super) ways: Taken,
    /// Decisions that ended without an answer, and requests that nobody looked at.
    pub(super) unanswered: f64,
}

impl Decided {
    fn plus(self, other: Self) -> Self {
        Self {
            all: self.all.plus(other.all),
            turns: self.turns.plus(other.turns),
            stages: self.stages.plus(other.stages),
            ways: self.ways.plus(other.ways),
            unanswered: self.unanswered + other.unanswered,
        }
    }

    /// What was decided since `earlier`; `None` where an instance began anew.
    pub(super) fn since(self, earlier: Self) -> Option<Self> {
        let since = Self {
            all: self.all.since(earlier.all)?,
            turns: self.turns.since(earlier.turns)?,
            stages: self.stages.since(earlier.stages)?,
            ways: self.ways.since(earlier.ways)?,
            unanswered: self.unanswered - earlier.unanswered,
        };
        (since.unanswered >= 0.0).then_some(since)
    }

    /// How long one took without the wait for its turn. Of those without an answer it is not known what they
    /// waited for: they count only where there are no others.
    pub(super) fn own(self) -> Option<Duration> {
        self.stages.mean().or_else(|| self.all.mean())
    }

    /// How long one waited for its turn.
    pub(super) fn turn(self) -> Duration {
        self.turns.mean().unwrap_or_default()
    }

    /// How long an answer was on its way through nats-server.
    pub(super) fn way(self) -> Duration {
        self.ways.mean().unwrap_or_default()
    }
}

/// What all instances together say; `None` if one of them says nothing.
pub(super) async fn ask(instances: &[String]) -> Option<Decided> {
    let answers = join_all(instances.iter().map(|at| async move {
        tokio::time::timeout(PATIENCE, get(at.as_str(), "/metrics")).await.ok()?.ok()
    }));
    let mut all = Decided::default();
    for answer in answers.await {
        all = all.plus(parse(&answer?)?);
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
    let taken = |name: &str, label: &str| {
        let count = sum(&format!("{name}_count"), label)?;
        Some(Taken { count, seconds: sum(&format!("{name}_sum"), label)? })
    };
    let turns = taken(STAGE, TURN).unwrap_or_default();
    let answered = taken(STAGE, LAST).unwrap_or_default().count;
    let seconds = sum(&format!("{STAGE}_sum"), "").unwrap_or(0.0) - turns.seconds;
    let dropped = sum(DECISIONS, DROPPED).unwrap_or(0.0);
    Some(Decided {
        all: taken(DECISION, "")?,
        turns,
        stages: Taken { count: answered, seconds },
        ways: taken(WAY, "").unwrap_or_default(),
        // Whoever is dropped while waiting for a turn is in both.
        unanswered: sum(DECISIONS, ABORTED).unwrap_or(0.0) - dropped
            + sum(SHED, "").unwrap_or(dropped),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "HTTP/1.0 200 OK\r\n\r\n# HELP x\n\
        nats_callout_decision_seconds_bucket{le=\"0.5\"} 4\n\
        nats_callout_decision_seconds_sum 3.5\n\
        nats_callout_decision_seconds_count 4\n\
        nats_callout_stage_seconds_bucket{stage=\"turn\",le=\"0.5\"} 2\n\
        nats_callout_stage_seconds_sum{stage=\"verify\"} 0.25\n\
        nats_callout_stage_seconds_count{stage=\"verify\"} 2\n\
        nats_callout_stage_seconds_sum{stage=\"turn\"} 1.5\n\
        nats_callout_stage_seconds_count{stage=\"turn\"} 2\n\
        nats_callout_stage_seconds_sum{stage=\"seal\"} 0.25\n\
        nats_callout_stage_seconds_count{stage=\"seal\"} 2\n\
        nats_callout_reply_way_seconds_sum 1\n\
        nats_callout_reply_way_seconds_count 8\n\
        nats_callout_reply_way_longest_seconds 9\n\
        nats_callout_decisions_total{outcome=\"granted\",reason=\"\"} 3\n\
        nats_callout_decisions_total{outcome=\"aborted\",reason=\"deadline\"} 1\n\
        nats_callout_decisions_total{outcome=\"aborted\",reason=\"request\"} 2\n\
        nats_callout_decisions_total{outcome=\"aborted\",reason=\"shed\"} 4\n";

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn metrics_are_summed() {
        let decided = parse(METRICS).unwrap();
        let expected = Decided {
            all: Taken { count: 4.0, seconds: 3.5 },
            turns: Taken { count: 2.0, seconds: 1.5 },
            stages: Taken { count: 2.0, seconds: 0.5 },
            ways: Taken { count: 8.0, seconds: 1.0 },
            unanswered: 7.0,
        };
        assert_eq!(decided, expected);
        assert_eq!(decided.all.mean(), Some(millis(875)));
        assert_eq!(decided.own(), Some(millis(250)));
        assert_eq!((decided.turn(), decided.way()), (millis(750), millis(125)));
        assert_eq!(decided.since(decided).unwrap().own(), None);
        assert_eq!(Decided::default().since(decided), None);
        assert_eq!(decided.plus(decided).unanswered, 14.0);
        assert_eq!(parse("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }

    #[test]
    fn whoever_is_dropped_counts_once() {
        let unanswered = |more: &str| parse(&format!("{METRICS}{more}")).unwrap().unanswered;
        assert_eq!(unanswered("nats_callout_requests_shed_total 4\n"), 7.0);
        // Some were dropped before they were looked at.
        assert_eq!(unanswered("nats_callout_requests_shed_total 5\n"), 8.0);
    }

    #[test]
    fn without_an_answer_all_that_is_known_counts() {
        let all = Taken { count: 4.0, seconds: 8.0 };
        let decided = Decided { all, unanswered: 4.0, ..Decided::default() };
        assert_eq!((decided.own(), decided.turn()), (Some(millis(2_000)), Duration::ZERO));
    }
}
