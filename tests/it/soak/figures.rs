//! What was seen of the processes, and what of that must not be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::{loudly, row};

/// For so long after something failed it may be noticed. Who had to come back at the same time is renewed in
/// the same quarter of a minute, half a minute later; each further renewal spreads them by some seconds more.
/// By then even those of a server make the rate half as high again, at most.
const NOTICED: Duration = Duration::from_secs(90);

/// How many renewals there may be in five seconds: so many times the mean, and some.
const UNEVEN: u64 = 2;
const SOME: u64 = 10;

/// By how much descriptors may grow: a part, in percent, and some.
const DESCRIPTORS: (u64, u64) = (5, 20);

/// By how much the memory may grow: a part, in percent, and some, in kB; and of a server, for each
/// connection that it has more.
const MEMORY: (u64, u64) = (15, 8 * 1024);
const EACH: u64 = 64;

/// What is counted of servers: grants that have ended, and logins that were not answered in time or refused.
pub(super) const EXPIRED: &str = "expired";
pub(super) const KEPT_OUT: &str = "kept out";

/// Something failed and came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// A process: its memory in kB, and its descriptors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    memory: u64,
    descriptors: u64,
}

impl Process {
    /// `None` where it is away, or the system does not say.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory = line.split_whitespace().next()?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { memory, descriptors })
    }
}

/// What was seen in five seconds.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    from: Instant,
    pub(super) to: Instant,
    silent: usize,
    closed: usize,
    /// How much each counter has grown, by its series.
    counts: BTreeMap<String, u64>,
    pub(super) instances: Vec<Option<Process>>,
    pub(super) servers: Vec<Option<Process>>,
    /// Of each server.
    pub(super) connections: Vec<Option<u64>>,
}

impl Sample {
    pub(super) const HEAD: &'static str = "| minute | connections of each server | silent, closed | renewed, most in 5 s | granted | denied, aborted, late, shed | renewals put off, refused, unanswered | expired, kept out | instances: MB, descriptors | servers: MB, descriptors | waits for a CPU, % |\n|---|---|---|---|---|---|---|---|---|---|---|";

    pub(super) fn new(from: Instant, silent: usize, closed: usize) -> Self {
        Self {
            from,
            to: Instant::now(),
            silent,
            closed,
            counts: BTreeMap::new(),
            instances: Vec::new(),
            servers: Vec::new(),
            connections: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, series: &str, more: u64) {
        if more > 0 {
            *self.counts.entry(series.to_owned()).or_default() += more;
        }
    }

    /// The sum of those series that have this in their names.
    fn sum(&self, part: &str) -> u64 {
        self.counts.iter().filter(|(series, _)| series.contains(part)).map(|(_, more)| more).sum()
    }

    fn renewed(&self) -> u64 {
        self.sum("renewals_total{outcome=\"renewed\"")
    }

    /// What these have seen together.
    pub(super) fn row(samples: &[Self], begun: Instant) -> String {
        let last = &samples[samples.len() - 1];
        let sum = |part: &str| samples.iter().map(|it| it.sum(part)).sum::<u64>();
        let decided = |outcome: &str| sum(&format!("decisions_total{{outcome=\"{outcome}\""));
        let renewals = |outcome: &str| sum(&format!("renewals_total{{outcome=\"{outcome}\""));
        let connections: Vec<String> = last
            .connections
            .iter()
            .map(|it| it.map_or("-".to_owned(), |it| it.to_string()))
            .collect();
        format!(
            "| {:.0} | {} | {}, {} | {}, {} | {} | {}, {}, {}, {} | {}, {}, {} | {}, {} | {} | {} | {} |",
            last.to.duration_since(begun).as_secs_f64() / 60.0,
            connections.join(" "),
            last.silent,
            last.closed,
            renewals("renewed"),
            samples.iter().map(Self::renewed).max().unwrap_or_default(),
            decided("granted"),
            decided("denied"),
            decided("aborted"),
            decided("late"),
            sum("requests_shed_total"),
            renewals("deferred"),
            renewals("refused"),
            renewals("unanswered"),
            sum(EXPIRED),
            sum(KEPT_OUT),
            shown(&last.instances),
            shown(&last.servers),
            pressure().unwrap_or_default(),
        )
    }
}

/// How much of the last minute something waited for a CPU, if the system says so: where the machine has too
/// much to do beside, that is no failure of what is looked at.
fn pressure() -> Option<String> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, rest) = text.split_once("avg60=")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

fn shown(processes: &[Option<Process>]) -> String {
    let one = |it: &Option<Process>| match it {
        Some(it) => format!("{} {}", it.memory / 1024, it.descriptors),
        None => "-".to_owned(),
    };
    processes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// See the module.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) events: Vec<Event>,
    pub(super) samples: Vec<Sample>,
}

impl Figures {
    /// What must not be. All figures are printed.
    pub(super) fn faults(&self) -> Vec<String> {
        loudly(&format!("{} failures", self.events.len() - 1));
        self.print_sums();
        let mut faults = self.refusals();
        faults.extend(self.unevenness());
        faults.extend(self.growth());
        faults
    }

    fn print_sums(&self) {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (series, more) in self.samples.iter().flat_map(|it| &it.counts) {
            *sums.entry(series).or_default() += more;
        }
        row("| what was counted | how often |\n|---|---|");
        sums.iter().for_each(|(series, sum)| row(&format!("| {series} | {sum} |")));
    }

    /// Samples of times at which nothing that failed is noticed any more.
    fn quiet(&self) -> Vec<&Sample> {
        let is_quiet = |sample: &&Sample| {
            self.events.iter().all(|it| it.from > sample.to || it.to + NOTICED < sample.from)
        };
        self.samples.iter().filter(is_quiet).collect()
    }

    fn refusals(&self) -> Vec<String> {
        let of = |part: &str| self.samples.iter().map(|it| it.sum(part)).sum::<u64>();
        let mut faults = Vec::new();
        for part in ["decisions_total{outcome=\"denied\"", "renewals_total{outcome=\"refused\""] {
            let refused = of(part);
            if refused > 0 {
                faults.push(format!("{refused} of {part}"));
            }
        }
        let quiet: u64 = self.quiet().iter().map(|it| it.sum(EXPIRED)).sum();
        loudly(&format!("{} grants have expired, {quiet} while nothing failed", of(EXPIRED)));
        if quiet > 0 {
            faults.push(format!("{quiet} grants have expired while nothing failed"));
        }
        faults
    }

    fn unevenness(&self) -> Vec<String> {
        let renewed: Vec<u64> = self.quiet().iter().map(|it| it.renewed()).collect();
        let count = renewed.len() as u64;
        if count == 0 {
            return vec!["there was no quiet time".to_owned()];
        }
        let (mean, most) =
            (renewed.iter().sum::<u64>() / count, *renewed.iter().max().expect("one"));
        loudly(&format!("renewals in 5 s, {count} quiet samples: mean {mean}, most {most}"));
        let fault = most > mean * UNEVEN + SOME;
        let fault = fault.then(|| format!("{most} renewals in 5 s, where {mean} are the mean"));
        fault.into_iter().collect()
    }

    /// What the instance and the server that never fail have more in the last quarter than in the second.
    fn growth(&self) -> Vec<String> {
        let quarter = self.samples.len() / 4;
        let (second, last) =
            (&self.samples[quarter..quarter * 2], &self.samples[self.samples.len() - quarter..]);
        let of = |samples: &[Sample], figure: &dyn Fn(&Sample) -> Option<u64>| {
            median(samples.iter().filter_map(figure))
        };
        let connections = |it: &Sample| it.connections[0];
        let more = of(last, &connections).saturating_sub(of(second, &connections));
        let instance = |it: &Sample| it.instances[0];
        let server = |it: &Sample| it.servers[0];
        type Figure<'a> = (&'a str, (u64, u64), Box<dyn Fn(&Sample) -> Option<u64> + 'a>);
        let figures: [Figure<'_>; 4] = [
            (
                "descriptors of an instance",
                DESCRIPTORS,
                Box::new(move |it| Some(instance(it)?.descriptors)),
            ),
            ("kB of an instance", MEMORY, Box::new(move |it| Some(instance(it)?.memory))),
            (
                "descriptors of a server beside those of its connections",
                DESCRIPTORS,
                Box::new(move |it| {
                    Some(server(it)?.descriptors.saturating_sub(it.connections[0]?))
                }),
            ),
            (
                "kB of a server",
                (MEMORY.0, MEMORY.1 + more * EACH),
                Box::new(move |it| Some(server(it)?.memory)),
            ),
        ];
        let mut faults = Vec::new();
        for (what, (part, some), figure) in &figures {
            let (before, after) = (of(second, figure), of(last, figure));
            let said = format!("{what}: {before} in the second quarter, {after} in the last");
            loudly(&said);
            if after > before + before * part / 100 + some {
                faults.push(said);
            }
        }
        faults
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
