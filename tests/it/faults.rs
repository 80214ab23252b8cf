//! The database fails in all the ways it can, and what logins see of it. Each test prints a row of
//! the table in deploy/README.md: `cargo test --test it -- faults:: --nocapture | grep '^|'`.

mod postgres;
mod sqlite;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nats_callout::authn::token::Token;
use serde_json::Value;

use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};

/// How long a fault lasts, and how long logins go on after it.
const FAULT: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(3);

/// Between two logins of each kind.
const PACE: Duration = Duration::from_millis(50);

/// Within which everything works again once a fault is over.
const RECOVERY: Duration = Duration::from_secs(2);

/// A refusal sooner than this is a verdict; one later is the server that has waited in vain.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
struct Attempt {
    begun: Instant,
    took: Duration,
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
    fn new(deployment: &Deployment) -> Self {
        let count = 2 * ((FAULT + AFTER).as_millis() / PACE.as_millis()) as usize;
        let tokens: Vec<Token> = (0..count).map(|_| Token::generate().expect("a token")).collect();
        let admin = deployment.tenant_add("one", &[]);
        let gone = deployment.tenant_add("gone", &[]);
        let revoked = deployment.token_add("one", "one");
        let rows: String = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                format!(
                    "INSERT INTO users (tenant_id, name) VALUES ('one', 'u{n}');\n\
                     INSERT INTO tokens (user_name, token_hash) VALUES ('u{n}', '{}');\n",
                    token.hash().to_hex()
                )
            })
            .collect();
        deployment.sql(&format!("BEGIN;\n{rows}COMMIT;"));
        let Login::Password(name, _) = &admin else { unreachable!("a password") };
        let wrong = [
            gone.clone(),
            Login::Token(revoked),
            Login::password(name, "wrong"),
            Login::password("nobody", "wrong"),
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
            assert_eq!(raw::connect(port, fields).0, Verdict::Admitted);
        }
        deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'gone';");
        deployment.sql("DELETE FROM tokens WHERE user_name = 'one';");
        sleep(Duration::from_secs(1));
        users
    }
}

/// Another program in the middle of a transaction, which ends with the value.
struct Holder(Child);

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

/// Has everybody log in from the beginning of a fault until some time after its end, and judges.
fn observe<G>(name: &str, deployment: &Deployment, begin: impl FnOnce() -> G, end: impl FnOnce(G)) {
    let users = Users::new(deployment);
    let port = deployment.server.port();
    let (cached, uncached, wrong) = (Mutex::default(), Mutex::default(), Mutex::default());
    let fault = begin();
    let begun = Instant::now();
    let mut fault = Some((fault, end));
    let mut over = begun;
    std::thread::scope(|scope| {
        let (cached, uncached, wrong) = (&cached, &uncached, &wrong);
        let mut newcomers = users.uncached.iter();
        let mut round = 0;
        while begun.elapsed() < FAULT + AFTER {
            if begun.elapsed() >= FAULT
                && let Some((fault, end)) = fault.take()
            {
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
            sleep(PACE);
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
        .map(|attempt| attempt.begun + PACE - over)
        .max()
        .unwrap_or_default();
    println!(
        "| {name} | {wrong_grants} | {} | {} | {:.1} s |",
        seen(&cached, begun, over),
        seen(&uncached, begun, over),
        recovered.as_secs_f32()
    );
    let log = deployment.service.log();
    assert_eq!(wrong_grants, 0, "{log}");
    assert_eq!(refused, 0, "right credentials were refused at once\n{log}");
    assert!(recovered <= RECOVERY, "{recovered:?}\n{log}");
}

fn log_in(port: u16, fields: &Value, attempts: &Mutex<Vec<Attempt>>) {
    let begun = Instant::now();
    let (verdict, took) = raw::connect(port, fields);
    let admitted = verdict == Verdict::Admitted;
    attempts.lock().expect("no panic").push(Attempt { begun, took, admitted });
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
