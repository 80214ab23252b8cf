//! Every refusal of a password is the same: the words that the client hears, what the server logs,
//! and one hash.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nats_callout::callout::Token;
use serde_json::json;

use super::states::{self, PASSWORD, States};

use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, http};
use crate::http::value;

fn metric(deployment: &Deployment, series: &str) -> f64 {
    value(&http::get(deployment.http(), "/metrics").expect("an answer").body, series)
}

/// What a server logs about each of these refused clients, who came one after the other, without what differs
/// between any two.
fn logged(deployment: &Deployment, users: &[&str]) -> Vec<Vec<String>> {
    let log = deployment.server.log();
    let mut clients: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in log.lines().filter(|line| line.contains("authentication error")) {
        let (_, about) = line.split_once("cid:").expect("a connection");
        let (cid, about) = about.split_once(' ').expect("more");
        match clients.last_mut() {
            Some((last, lines)) if *last == cid => lines.push(about),
            _ => clients.push((cid, vec![about])),
        }
    }
    let lines = clients.into_iter().map(|(_, lines)| lines).zip(users);
    let nameless = |(lines, user): (Vec<&str>, &&str)| {
        lines.iter().map(|line| line.replace(&format!("{user:?}"), "USER")).collect()
    };
    lines.map(nameless).collect()
}

fn all_alike(mode: Mode) {
    let states = States::new(mode, "0");
    let deployment = &states.deployment;
    let port = deployment.server.port();
    let hashes = || metric(deployment, "nats_callout_hashing_done_total");
    let cases = states::passwords().into_iter().map(|case| (case, 1.0));
    let cases: Vec<_> =
        cases.chain(states::tokens(&states).into_iter().map(|case| (case, 0.0))).collect();
    let (mut words, mut users) = (None, Vec::new());
    // Once as a stranger, and once more when the row may be cached.
    for round in 0..2 {
        for ((what, reason, credentials), cost) in &cases {
            let denied =
                format!("nats_callout_decisions_total{{outcome=\"denied\",reason=\"{reason}\"}}");
            let (hashed, refused) = (hashes(), metric(deployment, &denied));
            let (verdict, _) = raw::connect(port, credentials);
            let Verdict::Refused(heard) = verdict else { panic!("{what} was admitted") };
            assert_eq!(&heard, words.get_or_insert_with(|| heard.clone()), "{what}");
            assert_eq!(hashes() - hashed, *cost, "{what}, round {round}");
            assert_eq!(metric(deployment, &denied) - refused, 1.0, "{what} is no {reason}");
            users.push(credentials["user"].as_str().expect("a name"));
        }
    }
    eventually("the same lines about all of them", || {
        let said = logged(deployment, &users);
        let alike = said.iter().all(|lines| lines == &said[0]);
        (said.len() == users.len() && alike).then_some(())
    });
    assert_eq!(words.as_deref(), Some("-ERR 'Authorization Violation'\r\n"));
    let right = json!({"user": "alice", "pass": PASSWORD});
    assert_eq!(raw::connect(port, &right).0, Verdict::Admitted);
}

#[test]
fn every_refusal_has_the_same_words_and_costs_one_hash() {
    for mode in either_mode() {
        all_alike(mode);
    }
}

/// Who has used up an account's allowance waits before his hash, and hears the same: whether there
/// is such an account, and what state it is in, makes no difference.
fn all_slowed_down_alike(mode: Mode) {
    let states = States::new(mode, "2");
    let deployment = &states.deployment;
    let counts = |reason: &str| {
        let denied = format!("decisions_total{{outcome=\"denied\",reason=\"{reason}\"}}");
        ["hashing_done_total", "guesses_delayed_total", "guesses_dropped_total", &denied]
            .map(|name| metric(deployment, &format!("nats_callout_{name}")))
    };
    // What counts is the last minute: alice, who goes on below, comes last.
    for user in ["nobody", "suspended", "of-suspended", "expired", "without", "unusable", "alice"] {
        let reason = match user {
            "nobody" => "unknown_user",
            "unusable" => "unusable_hash",
            _ => "wrong_password",
        };
        let credentials = json!({"user": user, "pass": "wrong"});
        for (attempt, wait) in [(1, 0), (2, 0), (3, 50), (4, 100)] {
            let before = counts(reason);
            let (verdict, took) = raw::connect(deployment.server.port(), &credentials);
            let heard = Verdict::Refused("-ERR 'Authorization Violation'\r\n".to_owned());
            assert_eq!(verdict, heard, "{user}, attempt {attempt}");
            assert!(took >= Duration::from_millis(wait), "{user}, attempt {attempt}: {took:?}");
            let after = counts(reason);
            let change = [0, 1, 2, 3].map(|n| after[n] - before[n]);
            let waits = f64::from(u8::from(wait > 0));
            assert_eq!(change, [1.0, waits, 0.0, 1.0], "{user}, attempt {attempt}");
        }
    }
    // Slowed down and not shut out.
    let right = json!({"user": "alice", "pass": PASSWORD});
    let (verdict, took) = raw::connect(deployment.server.port(), &right);
    assert_eq!(verdict, Verdict::Admitted);
    assert!(took >= Duration::from_millis(200), "{took:?}");
}

#[test]
fn who_guesses_hears_the_same_of_every_account() {
    for mode in either_mode() {
        all_slowed_down_alike(mode);
    }
}

/// A program that goes on with a token which was taken away: whoever logs in by password from its address,
/// as somebody whom the service does not know yet, waits for nothing, and a right token lets in among them.
#[test]
fn tokens_that_nobody_has_slow_nobody_down() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        let login = deployment.tenant_add("one", &[]);
        let Login::Password(user, password) = &login else { unreachable!() };
        let port = deployment.server.port();
        // Of guesses from a source, 100 would be free.
        for n in 0..200 {
            let token = Token::generate().expect("a token");
            let credentials = match n % 2 {
                0 => json!({ "auth_token": token.expose() }),
                _ => json!({ "user": user, "pass": token.expose() }),
            };
            let (verdict, _) = raw::connect(port, &credentials);
            assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
        }
        let denied = "nats_callout_decisions_total{outcome=\"denied\",reason=\"unknown_token\"}";
        assert_eq!(metric(&deployment, denied), 200.0);
        assert_eq!(metric(&deployment, "nats_callout_hashing_done_total"), 0.0);
        let right = json!({ "user": user, "pass": password });
        assert_eq!(raw::connect(port, &right).0, Verdict::Admitted);
        assert_eq!(metric(&deployment, "nats_callout_hashing_done_total"), 1.0);
        let right = json!({ "auth_token": deployment.token_add("one", user) });
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        let token = Token::generate().expect("a token");
                        raw::connect(port, &json!({ "auth_token": token.expose() }));
                    }
                });
            }
            for _ in 0..20 {
                assert_eq!(raw::connect(port, &right).0, Verdict::Admitted);
            }
            over.store(true, Relaxed);
        });
        for name in ["delayed", "dropped"] {
            assert_eq!(metric(&deployment, &format!("nats_callout_guesses_{name}_total")), 0.0);
        }
        let log = deployment.service.log();
        assert!(!log.contains(" guesses ") && !log.contains("guessed"), "{log}");
        let says = |line: &&str| line.contains("WARN") && line.contains("tokens that nobody has");
        let said: Vec<&str> = log.lines().filter(says).collect();
        let [line] = said[..] else { panic!("one line: {said:?}") };
        assert!(line.contains("source=127.0.0.1/32 tokens=100 others=0"), "{line}");
    }
}
