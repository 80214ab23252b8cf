//! How many servers and instances a number of clients needs: `cargo bench --bench load -- sizing
//! [--clients 10000000] [--minutes 5] [--ttl 3600]`. It measures here what a login costs each process and what
//! a held connection costs the server, works out the sizes, and plays what becomes of all clients that come back.
//! docs/load.md says what to make of it.

use serde_json::Value;

use super::contenders::number;
use super::simulation::{self, Scene};
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
    /// Clients that come at once here, to compare what is played with
    #[arg(long, value_delimiter = ',', default_value = "2000,4000,8000")]
    at_once: Vec<u64>,
}

/// What was measured in one mode.
struct Costs {
    mode: Mode,
    /// Milliseconds of a core for one login.
    service: f64,
    server: f64,
    /// Of the server's, what goes by until it has asked.
    asking: f64,
    /// Of the bench, for an attempt.
    bench: f64,
    /// Bytes for one connection.
    held: f64,
    /// How many came at once, and when all were in.
    storms: Vec<(u64, Option<f64>)>,
}

impl Costs {
    fn simulated(&self) -> simulation::Costs {
        let (asking, answer) = (self.asking, self.server - self.asking);
        simulation::Costs { asking, answer, decision: self.service }
    }
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
    println!("\n| mode | come at once here, and wait 2 s | all in, as played | as measured |");
    println!("|---|---:|---:|---:|");
    let shown = |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("{time:.1} s"));
    for it in &costs {
        for &(clients, measured) in &it.storms {
            let played = shown(here(it, clients).play().all_in);
            println!("| {:?} | {clients} | {played} | {} |", it.mode, shown(measured));
        }
    }
    for it in &costs {
        play(args, it, renewals + back);
    }
}

/// All on the cores of this machine, the bench too.
fn here(costs: &Costs, clients: u64) -> Scene {
    let cores = std::thread::available_parallelism().expect("cores").get() as f64;
    let simulation::Costs { asking, answer, decision } = costs.simulated();
    let shared = simulation::Costs {
        asking: asking + costs.bench,
        answer: answer + decision,
        decision: f64::MIN_POSITIVE,
    };
    Scene {
        clients: clients as f64,
        over: 0.0,
        patience: 2.0,
        pause: PAUSE,
        servers: cores,
        instances: 1.0,
        costs: shared,
    }
}

/// Of the cores that were worked out, what is tried.
const TRIED: [f64; 4] = [0.7, 1.0, 1.5, 2.0];

/// Seconds over which they come back: at once, and as those do that wait at random for up to so long.
const OVER: [f64; 3] = [0.0, 10.0, 60.0];

/// How long libraries wait for an answer, and for another attempt.
const PATIENCE: [f64; 2] = [2.0, 20.0];
const PAUSE: f64 = 2.0;

fn play(args: &Args, costs: &Costs, rate: f64) {
    println!(
        "\n{:?} mode, played: until all are back, and attempts in vain for each client\n",
        costs.mode
    );
    println!(
        "| cores: nats-servers, instances | they wait | come at once | in 10 s | in 60 s | in {} min |",
        args.minutes
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    let over = OVER.into_iter().chain([(args.minutes * 60) as f64]);
    for share in TRIED {
        for patience in PATIENCE {
            let (servers, instances) = (
                share * rate * costs.server / 1e3 / USED,
                share * rate * costs.service / 1e3 / USED,
            );
            let cells: Vec<String> = over
                .clone()
                .map(|over| {
                    let scene = Scene {
                        clients: args.clients as f64,
                        over,
                        patience,
                        pause: PAUSE,
                        servers,
                        instances,
                        costs: costs.simulated(),
                    };
                    let ended = scene.play();
                    let all_in = ended
                        .all_in
                        .map_or_else(|| "never".to_owned(), |time| format!("{time:.0} s"));
                    format!("{all_in}, {:.1}", ended.failed)
                })
                .collect();
            println!("| {servers:.1}, {instances:.1} | {patience} s | {} |", cells.join(" | "));
        }
    }
}

/// By the bench of the product.
fn measure(mode: Mode, args: &Args) -> Costs {
    let deployment = Deployment::start(mode);
    let bench = |load: &[&str]| -> Value {
        deployment.cli(&[&["--json", "bench", "--kind", "token"], load].concat()).json()
    };
    let all_in = |said: Value| {
        assert_eq!(said["failed"], 0, "{said}");
        said
    };
    // First, since a server keeps the memory that it has once taken.
    let held = ["--hold", &args.held.to_string(), "--rate", "20", "--duration", "3s"];
    let held = all_in(bench(&held));
    let logins = ["-c", "32", "--warm-up", "2s", "--count", &args.logins.to_string()];
    let logins = all_in(bench(&logins));
    let each =
        |what: &str, of: &Value, count: &str| number(&of["cpu"][what]) * 1e3 / number(&of[count]);
    // Without an answer: what is left is what goes before it.
    let (users, url) = (deployment.dir().join("unknown.txt"), deployment.url());
    std::fs::write(&users, "a token that nobody looks up\n").expect("a file of users");
    let users = users.to_str().expect("a utf-8 path");
    deployment.service.freeze();
    let vain =
        ["-c", "200", "--timeout", "500ms", "--duration", "10s", "--users", users, "--url", &url];
    let vain = bench(&vain);
    deployment.service.thaw();
    assert_eq!(vain["logins"], 0, "{vain}");
    let storm = |&clients: &u64| {
        let at_once = clients.to_string();
        let storm = bench(&["--storm", &at_once, "--timeout", "2s", "--retry", "2s"]);
        (clients, storm["clients"]["all_in_seconds"].as_f64())
    };
    let storms = args.at_once.iter().map(storm).collect();
    Costs {
        mode,
        service: each("service_seconds", &logins, "logins"),
        server: each("server_seconds", &logins, "logins"),
        asking: each("server_seconds", &vain, "attempts"),
        bench: each("bench_seconds", &vain, "attempts"),
        storms,
        held: number(&held["held"]["server_kb_each"]) * 1e3,
    }
}
