//! More clients than can be let in at once: `cargo bench --bench load -- storms [--mode config,operator]
//! [--servers 1,3] [--timeout 2,10] [--other PROGRAM] [--static-users]`. What another build does, and a nats-server whose
//! users are in its configuration, stands beside it. docs/load.md says what to make of it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::contenders::{Setting, Site, Who, number, progress};
use crate::harness::deployment::Mode;

/// More clients than can be let in at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How accounts come to the servers
    #[arg(long, value_parser = mode, value_delimiter = ',', default_value = "config")]
    mode: Vec<Mode>,
    /// Servers of the cluster
    #[arg(long, value_delimiter = ',', default_value = "1")]
    servers: Vec<usize>,
    /// How long they wait for an answer: `authorization.timeout`, in seconds
    #[arg(long, value_delimiter = ',', default_value = "2")]
    timeout: Vec<u64>,
    /// Another build's nats-callout, to measure beside this one
    #[arg(long, value_name = "PROGRAM")]
    other: Option<PathBuf>,
    /// Measure a nats-server that knows its users itself as well
    #[arg(long)]
    static_users: bool,
    /// Clients that come at once
    #[arg(long, value_delimiter = ',', default_value = "10000,15000")]
    at_once: Vec<u64>,
    /// Clients that come again and again
    #[arg(long, value_delimiter = ',', default_value = "4000,8000")]
    over_and_over: Vec<u64>,
    /// Clients of each server that lose it
    #[arg(long, default_value_t = 5_000)]
    lose: u64,
    /// How long those who come again and again are looked at, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn mode(name: &str) -> Result<Mode, String> {
    let named = [Mode::Config, Mode::Operator].into_iter().find(|mode| mode.name() == name);
    named.ok_or_else(|| "write config or operator".to_owned())
}

/// What is done to a deployment.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// So many logins under way at once as it likes best.
    Peak,
    /// All at once; who is not in within `patience` comes again after 2 s.
    AtOnce { clients: u64, patience: u64 },
    /// So many, over and over, with a pause after a failure.
    Loop { clients: u64, patience: u64, pause: u64 },
    /// So many times the peak, by the clock.
    Offered { times: f64 },
    /// So many that are connected lose their server, and with it what the service remembers or not.
    Lost { clients: u64, kind: &'static str, service_too: bool },
}

/// Logins under way at the peak.
const AT_PEAK: u64 = 64;

/// What is offered beyond what can be done.
const TOO_MUCH: f64 = 5.0;

/// How long clients that have lost their server are looked at, in seconds.
const LOOK: u64 = 30;

/// Between two loads.
const REST: Duration = Duration::from_secs(4);

pub(crate) fn run(args: &Args) {
    for &mode in &args.mode {
        for &servers in &args.servers {
            for &timeout in &args.timeout {
                compare(args, Setting { mode, servers, timeout });
            }
        }
    }
}

fn loads(args: &Args) -> Vec<Load> {
    let mut all = vec![Load::Peak];
    for &clients in &args.at_once {
        all.extend([2, 20].map(|patience| Load::AtOnce { clients, patience }));
    }
    for &clients in &args.over_and_over {
        let shapes = [(20, 2), (2, 2), (2, 0)];
        all.extend(shapes.map(|(patience, pause)| Load::Loop { clients, patience, pause }));
    }
    all.push(Load::Offered { times: TOO_MUCH });
    let clients = args.lose;
    for (kind, service_too) in [("token", false), ("password", false), ("password", true)] {
        all.push(Load::Lost { clients, kind, service_too });
    }
    all
}

/// One table: a row for each load, each contender in turn.
fn compare(args: &Args, setting: Setting) {
    let mut contenders = Who::builds(args.other.as_deref());
    // The bench logs in to one server where it has no configuration.
    if args.static_users && setting.servers == 1 {
        contenders.push(Who::Nobody);
    }
    let Setting { mode, servers, timeout } = setting;
    println!("\n{mode:?} mode, {servers} nats-server, authorization.timeout {timeout} s\n");
    let titles: Vec<String> = contenders.iter().map(Who::title).collect();
    println!("| | {} |", titles.join(" | "));
    println!("|---|{}", "---:|".repeat(titles.len()));
    let mut sites: Vec<(Site, f64)> =
        contenders.iter().map(|who| (Site::start(who, setting, &[]), 0.0)).collect();
    for load in loads(args) {
        let cells: Vec<String> = sites
            .iter_mut()
            .zip(&titles)
            .map(|((site, peak), title)| {
                progress(&format!("{title}: {load:?}"));
                let cell = load.put_on(site, peak, args);
                std::thread::sleep(REST);
                cell
            })
            .collect();
        println!("| {} | {} |", load.title(), cells.join(" | "));
    }
}

impl Load {
    fn title(self) -> String {
        match self {
            Self::Peak => format!("{AT_PEAK} at once, over and over: the peak"),
            Self::AtOnce { clients, patience } => {
                format!("{clients} at once that wait {patience} s")
            }
            Self::Loop { clients, patience, pause } => format!(
                "{clients} over and over that wait {patience} s, pause {pause} s after a failure"
            ),
            Self::Offered { times } => format!("{times} times the peak offered, that wait 2 s"),
            Self::Lost { clients, kind, service_too } => {
                let what = if service_too { "server and service" } else { "server" };
                format!("{clients} of each server lose {what}, by {kind}")
            }
        }
    }

    /// Gives what became of it.
    fn put_on(self, site: &mut Site, peak: &mut f64, args: &Args) -> String {
        let text = |number: u64| number.to_string();
        let seconds = |number: u64| format!("{number}s");
        let options = |all: &[(&str, String)]| -> Vec<String> {
            all.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]).collect()
        };
        let share = |measured: &Value, peak: f64| {
            let rate = number(&measured["logins_per_second"]);
            format!("{rate:.0} ({:.0} %)", rate * 100.0 / peak)
        };
        match self {
            Self::Peak => {
                let load = options(&[
                    ("concurrency", text(AT_PEAK)),
                    ("warm-up", seconds(2)),
                    ("duration", seconds(args.seconds)),
                ]);
                *peak = number(&site.measure("token", &load)["logins_per_second"]);
                format!("{peak:.0} logins/s")
            }
            Self::AtOnce { clients, patience } => {
                let load = options(&[
                    ("storm", text(clients)),
                    ("timeout", seconds(patience)),
                    ("retry", seconds(2)),
                ]);
                let of = site.measure("token", &load)["clients"].take();
                let all = match of["all_in_seconds"].as_f64() {
                    Some(time) => {
                        let rounds = time * *peak / clients as f64;
                        format!("all in {time:.1} s ({rounds:.1} n/peak)")
                    }
                    None => format!("{} never in", of["not_in"]),
                };
                format!("{} at the first try, {all}", of["first_try"])
            }
            Self::Loop { clients, patience, pause } => {
                let load = options(&[
                    ("concurrency", text(clients)),
                    ("timeout", seconds(patience)),
                    ("retry", seconds(pause)),
                    ("duration", seconds(args.seconds)),
                ]);
                share(&site.measure("token", &load), *peak)
            }
            Self::Offered { times } => {
                let load = options(&[
                    ("rate", format!("{:.0}", *peak * times)),
                    ("timeout", seconds(2)),
                    ("retry", seconds(2)),
                    ("give-up", seconds(10)),
                    ("duration", seconds(args.seconds)),
                ]);
                match site.try_measure("token", &load) {
                    Ok(measured) => share(&measured, *peak),
                    Err(why) => format!("not measured: {why}"),
                }
            }
            Self::Lost { clients, kind, service_too } => {
                let held = clients * site.nodes.len() as u64;
                let load = options(&[
                    ("hold", text(held)),
                    ("rate", text(1)),
                    ("retry", seconds(2)),
                    ("timeout", seconds(2)),
                    ("duration", seconds(LOOK)),
                ]);
                lose(site, kind, &load, held, service_too)
            }
        }
    }
}

/// Holds connections, takes their servers away, and looks when all are back.
fn lose(site: &mut Site, kind: &str, load: &[String], held: u64, service_too: bool) -> String {
    let create = ["--create".to_owned(), "100".to_owned()];
    let load = if site.service.is_some() { [load, &create].concat() } else { load.to_owned() };
    let measuring = site.begin(kind, &load);
    site.wait_for(held);
    std::thread::sleep(Duration::from_secs(2));
    if service_too && let Some(service) = &mut site.service {
        service.kill9();
    }
    site.lose_all_servers();
    if service_too && let Some(service) = &mut site.service {
        service.restart();
    }
    let measured = measuring.end().unwrap_or_else(|why| panic!("{why}"));
    let rows = measured["series"].as_array().expect("rows");
    let of = |row: &Value, what: &str| row[what].as_u64().expect("a number");
    let begun = rows.iter().position(|row| of(row, "closed") > 0).expect("somebody was closed");
    let ended = rows.iter().rposition(|row| of(row, "back") > 0).unwrap_or(begun);
    let back: u64 = rows.iter().map(|row| of(row, "back")).sum();
    let took = number(&rows[ended]["seconds"]) - number(&rows[begun]["seconds"]) + 1.0;
    if back >= held {
        format!("all back in {took:.0} s")
    } else {
        format!("{back} of {held} back in {took:.0} s")
    }
}
