//! Whether every server waits for as long as a decision may take, and whether answers are quick on their way
//! to it. Where they are not while decisions are, the server is the bottleneck.

use std::time::{Duration, Instant};

use super::callout::Watched;
use super::{Findings, http};
use crate::authn::hashing::Pace;
use crate::config::Config;
use crate::protocol::request::time_to_decide;
use crate::servers::ServerName;
use crate::servers::varz::Varz;
use crate::service;

const TIMEOUT: &str = "auth timeout";
const REPLIES: &str = "replies";

/// The way of an answer may take one part in so many of a server's time-out.
const PART: u32 = 4;

/// For how long servers wait, where none says so: nats-server's default.
pub(super) const DEFAULT: Duration = Duration::from_secs(2);

/// How often the way is measured here.
const ROUNDS: usize = 3;

/// The servers' time-outs, beside ours and how fast this machine hashes. Gives the shortest.
pub(super) fn check(
    config: &Config,
    servers: &[(ServerName, Varz)],
    pace: Option<Pace>,
    findings: &mut Findings,
) -> Duration {
    let deadline = config.callout.deadline;
    let mut shortest = None;
    for (ServerName { name, .. }, varz) in servers {
        let Some(timeout) = varz.auth_timeout() else { continue };
        shortest = Some(shortest.map_or(timeout, |other: Duration| other.min(timeout)));
        let waits = format!("{name} waits for {timeout:?} (`authorization.timeout`)");
        let decision = time_to_decide(timeout);
        match pace {
            Some(pace) if !pace.has_time_in(timeout) => findings.warn(
                TIMEOUT,
                format!("{waits}, and a password's hash takes {:?} here", pace.current()),
                "a few passwords at once are too many: give the service more cores, or raise the \
                 time-out",
            ),
            _ if decision >= timeout => findings.warn(
                TIMEOUT,
                format!(
                    "{waits}, and tells so in whole seconds: a decision may take {decision:?}, for which \
                     nobody waits then"
                ),
                "raise the time-out to 2 s, nats-server's default",
            ),
            _ if decision < deadline => findings.warn(
                TIMEOUT,
                format!(
                    "{waits}, so a decision for it has {decision:?}, and not {deadline:?} as in \
                     [callout] deadline"
                ),
                "raise the time-out, or shorten the deadline",
            ),
            _ => findings.ok(TIMEOUT, format!("{waits}, [callout] deadline is {deadline:?}")),
        }
    }
    shortest.unwrap_or(DEFAULT)
}

/// How long the server holds answers up.
pub(super) async fn way(
    config: &Config,
    auth: &Watched,
    timeout: Duration,
    findings: &mut Findings,
) {
    let Some(own) = measured(auth).await else {
        return findings.fail(
            REPLIES,
            "a message of the login AUTH to itself does not come back",
            "see nats-server's log; is it overloaded?",
        );
    };
    let told = http::metrics(config).await;
    let told = told.as_deref().and_then(Told::read);
    let longest = told.map_or(own, |told| told.way.max(own));
    let decision = told.and_then(|told| told.decision);
    let part = timeout / PART;
    let way = format!("nats-server holds an answer up for {} ms", longest.as_millis());
    if longest < part {
        return findings.ok(REPLIES, way);
    }
    let slow = decision.is_some_and(|decision| decision >= part);
    let (what, remedy) = if slow {
        ("the service is slow as well", "see the stages of a decision in its metrics")
    } else {
        ("the server is the bottleneck", "")
    };
    let decided = decision.map_or_else(String::new, |decision| {
        format!(", a decision takes {} ms", decision.as_millis())
    });
    let cores = "give nats-server more cores or more servers, or have fewer clients come at once; \
                 further instances of the service would not help";
    let remedy = if remedy.is_empty() { cores.to_owned() } else { format!("{cores}; {remedy}") };
    let what = format!("{what}: {way}{decided}, and it waits for {timeout:?}");
    if longest >= timeout {
        findings.fail(REPLIES, what, remedy);
    } else {
        findings.warn(REPLIES, what, remedy);
    }
}

/// The longest of a few ways there and back.
async fn measured(auth: &Watched) -> Option<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        service::prove(&auth.client).await.ok()?;
        longest = longest.max(begun.elapsed());
    }
    Some(longest)
}

/// What the instance on this machine says.
#[derive(Debug, Clone, Copy)]
struct Told {
    way: Duration,
    /// How long a decision takes on average, if there was one.
    decision: Option<Duration>,
}

impl Told {
    fn read(metrics: &str) -> Option<Self> {
        let value = |series: &str| -> Option<f64> {
            let rest = |line: &str| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned);
            metrics.lines().find_map(rest)?.trim().parse().ok()
        };
        let seconds = |value: f64| Duration::try_from_secs_f64(value).ok();
        let way = seconds(value("nats_callout_reply_way_longest_seconds")?)?;
        let count = value("nats_callout_decision_seconds_count").filter(|count| *count > 0.0);
        let sum = value("nats_callout_decision_seconds_sum");
        // Whoever waits for a turn waits for the server, or for decisions that take long themselves.
        let turns = value("nats_callout_stage_seconds_sum{stage=\"turn\"}").unwrap_or_default();
        let decision =
            count.zip(sum).and_then(|(count, sum)| seconds(((sum - turns) / count).max(0.0)));
        Some(Self { way, decision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instance_says_is_read() {
        let told = Told::read(
            "# TYPE nats_callout_reply_way_longest_seconds gauge\n\
             nats_callout_reply_way_longest_seconds 1.5\n\
             nats_callout_stage_seconds_sum{stage=\"turn\"} 0.2\n\
             nats_callout_decision_seconds_sum 0.7\n\
             nats_callout_decision_seconds_count 10\n",
        );
        let told = told.unwrap();
        assert_eq!(told.way, Duration::from_millis(1_500));
        assert_eq!(told.decision, Some(Duration::from_millis(50)));
        assert!(Told::read("nats_callout_ready 1\n").is_none());
    }
}
