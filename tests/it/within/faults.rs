//! The database fails in all the ways it can, and what logins see of it. Each fault prints a row of
//! the table in deploy/README.md: `cargo test --test it -- faults:: --nocapture | grep '^|'`.
//!
//! A fault mostly waits, so a test has several databases that fail beside each other, each of them
//! in one way after the other.

mod postgres;
pub(crate) mod sqlite;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nats_callout::callout::Token;
use serde_json::Value;

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::{depth, eventually};

/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(3);

/// Within which everything works again once a fault is over.
const RECOVERY: Duration = Duration::from_secs(2);

/// Within which cached users stop getting in where nobody can read changes: 0.5 s are promised. An instance
/// that did not mind would stop only when it has waited for changes as long as it does, after 1.3 s and more.
const FROM_MEMORY: Duration = Duration::from_secs(1);

/// How long logins go on after a fault: some of them begin when everything has to work.
fn after() -> Duration {
    RECOVERY + depth(Duration::from_millis(500), Duration::from_secs(1))
}

/// Between two logins of each kind.
fn pace() -> Duration {
    depth(Duration::from_millis(100), Duration::from_millis(50))
}

/// A refusal sooner than this is a verdict; one later is the server that has waited in vain.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
struct Attempt {
    begun: Instant,
    took: Duration,
    ended: Instant,
    admitted: bool,
}

/// Who logs in during a fault.
struct Users {
    /// Has logged in just before, with a password.
    cached: Value,
    /// Each is used once.
    uncached: Vec<Value>,
    /// Must not get in: revoked a moment before the fault, or never right.
    wrong: Vec<Value>,
}

impl Users {
    /// Those of the fault of this number, on a deployment that has been through others.
    fn new(deployment: &Deployment, fault: usize) -> Self {
        let count = 2 * ((FAULT + after()).as_millis() / pace().as_millis()) as usize;
        let tokens: Vec<Token> = (0..count).map(|_| Token::generate().expect("a token")).collect();
        let (one, gone) = (format!("one-{fault}"), format!("gone-{fault}"));
        let admin = deployment.tenant_add(&one, &[]);
        let suspended = deployment.tenant_add(&gone, &[]);
        let revoked = deployment.token_add(&one, &one);
        let rows: String = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                format!(
                    "INSERT INTO users (tenant_id, name) VALUES ('{one}', '{one}-{n}');\n\
                     INSERT INTO tokens (user_name, token_hash) VALUES ('{one}-{n}', '{}');\n",
                    token.hash().to_hex()
                )
            })
            .collect();
        let marker = format!("marker-{fault}");
        let marked = format!("INSERT INTO users (tenant_id, name) VALUES ('{one}', '{marker}');\n");
        deployment.sql(&format!("BEGIN;\n{rows}{marked}COMMIT;"));
        let Login::Password(name, _) = &admin else { unreachable!("a password") };
        let wrong = [
            suspended,
            Login::Token(revoked),
            Login::password(name, "wrong"),
            Login::password(&format!("nobody-{fault}"), "wrong"),
        ];
        let users = Self {
            cached: admin.connect_fields(),
            uncached: tokens
                .iter()
                .map(|token| Login::Token(token.expose().to_owned()).connect_fields())
                .collect(),
            wrong: wrong.iter().map(Login::connect_fields).collect(),
        };
        let port = deployment.server.port();
        for fields in [&users.cached, &users.wrong[0], &users.wrong[1]] {
            eventually("a login before the fault", || {
                (raw::connect(port, fields).0 == Verdict::Admitted).then_some(())
            });
        }
        deployment.sql(&format!(
            "UPDATE tenants SET status = 'suspended' WHERE id = '{gone}';\n\
             DELETE FROM tokens WHERE user_name = '{one}';"
        ));
        // A command that returns when every instance has read all changes up to its own.
        let known = deployment.cli(&["user", "passwd", &one, &marker]).success();
        assert!(!known.stderr.contains("warning"), "{known:?}");
        users
    }
}

/// Another program in the middle of a transaction, which ends with the value.
pub(crate) struct Holder(Child);

impl Holder {
    /// Starts the program with this input, and waits for its word that it has locked something.
    fn start(mut command: Command, input: &str) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdin = child.stdin.as_mut().expect("its input");
        stdin.write_all(input.as_bytes()).expect("it reads");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its line");
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has everybody log in from the beginning of a fault until some time after its end, and judges. Gives
/// when the last cached login began that was let in during the fault.
fn observe<G>(
    name: &str,
    deployment: &Deployment,
    begin: impl FnOnce() -> G,
    end: impl FnOnce(G),
) -> Option<Duration> {
    static FAULTS: AtomicUsize = AtomicUsize::new(0);
    let users = Users::new(deployment, FAULTS.fetch_add(1, Ordering::Relaxed));
    let port = deployment.server.port();
    let (cached, uncached, wrong) = (Mutex::default(), Mutex::default(), Mutex::default());
    let fault = begin();
    let begun = Instant::now();
    let mut fault = Some((fault, end));
    let (mut ends, mut over) = (begun, begun);
    std::thread::scope(|scope| {
        let (cached, uncached, wrong) = (&cached, &uncached, &wrong);
        let mut newcomers = users.uncached.iter();
        let mut round = 0;
        while fault.is_some() || over.elapsed() < after() {
            if begun.elapsed() >= FAULT
                && let Some((fault, end)) = fault.take()
            {
                ends = Instant::now();
                end(fault);
                over = Instant::now();
            }
            scope.spawn(|| log_in(port, &users.cached, cached));
            if let Some(fields) = newcomers.next() {
                scope.spawn(|| log_in(port, fields, uncached));
            }
            let fields = &users.wrong[round % users.wrong.len()];
            scope.spawn(|| log_in(port, fields, wrong));
            round += 1;
            sleep(pace());
        }
    });
    let [cached, uncached, wrong]: [Vec<Attempt>; 3] =
        [cached, uncached, wrong].map(|attempts| attempts.into_inner().expect("no panic"));
    let wrong_grants = wrong.iter().filter(|attempt| attempt.admitted).count();
    let right = cached.iter().chain(&uncached);
    let refused = right.clone().filter(|attempt| !attempt.admitted && attempt.took < AT_ONCE);
    let refused = refused.count();
    let recovered = right
        .filter(|attempt| attempt.begun >= over && !attempt.admitted)
        .map(|attempt| attempt.begun + pace() - over)
        .max()
        .unwrap_or_default();
    println!(
        "| {name} | {wrong_grants} | {} | {} | {:.1} s |",
        seen(&cached, begun, over),
        seen(&uncached, begun, over),
        recovered.as_secs_f32()
    );
    let log = deployment.service.log();
    assert_eq!(wrong_grants, 0, "{name}\n{log}");
    assert_eq!(refused, 0, "{name}: right credentials were refused at once\n{log}");
    assert!(recovered <= RECOVERY, "{name}: {recovered:?}\n{log}");
    let during = |attempt: &&Attempt| attempt.admitted && attempt.ended < ends;
    cached.iter().filter(during).map(|attempt| attempt.begun - begun).max()
}

/// [`observe`] for a fault during which nobody can read changes: nobody gets in by what was read before.
fn observe_blind<G>(
    name: &str,
    deployment: &Deployment,
    begin: impl FnOnce() -> G,
    end: impl FnOnce(G),
) {
    let last = observe(name, deployment, begin, end);
    let log = deployment.service.log();
    assert!(last.is_none_or(|last| last < FROM_MEMORY), "{name}: after {last:?}\n{log}");
}

fn log_in(port: u16, fields: &Value, attempts: &Mutex<Vec<Attempt>>) {
    let begun = Instant::now();
    // From its CONNECT on: a busy server may let it wait for that.
    let (verdict, took) = raw::connect(port, fields);
    let (ended, admitted) = (Instant::now(), verdict == Verdict::Admitted);
    attempts.lock().expect("no panic").push(Attempt { begun, took, ended, admitted });
}

/// What a user experiences during a fault.
fn seen(attempts: &[Attempt], begun: Instant, over: Instant) -> String {
    let during: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.begun < over).collect();
    let waited = during.iter().filter(|attempt| !attempt.admitted);
    let longest = during.iter().map(|attempt| attempt.took).max().unwrap_or_default();
    match waited.map(|attempt| attempt.begun - begun).min() {
        None if longest < Duration::from_millis(200) => "is admitted".to_owned(),
        None => format!("is admitted, after {:.1} s at most", longest.as_secs_f32()),
        Some(first) if first < Duration::from_millis(200) => {
            "waits, and is let go after 2 s".to_owned()
        }
        Some(first) => format!(
            "is admitted for {:.1} s, then waits, and is let go after 2 s",
            first.as_secs_f32()
        ),
    }
}
