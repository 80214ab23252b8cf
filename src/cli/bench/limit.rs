//! The highest rate at which clients get in soon enough: rates are doubled until one is too much,
//! and then halved in between. What fails once may have been somebody else's: a rate is too much
//! when it fails twice.

use std::time::Duration;

use super::args::Plan;
use super::bottleneck::Bottleneck;
use super::client::Run;
use super::histogram::{millis, rounded};
use super::measure::{Ended, Subject};
use super::open::Arrivals;
use super::result::{Limit, Measured, Step};

/// Where the search begins.
const FIRST: f64 = 50.0;

/// Rates that are no nearer to each other than this are told apart.
const NEAR: f64 = 1.05;

/// Of fewer clients p99 says little.
const CLIENTS: u64 = 200;

/// After a rate that was too much, what is left of it passes by.
const REST: Duration = Duration::from_secs(1);

/// No deployment takes more.
const HIGHEST: f64 = 1e6;

/// The highest rate that passed, and the lowest that did not.
#[derive(Debug, Clone, Copy, Default)]
struct Bracket {
    passed: Option<f64>,
    failed: Option<f64>,
    /// A rate that has failed once.
    doubtful: Option<f64>,
}

impl Bracket {
    /// The next rate to try; `None` when it is found.
    fn next(self) -> Option<f64> {
        if self.doubtful.is_some() {
            return self.doubtful;
        }
        match (self.passed, self.failed) {
            (None, None) => Some(FIRST),
            (Some(passed), None) => Some(passed * 2.0).filter(|rate| *rate <= HIGHEST),
            (None, Some(failed)) => Some(failed / 2.0).filter(|rate| *rate >= 1.0),
            (Some(passed), Some(failed)) => {
                (failed / passed > NEAR).then(|| (passed * failed).sqrt())
            }
        }
    }

    fn note(&mut self, rate: f64, passed: bool) {
        match (passed, self.doubtful.take()) {
            (true, _) => self.passed = Some(rate),
            (false, None) => self.doubtful = Some(rate),
            (false, Some(_)) => self.failed = Some(rate),
        }
    }
}

/// Searches; the document is that of the highest rate that passed, or of the lowest that was tried.
/// What kept clients waiting is seen where they waited: at the lowest rate that was too much.
pub(super) async fn find(
    subject: &Subject,
    plan: &Plan,
    bound: Duration,
) -> anyhow::Result<Measured> {
    let mut bracket = Bracket::default();
    let mut steps = Vec::new();
    let (mut best, mut worst): (Option<Ended>, Option<Ended>) = (None, None);
    let mut bottleneck: Option<Bottleneck> = None;
    while let Some(rate) = bracket.next().filter(|_| !subject.stop.is_cancelled()) {
        let mut arrivals = Arrivals::during(rate, plan.duration);
        arrivals.count = arrivals.count.max(CLIENTS);
        let is_enough = |run: &Run| is_too_much(run, arrivals, bound);
        let ended = subject.try_rate(arrivals, plan.patience.timeout, is_enough).await?;
        if subject.stop.is_cancelled() {
            break;
        }
        let step = judge(&ended.run, rate, bound);
        progress(&step);
        bracket.note(rate, step.passed);
        steps.push(step);
        if step.passed {
            best = Some(ended);
        } else {
            bottleneck = Some(ended.judge());
            worst = Some(ended);
            let _ = subject.stop.run_until_cancelled(tokio::time::sleep(REST)).await;
        }
    }
    let Some(shown) = best.or(worst) else {
        anyhow::bail!("interrupted before it had tried a rate")
    };
    let mut measured = subject.document(plan, shown, None);
    if let Some(bottleneck) = bottleneck {
        measured.bottleneck = bottleneck;
    }
    measured.limit = Some(Limit { logins_per_second: bracket.passed.map(rounded), steps });
    Ok(measured)
}

/// Whether it is certain that the rate is too much.
fn is_too_much(run: &Run, arrivals: Arrivals, bound: Duration) -> bool {
    let slow = run.recorder.all(|tally| (tally.failed() > 0, tally.latencies.above(bound)));
    slow.0 || slow.1 * 100 > arrivals.count
}

fn judge(run: &Run, rate: f64, bound: Duration) -> Step {
    run.recorder.all(|tally| {
        let p99 = tally.latencies.percentile(0.99);
        let passed = tally.failed() == 0 && tally.logins > 0 && p99 <= bound;
        Step { rate: rounded(rate), p99_ms: millis(p99), failed: tally.failed(), passed }
    })
}

fn progress(step: &Step) {
    super::progress::line(&format!(
        "{:.0} clients a second: p99 {:.1} ms, {} failed: {}",
        step.rate,
        step.p99_ms,
        step.failed,
        if step.passed { "soon enough" } else { "too much" }
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a search finds where rates up to `capacity` pass.
    fn search(capacity: f64) -> (Option<f64>, u32) {
        let mut bracket = Bracket::default();
        let mut steps = 0;
        while let Some(rate) = bracket.next() {
            bracket.note(rate, rate <= capacity);
            steps += 1;
        }
        (bracket.passed, steps)
    }

    #[test]
    fn searches_end_near_the_limit() {
        for capacity in [3.0, 49.0, 50.0, 777.0, 1_480.0, 20_000.0] {
            let (found, steps) = search(capacity);
            let found = found.unwrap();
            assert!(found <= capacity && capacity < found * NEAR * 1.001, "{capacity}: {found}");
            assert!(steps < 30, "{capacity}: {steps}");
        }
        assert_eq!(search(0.0).0, None);
        assert!(search(f64::INFINITY).0.unwrap() > HIGHEST / 2.1);
    }

    #[test]
    fn one_failure_is_none() {
        let mut bracket = Bracket::default();
        bracket.note(FIRST, false);
        assert_eq!(bracket.next(), Some(FIRST));
        bracket.note(FIRST, true);
        assert_eq!(bracket.next(), Some(FIRST * 2.0));
    }
}
