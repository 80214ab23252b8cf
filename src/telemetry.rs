//! Decisions as metrics, through the facade of the crate `metrics`: an application sees them in
//! whichever recorder it has installed, and the program in its own (`daemon`), which it serves on
//! `/metrics`.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use strum::IntoEnumIterator as _;

use crate::audit::{Late, Observer, Rejection};
use crate::authn::DenyReason;
use crate::authorize::{Fault, Outcome, Stage, Verdict};

/// Decisions, by `outcome` (`granted`, `denied`, `aborted`, `late`) and `reason`; of late ones it is what
/// they would have been.
const DECISIONS: &str = "nats_callout_decisions_total";

/// Grants that a server did not take, by `reason` (`connections`: the account has as many as it may;
/// `answer`: the answer is of no use to it; `late`: it had given up, which was not known at first).
const REJECTED: &str = "nats_callout_grants_rejected_total";

/// From a request's arrival to its decision.
const DECISION_SECONDS: &str = "nats_callout_decision_seconds";

/// One `stage` of a decision.
const STAGE_SECONDS: &str = "nats_callout_stage_seconds";

/// How long an answer is on its way through the server that it is sent to.
const REPLY_WAY_SECONDS: &str = "nats_callout_reply_way_seconds";

/// Counts outcomes and notes how long they took. All handles are looked up when it is made, so it
/// belongs to the recorder that is current then.
pub(crate) struct DecisionMetrics {
    granted: Counter,
    denied: Vec<Counter>,
    aborted: Vec<(&'static str, Counter)>,
    rejected: [Counter; 3],
    late: [Counter; 2],
    seconds: Histogram,
    reply_way: Histogram,
    stages: Vec<Histogram>,
}

impl DecisionMetrics {
    /// Registers everything with the current recorder.
    #[must_use]
    pub(crate) fn new() -> Self {
        describe_counter!(DECISIONS, "Decisions, by outcome and reason");
        describe_counter!(REJECTED, "Grants that a server did not take, by reason");
        describe_histogram!(
            DECISION_SECONDS,
            Unit::Seconds,
            "From a request's arrival to its decision"
        );
        describe_histogram!(
            REPLY_WAY_SECONDS,
            Unit::Seconds,
            "How long an answer is on its way through nats-server, measured every second"
        );
        describe_histogram!(STAGE_SECONDS, Unit::Seconds, "One stage of a decision");
        let decisions =
            |outcome, reason| counter!(DECISIONS, "outcome" => outcome, "reason" => reason);
        Self {
            granted: decisions("granted", ""),
            denied: DenyReason::iter().map(|reason| decisions("denied", reason.code())).collect(),
            aborted: Fault::CODES.map(|code| (code, decisions("aborted", code))).to_vec(),
            rejected: ["answer", "connections", "late"]
                .map(|reason| counter!(REJECTED, "reason" => reason)),
            late: ["granted", "denied"].map(|reason| decisions("late", reason)),
            seconds: histogram!(DECISION_SECONDS),
            reply_way: histogram!(REPLY_WAY_SECONDS),
            stages: Stage::iter()
                .map(|stage| histogram!(STAGE_SECONDS, "stage" => stage.name()))
                .collect(),
        }
    }

    fn counter(&self, outcome: &Outcome) -> Option<&Counter> {
        match outcome {
            Outcome::Reply(reply) => match &reply.verdict {
                Verdict::Granted { .. } => Some(&self.granted),
                Verdict::Denied { denied, .. } => self.denied.get(denied.reason as usize),
            },
            Outcome::NoReply(no_reply) => {
                let code = no_reply.fault.code();
                self.aborted.iter().find(|(known, _)| *known == code).map(|(_, counter)| counter)
            }
        }
    }
}

impl Default for DecisionMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DecisionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionMetrics").finish_non_exhaustive()
    }
}

impl Observer for DecisionMetrics {
    fn observe(&self, outcome: &Outcome, took: Duration) {
        if let Some(counter) = self.counter(outcome) {
            counter.increment(1);
        }
        self.seconds.record(took);
        let Outcome::Reply(reply) = outcome else { return };
        for (stage, histogram) in Stage::iter().zip(&self.stages) {
            if let Some(spent) = reply.timings.of(stage) {
                histogram.record(spent);
            }
        }
    }

    fn rejected(&self, rejection: &Rejection) {
        let [answer, connections, _] = &self.rejected;
        if rejection.is_limit() { connections } else { answer }.increment(1);
    }

    fn late(&self, late: &Late) {
        let ([_, _, rejected], [granted, denied]) = (&self.rejected, &self.late);
        if late.was_shown {
            return rejected.increment(1);
        }
        if late.is_grant { granted } else { denied }.increment(1);
        self.seconds.record(late.took);
    }

    fn reply_way(&self, took: Duration) {
        self.reply_way.record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let mut names: Vec<&str> = DenyReason::iter().map(DenyReason::code).collect();
        for (place, reason) in DenyReason::iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        names.extend(Fault::CODES);
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
