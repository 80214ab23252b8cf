//! A recorded history of changes and logins: no grant begins later than a second after the commit
//! of what forbids it, and nobody is refused whom nothing forbids. Instances are frozen, thawed,
//! killed and started meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::depth;
use crate::harness::service::Service;
use crate::harness::turn::alone;
use crate::within::under_load::load::{self, Attempt, Ended, Load};

/// Within which every instance has to know of a change.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Of each subject: one that waits for a frozen instance leaves others to log in.
const LOGINS_AT_ONCE: usize = 3;

/// Between two of them.
fn rest() -> Duration {
    depth(Duration::from_millis(50), Duration::ZERO)
}

/// How long a subject stays forbidden, and allowed in between.
const FORBIDDEN: Duration = Duration::from_millis(1_800);
const ALLOWED: Duration = Duration::from_millis(600);

/// From the beginning of a change that forbids until the end of the one that allows again.
#[derive(Debug)]
struct Forbidden {
    what: String,
    begun: Instant,
    committed: Instant,
    allowing: Instant,
    ended: Instant,
}

/// Somebody who logs in all the time, and the pairs of statements that forbid and allow it.
struct Subject {
    fields: Value,
    changes: Vec<(String, String)>,
}

fn subject(init: &Initialised, tenant: &str, by_token: bool) -> Subject {
    let login = init.tenant_add(tenant, &[]);
    let user = format!("UPDATE users SET {{}} WHERE name = '{tenant}';");
    let pair = |no: &str, yes: &str| (user.replace("{}", no), user.replace("{}", yes));
    let whole = format!("UPDATE tenants SET {{}} WHERE id = '{tenant}';");
    let mut changes = vec![
        pair("status = 'suspended'", "status = 'active'"),
        pair("expires_at = '2020-01-01 00:00:00+00:00'", "expires_at = NULL"),
        (whole.replace("{}", "status = 'suspended'"), whole.replace("{}", "status = 'active'")),
    ];
    let fields = if by_token {
        let token = init.token_add(tenant, tenant);
        let hash =
            init.sql(&format!("SELECT token_hash FROM tokens WHERE user_name = '{tenant}';"));
        changes.push((
            format!("DELETE FROM tokens WHERE token_hash = '{hash}';"),
            format!("INSERT INTO tokens (user_name, token_hash) VALUES ('{tenant}', '{hash}');"),
        ));
        Login::Token(token).connect_fields()
    } else {
        let hash = init.sql(&format!("SELECT password_hash FROM users WHERE name = '{tenant}';"));
        let other =
            "password_hash = '$2b$05$x21GXvqAGMPZDp1M.447zOe/GDRGgH3nNq7u/gR/Tlc1BB0DQURBS'";
        changes.push(pair(other, &format!("password_hash = '{hash}'")));
        login.connect_fields()
    };
    Subject { fields, changes }
}

fn change(init: &Initialised, subject: &Subject) -> Vec<Forbidden> {
    let mut history = Vec::new();
    for (forbid, allow) in &subject.changes {
        sleep(ALLOWED);
        let begun = Instant::now();
        init.sql(forbid);
        let committed = Instant::now();
        sleep(FORBIDDEN);
        let allowing = Instant::now();
        init.sql(allow);
        let ended = Instant::now();
        history.push(Forbidden { what: forbid.clone(), begun, committed, allowing, ended });
    }
    sleep(ALLOWED);
    history
}

/// Freezes one instance after the other, and kills one.
fn disturb(instances: &mut [Service], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for instance in instances.iter_mut() {
            instance.freeze();
            sleep(Duration::from_millis(700));
            instance.thaw();
            sleep(Duration::from_millis(500));
        }
        instances[0].restart();
    }
}

fn judge(attempts: &[Attempt], history: &[Forbidden]) {
    let broken = load::broken(attempts);
    assert!(broken.is_empty(), "the server closes nothing without a word: {broken:?}");
    let mut refusals = 0;
    for period in history {
        // One that ended later may have been granted when it was allowed again.
        let within = attempts.iter().filter(|attempt| {
            attempt.begun > period.committed && attempt.begun + attempt.took < period.allowing
        });
        let (admitted, refused): (Vec<_>, Vec<_>) =
            within.partition(|attempt| attempt.is_admitted());
        let last = admitted.iter().map(|attempt| attempt.begun - period.committed).max();
        println!("{}: {last:?} after its commit, {} refused", period.what, refused.len());
        assert!(
            last.is_none_or(|last| last <= KNOWN_WITHIN),
            "{period:?}: admitted {last:?} later"
        );
        refusals += refused.len();
    }
    assert!(refusals >= history.len(), "only {refusals} refusals: nothing is proved");
    // Whoever was under way on a frozen or killed instance has waited until the server gave up.
    let at_once = attempts.iter().filter(|attempt| {
        matches!(attempt.ended, Ended::Refused(_)) && attempt.took < Duration::from_millis(1_500)
    });
    for attempt in at_once {
        let forbidden = history.iter().any(|period| {
            attempt.begun < period.ended && attempt.begun + attempt.took > period.begun
        });
        assert!(forbidden, "{attempt:?}: nothing forbade it");
    }
}

fn history(mode: Mode) {
    let deployment = Deployment::start(mode);
    let subjects: Vec<Subject> =
        (0..4).map(|number| subject(&deployment, &format!("t{number}"), number % 2 == 1)).collect();
    let mut others = [deployment.another_service(), deployment.another_service()];
    let (stop, port) = (AtomicBool::new(false), deployment.server.port());
    std::thread::scope(|scope| {
        scope.spawn(|| disturb(&mut others, &stop));
        let load = |subject: &Subject| {
            Load::start_resting(rest(), LOGINS_AT_ONCE, &[port], &subject.fields)
        };
        let loads: Vec<Load> = subjects.iter().map(load).collect();
        let changing: Vec<_> =
            subjects.iter().map(|subject| scope.spawn(|| change(&deployment, subject))).collect();
        let histories: Vec<_> = changing.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        for (load, history) in loads.into_iter().zip(histories) {
            judge(&load.end(), &history.expect("no panic"));
        }
    });
}

#[test]
fn no_grant_later_than_a_second_after_what_forbids_it() {
    alone();
    for mode in either_mode() {
        history(mode);
    }
}
