//! A play of clients that have all lost their connections, on servers such as nats-server: an attempt is a piece of
//! work that waits in line, whoever it is of, and so is an answer; between the two the service chooses who is
//! answered next, as `service::turns` does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// How libraries come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    /// Go, C: they wait before the first attempt too.
    Go,
    /// Python, Java.
    Python,
    /// Node.
    Node,
    /// Rust: at once, and each time after twice as long, up to four seconds.
    Rust,
}

impl Library {
    pub(crate) const ALL: [Self; 4] = [Self::Go, Self::Python, Self::Node, Self::Rust];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Go => "Go, C",
            Self::Python => "Python, Java",
            Self::Node => "Node",
            Self::Rust => "Rust",
        }
    }

    /// How many seconds it waits before an attempt; none has been made before the first.
    fn pause(self, made: u32) -> f64 {
        match (self, made) {
            (Self::Go, _) => 2.0,
            (_, 0) => 0.0,
            (Self::Python | Self::Node, _) => 2.0,
            (Self::Rust, made) => (0.001 * 2_f64.powi(made.min(12) as i32)).min(4.0),
        }
    }

    /// How many seconds it waits for its login.
    const fn patience(self) -> f64 {
        match self {
            Self::Go | Self::Python => 2.0,
            Self::Node => 20.0,
            Self::Rust => 5.0,
        }
    }
}

/// The servers, as one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers {
    /// Logins a second, at most.
    pub(crate) rate: f64,
    /// What part of a login's work comes before the answer.
    pub(crate) before: f64,
    /// `authorization.timeout`, in seconds.
    pub(crate) timeout: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Crowd {
    servers: Servers,
    library: Library,
    clients: Vec<Client>,
    coming: BinaryHeap<Reverse<(u64, usize)>>,
    line: VecDeque<Work>,
    waiting: VecDeque<Request>,
    under_way: usize,
    random: TestRng,
}

#[derive(Debug, Clone, Copy, Default)]
struct Client {
    attempts: u32,
    gives_up: f64,
    is_in: bool,
}

/// A client's attempt, by its number.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    client: usize,
    number: u32,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Ask(Attempt),
    Answer(Attempt),
}

#[derive(Debug, Clone, Copy)]
struct Request {
    since: f64,
    attempt: Attempt,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// When each was in, in order.
    admitted: Vec<f64>,
    clients: usize,
    /// Of a client, on average.
    pub(crate) attempts: f64,
}

/// As `service::turns` has them.
const WINDOW: usize = 256;
const FEW: usize = 16;

/// It is not played for longer.
const LONGEST: f64 = 3_600.0;

impl Crowd {
    pub(crate) fn new(clients: u64, servers: Servers, library: Library) -> Self {
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let clients = vec![Client::default(); usize::try_from(clients).expect("a number")];
        let (coming, line, waiting) = (BinaryHeap::new(), VecDeque::new(), VecDeque::new());
        Self { servers, library, clients, coming, line, waiting, under_way: 0, random }
    }

    pub(crate) fn play(mut self) -> Ended {
        let clients = self.clients.len();
        for client in 0..clients {
            self.comes_after(client, 0.0);
        }
        let (mut admitted, mut now) = (Vec::new(), 0.0_f64);
        while admitted.len() < clients && now < LONGEST {
            self.take_who_comes(now);
            self.call(now);
            let Some(work) = self.line.pop_front() else {
                let Some(Reverse((at, _))) = self.coming.peek() else { break };
                now = seconds(*at).max(now);
                continue;
            };
            let Servers { rate, before, .. } = self.servers;
            match work {
                Work::Ask(attempt) => {
                    now += before / rate;
                    self.waiting.push_back(Request { since: now, attempt });
                }
                Work::Answer(Attempt { client, number }) => {
                    now += (1.0 - before) / rate;
                    self.under_way -= 1;
                    let client = &mut self.clients[client];
                    if client.attempts == number && now <= client.gives_up {
                        client.is_in = true;
                        admitted.push(now);
                    }
                }
            }
        }
        let made: u64 = self.clients.iter().map(|it| u64::from(it.attempts)).sum();
        Ended { admitted, clients, attempts: made as f64 / clients as f64 }
    }

    /// A client tries anew, some time after it has given up.
    fn comes_after(&mut self, client: usize, gave_up: f64) {
        let jitter: f64 = self.random.random_range(0.0..0.1);
        let at = gave_up + self.library.pause(self.clients[client].attempts) + jitter;
        // In microseconds, so that they have an order.
        self.coming.push(Reverse(((at * 1e6) as u64, client)));
    }

    fn take_who_comes(&mut self, now: f64) {
        while let Some(Reverse((at, client))) = self.coming.peek().copied()
            && seconds(at) <= now
        {
            self.coming.pop();
            let waits = self.library.patience().min(self.servers.timeout);
            let it = &mut self.clients[client];
            if !it.is_in {
                it.attempts += 1;
                it.gives_up = seconds(at) + waits;
                let (number, gives_up) = (it.attempts, it.gives_up);
                self.line.push_back(Work::Ask(Attempt { client, number }));
                self.comes_after(client, gives_up);
            }
        }
    }

    /// The service answers whom it may.
    fn call(&mut self, now: f64) {
        let patience = self.library.patience().min(self.servers.timeout);
        let old = patience - (patience / 4.0).max(1.0);
        let is_over = |it: &Request| now - it.since >= 0.9 * self.servers.timeout;
        while self.waiting.pop_front_if(|it| is_over(it)).is_some() {}
        while self.under_way < WINDOW {
            // In order, so that those who have gone are in front.
            let (Some(first), Some(last)) = (self.waiting.front(), self.waiting.back()) else {
                return;
            };
            let age = |it: &Request| now - it.since;
            let next = match (age(first) >= old, age(last) >= patience) {
                (_, true) if self.under_way >= FEW => return,
                (true, _) => self.waiting.pop_back(),
                (false, _) => self.waiting.pop_front(),
            };
            self.under_way += 1;
            self.line.extend(next.map(|it| Work::Answer(it.attempt)));
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl Ended {
    /// When this part of all was in.
    pub(crate) fn after(&self, part: f64) -> String {
        let nth = (self.clients as f64 * part).ceil() as usize;
        match self.admitted.get(nth.saturating_sub(1)) {
            Some(at) => format!("{at:.0} s"),
            None => format!("not within {LONGEST:.0} s"),
        }
    }
}
