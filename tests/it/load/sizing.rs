//! How many servers and instances a number of clients needs: `cargo bench --bench load -- sizing
//! [--clients 10000000] [--minutes 5] [--ttl 3600]`. It measures here what a login costs each process and what
//! a held connection costs the server, and works out the sizes. docs/load.md says what to make of it.

use serde_json::Value;

use crate::harness::deployment::{Deployment, Mode};

/// What a number of clients needs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients that stay connected
    #[arg(long, default_value_t = 10_000_000)]
    clients: u64,
    /// Minutes in which all of them are to be back after all have lost their connections
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// The life of a grant in seconds (`[callout] ttl`)
    #[arg(long, default_value_t = 3_600)]
    ttl: u64,
    /// Logins that are measured in each mode
    #[arg(long, default_value_t = 8_000)]
    logins: u64,
    /// Connections that are held
    #[arg(long, default_value_t = 4_000)]
    held: u64,
}

/// What was measured in one mode.
struct Costs {
    mode: Mode,
    /// Milliseconds of a core for one login.
    service: f64,
    server: f64,
    /// Bytes for one connection.
    held: f64,
}

/// How much of its cores a process is to use: beyond that, what waits grows quickly.
const USED: f64 = 0.7;

pub(crate) fn run(args: &Args) {
    let costs = [Mode::Config, Mode::Operator].map(|mode| measure(mode, args));
    println!(
        "| mode | service, ms of a core a login | nats-server | logins/s of a core of each | KB a connection |"
    );
    println!("|---|---:|---:|---:|---:|");
    for it in &costs {
        let rate = 1e3 * USED;
        println!(
            "| {:?} | {:.3} | {:.3} | {:.0} / {:.0} | {:.1} |",
            it.mode,
            it.service,
            it.server,
            rate / it.service,
            rate / it.server,
            it.held / 1e3
        );
    }
    // Renewed after 50 to 65% of a life that a jitter shortens by up to a fifth.
    let between = args.ttl as f64 * 0.9 * 0.575;
    let renewals = args.clients as f64 / between;
    let back = args.clients as f64 / (args.minutes * 60) as f64;
    println!(
        "\n{} clients, grants of {} s: {renewals:.0} renewals/s; all back within {} min: {back:.0} logins/s more\n",
        args.clients, args.ttl, args.minutes
    );
    println!(
        "| mode | cores of nats-servers: renewals, all back | cores of instances: renewals, all back | GB of nats-servers |"
    );
    println!("|---|---:|---:|---:|");
    for it in &costs {
        let cores = |each: f64, rate: f64| rate * each / 1e3 / USED;
        println!(
            "| {:?} | {:.1}, {:.1} | {:.1}, {:.1} | {:.0} |",
            it.mode,
            cores(it.server, renewals),
            cores(it.server, renewals + back),
            cores(it.service, renewals),
            cores(it.service, renewals + back),
            it.held * args.clients as f64 / 1e9
        );
    }
}

/// By the bench of the product.
fn measure(mode: Mode, args: &Args) -> Costs {
    let deployment = Deployment::start(mode);
    let bench = |load: &[&str]| -> Value {
        let said: Value =
            deployment.cli(&[&["--json", "bench", "--kind", "token"], load].concat()).json();
        assert_eq!(said["failed"], 0, "{said}");
        said
    };
    let number = |of: &Value| of.as_f64().expect("a number");
    // First, since a server keeps the memory that it has once taken.
    let held = bench(&["--hold", &args.held.to_string(), "--rate", "20", "--duration", "3s"]);
    let logins = bench(&["-c", "32", "--warm-up", "2s", "--count", &args.logins.to_string()]);
    let each = |what: &str| number(&logins["cpu"][what]) * 1e3 / number(&logins["logins"]);
    let (service, server) = (each("service_seconds"), each("server_seconds"));
    Costs { mode, service, server, held: number(&held["held"]["server_kb_each"]) * 1e3 }
}
