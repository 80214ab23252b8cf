//! What was asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::super::Usage;
use super::client::Patience;
use crate::config::units::parse_duration;
use crate::store::Isolation;

/// How long a run may take whose end is not known before: with a number of logins, with what it finds, or
/// after others have come in.
const LONG: Duration = Duration::from_secs(24 * 3_600);

/// Paragraphs, wrapped to the terminal.
pub(super) const HOW_TO_READ: &str = "\
How to read the result:

logins/s: successful logins in a second. Each is a TCP connection, CONNECT, the decision of \
nats-callout and the server's PONG, and the connection is closed.

latency: from the beginning of the TCP connection to the PONG, of successful logins. p99 is what 99 \
of 100 stayed within. Without --rate or --storm it is a closed loop: once the deployment is \
saturated, more --concurrency makes latency grow and no more logins/s (logins/s x latency = \
concurrency), and whoever would have come meanwhile is in no figure.

latency with --rate, --find-limit and --storm: from the moment at which a client meant to come, by \
the clock, until it was in, all its attempts and pauses included. A client that gave up counts with \
the time that it had waited: so a percentile is one of all clients, not of the lucky ones. logins/s is \
of those that got in while others still came.

failed: attempts, by what the client saw. `refused` is also what a server says when the service gave \
it no answer within 2 s.

bottleneck: who kept logins waiting, where the bench can know: it takes the CPU time of processes on \
this machine (Linux), and how long the service took for its decisions (--metrics).

cost: CPU time of the bench itself beside that of nats-server and nats-callout, where they run on \
this machine (Linux). Where all share its cores, what the bench uses is missing to the others: its \
part should be small.

The first login of each user with a password costs a password hash, later ones do not while the \
service remembers the password ([cache] password_idle): leave the first out with --warm-up, or \
measure hashing with many users. The first login of each tenant with an account of its own costs an \
account: measure it with --tenants N --create N --count N.

Temporary tenants of a bench that was killed end by themselves: an hour after it would have ended, and with \
--count, --hold and --find-limit, where that is not known, 25 hours after it began. `nats-callout doctor` \
names them then.

Lines of --users are USER:PASSWORD (or USER,PASSWORD), or with --kind tokens, JWTs, seeds of nkeys, or \
CERTIFICATE.pem,KEY.pem.

--url has the scheme of what is spoken: nats, tls, ws, wss, mqtt or mqtts. MQTT needs tenants with accounts \
of their own; those that the bench makes have JetStream for it.

--csv has a row for each second; --save and --json the whole result. docs/bench.md has more.";

/// How many clients come, and when.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Logins under way at once
    #[arg(short, long, value_name = "N", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) concurrency: u32,
    /// So many new clients a second, by the clock, whether or not earlier ones are in
    #[arg(long, value_name = "R", value_parser = rate, group = "shape")]
    rate: Option<f64>,
    /// Find the highest rate at which p99 stays below --p99 and no login fails
    #[arg(long, group = "shape")]
    find_limit: bool,
    /// The bound of --find-limit
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = time,
        requires = "find_limit")]
    p99: Duration,
    /// So many clients at once, which stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        group = "shape", conflicts_with_all = ["duration", "count"])]
    storm: Option<u32>,
    /// Have so many more connections open meanwhile
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) hold: u32,
    /// How long to measure [default: 10s; with --find-limit 5s, each step]
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Measure so many logins instead of a time
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "find_limit"],
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,
    /// Log in for so long before measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub(super) warm_up: Duration,
    /// How long one login may take [default: 5s; with --rate, --find-limit or --storm 2s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// The pause before a client that is not in comes again, or one that was closed; `never` [default: 2s; in the closed loop none, but for --hold]
    #[arg(long, value_name = "TIME", value_parser = retry)]
    retry: Option<Retry>,
    /// When such a client gives up [default: 30s; with --storm 60s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    give_up: Option<Duration>,
}

/// Who logs in, and where.
#[derive(Debug, Clone, Args)]
pub(super) struct WhoArgs {
    /// What users log in with
    #[arg(short, long, value_enum, default_value_t = Kind::Password)]
    pub(super) kind: Kind,
    /// The users, a line each; `-` is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "create")]
    pub(super) users: Option<PathBuf>,
    /// Make so many users in a temporary tenant, which is removed at the end [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) create: Option<u32>,
    /// Spread them over so many temporary tenants
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true,
        conflicts_with = "users", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) tenants: u32,
    /// How the temporary tenant is kept apart: `account` or `shared`
    #[arg(long, value_name = "HOW", conflicts_with = "users")]
    pub(super) isolation: Option<Isolation>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Where the deployment is.
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    /// The server, where not [nats] url, such as nats://HOST:PORT or wss://HOST:PORT; with --users,
    /// no configuration is needed
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Who vouches for the server, a PEM file, where not [nats] tls_ca
    #[arg(long, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Where an instance serves /metrics, where not [http] listen: HOST:PORT; once for each
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(super) metrics: Vec<String>,
}

/// What becomes of the result.
#[derive(Debug, Args)]
pub(super) struct ResultArgs {
    /// Write a row for each second
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// Compare with an earlier result; exit status 1 where this one is worse
    #[arg(long, value_name = "FILE")]
    pub(super) compare: Option<PathBuf>,
    /// By how many percent a figure may be worse than the earlier one
    #[arg(long, value_name = "PERCENT", default_value = "20", requires = "compare",
        value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(super) tolerance: u32,
}

/// Kinds of credentials.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(super) enum Kind {
    /// A user name and a password
    Password,
    /// A token
    Token,
    /// A JWT, of --users
    Jwt,
    /// An nkey, which signs the server's nonce
    Nkey,
    /// A client certificate, of --users
    Certificate,
}

/// The pause before another attempt.
#[derive(Debug, Clone, Copy)]
struct Retry(Option<Duration>);

pub(super) fn time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

fn retry(text: &str) -> Result<Retry, String> {
    if text == "never" { Ok(Retry(None)) } else { time(text).map(|pause| Retry(Some(pause))) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number of clients a second, 0.01 to 1000000".to_owned()),
    }
}

/// The host may be a name.
fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() =>
        {
            Ok(text.to_owned())
        }
        _ => Err("write HOST:PORT".to_owned()),
    }
}

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// So many logins under way at once.
    Closed(u32),
    /// So many new clients a second.
    Rate(f64),
    /// The highest rate with p99 below this.
    Limit(Duration),
    /// So many clients at once.
    Storm(u32),
}

/// A run to make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) patience: Patience,
    pub(super) duration: Duration,
    pub(super) count: Option<u64>,
    pub(super) warm_up: Duration,
    /// Of those who warm up, or come to be held.
    pub(super) concurrency: u32,
    pub(super) hold: u32,
}

impl LoadArgs {
    pub(super) fn plan(&self) -> Plan {
        let load = match (self.rate, self.storm) {
            (Some(rate), _) => Load::Rate(rate),
            (None, Some(clients)) => Load::Storm(clients),
            (None, None) if self.find_limit => Load::Limit(self.p99),
            (None, None) => Load::Closed(self.concurrency),
        };
        let seconds = Duration::from_secs;
        let (timeout, retry, give_up, duration) = match load {
            Load::Closed(_) => (5, 0, 30, 10),
            Load::Rate(_) => (2, 2, 30, 10),
            Load::Limit(_) => (2, 2, 30, 5),
            Load::Storm(_) => (2, 2, 60, 10),
        };
        let patience = Patience {
            timeout: self.timeout.unwrap_or(seconds(timeout)),
            retry: self.retry.map_or(Some(seconds(retry)), |retry| retry.0),
            give_up: self.give_up.unwrap_or(seconds(give_up)),
        };
        Plan {
            load,
            patience,
            duration: self.duration.unwrap_or(seconds(duration)),
            count: self.count,
            warm_up: self.warm_up,
            concurrency: self.concurrency,
            hold: self.hold,
        }
    }
}

impl Plan {
    /// How long it may take at most.
    pub(super) fn time(&self) -> Duration {
        let known = self.warm_up + self.duration + self.patience.give_up + self.patience.timeout;
        let is_search = matches!(self.load, Load::Limit(_));
        let is_open = is_search || self.count.is_some() || self.hold > 0;
        if is_open { known.max(LONG) } else { known }
    }

    /// How many connections there may be at once; `None` where that is what has to be found out.
    pub(super) fn connections(&self) -> Option<u64> {
        let clients = match self.load {
            Load::Closed(connections) | Load::Storm(connections) => u64::from(connections),
            // Truncation is the intent.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Load::Rate(rate) => {
                let waiting = (rate * self.patience.timeout.as_secs_f64()).ceil() as u64;
                self.count.map_or(waiting, |count| waiting.min(count))
            }
            Load::Limit(_) => return None,
        };
        let warms_up = if self.warm_up.is_zero() { 0 } else { u64::from(self.concurrency) };
        Some(u64::from(self.hold) + clients.max(warms_up))
    }
}

impl WhoArgs {
    pub(super) fn check(&self) -> Result<(), Usage> {
        if matches!(self.kind, Kind::Jwt | Kind::Certificate) && self.users.is_none() {
            let kind: &str = self.kind.into();
            return Err(Usage(format!("bench makes no {kind}: name a file of them with --users")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_where_a_host_and_a_port_say() {
        for right in ["127.0.0.1:9222", "localhost:9222", "[::1]:80"] {
            assert_eq!(host_and_port(right).as_deref(), Ok(right));
        }
        for wrong in ["", "localhost", ":9222", "host:", "http://host:80", "http://host/metrics"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn users_last_for_the_longest_run() {
        let seconds = Duration::from_secs;
        let patience = Patience { timeout: seconds(5), retry: None, give_up: seconds(30) };
        let plan = Plan {
            load: Load::Closed(1),
            patience,
            duration: seconds(10),
            count: None,
            warm_up: seconds(2),
            concurrency: 1,
            hold: 0,
        };
        assert_eq!(plan.time(), seconds(47));
        assert_eq!(Plan { hold: 1, ..plan }.time(), LONG);
        assert_eq!(Plan { count: Some(1), ..plan }.time(), LONG);
        let days = Plan { hold: 1, duration: LONG * 3, ..plan };
        assert!(days.time() > LONG * 3);
    }
}
