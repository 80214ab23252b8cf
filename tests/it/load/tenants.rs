//! What tenants cost a real nats-server, in both isolations: the JWT of BB, the time of a first
//! and of a second login, and memory. `cargo bench --bench load -- tenants [--tenants 1,10,10000]
//! [--isolation account,shared] [--answers 1000]`; the table comes on stdout, progress on stderr.
//!
//! Every user has the same bcrypt hash of the least cost, so that what is timed is not the hash.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::http;
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;
use serde_json::json;

/// What tenants cost a real nats-server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many tenants have logged in before the timed ones do; thousands take minutes
    #[arg(long, value_delimiter = ',', default_value = "1,10")]
    tenants: Vec<usize>,
    /// How tenants are kept apart
    #[arg(long, value_delimiter = ',', default_value = "account,shared")]
    isolation: Vec<String>,
    /// Tenants with own accounts that answer BB, at most
    #[arg(long, default_value_t = 1_000)]
    answers: usize,
    /// Logins that are timed
    #[arg(long, default_value_t = 40)]
    samples: usize,
    /// Logins under way at once while the tenants log in for the first time
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
}

const PASSWORD: &str = "benchmark";

/// How long the tenants' accounts may take to be listed.
const LISTED: Duration = Duration::from_secs(120);

/// How often a login is tried.
const ATTEMPTS: usize = 5;

/// One row of the table.
#[derive(Debug)]
struct Row {
    isolation: String,
    tenants: usize,
    bb_jwt: usize,
    first: [Duration; 2],
    second: [Duration; 2],
    all: Duration,
    resident: u64,
    answers: Option<Answers>,
}

/// The price of `answers`.
#[derive(Debug)]
struct Answers {
    tenants: usize,
    jwt: usize,
    took: Duration,
}

pub(crate) fn run(args: &Args) {
    println!(
        "| isolation | tenants | BB's JWT | first login p50 / p95 | second login p50 / p95 | \
         all first logins | nats-server RSS | answering: JWT of ANSWERS, time to list them |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for isolation in &args.isolation {
        for &tenants in &args.tenants {
            let row = measure(args, isolation, tenants);
            print(&row);
        }
    }
}

fn print(row: &Row) {
    let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let answers = row.answers.as_ref().map_or_else(
        || "none needed".to_owned(),
        |answers| {
            format!("{}: {} B, {} ms", answers.tenants, answers.jwt, answers.took.as_millis())
        },
    );
    println!(
        "| {} | {} | {} B | {} / {} ms | {} / {} ms | {:.1} s | {} MiB | {answers} |",
        row.isolation,
        row.tenants,
        row.bb_jwt,
        millis(row.first[0]),
        millis(row.first[1]),
        millis(row.second[0]),
        millis(row.second[1]),
        row.all.as_secs_f64(),
        row.resident >> 20,
    );
}

fn measure(args: &Args, isolation: &str, tenants: usize) -> Row {
    progress(&format!("{isolation}, {tenants} tenants: starting"));
    let deployment = start();
    let samples = args.samples;
    insert(&deployment, isolation, tenants + samples);

    let begun = Instant::now();
    log_all_in(&deployment, args.concurrency, isolation, tenants);
    let all = begun.elapsed();

    let time = |round: &str| {
        let mut times: Vec<Duration> = (tenants..tenants + samples)
            .map(|tenant| {
                progress(&format!("{isolation}, {tenants} tenants: timing the {round} logins"));
                login(&deployment, tenant)
            })
            .collect();
        times.sort();
        [times[samples / 2], times[samples * 95 / 100]]
    };
    let first = time("first");
    let second = time("second");
    std::thread::sleep(Duration::from_secs(2));
    let resident = resident(&deployment);
    let bb_jwt = jwt_size(&deployment, "bb_account");
    let answers = (isolation == "account")
        .then(|| list_answering(&deployment, isolation, tenants, args.answers));
    progress(&format!("{isolation}, {tenants} tenants: done\n"));
    Row { isolation: isolation.to_owned(), tenants, bb_jwt, first, second, all, resident, answers }
}

fn start() -> Deployment {
    let init = Initialised::new(Mode::Operator);
    let server =
        NatsServer::start(servers::version(), &init.server_conf(), init.port, Some(init.monitor))
            .unwrap_or_else(|log| panic!("{log}"));
    let http = format!("127.0.0.1:{}", crate::harness::ports::free());
    let environment =
        [("NATS_CALLOUT_HTTP_LISTEN", http.as_str()), ("NATS_CALLOUT_HASHING_REHASH", "false")];
    let service =
        Service::serve(&init.config(), &environment).unwrap_or_else(|log| panic!("{log}"));
    Deployment { service, server, init }
}

/// Tenants `t0` and so on, with a user `u0` and so on each.
fn insert(deployment: &Deployment, isolation: &str, count: usize) {
    let hash = bcrypt::hash(PASSWORD, 4).expect("a hash");
    let numbers = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
    );
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name, isolation) {numbers} \
         SELECT 't' || i, 'tenant', '{isolation}' FROM n;\n\
         INSERT INTO users (tenant_id, name, password_hash) {numbers} \
         SELECT 't' || i, 'u' || i, '{hash}' FROM n"
    ));
}

fn log_all_in(deployment: &Deployment, concurrency: usize, isolation: &str, tenants: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..concurrency {
            scope.spawn(|| {
                loop {
                    let tenant = next.fetch_add(1, Ordering::Relaxed);
                    if tenant >= tenants {
                        return;
                    }
                    login(deployment, tenant);
                    if tenant.is_multiple_of(100) {
                        progress(&format!(
                            "{isolation}, {tenants} tenants: {tenant} have logged in"
                        ));
                    }
                }
            });
        }
    });
}

/// One login. A busy machine lets one run into the server's time-out now and then: like any client
/// it is tried again, and only the attempt that succeeds is timed.
fn login(deployment: &Deployment, tenant: usize) -> Duration {
    let fields = json!({ "user": format!("u{tenant}"), "pass": PASSWORD });
    for _ in 0..ATTEMPTS {
        match raw::connect(deployment.server.port(), &fields) {
            (Verdict::Admitted, took) => return took,
            (Verdict::Refused(words), took) => {
                progress(&format!("u{tenant} after {took:?}: {}\n", words.trim()));
            }
        }
    }
    panic!("u{tenant} was refused {ATTEMPTS} times\n{}", deployment.service.log())
}

fn list_answering(
    deployment: &Deployment,
    isolation: &str,
    tenants: usize,
    most: usize,
) -> Answers {
    let count = tenants.min(most);
    progress(&format!("{isolation}, {tenants} tenants: {count} answer"));
    let before = jwt_size(deployment, "answers_account");
    let begun = Instant::now();
    deployment.sql(&format!(
        "UPDATE tenants SET answers = true WHERE CAST(substr(id, 2) AS INTEGER) < {count}"
    ));
    while jwt_size(deployment, "answers_account") == before {
        assert!(begun.elapsed() < LISTED, "not listed: {}", deployment.service.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    Answers { tenants: count, jwt: jwt_size(deployment, "answers_account"), took: begun.elapsed() }
}

/// The memory that the server holds, as its monitoring says.
fn resident(deployment: &Deployment) -> u64 {
    let address = format!("127.0.0.1:{}", deployment.monitor);
    let answer = http::get(&address, "/varz").expect("an answer");
    let varz: serde_json::Value = serde_json::from_str(&answer.body).expect("json");
    varz["mem"].as_u64().expect("bytes")
}

/// The length of an account's JWT as the server keeps it.
fn jwt_size(deployment: &Deployment, key: &str) -> usize {
    let toml = std::fs::read_to_string(deployment.config()).expect("the configuration");
    let line = toml.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
    let account = line.expect("the account").trim_end_matches('"');
    let path = deployment.dir().join("accounts").join(format!("{account}.jwt"));
    usize::try_from(std::fs::metadata(path).expect("its JWT").len()).expect("a size")
}

fn progress(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}
