//! `bench`: measures how fast a running deployment logs clients in, with real connections over the
//! bare protocol. It is a closed loop: so many logins are under way at once, and the next one
//! begins when one has ended.

mod cost;
mod histogram;
mod login;
mod progress;
mod report;
mod users;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use strum::EnumCount as _;
use tokio_util::sync::CancellationToken;

use self::cost::Processes;
use self::histogram::Histogram;
use self::login::Failure;
use self::report::Report;
use self::users::{Requests, Temporary};
use super::output::Output;
use super::{Context, Usage, load, up};
use crate::config::Files;
use crate::config::units::parse_duration;
use crate::store::Isolation;

/// A pause after a failure that came without any work, so that a dead server is not stormed.
const BACK_OFF: Duration = Duration::from_millis(20);

/// How long a run of so many logins may take.
const LONG: Duration = Duration::from_secs(24 * 3_600);

/// Descriptors beside those of the connections.
const OTHER_FILES: u64 = 64;

/// Paragraphs, wrapped to the terminal.
const HOW_TO_READ: &str = "\
How to read the result:

logins/s: successful logins in a second. Each is a TCP connection, CONNECT, the decision of \
nats-callout and the server's PONG, and the connection is closed.

latency: from the beginning of the TCP connection to the PONG, of successful logins. p99 is what 99 \
of 100 stayed within. It is a closed loop: once the deployment is saturated, more --concurrency \
makes latency grow and no more logins/s (logins/s x latency = concurrency).

failed: by what the client saw. `refused` is also what a server says when the service gave it no \
answer within 2 s.

cost: CPU time of the bench itself beside that of nats-server and nats-callout, where they run on \
this machine (Linux). Where all share its cores, what the bench uses is missing to the others: its \
part should be small.

The first login of each user with a password costs a password hash, later ones do not while the \
service remembers the password ([cache] password_idle): leave the first out with --warm-up, or \
measure hashing with many users.

Lines of --users are USER:PASSWORD (or USER,PASSWORD), or tokens with --kind token.";

/// Measures how fast clients are logged in
#[derive(Debug, Args)]
#[command(after_help = HOW_TO_READ)]
pub(super) struct BenchArgs {
    /// Logins under way at once
    #[arg(short, long, value_name = "N", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    concurrency: u32,
    /// How long to measure
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = time)]
    duration: Duration,
    /// Measure so many logins instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,
    /// Log in for so long before measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    warm_up: Duration,
    /// What users log in with
    #[arg(short, long, value_enum, default_value_t = Kind::Password)]
    kind: Kind,
    /// The users, a line each; `-` is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "create")]
    users: Option<PathBuf>,
    /// Make so many users in a temporary tenant, which is removed at the end [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    create: Option<u32>,
    /// How the temporary tenant is kept apart: `account` or `shared`
    #[arg(long, value_name = "HOW", conflicts_with = "users")]
    isolation: Option<Isolation>,
    /// How long one login may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    timeout: Duration,
    /// The server, where not [nats] url: nats://HOST:PORT; with --users, no configuration is needed
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Kinds of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A user name and a password
    Password,
    /// A token
    Token,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Token => "token",
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

pub(super) async fn run(args: &BenchArgs, file: &Path, output: Output) -> anyhow::Result<()> {
    // Another machine than the deployment's has neither its configuration nor its table.
    let config = match (&args.url, &args.users) {
        (Some(_), Some(_)) => None,
        _ => Some(load(file, Files::Unchecked)?),
    };
    let urls = match (&args.url, &config) {
        (Some(url), _) => std::slice::from_ref(url),
        (None, Some(config)) => config.nats.urls.as_slice(),
        (None, None) => &[],
    };
    let addresses = resolve(urls).await?;
    allow_files(args.concurrency)?;
    let stop = up::stop_on_signal()?;
    let report = match (&args.users, config) {
        (Some(file), _) => measure(args, addresses, users::read(file, args.kind)?, &stop).await,
        (None, Some(config)) => {
            let context = Context::open(config, output).await?;
            with_temporary_users(args, addresses, &context, &stop).await
        }
        (None, None) => Err(Usage("name the users with --users".to_owned()).into()),
    }?;
    output.print(&report.json(), || report.text())?;
    if report.logins() == 0 {
        bail!("not one login succeeded; see `failed` above, and `nats-callout doctor`");
    }
    Ok(())
}

/// Makes the users, measures, and removes them whatever happens.
async fn with_temporary_users(
    args: &BenchArgs,
    addresses: Vec<SocketAddr>,
    context: &Context,
    stop: &CancellationToken,
) -> anyhow::Result<Report> {
    let run = if args.count.is_some() { LONG } else { args.warm_up + args.duration };
    let temporary = Temporary::make(context, args.isolation, run).await?;
    let count = args.create.unwrap_or(10) as usize;
    let filled = tokio::select! {
        filled = temporary.fill(context, args.kind, count) => filled,
        () = stop.cancelled() => Err(anyhow!("interrupted before it began")),
    };
    let report = match filled {
        Ok(requests) => measure(args, addresses, requests, stop).await,
        Err(error) => Err(error),
    };
    temporary.remove(context).await;
    report
}

/// The addresses of all servers.
async fn resolve(urls: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for url in urls {
        let host = url.strip_prefix("nats://").ok_or_else(|| {
            Usage(format!(
                "{url}: bench speaks plain TCP alone; name one with --url nats://HOST:PORT"
            ))
        })?;
        let host = host.trim_end_matches('/');
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:4222") };
        let mut found = tokio::net::lookup_host(&host)
            .await
            .with_context(|| format!("cannot find the host of {url}"))?;
        addresses.push(found.next().with_context(|| format!("{url} has no address"))?);
    }
    Ok(addresses)
}

/// Raises the limit on open files as far as it is needed.
fn allow_files(connections: u32) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let needed = u64::from(connections) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!(Usage(format!(
            "--concurrency {connections} needs {needed} open files, and this process may have {}; \
             raise it with `ulimit -n {needed}` (as root), or use fewer",
            limit.maximum.unwrap_or_default()
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .with_context(|| format!("cannot allow {needed} open files; run `ulimit -n {needed}`"))
}

/// What all connections share.
#[derive(Debug)]
struct Run {
    addresses: Vec<SocketAddr>,
    requests: Requests,
    timeout: Duration,
    next: AtomicUsize,
    latencies: Histogram,
    failures: [AtomicU64; Failure::COUNT],
}

impl Run {
    /// One login of the next user.
    async fn login(&self, buffer: &mut [u8; login::BUFFER]) -> (Result<(), Failure>, Duration) {
        let turn = self.next.fetch_add(1, Relaxed);
        let address = self.addresses.get(turn % self.addresses.len());
        let request = self.requests.get(turn % self.requests.len());
        let (Some(address), Some(request)) = (address, request) else {
            return (Err(Failure::Other), Duration::ZERO);
        };
        let begin = Instant::now();
        let attempt = login::login(*address, request, buffer);
        let result = match tokio::time::timeout(self.timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        };
        (result, begin.elapsed())
    }

    fn note(&self, result: Result<(), Failure>, latency: Duration) {
        match result {
            Ok(()) => self.latencies.record(latency),
            Err(failure) => {
                if let Some(counter) = self.failures.get(failure as usize) {
                    counter.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn failed(&self) -> u64 {
        self.failures.iter().map(|counter| counter.load(Relaxed)).sum()
    }

    /// Logs in, over and over, `connections` at once, until `stop` or for `tickets` logins; those
    /// under way end first.
    async fn log_in(
        self: &Arc<Self>,
        connections: u32,
        noted: bool,
        tickets: Option<i64>,
        stop: &CancellationToken,
    ) {
        let tickets = tickets.map(|count| Arc::new(AtomicI64::new(count)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (run, stop, tickets) = (Arc::clone(self), stop.clone(), tickets.clone());
            tasks.spawn(async move {
                let mut buffer = Box::new([0; login::BUFFER]);
                while !stop.is_cancelled()
                    && tickets.as_ref().is_none_or(|left| left.fetch_sub(1, Relaxed) > 0)
                {
                    let (result, latency) = run.login(&mut buffer).await;
                    if noted {
                        run.note(result, latency);
                    }
                    if result.is_err() && latency < BACK_OFF {
                        tokio::time::sleep(BACK_OFF).await;
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn measure(
    args: &BenchArgs,
    addresses: Vec<SocketAddr>,
    requests: Requests,
    stop: &CancellationToken,
) -> anyhow::Result<Report> {
    let processes = Processes::behind(&addresses);
    let users = requests.len();
    let run = Arc::new(Run {
        addresses,
        requests,
        timeout: args.timeout,
        next: AtomicUsize::new(0),
        latencies: Histogram::new()?,
        failures: std::array::from_fn(|_| AtomicU64::new(0)),
    });
    if !args.warm_up.is_zero() {
        let warm = stop.child_token();
        let _shown =
            progress::start("warming up", Arc::clone(&run), progress::Goal::Time(args.warm_up));
        tokio::join!(
            run.log_in(args.concurrency, false, None, &warm),
            end_after(args.warm_up, &warm)
        );
    }
    let before = processes.cpu();
    let begin = Instant::now();
    let ends = stop.child_token();
    match args.count {
        Some(count) => {
            let _shown =
                progress::start("measuring", Arc::clone(&run), progress::Goal::Count(count));
            let tickets = i64::try_from(count).ok();
            run.log_in(args.concurrency, true, tickets, &ends).await;
        }
        None => {
            let goal = progress::Goal::Time(args.duration);
            let _shown = progress::start("measuring", Arc::clone(&run), goal);
            tokio::join!(
                run.log_in(args.concurrency, true, None, &ends),
                end_after(args.duration, &ends)
            );
        }
    }
    Ok(Report {
        elapsed: begin.elapsed(),
        cpu: processes.cpu().since(before),
        run,
        concurrency: args.concurrency,
        users,
        kind: args.kind,
        warm_up: args.warm_up,
        interrupted: stop.is_cancelled(),
    })
}

async fn end_after(time: Duration, ends: &CancellationToken) {
    let _ = ends.run_until_cancelled(tokio::time::sleep(time)).await;
    ends.cancel();
}
