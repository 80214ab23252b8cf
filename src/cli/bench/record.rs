//! What clients meet, counted: in total, and for the second that is going on.

use std::time::Duration;

use hdrhistogram::CreationError;
use parking_lot::Mutex;
use strum::EnumCount as _;

use super::failure::Failure;
use super::histogram::Latencies;

/// What all clients of a run have met.
#[derive(Debug)]
pub(super) struct Recorder(Mutex<State>);

#[derive(Debug)]
struct State {
    all: Tally,
    second: Tally,
    now: Now,
}

/// What there is at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// Clients that have come and are not in.
    pub(super) waiting: u64,
    /// Connections that stay open.
    pub(super) open: u64,
}

/// Counts of a stretch of time.
#[derive(Debug)]
pub(super) struct Tally {
    /// Clients that came.
    pub(super) started: u64,
    /// Those that got in.
    pub(super) logins: u64,
    /// Of these, those whose first attempt did.
    pub(super) first_try: u64,
    /// Those that gave up.
    pub(super) gave_up: u64,
    /// Open connections that ended by no wish of the client.
    pub(super) closed: u64,
    /// Clients that came back after that.
    pub(super) back: u64,
    /// Attempts that failed.
    pub(super) failures: [u64; Failure::COUNT],
    /// From when a client meant to come until it was in, or gave up.
    pub(super) latencies: Latencies,
    /// By how much the bench itself was late with a client.
    pub(super) late: Latencies,
}

impl Tally {
    fn new() -> Result<Self, CreationError> {
        Ok(Self {
            started: 0,
            logins: 0,
            first_try: 0,
            gave_up: 0,
            closed: 0,
            back: 0,
            failures: [0; Failure::COUNT],
            latencies: Latencies::new()?,
            late: Latencies::new()?,
        })
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    fn clear(&mut self) {
        let Self { started, logins, first_try, gave_up, closed, back, .. } = self;
        for count in [started, logins, first_try, gave_up, closed, back] {
            *count = 0;
        }
        self.failures = [0; Failure::COUNT];
        self.latencies.clear();
        self.late.clear();
    }
}

impl Recorder {
    pub(super) fn new() -> Result<Self, CreationError> {
        let state = State { all: Tally::new()?, second: Tally::new()?, now: Now::default() };
        Ok(Self(Mutex::new(state)))
    }

    fn note(&self, change: impl Fn(&mut Tally), also: impl FnOnce(&mut Now)) {
        let mut state = self.0.lock();
        let State { all, second, now } = &mut *state;
        change(all);
        change(second);
        also(now);
    }

    /// A client comes, so much later than it meant to.
    pub(super) fn came(&self, late: Duration) {
        let change = |tally: &mut Tally| {
            tally.started += 1;
            tally.late.record(late);
        };
        self.note(change, |now| now.waiting += 1);
    }

    pub(super) fn failed(&self, failure: Failure) {
        let change = |tally: &mut Tally| {
            if let Some(count) = tally.failures.get_mut(failure as usize) {
                *count += 1;
            }
        };
        self.note(change, |_| {});
    }

    /// A client is in.
    pub(super) fn entered(&self, latency: Duration, first_try: bool) {
        let change = |tally: &mut Tally| {
            tally.logins += 1;
            tally.first_try += u64::from(first_try);
            tally.latencies.record(latency);
        };
        self.note(change, |now| now.waiting = now.waiting.saturating_sub(1));
    }

    /// A client gave up after so long.
    pub(super) fn gave_up(&self, waited: Duration) {
        let change = |tally: &mut Tally| {
            tally.gave_up += 1;
            tally.latencies.record(waited);
        };
        self.note(change, |now| now.waiting = now.waiting.saturating_sub(1));
    }

    /// A client leaves that counts no further.
    pub(super) fn left(&self) {
        self.note(|_| {}, |now| now.waiting = now.waiting.saturating_sub(1));
    }

    pub(super) fn opened(&self) {
        self.note(|_| {}, |now| now.open += 1);
    }

    /// An open connection ended: by the server, or since the client wanted it.
    pub(super) fn ended(&self, by_server: bool) {
        let change = |tally: &mut Tally| tally.closed += u64::from(by_server);
        self.note(change, |now| now.open = now.open.saturating_sub(1));
    }

    pub(super) fn back(&self) {
        self.note(|tally| tally.back += 1, |_| {});
    }

    pub(super) fn now(&self) -> Now {
        self.0.lock().now
    }

    /// Looks at all that was counted.
    pub(super) fn all<R>(&self, look: impl FnOnce(&Tally) -> R) -> R {
        look(&self.0.lock().all)
    }

    /// Looks at what was counted since the last time.
    pub(super) fn take_second<R>(&self, look: impl FnOnce(&Tally) -> R) -> R {
        let mut state = self.0.lock();
        let seen = look(&state.second);
        state.second.clear();
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_up_is_in_the_percentiles() {
        let recorder = Recorder::new().unwrap();
        let (brief, long) = (Duration::from_millis(5), Duration::from_secs(30));
        for _ in 0..60 {
            recorder.came(Duration::ZERO);
            recorder.entered(brief, true);
        }
        for _ in 0..40 {
            recorder.came(Duration::ZERO);
            recorder.failed(Failure::Timeout);
            recorder.gave_up(long);
        }
        recorder.came(brief);
        assert_eq!(recorder.now().waiting, 1);
        let seen = recorder.take_second(|tally| (tally.started, tally.logins, tally.failed()));
        assert_eq!(seen, (101, 60, 40));
        assert_eq!(recorder.take_second(|tally| tally.started), 0);
        recorder.all(|tally| {
            assert_eq!((tally.logins, tally.first_try, tally.gave_up), (60, 60, 40));
            assert!(tally.latencies.percentile(0.5) < Duration::from_millis(6));
            assert!(tally.latencies.percentile(0.7) > Duration::from_secs(29));
            assert!(tally.late.percentile(1.0) >= brief);
        });
    }
}
