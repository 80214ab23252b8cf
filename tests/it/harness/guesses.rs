//! Logins from many addresses, and an attacker who sends a steady stream of wrong passwords. On
//! Linux everything in 127.0.0.0/8 is this machine, so each address is a source of its own.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;

/// How a login from somewhere ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Admitted,
    /// In good time: it was decided.
    Refused,
    /// When the server had waited in vain, or nothing came.
    Unanswered,
}

/// A refusal later than this is the server's own, which waits for 2 s.
const DECIDED: Duration = Duration::from_millis(1_950);

/// No server takes longer.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// The `n`th of some sources; `net` tells those of several tests apart.
pub(crate) fn source(net: u8, n: u32) -> Ipv4Addr {
    let [_, _, high, low] = n.to_be_bytes();
    Ipv4Addr::new(127, net, high, low.wrapping_add(1))
}

/// Logs in once from this address.
pub(crate) async fn login(from: Ipv4Addr, port: u16, credentials: &Value) -> (Ended, Duration) {
    let begun = Instant::now();
    let ended = match tokio::time::timeout(GIVEN_UP, verdict(from, port, credentials)).await {
        Ok(Ok(true)) => Ended::Admitted,
        Ok(Ok(false)) if begun.elapsed() < DECIDED => Ended::Refused,
        _ => Ended::Unanswered,
    };
    (ended, begun.elapsed())
}

async fn verdict(from: Ipv4Addr, port: u16, credentials: &Value) -> std::io::Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddrV4::new(from, 0).into())?;
    let stream = socket.connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).await?;
    // Closed without lingering: there are more guesses in a minute than ports.
    stream.set_zero_linger()?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut options = json!({"verbose": false, "pedantic": false, "lang": "raw", "version": "0"});
    for (name, value) in credentials.as_object().expect("an object") {
        options[name] = value.clone();
    }
    stream.write_all(format!("CONNECT {options}\r\nPING\r\n").as_bytes()).await?;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("PONG") {
            return Ok(true);
        }
        if line.starts_with("-ERR") {
            return Ok(false);
        }
    }
}

/// A wrong password of this user.
pub(crate) fn password(user: &str, n: u32) -> Value {
    json!({"user": user, "pass": format!("guess number {n}")})
}

/// How the attacker goes about it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Guesses a second.
    pub(crate) rate: u32,
    /// From so many addresses in turn.
    pub(crate) sources: u32,
    /// Tells the sources of several attackers apart.
    pub(crate) net: u8,
}

/// What an attacker has sent and heard.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

/// An attacker at work.
#[derive(Debug)]
pub(crate) struct Attack {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// Guesses that an attacker waits for at most; a real one gives up on some too.
const UNDER_WAY: usize = 6_000;

/// How often a few guesses go out.
const TICK: Duration = Duration::from_millis(10);

impl Attack {
    /// Sends what `guess` makes of each number.
    pub(crate) fn start(
        port: u16,
        plan: Plan,
        guess: impl Fn(u32) -> Value + Send + 'static,
    ) -> Self {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(attack(port, plan, guess, Arc::clone(&tally), Arc::clone(&stop)));
        Self { tally, stop, task }
    }

    /// Sends no more, and waits for the answers.
    pub(crate) async fn stop(self) -> Arc<Tally> {
        self.stop.store(true, Relaxed);
        self.task.await.expect("no panic");
        self.tally
    }
}

async fn attack(
    port: u16,
    plan: Plan,
    guess: impl Fn(u32) -> Value,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
) {
    let permits = Arc::new(Semaphore::new(UNDER_WAY));
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let mut sent = 0_u32;
    while !stop.load(Relaxed) {
        ticks.tick().await;
        let due = begun.elapsed().as_secs_f64() * f64::from(plan.rate);
        while f64::from(sent) < due {
            let from = source(plan.net, sent % plan.sources);
            let fields = guess(sent);
            sent += 1;
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
            tally.sent.fetch_add(1, Relaxed);
            let tally = Arc::clone(&tally);
            tokio::spawn(async move {
                let count = match login(from, port, &fields).await.0 {
                    Ended::Admitted => &tally.admitted,
                    Ended::Refused => &tally.refused,
                    Ended::Unanswered => &tally.unanswered,
                };
                count.fetch_add(1, Relaxed);
                drop(permit);
            });
        }
    }
    let all = u32::try_from(UNDER_WAY).expect("a number");
    let _ended = permits.acquire_many(all).await.expect("it is open");
}
