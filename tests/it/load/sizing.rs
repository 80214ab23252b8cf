//! How many servers and instances a number of clients needs: `cargo bench --bench load -- sizing
//! [--clients 10000000] [--minutes 5] [--ttl 3600]`. It measures here what a login costs each process and what
//! a held connection costs the server, and works out the sizes. docs/load.md says what to make of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

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

fn measure(mode: Mode, args: &Args) -> Costs {
    let deployment = Deployment::start(mode);
    deployment.tenant_add("crowd", &[]);
    let token = deployment.token_add("crowd", "crowd");
    let bench = |count: u64| {
        let count = count.to_string();
        let bench = ["--json", "bench", "--kind", "token", "-c", "32", "--count", &count];
        let said: Value = deployment.cli(&bench).json();
        assert_eq!(said["failed"], 0, "{said}");
    };
    bench(args.logins / 8);
    let pids = [deployment.service.pid(), deployment.server.pid()];
    let before = pids.map(cpu);
    bench(args.logins);
    let [service, server] = [0, 1].map(|it| (cpu(pids[it]) - before[it]) / args.logins as f64);
    let resident = memory(pids[1]);
    let held: Vec<TcpStream> =
        (0..args.held).map(|_| hold(deployment.server.port(), &token)).collect();
    let held_bytes = (memory(pids[1]) - resident) / held.len() as f64;
    Costs { mode, service, server, held: held_bytes }
}

/// Logs in with a subscription, as a client of a tenant has, and stays.
fn hold(port: u16, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let options =
        json!({ "auth_token": token, "verbose": false, "pedantic": false, "lang": "raw" });
    let words = format!("CONNECT {options}\r\nSUB Notifications 1\r\nPING\r\n");
    stream.write_all(words.as_bytes()).expect("it is sent");
    let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
    lines.find(|line| line.as_ref().expect("a line") == "PONG").expect("it is in").expect("a line");
    stream
}

/// Milliseconds of a core that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
    // utime and stime, in hundredths of a second.
    let ticks = |n: usize| fields[n].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) * 10.0
}

/// Bytes of memory that a process holds.
fn memory(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}
