//! What a login costs, beside another build: `cargo bench --bench load -- logins --other PROGRAM [--rounds 5]`. Both
//! run on this machine, and are measured in turn.

use std::path::PathBuf;

use super::contenders::{Setting, Site, Who, number};
use crate::harness::deployment::Mode;

/// What a login costs, beside another build.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Another build's nats-callout, to measure beside this one
    #[arg(long, value_name = "PROGRAM")]
    other: Option<PathBuf>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Logins of each round
    #[arg(long, default_value_t = 8_000)]
    logins: u64,
}

/// Whether decisions are made events.
const EVENTS: [(&str, &str); 2] = [("events of decisions", "queue"), ("none", "off")];

pub(crate) fn run(args: &Args) {
    println!(
        "| mode | | | service, ms of a core a login | nats-server | logins/s | service, ratio |"
    );
    println!("|---|---|---|---:|---:|---:|---:|");
    for mode in [Mode::Config, Mode::Operator] {
        for events in EVENTS {
            compare(args, mode, events);
        }
    }
}

/// What a round took, of a login.
#[derive(Debug, Clone, Copy)]
struct Cost {
    service: f64,
    server: f64,
    rate: f64,
}

fn compare(args: &Args, mode: Mode, (title, events): (&str, &str)) {
    let setting = Setting { mode, servers: 1, timeout: 2 };
    let environment = [("NATS_CALLOUT_EVENTS_DECISIONS", events)];
    let contenders = Who::builds(args.other.as_deref());
    let sites: Vec<Site> =
        contenders.iter().map(|who| Site::start(who, setting, &environment)).collect();
    let mut costs = vec![Vec::new(); sites.len()];
    for _ in 0..args.rounds {
        for (site, costs) in sites.iter().zip(&mut costs) {
            costs.push(measure(site, args.logins));
        }
    }
    let first = median(&costs[0], |it| it.service);
    for (who, costs) in contenders.iter().zip(&costs) {
        let service = median(costs, |it| it.service);
        println!(
            "| {mode:?} | {title} | {} | {service:.3} | {:.3} | {:.0} | {:.2} |",
            who.title(),
            median(costs, |it| it.server),
            median(costs, |it| it.rate),
            service / first
        );
    }
}

fn measure(site: &Site, logins: u64) -> Cost {
    let load = ["-c", "32", "--warm-up", "2s", "--count", &logins.to_string()].map(str::to_owned);
    let measured = site.measure("token", &load);
    let each = |what: &str| number(&measured["cpu"][what]) * 1e3 / number(&measured["logins"]);
    Cost {
        service: each("service_seconds"),
        server: each("server_seconds"),
        rate: number(&measured["logins_per_second"]),
    }
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut all: Vec<f64> = costs.iter().map(of).collect();
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}
