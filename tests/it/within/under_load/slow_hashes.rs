//! Stored hashes that take longer than a decision may are no weapon: who guesses at them is counted and
//! goes behind all others, and who has the right password still gets in. And hashing takes no more
//! memory than is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nats_callout::callout::hash_password;
use serde_json::json;

use super::guessing::{fields, gets_in, metric};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::guesses::{self, Ended, login, source};
use crate::harness::turn::alone;
use crate::harness::{depth, eventually, eventually_async, servers};
use crate::login::states::PASSWORD;

/// Longer than a decision may take, as an import may bring it along.
const TOO_LONG: &str = "$pbkdf2-sha512$i=10000000,l=64$c2l4dGVlbiBieXRlcyBvaw$CRN7wWhgnsI9j5Hv0C0nWzFkW88U4D1c/bNqrbDZCyTCAmOVrQlZIcFPTR63ZXehnzXub9kcYIyfI0EYEcMF/A";

/// Of [`PASSWORD`], by Python's hashlib: most of the time that a decision may take, or more.
const LONG: &str = "$pbkdf2-sha512$i=1500000,l=64$c2l4dGVlbiBieXRlcyBvaw$0xJ3SKuj45yd3YB2vgR3V/3difj20q8di0NnS3rUSSffxRNGp3sL4LawDVeceGubfgpOT2vbu8XsZDjSOObJ2g";

/// Guesses at once, from one address, for as long as it takes: two or so a second.
const CONNECTIONS: u32 = 4;

const OTHERS: u32 = 20;

fn deployment(mode: Mode) -> Deployment {
    let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
        init.set("account_failures", "1");
    });
    let hash = hash_password(PASSWORD).expect("a hash");
    let users = [("victim", TOO_LONG), ("imported", LONG), ("late", LONG)];
    let users = users.map(|(user, hash)| (user.to_owned(), hash));
    let others = (0..OTHERS).map(|n| (format!("other-{n}"), hash.expose()));
    let rows: String = users
        .into_iter()
        .chain(others)
        .map(|(user, hash)| {
            format!(
                "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', '{user}', '{hash}');\n"
            )
        })
        .collect();
    deployment.sql(&format!(
        "BEGIN;\nINSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n{rows}COMMIT;"
    ));
    deployment
}

async fn attacked(mode: Mode) {
    let deployment = deployment(mode);
    let port = deployment.server.port();
    let (took, attempts) = gets_in(&deployment, "imported", 7).await;
    println!("imported: {took:?}, attempt {attempts}");
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut heard = Vec::new();
                for n in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let guess = guesses::password("victim", n * CONNECTIONS + connection);
                    heard.push(login(source(5, 0), port, &guess).await.0);
                }
                heard
            })
        })
        .collect();
    let counts = || {
        ["unfinished", "delayed"]
            .map(|what| metric(&deployment, &format!("nats_callout_guesses_{what}_total")))
    };
    let running = || metric(&deployment, "nats_callout_hashing_running");
    eventually_async("a guess under way", async || (running() > 0.0).then_some(())).await;

    let mut took = Vec::new();
    for n in 0..OTHERS {
        let (ended, time) = login(source(6, n), port, &fields(&format!("other-{n}"))).await;
        assert_eq!(ended, Ended::Admitted, "other-{n}, {time:?}\n{}", deployment.service.log());
        took.push(time);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    took.sort_unstable();
    println!("others' first logins: {took:?}");
    // What runs out of time is counted, and whoever goes on waits.
    let [unfinished, delayed] = eventually_async("the guesses to be counted", async || {
        let counts = counts();
        (counts[0] >= 1.0 && counts[1] > 0.0).then_some(counts)
    })
    .await;
    println!("{unfinished} unfinished, {delayed} delayed");
    // Behind the guess that is being hashed, before all that wait.
    if depth(false, true) {
        let (took, attempts) = gets_in(&deployment, "late", 8).await;
        println!("late: {took:?}, attempt {attempts}");
    }
    stop.store(true, Relaxed);
    for attacker in attackers {
        assert!(!attacker.await.expect("no panic").contains(&Ended::Admitted));
    }
    let log = deployment.service.log();
    let says = |words: &[&str]| {
        let said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(said, "{words:?}: {log}");
    };
    says(&["password is being guessed", "victim"]);
    says(&["slow_hash", "takes longer than a login may wait", "user passwd 42 victim"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_slow_hashes_are_counted_and_delay_nobody_else() {
    alone();
    for mode in either_mode() {
        attacked(mode).await;
    }
}

/// The memory of a process that is really there, in MiB.
fn resident(deployment: &Deployment) -> u64 {
    let path = format!("/proc/{}/status", deployment.service.pid());
    let status = std::fs::read_to_string(path).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") >> 10
}

/// Everything else that serving many at once takes.
const ROOM_MIB: u64 = 32;

async fn storm(mode: Mode) {
    let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
        init.set("account_failures", "0");
        init.set("source_failures", "0");
    });
    let port = deployment.server.port();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u64::try_from(cores + (cores / 2).max(1)).expect("a number");
    let before = resident(&deployment);
    let guess = |n: u32| json!({"user": format!("nobody-{n}"), "pass": "wrong"});
    let mut most = 0;
    for round in 0..10 {
        let some = (0..16).map(|n| {
            let guess = guess(round * 16 + n);
            tokio::spawn(async move { login(source(7, n), port, &guess).await.0 })
        });
        for ended in some.collect::<Vec<_>>() {
            assert_ne!(ended.await.expect("no panic"), Ended::Admitted);
            most = most.max(resident(&deployment));
        }
    }
    let hashes = metric(&deployment, "nats_callout_hashing_done_total");
    println!("{before} MiB before, {most} MiB in a storm of {hashes} hashes, {threads} threads");
    assert!(hashes > 100.0, "{hashes}");
    assert!(most <= before + threads * 20 + ROOM_MIB, "{before} {most}");
    let begun = Instant::now();
    let after = eventually("the memory to be given back", || {
        let now = resident(&deployment);
        (now <= before + ROOM_MIB / 2).then_some(now)
    });
    println!("{after} MiB after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hashing_takes_is_bounded_and_given_back() {
    alone();
    for mode in either_mode() {
        storm(mode).await;
    }
}
