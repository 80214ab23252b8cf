//! What guessing costs those who do not guess, and what a refusal's time tells, with a real
//! nats-server. `cargo bench --bench load -- guessing [--rate 1000] [--seconds 60] [--sources 1,1000]
//! [--rounds 200]`; the tables come on stdout, progress on stderr.
//!
//! While one attacker sends wrong passwords of one account after the other, others log in with a
//! token and with a password that is known, and the owner of each account, at the end of her turn,
//! with a password that is not. All run on this machine: compare what is in one table. What the
//! attacker's connections cost by themselves, without passwords, is in the row of unknown tokens.

use nats_callout::callout::{Token, hash_password};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::harness::deployment::{Deployment, Mode};
use crate::harness::guesses::{self, Attack, Ended, Plan, login, source};
use crate::harness::http;
use crate::states::{PASSWORD, States};
use crate::steady::{Times, steady};
use serde_json::{Value, json};

/// What guessing costs those who do not guess.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Guesses a second
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// How long each attack lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// From how many addresses each attack comes
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    sources: Vec<u32>,
    /// How often each kind of refusal is timed
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// operator or config
    #[arg(long, value_delimiter = ',', default_value = "config")]
    mode: Vec<String>,
}

/// How long each account is guessed before its owner logs in.
const TURN: Duration = Duration::from_secs(3);

/// A client's patience: nats-server's time-out for a login, and that of most clients.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for mode in &args.mode {
        let mode = match mode.as_str() {
            "operator" => Mode::Operator,
            "config" => Mode::Config,
            other => panic!("--mode {other}: write operator or config"),
        };
        println!(
            "| {mode:?} mode: attempts/s | token p50 / p99 | known password p50 / p99 | \
             not admitted | owner in within 2 s | p50 / max | hashes | waited | dropped |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        let most = args.sources.iter().copied().max().unwrap_or(1);
        let guessed = args.sources.iter().map(|sources| Attempts::Passwords(*sources));
        for attempts in [Attempts::None, Attempts::Tokens(most)].into_iter().chain(guessed) {
            runtime.block_on(attacked(args, mode, attempts));
        }
        println!("\n| refusal | median | to the wrong password's |\n|---|---:|---:|");
        refusals(args, mode);
        println!();
    }
}

/// What an attacker sends, and from how many addresses.
#[derive(Debug, Clone, Copy)]
enum Attempts {
    None,
    /// Unknown ones, which cost no hash.
    Tokens(u32),
    Passwords(u32),
}

async fn attacked(args: &Args, mode: Mode, attempts: Attempts) {
    let turns = (args.seconds / TURN.as_secs()).max(1);
    let deployment = Deployment::start(mode);
    let hash = hash_password(PASSWORD).expect("a hash");
    let users = ["known".to_owned(), "carol".to_owned()].into_iter();
    let rows: String = users
        .chain((0..turns).map(|n| format!("alice-{n}")))
        .map(|user| {
            format!(
                "INSERT INTO users (tenant_id, name, password_hash) \
                 VALUES ('42', '{user}', '{}');\n",
                hash.expose()
            )
        })
        .collect();
    deployment.sql(&format!(
        "BEGIN;\nINSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n{rows}COMMIT;"
    ));
    let token = json!({"auth_token": deployment.token_add("42", "carol")});
    let known = json!({"user": "known", "pass": PASSWORD});
    let port = deployment.server.port();
    assert_eq!(login(source(8, 0), port, &known).await.0, Ended::Admitted);

    let begun = Instant::now();
    let turn = move || (begun.elapsed().as_secs() / TURN.as_secs()).min(turns - 1);
    let plan = |sources| Plan { rate: args.rate, sources, net: 1 };
    let attack = match attempts {
        Attempts::None => None,
        Attempts::Tokens(sources) => {
            let unknown = Token::generate().expect("a token");
            let fields = json!({"auth_token": unknown.expose()});
            Some(Attack::start(port, plan(sources), move |_| fields.clone()))
        }
        Attempts::Passwords(sources) => {
            let guess = move |n| guesses::password(&format!("alice-{}", turn()), n);
            Some(Attack::start(port, plan(sources), guess))
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let timed = [(token, 0), (known, 1)].map(|(credentials, n)| {
        tokio::spawn(steady(port, source(8, n), credentials, Arc::clone(&stop)))
    });
    let mut owners = Vec::new();
    for n in 0..turns {
        let end = TURN * u32::try_from(n + 1).expect("a number");
        // She is still waited for when the next one's turn has begun.
        tokio::time::sleep_until((begun + end - Duration::from_secs(1)).into()).await;
        let owner = json!({"user": format!("alice-{n}"), "pass": PASSWORD});
        let from = source(9, u32::try_from(n).expect("a number"));
        owners.push(tokio::spawn(async move { login(from, port, &owner).await }));
        progress(&format!("{mode:?}, {attempts:?}: {} s", begun.elapsed().as_secs()));
    }
    tokio::time::sleep_until((begun + Duration::from_secs(args.seconds)).into()).await;
    stop.store(true, Relaxed);
    let elapsed = begun.elapsed();
    let [token, known] = timed;
    let (mut token, mut known) = (token.await.expect("no panic"), known.await.expect("no panic"));
    let mut times = Times::default();
    for owner in owners {
        match owner.await.expect("no panic") {
            (Ended::Admitted, took) if took <= PATIENCE => times.admitted.push(took),
            (Ended::Refused, took) => panic!("the right password was refused after {took:?}"),
            _ => times.failed += 1,
        }
    }
    let sent = match attack {
        Some(attack) => attack.stop().await.sent.load(Relaxed),
        None => 0,
    };
    progress("");
    let metrics = http::get(deployment.http(), "/metrics").expect("an answer").body;
    let metric = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("nats_callout_{name} ")));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("?").to_owned()
    };
    println!(
        "| {:.0}: {attempts:?} | {:.1} / {:.1} ms | {:.1} / {:.1} ms | {} of {} | {} of {turns} | \
         {:.0} / {:.0} ms | {} | {} | {} |",
        sent as f64 / elapsed.as_secs_f64(),
        token.at(0.5),
        token.at(0.99),
        known.at(0.5),
        known.at(0.99),
        token.failed + known.failed,
        token.count() + known.count(),
        times.admitted.len(),
        times.at(0.5),
        times.at(1.0),
        metric("hashing_done_total"),
        metric("guesses_delayed_total"),
        metric("guesses_dropped_total"),
    );
}

/// The time of each kind of refusal, one after the other in every round.
fn refusals(args: &Args, mode: Mode) {
    let states = States::new(mode, "0");
    let port = states.deployment.server.port();
    let mut cases: Vec<_> =
        crate::states::passwords().into_iter().map(|case| (case, Vec::new())).collect();
    for round in 0..=args.rounds {
        for ((what, _, credentials), times) in &mut cases {
            let (verdict, took) = crate::harness::raw::connect(port, credentials);
            assert_ne!(verdict, crate::harness::raw::Verdict::Admitted, "{what}");
            // The first round finds nothing in any cache.
            if round > 0 {
                times.push(took);
            }
        }
        progress(&format!("{mode:?}: {round} rounds"));
    }
    progress("");
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let medians: Vec<_> =
        cases.iter_mut().map(|((what, _, _), times)| (*what, median(times))).collect();
    let wrong = medians.iter().find(|(what, _)| *what == "wrong password").expect("it").1;
    for (what, median) in medians {
        println!("| {what} | {median:.1} ms | {:.3} |", median / wrong);
    }
}

fn progress(line: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}
