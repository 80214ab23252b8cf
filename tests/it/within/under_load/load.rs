//! A constant load of logins at one or more servers, and what became of each: the only one that the
//! tests here have. Between two logins a thread rests, so that what is measured has the machine;
//! while something is done that may cost logins ([`Load::pressed`]), and in the nightly run, none does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::raw::{self, Verdict};
use crate::harness::{depth, eventually};

/// How long a thread rests.
fn rest() -> Duration {
    depth(Duration::from_millis(25), Duration::ZERO)
}

/// Before a thread looks at a node again that was left.
const LEFT: Duration = Duration::from_millis(1);

/// How a login ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Admitted,
    Refused(String),
    /// The server went away, or closed without a word: where, when and how.
    Broken(String),
}

/// One login.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    pub(crate) ended: Ended,
}

impl Attempt {
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.ended, Ended::Admitted)
    }
}

/// Those that were not admitted.
pub(crate) fn failed(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts.iter().filter(|attempt| !attempt.is_admitted()).collect()
}

/// How those were closed that got no answer.
pub(crate) fn broken(attempts: &[Attempt]) -> Vec<&str> {
    let all = attempts.iter();
    all.filter_map(|attempt| match &attempt.ended {
        Ended::Broken(how) => Some(how.as_str()),
        _ => None,
    })
    .collect()
}

#[derive(Debug)]
struct Node {
    port: u16,
    /// No login is begun here just now.
    left: AtomicBool,
    under_way: AtomicUsize,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<Node>,
    rest: Duration,
    pressed: AtomicBool,
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
    /// So many logins at the same time, at the nodes on these ports in turn.
    pub(crate) fn start(threads: usize, ports: &[u16], fields: &Value) -> Self {
        Self::start_resting(rest(), threads, ports, fields)
    }

    /// [`Self::start`] with another rest between two logins of a thread.
    pub(crate) fn start_resting(
        rest: Duration,
        threads: usize,
        ports: &[u16],
        fields: &Value,
    ) -> Self {
        let node = |&port: &u16| Node {
            port,
            left: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        };
        let shared = Arc::new(Shared {
            nodes: ports.iter().map(node).collect(),
            rest,
            pressed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            admitted: AtomicUsize::new(0),
            attempts: Mutex::default(),
        });
        let threads = (0..threads)
            .map(|thread| {
                let (shared, fields) = (Arc::clone(&shared), fields.clone());
                std::thread::spawn(move || shared.log_in_on_and_on(thread, &fields))
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits for so many more logins that were admitted.
    pub(crate) fn more(&self, more: usize) {
        let admitted = &self.shared.admitted;
        let wanted = admitted.load(SeqCst) + more;
        eventually("more logins", || (admitted.load(SeqCst) >= wanted).then_some(()));
    }

    /// Does something while as many logins as there are threads are under way.
    pub(crate) fn pressed<T>(&self, act: impl FnOnce() -> T) -> T {
        self.press();
        let result = act();
        self.ease();
        result
    }

    /// No thread rests any more.
    pub(crate) fn press(&self) {
        self.shared.pressed.store(true, SeqCst);
        self.more(self.threads.len());
    }

    /// Threads rest again.
    pub(crate) fn ease(&self) {
        self.shared.pressed.store(false, SeqCst);
    }

    /// Begins no login at a node any more, as clients do that are told of its end.
    pub(crate) fn leave(&self, node: usize) {
        self.shared.nodes[node].left.store(true, SeqCst);
    }

    /// Waits until no login is under way at a node that was left.
    pub(crate) fn wait_until_gone(&self, node: usize) {
        let node = &self.shared.nodes[node];
        assert!(node.left.load(SeqCst), "it was left");
        let is_gone = || (node.under_way.load(SeqCst) == 0).then_some(());
        eventually("the end of the logins at a node", is_gone);
    }

    /// Begins logins at a node again.
    pub(crate) fn come_back(&self, node: usize) {
        self.shared.nodes[node].left.store(false, SeqCst);
    }

    /// Ends, and gives all logins.
    pub(crate) fn end(mut self) -> Vec<Attempt> {
        self.shared.stop.store(true, SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("no thread panics");
        }
        std::mem::take(&mut self.shared.attempts.lock().expect("no thread panics"))
    }
}

impl Drop for Load {
    /// Whoever fails ends it as well.
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
    }
}

impl Shared {
    fn log_in_on_and_on(&self, thread: usize, fields: &Value) {
        let mut turn = thread;
        while !self.stop.load(SeqCst) {
            turn = (turn + 1) % self.nodes.len();
            let node = &self.nodes[turn];
            // Counted before it looks, so that whoever leaves and then sees nobody is right.
            node.under_way.fetch_add(1, SeqCst);
            let left = node.left.load(SeqCst);
            if !left {
                self.log_in(node.port, fields);
            }
            node.under_way.fetch_sub(1, SeqCst);
            if left {
                std::thread::sleep(self.rest.max(LEFT));
            } else if !self.pressed.load(SeqCst) {
                std::thread::sleep(self.rest);
            }
        }
    }

    fn log_in(&self, port: u16, fields: &Value) {
        let begun = Instant::now();
        let ended = match raw::try_connect(port, fields) {
            Ok((Verdict::Admitted, _)) => {
                self.admitted.fetch_add(1, SeqCst);
                Ended::Admitted
            }
            Ok((Verdict::Refused(words), _)) => Ended::Refused(words),
            Err(error) => {
                let at = jiff::Timestamp::now();
                Ended::Broken(format!("port {port}, {at}: {error}"))
            }
        };
        let attempt = Attempt { begun, took: begun.elapsed(), ended };
        self.attempts.lock().expect("no thread panics").push(attempt);
    }
}
