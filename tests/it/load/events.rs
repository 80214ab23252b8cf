//! What the intake costs an event: acknowledged events through it beside those of tenants that import
//! BB's subject itself, on one server, by turns. `cargo bench --bench load -- events [--tenants 4]
//! [--window 128] [--events 20000] [--size 200] [--rounds 3]`; the table comes on stdout, progress on
//! stderr.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nats_callout::internals::intake::Settings;

use crate::field::{Field, event, is_stored};

/// What the intake costs an event.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many tenants send at the same time
    #[arg(long, default_value_t = 4)]
    tenants: usize,
    /// How many events each of them has under way
    #[arg(long, default_value_t = 128)]
    window: usize,
    /// How many events each of them sends in a round
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// The bytes of an event
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// How often it is each way's turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// One after the other, of one tenant.
const ALONE: usize = 2_000;

/// A way to BB.
struct Way {
    name: &'static str,
    /// Those who send, and where.
    clients: Vec<(async_nats::Client, String)>,
    rates: Vec<f64>,
    loaded: Vec<Duration>,
    alone: Vec<Duration>,
}

pub(crate) async fn run(args: &Args) {
    let dir = tempfile::tempdir().expect("a folder");
    let field = Field::start_in(dir, [args.tenants; 3], "", None).await;
    let intake = field.intake(Settings::default()).await;
    let mut ways = Vec::new();
    for name in ["direct", "own", "shared"] {
        let mut clients = Vec::new();
        for at in 1..=args.tenants {
            let id = format!("{name}{at}");
            let client = field.login(&id).await.client;
            let long = format!("user.{id}.Events");
            clients.push((client, if name == "shared" { long } else { "Events".to_owned() }));
        }
        let way = Way { name, clients, rates: vec![], loaded: vec![], alone: vec![] };
        ways.push(way);
    }
    for round in 1..=args.rounds {
        for way in &mut ways {
            eprintln!("round {round} of {}: {}", args.rounds, way.name);
            way.round(args).await;
        }
    }
    println!("| way | events/s | p50 / p99 of these | p50 / p99 one after the other |");
    println!("|---|---|---|---|");
    for way in &mut ways {
        way.rates.sort_by(f64::total_cmp);
        let times = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |share: f64| {
                let index = (times.len() as f64 * share) as usize;
                times[index].as_secs_f64() * 1e3
            };
            format!("{:.2} / {:.2} ms", at(0.5), at(0.99))
        };
        let median = way.rates[way.rates.len() / 2];
        println!(
            "| {} | {median:.0} ({:.0} to {:.0}) | {} | {} |",
            way.name,
            way.rates[0],
            way.rates[way.rates.len() - 1],
            times(&mut way.loaded),
            times(&mut way.alone),
        );
    }
    println!("\nthe intake: {:?}", intake.tally());
    intake.stop().await;
}

impl Way {
    async fn round(&mut self, args: &Args) {
        let body = "x".repeat(args.size);
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for (client, subject) in &self.clients {
            let (client, subject, body) = (client.clone(), subject.clone(), body.clone());
            let (events, window) = (args.events, args.window);
            tasks.push(tokio::spawn(async move {
                let sends = (0..events).map(|_| {
                    let begun = Instant::now();
                    let (client, subject, body) = (&client, &subject, &body);
                    async move {
                        is_stored(&event(client, subject, body.as_str()).await);
                        begun.elapsed()
                    }
                });
                futures_util::stream::iter(sends).buffer_unordered(window).collect::<Vec<_>>().await
            }));
        }
        let mut count = 0;
        for task in tasks {
            let times = task.await.expect("all are stored");
            count += times.len();
            self.loaded.extend(times);
        }
        self.rates.push(count as f64 / begun.elapsed().as_secs_f64());
        let (client, subject) = &self.clients[0];
        for _ in 0..ALONE {
            let begun = Instant::now();
            is_stored(&event(client, subject, body.as_str()).await);
            self.alone.push(begun.elapsed());
        }
    }
}
