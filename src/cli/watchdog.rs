//! Ends the process when the runtime makes no progress: an instance that hangs stays a member of
//! the queue group, and what the server sends it is lost. The service manager starts it again.
//!
//! Silence is counted in turns of the watching thread, not in time: while the process is stopped
//! or the machine sleeps, this thread makes no turns either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// How often the runtime shows that it makes progress, and how often that is looked at.
const TURN: Duration = Duration::from_millis(250);

/// How long the runtime may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the last line may take: what hangs may be the log.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Watches the runtime that it was made on until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    beating: tokio::task::JoinHandle<()>,
    ended: Arc<AtomicBool>,
}

impl Watchdog {
    /// Begins to watch the current runtime.
    pub(super) fn start() -> std::io::Result<Self> {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> std::io::Result<Self> {
        let beats = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let watching = (Arc::clone(&beats), Arc::clone(&ended));
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let (beats, ended) = watching;
            watch(&beats, &ended, patience);
        })?;
        let beating = tokio::spawn(async move {
            loop {
                beats.fetch_add(1, Relaxed);
                tokio::time::sleep(TURN).await;
            }
        });
        Ok(Self { beating, ended })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.beating.abort();
    }
}

fn watch(beats: &AtomicU64, ended: &AtomicBool, patience: Duration) {
    let (mut seen, mut silent) = (beats.load(Relaxed), Duration::ZERO);
    while silent < patience {
        std::thread::sleep(TURN);
        if ended.load(Relaxed) {
            return;
        }
        let now = beats.load(Relaxed);
        silent = if now == seen { silent + TURN } else { Duration::ZERO };
        seen = now;
    }
    // A thread of its own, which may hang as well.
    let _ = std::thread::Builder::new().spawn(move || {
        tracing::error!("the service hangs: its runtime has been silent for {patience:?}; ending");
    });
    std::thread::sleep(LAST_WORDS);
    end();
}

/// Leaves no core dump, which would hold keys.
fn end() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::Instant;

    use super::*;

    const PART: &str = "NATS_CALLOUT_WATCHDOG_TEST";

    /// Not a test by itself: the process that the tests below watch.
    #[test]
    fn process() {
        let Ok(part) = std::env::var(PART) else { return };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let _watchdog = Watchdog::with_patience(Duration::from_secs(1)).unwrap();
            if part == "hangs" {
                for _ in 0..2 {
                    tokio::spawn(async { std::thread::sleep(Duration::from_secs(60)) });
                }
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
        });
        // Without the drop's waiting for what hangs.
        std::process::exit(0);
    }

    fn spawn(part: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::watchdog::tests::process", "--nocapture"])
            .env(PART, part)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn end_of(part: &str) -> ExitStatus {
        spawn(part).wait().unwrap()
    }

    #[test]
    fn a_runtime_that_hangs_ends_the_process() {
        assert_eq!(end_of("hangs").signal(), Some(9));
    }

    #[test]
    fn a_runtime_that_runs_goes_on() {
        assert!(end_of("runs").success());
    }

    #[test]
    fn a_process_that_was_stopped_goes_on() {
        let begun = Instant::now();
        let mut child = spawn("runs");
        let pid = rustix::process::Pid::from_child(&child);
        std::thread::sleep(Duration::from_millis(700));
        kill_process(pid, Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        kill_process(pid, Signal::CONT).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(begun.elapsed() >= Duration::from_secs(3));
    }
}
