//! A constant load of logins at the nodes of a cluster, and what became of each.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::eventually;
use crate::harness::raw::{self, Verdict};

/// Logins at the same time.
const THREADS: usize = 6;

/// How a login ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Admitted,
    Refused(String),
    /// The server went away.
    Broken,
}

/// One login.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    pub(crate) ended: Ended,
}

#[derive(Debug)]
struct Shared {
    ports: Vec<u16>,
    /// Where no login is begun just now.
    left: Vec<AtomicBool>,
    stop: AtomicBool,
    admitted: AtomicUsize,
    attempts: Mutex<Vec<Attempt>>,
}

/// Threads that log in, one login after the other.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts at the nodes on these ports.
    pub(crate) fn start(ports: Vec<u16>, fields: Value) -> Self {
        Self::start_threads(THREADS, ports, fields)
    }

    /// [`Self::start`] with so many logins at the same time.
    pub(crate) fn start_threads(threads: usize, ports: Vec<u16>, fields: Value) -> Self {
        let shared = Arc::new(Shared {
            left: ports.iter().map(|_| AtomicBool::new(false)).collect(),
            ports,
            stop: AtomicBool::new(false),
            admitted: AtomicUsize::new(0),
            attempts: Mutex::default(),
        });
        let threads = (0..threads)
            .map(|thread| {
                let (shared, fields) = (Arc::clone(&shared), fields.clone());
                std::thread::spawn(move || {
                    let mut node = thread;
                    while !shared.stop.load(Ordering::Relaxed) {
                        node = (node + 1) % shared.ports.len();
                        if !shared.left[node].load(Ordering::Relaxed) {
                            shared.log_in(node, &fields);
                        }
                    }
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits for so many more logins that were admitted.
    pub(crate) fn more(&self, more: usize) {
        let admitted = &self.shared.admitted;
        let wanted = admitted.load(Ordering::Relaxed) + more;
        eventually("more logins", || (admitted.load(Ordering::Relaxed) >= wanted).then_some(()));
    }

    /// Begins no login at a node any more, as clients do that are told of its end.
    pub(crate) fn leave(&self, node: usize) {
        self.shared.left[node].store(true, Ordering::Relaxed);
    }

    /// Begins logins at a node again.
    pub(crate) fn come_back(&self, node: usize) {
        self.shared.left[node].store(false, Ordering::Relaxed);
    }

    /// Ends, and gives all logins.
    pub(crate) fn end(self) -> Vec<Attempt> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no thread panics");
        }
        std::mem::take(&mut self.shared.attempts.lock().expect("no thread panics"))
    }
}

impl Shared {
    fn log_in(&self, node: usize, fields: &Value) {
        let begun = Instant::now();
        let ended = match raw::try_connect(self.ports[node], fields) {
            Ok((Verdict::Admitted, _)) => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
                Ended::Admitted
            }
            Ok((Verdict::Refused(words), _)) => Ended::Refused(words),
            Err(_) => Ended::Broken,
        };
        let attempt = Attempt { begun, took: begun.elapsed(), ended };
        self.attempts.lock().expect("no thread panics").push(attempt);
    }
}
