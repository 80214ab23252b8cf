//! How long each stage of a decision took. The pipeline notes the end of a stage; what is between
//! two notes belongs to the later one.

use std::time::{Duration, Instant};

use strum::{EnumCount, EnumIter, IntoStaticStr};

/// A stage of a decision, in the order of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum Stage {
    /// Opening the envelope and verifying the request.
    Verify,
    /// Waiting for its turn, where many come at once.
    Turn,
    /// Finding out who it is: the look-up and the password's hash.
    Authenticate,
    /// What it may do.
    Policy,
    /// Getting the tenant's account ready: a push to all servers where it is a new one.
    Account,
    /// Signing the user JWT.
    Mint,
    /// Signing and sealing the answer.
    Seal,
}

impl Stage {
    /// The stage's name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How long the stages took; those that a decision did not come to, or that it went through before
/// it began anew, are no time at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timings([Option<Duration>; Stage::COUNT]);

impl Timings {
    /// How long the stage took, if the decision came to it.
    #[must_use]
    pub(crate) fn of(&self, stage: Stage) -> Option<Duration> {
        self.0.get(stage as usize).copied().flatten()
    }
}

/// Notes the ends of stages.
#[derive(Debug)]
pub(super) struct Stopwatch {
    last: Instant,
    timings: Timings,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { last: Instant::now(), timings: Timings::default() }
    }

    /// The stage has just ended.
    pub(super) fn note(&mut self, stage: Stage) {
        let now = Instant::now();
        if let Some(spent) = self.timings.0.get_mut(stage as usize) {
            *spent = Some(now - self.last);
        }
        self.last = now;
    }

    pub(super) fn timings(&self) -> Timings {
        self.timings
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn a_stage_has_its_own_place_and_only_what_was_noted_has_a_time() {
        for (place, stage) in Stage::iter().enumerate() {
            assert_eq!(stage as usize, place);
        }
        let mut watch = Stopwatch::start();
        watch.note(Stage::Verify);
        std::thread::sleep(Duration::from_millis(2));
        watch.note(Stage::Seal);
        let timings = watch.timings();
        assert!(timings.of(Stage::Seal).unwrap() >= Duration::from_millis(2));
        assert!(timings.of(Stage::Verify).is_some());
        assert_eq!(timings.of(Stage::Policy), None);
    }
}
