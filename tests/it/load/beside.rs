//! What events cost those who log in: logins at a steady pace, by turns without events and beside tenants
//! that send them, through the whole service. `cargo bench --bench load -- beside [--rates 0,1000,5000]
//! [--tenants 4] [--seconds 20] [--rounds 3]`; the table comes on stdout, progress on stderr.
//!
//! Server, service, and who sends and logs in share this machine: what the senders cost by themselves is
//! in the rows of `direct`, whose events do not come to the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::field::event;
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::guesses::source;
use crate::steady::{Times, steady};

/// What events cost those who log in.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a second, of all tenants together
    #[arg(long, value_delimiter = ',', default_value = "1000,5000")]
    rates: Vec<u64>,
    /// How many tenants send, each from an account of its own
    #[arg(long, default_value_t = 4)]
    tenants: usize,
    /// How long each turn lasts
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often it is each one's turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Where events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nowhere.
    Quiet,
    /// To a stream of the tenant's own.
    Direct,
    /// To BB, through the intake.
    Intake,
}

impl Way {
    const fn subject(self) -> &'static str {
        match self {
            Self::Quiet | Self::Direct => "mine",
            Self::Intake => "Events",
        }
    }

    const fn stream(self) -> &'static str {
        match self {
            Self::Quiet | Self::Direct => "Mine",
            Self::Intake => "ReceivedEvents",
        }
    }
}

/// A row of the table.
struct Row {
    way: Way,
    rate: u64,
    sent: u64,
    token: Times,
    password: Times,
}

/// Events under way at the same time, of each tenant.
const WINDOW: usize = 128;

pub(crate) async fn run(args: &Args) {
    let deployment = Deployment::start(Mode::Operator);
    let url = deployment.server.url();
    let mut senders = Vec::new();
    for number in 1..=args.tenants {
        let login = deployment.tenant_add(&format!("sender{number}"), &[]);
        let connected = client::connect(&url, &login, "_INBOX").await.expect("connects");
        let stream = json!({ "name": "Mine", "subjects": ["mine"], "max_bytes": 1 << 20 });
        connected.jetstream("$JS.API.STREAM.CREATE.Mine", &stream).await;
        senders.push(connected);
    }
    let password = deployment.tenant_add("who-logs-in", &[]).connect_fields();
    let token = json!({ "auth_token": deployment.token_add("who-logs-in", "who-logs-in") });
    let mut rows = vec![(Way::Quiet, 0)];
    for &rate in &args.rates {
        rows.extend([(Way::Direct, rate), (Way::Intake, rate)]);
    }
    let row = |(way, rate)| Row {
        way,
        rate,
        sent: 0,
        token: Times::default(),
        password: Times::default(),
    };
    let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
    let duration = Duration::from_secs(args.seconds);
    for round in 1..=args.rounds {
        for row in &mut rows {
            eprintln!("round {round} of {}: {:?}, {} events/s", args.rounds, row.way, row.rate);
            let stop = Arc::new(AtomicBool::new(false));
            let timed = [(&token, 0), (&password, 1)].map(|(fields, n)| {
                let (port, stop) = (deployment.server.port(), Arc::clone(&stop));
                tokio::spawn(steady(port, source(8, n), fields.clone(), stop))
            });
            row.sent += send(&senders, row.way, row.rate, duration).await;
            stop.store(true, Relaxed);
            let [token, password] = timed;
            row.token.add(token.await.expect("no panic"));
            row.password.add(password.await.expect("no panic"));
        }
    }
    println!("| events | sent/s | token p50 / p99 | password p50 / p99 | not admitted |");
    println!("|---|---:|---:|---:|---:|");
    for row in &mut rows {
        println!(
            "| {:?}, {}/s | {:.0} | {:.1} / {:.1} ms | {:.1} / {:.1} ms | {} of {} |",
            row.way,
            row.rate,
            row.sent as f64 / (args.seconds * args.rounds as u64) as f64,
            row.token.at(0.5),
            row.token.at(0.99),
            row.password.at(0.5),
            row.password.at(0.99),
            row.token.failed + row.password.failed,
            row.token.count() + row.password.count(),
        );
    }
}

/// Sends events at this rate, each of which has to be acknowledged; gives how many were.
async fn send(senders: &[Connected], way: Way, rate: u64, duration: Duration) -> u64 {
    if way == Way::Quiet {
        tokio::time::sleep(duration).await;
        return 0;
    }
    let begun = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let each = rate.div_ceil(senders.len() as u64) as f64;
    let mut tasks = Vec::new();
    for connected in senders {
        for at in 0..WINDOW {
            let (client, sent) = (connected.client.clone(), Arc::clone(&sent));
            tasks.push(tokio::spawn(async move {
                let mut due = begun + Duration::from_secs_f64(at as f64 / each);
                while due < begun + duration {
                    tokio::time::sleep_until(due.into()).await;
                    let stored = event(&client, way.subject(), "x".repeat(200)).await;
                    assert_eq!(stored["stream"], way.stream(), "{stored}");
                    sent.fetch_add(1, Relaxed);
                    due += Duration::from_secs_f64(WINDOW as f64 / each);
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("all are stored");
    }
    sent.load(Relaxed)
}
