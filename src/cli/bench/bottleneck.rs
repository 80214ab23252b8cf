//! Who kept logins waiting, as far as it can be seen from here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cost::Cpu;
use super::decisions::Decided;

/// Of the machine's time: with less of it idle, its cores are what is short.
const BUSY: f64 = 0.10;

/// Of all attempts: with fewer failed, none need an explanation.
const FAILED: f64 = 0.01;

/// A login that takes less has not waited for anybody.
const BRISK: Duration = Duration::from_millis(10);

/// Nor has one that takes less where the machine had room left and none failed: few at a time take longer.
const EASY: Duration = Duration::from_millis(50);

/// With clients that late, and by that part of what they waited, the bench measures itself.
const LATE: Duration = Duration::from_millis(20);
const LATE_PART: u32 = 4;

/// Who it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(super) enum Who {
    /// nats-server, or the network to it.
    Server,
    /// nats-callout.
    Service,
    /// The bench itself.
    Bench,
    /// Other programs on this machine.
    Others,
    /// There was room left.
    Nothing,
    /// It cannot be seen from here.
    Unknown,
}

/// A judgement, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bottleneck {
    pub(super) who: Who,
    pub(super) why: String,
}

/// What was seen of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) elapsed: Duration,
    /// Of this machine.
    pub(super) cores: f64,
    pub(super) cpu: Cpu,
    /// What the service says of itself.
    pub(super) decided: Option<Decided>,
    /// From when a client meant to come until it was in, or gave up.
    pub(super) latency: Duration,
    /// What 99 of 100 clients stayed within, by which the bench was late.
    pub(super) late: Duration,
    /// Within `elapsed`: clients that got in, and attempts that failed.
    pub(super) logins: u64,
    pub(super) failed: u64,
}

impl Evidence {
    fn cores_of(&self, used: Duration) -> f64 {
        used.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// Who used how much of the machine; `None` where the server is not on it.
    fn usage(&self) -> Option<Usage> {
        let used = |time: Duration| self.cores_of(time);
        let (server, bench) = (used(self.cpu.server?), used(self.cpu.bench));
        let service = self.cpu.service.map(used);
        let idle = used(self.cpu.idle?).min(self.cores);
        let others = self.cores - idle - server - bench - service.unwrap_or(0.0);
        Some(Usage { server, service, bench, others: others.max(0.0), idle, cores: self.cores })
    }

    /// The service's decisions, if they are those of these logins.
    fn decisions(&self) -> Option<Decided> {
        self.decided.filter(|decided| decided.all.count >= 0.5 * self.logins as f64)
    }

    fn share_failed(&self) -> f64 {
        self.failed as f64 / (self.logins + self.failed).max(1) as f64
    }

    pub(super) fn judge(&self) -> Bottleneck {
        let (usage, decisions) = (self.usage(), self.decisions());
        let cpu = usage.map_or_else(String::new, |usage| format!("; {}", usage.words()));
        let says = |who, why: String| Bottleneck { who, why: format!("{why}{cpu}") };
        let is_busy = usage.is_some_and(Usage::is_busy);
        if self.logins + self.failed == 0 && self.latency.is_zero() {
            return says(Who::Unknown, "no attempt has ended".to_owned());
        }
        let waited = self.latency > BRISK || self.share_failed() > FAILED;
        let is_ours = usage.is_some_and(|usage| usage.others < 0.5 * usage.cores);
        if !(waited || is_busy && is_ours) {
            let why = format!("a login takes {} on average", words(self.latency));
            return says(Who::Nothing, why);
        }
        if let Some(usage) = usage.filter(|_| is_busy) {
            if usage.bench > usage.server.max(usage.service.unwrap_or(0.0)) {
                return says(Who::Bench, "the bench itself uses most of the CPU".to_owned());
            }
            if !is_ours {
                return says(Who::Others, "other programs use most of the CPU".to_owned());
            }
        }
        if self.late > LATE && self.late * LATE_PART > self.latency {
            let why =
                format!("the bench was late itself with starting clients, by {:.0?}", self.late);
            return says(Who::Bench, why);
        }
        match decisions.and_then(|decided| Some((decided, decided.own()?))) {
            Some((decided, own)) => self.by_decisions(decided, own, usage, says),
            None => self.by_cpu_alone(usage, is_busy, says),
        }
    }

    fn by_decisions(
        &self,
        decided: Decided,
        own: Duration,
        usage: Option<Usage>,
        says: impl Fn(Who, String) -> Bottleneck,
    ) -> Bottleneck {
        let left = match decided.unanswered {
            count if count > 0.0 => format!("; {count:.0} requests had no answer"),
            _ => String::new(),
        };
        let says = |who, why: String| says(who, why + &left);
        let of = self.parts(decided, own);
        let unanswered = decided.unanswered / (self.logins + self.failed).max(1) as f64;
        if unanswered > FAILED && !waits_for_server(decided, own, usage) {
            return says(Who::Service, of);
        }
        // Whoever has a turn has it until the server has read the answer.
        let turn = if own > decided.way() { decided.turn() } else { Duration::ZERO };
        if (own + turn) * 2 >= self.latency {
            return says(Who::Service, of);
        }
        let why = match usage {
            Some(usage)
                if !usage.is_busy() && self.share_failed() <= FAILED && self.latency < EASY =>
            {
                return says(Who::Nothing, format!("{of}, and the machine had room left"));
            }
            Some(usage) if usage.server < usage.service.unwrap_or(0.0) => {
                return says(Who::Service, format!("{of}, and it uses more CPU than nats-server"));
            }
            Some(usage) if usage.is_busy() => of,
            _ => format!("{of}, the rest in nats-server or on the way there"),
        };
        says(Who::Server, why)
    }

    /// Where the time of a login passes.
    fn parts(&self, decided: Decided, own: Duration) -> String {
        let took = words(own);
        let mut parts = if own > self.latency {
            // Decisions about others, or about attempts that failed, are among them.
            format!("a decision takes {took} in the service")
        } else {
            format!("{took} of the {} of a login pass in the service", words(self.latency))
        };
        if decided.turn() > BRISK {
            parts.push_str(&format!(", and {} until its turn there", words(decided.turn())));
        }
        parts
    }

    fn by_cpu_alone(
        &self,
        usage: Option<Usage>,
        is_busy: bool,
        says: impl Fn(Who, String) -> Bottleneck,
    ) -> Bottleneck {
        let blind = "it is not known how long the service took: its /metrics did not answer in time, or \
                     those of all its instances are not named (--metrics)";
        match usage {
            Some(usage) if is_busy && usage.server > 2.0 * usage.service.unwrap_or(0.0) => {
                says(Who::Server, format!("it uses most of the CPU; {blind}"))
            }
            Some(usage) if is_busy && usage.service.unwrap_or(0.0) > usage.server => {
                says(Who::Service, format!("it uses most of the CPU; {blind}"))
            }
            Some(_) => says(Who::Unknown, blind.to_owned()),
            None => {
                let here = "nats-server is not on this machine, or not to be seen";
                says(Who::Unknown, format!("{here}, and {blind}"))
            }
        }
    }
}

/// Whether requests that had no answer have waited for nats-server: it has the CPU, or answers are long on
/// their way through it, and the next one has its turn when they are read.
fn waits_for_server(decided: Decided, own: Duration, usage: Option<Usage>) -> bool {
    match usage.filter(|usage| usage.is_busy()) {
        Some(usage) => usage.server >= usage.service.unwrap_or(0.0),
        None => decided.way() > own.max(BRISK),
    }
}

/// Cores in use.
#[derive(Debug, Clone, Copy)]
struct Usage {
    server: f64,
    service: Option<f64>,
    bench: f64,
    others: f64,
    idle: f64,
    cores: f64,
}

impl Usage {
    fn is_busy(self) -> bool {
        self.idle < BUSY * self.cores
    }

    fn words(self) -> String {
        let service = self.service.map_or_else(|| "elsewhere".to_owned(), |it| format!("{it:.2}"));
        format!(
            "of {} cores nats-server used {:.2}, nats-callout {service}, bench {:.2}, others {:.2}",
            self.cores, self.server, self.bench, self.others
        )
    }
}

impl Bottleneck {
    /// For a cell of a table.
    pub(super) fn word(&self) -> String {
        <&str>::from(self.who).to_owned()
    }

    pub(super) fn text(&self) -> String {
        let verdict = match self.who {
            Who::Server => "the server is the bottleneck",
            Who::Service => "the service is the bottleneck",
            Who::Bench => "the bench is the bottleneck: believe no other figure",
            Who::Others => "other programs on this machine are the bottleneck",
            Who::Nothing => "none: there was room left",
            Who::Unknown => "not known",
        };
        format!("{verdict} ({})", self.why)
    }
}

fn words(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::super::decisions::Taken;
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn each(count: f64, millis: f64) -> Taken {
        Taken { count, seconds: count * millis / 1e3 }
    }

    /// The same with the mean wait for a turn and the mean way of an answer, in milliseconds, and so many
    /// requests without an answer.
    fn queued(seen: Evidence, turn: f64, way: f64, unanswered: f64) -> Evidence {
        let decided = seen.decided.unwrap();
        let Taken { count, seconds } = decided.stages;
        let turns = each(count, turn);
        // Whoever has no answer was there for nearly two seconds.
        let all = Taken {
            count: count + unanswered,
            seconds: seconds + turns.seconds + 1.8 * unanswered,
        };
        let decided = Decided { all, turns, ways: each(100.0, way), unanswered, ..decided };
        Evidence { decided: Some(decided), ..seen }
    }

    /// Ten seconds on two cores, with this CPU of server, service and bench, and the mean of a
    /// decision and of a login in milliseconds.
    fn evidence(cpu: Option<[f64; 4]>, decision: Option<f64>, login: f64) -> Evidence {
        let count = 10_000.0;
        Evidence {
            elapsed: seconds(10.0),
            cores: 2.0,
            cpu: match cpu {
                None => Cpu { bench: seconds(1.0), ..Cpu::default() },
                Some([server, service, bench, idle]) => Cpu {
                    bench: seconds(bench),
                    server: Some(seconds(server)),
                    service: Some(seconds(service)),
                    idle: Some(seconds(idle)),
                },
            },
            decided: decision.map(|millis| Decided {
                all: each(count, millis),
                stages: each(count, millis),
                ..Decided::default()
            }),
            latency: seconds(login / 1e3),
            late: Duration::ZERO,
            logins: 10_000,
            failed: 0,
        }
    }

    #[test]
    fn verdicts() {
        let full = Some([13.0, 4.0, 2.0, 0.5]);
        for (seen, who) in [
            (evidence(full, Some(3.0), 50.0), Who::Server),
            (evidence(None, Some(3.0), 50.0), Who::Server),
            (evidence(full, None, 50.0), Who::Server),
            (evidence(full, Some(40.0), 50.0), Who::Service),
            (evidence(None, Some(40.0), 50.0), Who::Service),
            (evidence(Some([4.0, 14.0, 1.0, 0.5]), None, 50.0), Who::Service),
            (evidence(Some([4.0, 3.0, 12.0, 0.5]), Some(3.0), 50.0), Who::Bench),
            (evidence(Some([4.0, 3.0, 1.0, 0.5]), Some(3.0), 50.0), Who::Others),
            (evidence(Some([3.0, 1.0, 1.0, 15.0]), Some(0.5), 2.0), Who::Nothing),
            (evidence(Some([3.0, 1.0, 1.0, 0.0]), Some(0.5), 2.0), Who::Nothing),
            // Few logins on a machine with room left, of which the service takes more.
            (evidence(Some([0.1, 0.3, 0.1, 18.0]), Some(2.2), 10.4), Who::Nothing),
            (evidence(Some([0.1, 0.3, 0.1, 18.0]), Some(2.2), 60.0), Who::Service),
            (evidence(full, Some(0.5), 2.0), Who::Server),
            (evidence(None, None, 50.0), Who::Unknown),
            (evidence(Some([4.0, 3.0, 1.0, 12.0]), None, 50.0), Who::Unknown),
        ] {
            let found = seen.judge();
            assert_eq!(found.who, who, "{seen:?}: {}", found.text());
        }
        // Of attempts that failed, say, beside logins that took less.
        let others = evidence(full, Some(405.0), 128.0).judge().text();
        assert!(others.contains("(a decision takes 405 ms in the service"), "{others}");
        let server = evidence(full, Some(3.0), 50.0).judge().text();
        assert!(
            server.starts_with("the server is the bottleneck (3.0 ms of the 50.0 ms"),
            "{server}"
        );
    }

    /// A closed loop of a thousand, and loads beyond what is possible.
    #[test]
    fn who_waits_for_a_turn_waits_for_whoever_is_slow() {
        let (full, hashing) = (Some([13.0, 4.0, 2.0, 0.5]), Some([4.0, 14.0, 1.0, 0.5]));
        let calm = Some([1.0, 1.0, 1.0, 17.0]);
        for (seen, turn, way, unanswered, who) in [
            (evidence(full, Some(3.0), 667.0), 500.0, 160.0, 0.0, Who::Server),
            (evidence(None, Some(3.0), 667.0), 500.0, 160.0, 0.0, Who::Server),
            (evidence(None, Some(250.0), 667.0), 400.0, 2.0, 0.0, Who::Service),
            (evidence(full, Some(3.0), 1_800.0), 900.0, 160.0, 6_000.0, Who::Server),
            (evidence(None, Some(3.0), 1_800.0), 900.0, 160.0, 6_000.0, Who::Server),
            // The newest come first then.
            (evidence(None, Some(3.0), 1_800.0), 5.0, 160.0, 6_000.0, Who::Server),
            (evidence(hashing, Some(90.0), 1_800.0), 900.0, 160.0, 6_000.0, Who::Service),
            // The database hangs.
            (evidence(calm, Some(0.5), 1_800.0), 0.1, 1.0, 6_000.0, Who::Service),
            (evidence(None, Some(0.5), 1_800.0), 0.1, 1.0, 6_000.0, Who::Service),
        ] {
            let seen = queued(seen, turn, way, unanswered);
            let found = seen.judge();
            assert_eq!(found.who, who, "{seen:?}: {}", found.text());
        }
        let seen = queued(evidence(full, Some(3.0), 667.0), 500.0, 160.0, 20.0);
        let words = "3.0 ms of the 667 ms of a login pass in the service, and 500 ms until its turn \
                     there; 20 requests had no answer";
        let text = seen.judge().text();
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn a_late_bench_and_an_unanswering_service_are_seen() {
        let calm = Some([3.0, 1.0, 1.0, 15.0]);
        let late = Evidence { late: seconds(0.5), ..evidence(calm, Some(0.5), 300.0) };
        assert_eq!(late.judge().who, Who::Bench);
        let hardly = Evidence { late: seconds(0.05), ..evidence(calm, Some(0.5), 300.0) };
        assert_eq!(hardly.judge().who, Who::Server);
        let mut silent = evidence(calm, Some(0.5), 900.0);
        silent.failed = 2_000;
        assert_eq!(silent.judge().who, Who::Server);
        silent.decided = silent.decided.map(|it| Decided { unanswered: 2_000.0, ..it });
        assert_eq!(silent.judge().who, Who::Service);
        // All of them still waited when no more came.
        let waiting = Evidence { logins: 0, failed: 0, ..evidence(calm, Some(1_500.0), 2_000.0) };
        assert_eq!(waiting.judge().who, Who::Service);
        let nobody = Evidence { latency: Duration::ZERO, ..waiting };
        assert_eq!(nobody.judge().who, Who::Unknown);
        // Decisions of somebody else say nothing.
        let foreign = Evidence { logins: 100_000, ..evidence(None, Some(3.0), 50.0) };
        assert_eq!(foreign.judge().who, Who::Unknown);
    }
}
