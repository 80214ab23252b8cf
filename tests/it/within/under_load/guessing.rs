//! Who guesses passwords is slowed down; who has the right one gets in meanwhile, and who has a
//! token, or a password that is known, does not notice.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nats_callout::callout::hash_password;
use serde_json::{Value, json};

use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::guesses::{self, Attack, Ended, Plan, login, source};
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::measured_under_load;
use crate::harness::{PATIENCE, depth, http, servers};
use crate::http::value;
use crate::login::states::PASSWORD;

/// How many whose accounts are guessed, one after the other, each for so long before she logs in.
const ALICES: u32 = 2;
const GUESSED_FOR: Duration = Duration::from_millis(1_500);

/// Guesses a second: many more than the few places of these deployments let through, and no load
/// for a busy machine otherwise.
const RATE: u32 = 50;

pub(super) fn metric(deployment: &Deployment, series: &str) -> f64 {
    value(&http::get(deployment.http(), "/metrics").expect("an answer").body, series)
}

pub(super) fn fields(user: &str) -> Value {
    json!({"user": user, "pass": PASSWORD})
}

/// A deployment with the tenant `42` and these users, who all have the same password.
fn deployment(mode: Mode, users: &[String]) -> Deployment {
    let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
        init.set("max_in_flight", "64");
    });
    let hash = hash_password(PASSWORD).expect("a hash");
    let rows: String = users
        .iter()
        .map(|user| {
            format!(
                "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', '{user}', '{}');\n",
                hash.expose()
            )
        })
        .collect();
    deployment.sql(&format!(
        "BEGIN;\nINSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n{rows}COMMIT;"
    ));
    deployment
}

/// Logs in from an address of her own until she is in, as a client does; it must never be refused.
pub(super) async fn gets_in(deployment: &Deployment, user: &str, from: u32) -> (Duration, u32) {
    let begun = Instant::now();
    for attempt in 1.. {
        let credentials = fields(user);
        let port = deployment.server.port();
        match login(source(9, from), port, &credentials).await {
            (Ended::Admitted, took) => return (took, attempt),
            (Ended::Refused, took) => {
                panic!("{user} was refused after {took:?}\n{}", deployment.service.log())
            }
            (Ended::Unanswered, _) => {
                assert!(begun.elapsed() < PATIENCE / 2, "{user}\n{}", deployment.service.log());
            }
        }
    }
    unreachable!("she tries until her patience ends")
}

async fn attacked(mode: Mode, sources: u32) {
    let alices: Vec<String> = (0..ALICES).map(|n| format!("alice-{n}")).collect();
    let mut users = alices.clone();
    users.extend(["cached".to_owned(), "carol".to_owned()]);
    let deployment = deployment(mode, &users);
    let token = deployment.token_add("42", "carol");
    let port = deployment.server.port();
    let known = fields("cached");
    assert_eq!(raw::connect(port, &known).0, Verdict::Admitted);
    let by_token = json!({"auth_token": token});

    let target = std::sync::Arc::new(std::sync::Mutex::new(alices[0].clone()));
    let attack = Attack::start(port, Plan { rate: RATE, sources, net: 1 }, {
        let target = std::sync::Arc::clone(&target);
        move |n| guesses::password(&target.lock().expect("no panic"), n)
    });
    for (n, alice) in (0..).zip(&alices) {
        target.lock().expect("no panic").clone_from(alice);
        let guessed = Instant::now();
        while guessed.elapsed() < GUESSED_FOR {
            for credentials in [&known, &by_token] {
                let (ended, took) = login(source(8, 0), port, credentials).await;
                assert_eq!(ended, Ended::Admitted, "{took:?}\n{}", deployment.service.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (took, attempts) = gets_in(&deployment, alice, n).await;
        println!("{alice} from elsewhere: in after {took:?}, attempt {attempts}");
    }
    let tally = attack.stop().await;
    let sent = tally.sent.load(Relaxed);
    let hashed = metric(&deployment, "nats_callout_hashing_done_total");
    let [delayed, dropped] = ["delayed", "dropped"]
        .map(|what| metric(&deployment, &format!("nats_callout_guesses_{what}_total")));
    println!("{tally:?}, {hashed} hashes, {delayed} delayed, {dropped} dropped");
    assert_eq!(tally.admitted.load(Relaxed), 0);
    assert!(hashed < sent as f64 / 2.0, "{hashed} hashes for {sent} guesses");
    assert!(delayed > 0.0 && dropped > 0.0, "{delayed} {dropped}");
    let throttled = "nats_callout_decisions_total{outcome=\"aborted\",reason=\"throttled\"}";
    assert!(metric(&deployment, throttled) > 0.0);

    let log = deployment.service.log();
    let spoken = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    let lines = spoken("password is being guessed") + spoken("a source guesses passwords");
    let most = alices.len() + usize::try_from(sources).expect("a number");
    assert!((1..=most).contains(&lines), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn she_gets_in_while_one_source_guesses_her_password() {
    measured_under_load();
    for mode in either_mode() {
        attacked(mode, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn she_gets_in_while_many_sources_guess_her_password() {
    measured_under_load();
    for mode in either_mode() {
        attacked(mode, 30).await;
    }
}

/// Many clients at once with right passwords, from one address and on one account, are no attack.
async fn reconnect(mode: Mode) {
    let users: Vec<String> = (0..depth(15, 40)).map(|n| format!("user-{n}")).collect();
    let deployment = deployment(mode, &users);
    let port = deployment.server.port();
    let logins = users.iter().flat_map(|user| std::iter::repeat_n(user, 10)).map(|user| {
        let credentials = fields(user);
        tokio::spawn(async move {
            while login(source(9, 0), port, &credentials).await.0 != Ended::Admitted {}
        })
    });
    let logins: Vec<_> = logins.collect();
    for login in logins {
        tokio::time::timeout(PATIENCE, login).await.expect("in time").expect("no panic");
    }
    for what in ["delayed", "dropped"] {
        assert_eq!(metric(&deployment, &format!("nats_callout_guesses_{what}_total")), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_come_back_at_once_are_no_attack() {
    measured_under_load();
    for mode in either_mode() {
        reconnect(mode).await;
    }
}
