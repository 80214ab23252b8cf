//! How far a run is, on stderr: a bar on a terminal, a plain line a second elsewhere, where `indicatif`
//! draws nothing.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::super::output::printable;
use super::client::Run;

/// When a run is complete.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    Time(Duration),
    /// So many attempts.
    Count(u64),
    /// So many clients that are in.
    In(u64),
}

const WIDTH: usize = 30;

/// Shows the progress until it is dropped.
pub(super) struct Shown {
    _task: AbortOnDropHandle<()>,
    terminal: bool,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Prints a line that stays.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

pub(super) fn start(what: &'static str, run: &Arc<Run>, goal: Goal) -> Shown {
    let run = Arc::clone(run);
    let terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if terminal { 200 } else { 1_000 });
    let task = tokio::spawn(async move {
        let begin = Instant::now();
        let mut ticks = tokio::time::interval_at((begin + every).into(), every);
        let mut last = (begin, 0);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let (done, failed) = run.recorder.all(|tally| (tally.logins, tally.failed()));
            let rate = (done - last.1) as f64 / (now - last.0).as_secs_f64();
            last = (now, done);
            let elapsed = begin.elapsed();
            let share = match goal {
                Goal::Time(time) => elapsed.as_secs_f64() / time.as_secs_f64(),
                Goal::Count(count) => (done + failed) as f64 / count as f64,
                Goal::In(count) => done as f64 / count as f64,
            };
            let line = state(what, share.min(1.0), elapsed, done, failed, rate, terminal);
            let mut stderr = std::io::stderr().lock();
            let _ = if terminal {
                write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush())
            } else {
                writeln!(stderr, "{line}")
            };
        }
    });
    Shown { _task: AbortOnDropHandle::new(task), terminal }
}

fn state(
    what: &str,
    share: f64,
    elapsed: Duration,
    done: u64,
    failed: u64,
    rate: f64,
    bar: bool,
) -> String {
    let bar = if bar {
        // Truncation is the intent: between 0 and WIDTH.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let full = (share * WIDTH as f64) as usize;
        format!("[{}{}] ", "#".repeat(full), ".".repeat(WIDTH.saturating_sub(full)))
    } else {
        String::new()
    };
    format!(
        "{what}: {bar}{:3.0} %, {:.0} s, {done} logins, {failed} failed, {rate:.0} a second",
        share * 100.0,
        elapsed.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let second = Duration::from_secs(1);
        let bar = state("measuring", 0.5, second, 10, 1, 9.6, true);
        assert_eq!(
            bar,
            "measuring: [###############...............]  50 %, 1 s, 10 logins, 1 failed, 10 a second"
        );
        let plain = state("warming up", 1.0, second, 0, 0, 0.0, false);
        assert_eq!(plain, "warming up: 100 %, 1 s, 0 logins, 0 failed, 0 a second");
    }
}
