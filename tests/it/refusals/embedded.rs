//! What an application brings about that embeds the library: the program does none of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nats_callout::callout::{Answer, BoxError, Request, Running};
use nats_callout::internals::{Attempt, Authentication, Authenticator, AuthnError};
use nats_callout::testing::NatsServer;
use serde_json::{Value, json};

use super::cases::Row;
use super::settled::{settled, without_time};
use crate::harness::{eventually_async, raw, servers};
use crate::service::embedding::Embedded;

/// What happens, which of the rule's users brings it about, and as what it is known.
const CASES: [(&str, &str, &str); 3] = [
    ("an application's own rule, with its own words", "refused", "refused"),
    ("an application's own rule panics", "panics", "no reply: panicked"),
    ("an application's own rule takes longer than a decision may", "hangs", "no reply: deadline"),
];

const UNTAKEN: &str = "an application's own authenticators, of which none takes what is offered";

async fn rule(request: Request) -> Result<Answer, BoxError> {
    match request.password() {
        Some(("refused", _)) => Ok(Answer::deny("the account is closed")),
        Some(("panics", _)) => panic!("a mistake in the rule"),
        _ => std::future::pending().await,
    }
}

/// Takes nothing.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl Authenticator for Idle {
    async fn authenticate(&self, _: Attempt<'_>) -> Result<Authentication, AuthnError> {
        Ok(Authentication::NotMine)
    }
}

/// The lines of an application's log.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The server's words to this user, and the last line about the login.
    async fn of(&self, port: u16, user: &str) -> (String, String) {
        let fields = json!({ "user": user, "pass": "x" });
        let connecting = tokio::task::spawn_blocking(move || raw::connect_numbered(port, &fields));
        let (verdict, number) = connecting.await.expect("no panic");
        let raw::Verdict::Refused(words) = verdict else { panic!("{user}: {verdict:?}") };
        let about = [format!(" cid={number} "), format!("\"cid\":{number},")];
        let line = eventually_async(user, || async {
            let all = String::from_utf8(self.0.lock().unwrap().clone()).expect("UTF-8");
            let is_it = |line: &&str| about.iter().any(|it| line.contains(it));
            all.lines().find(is_it).map(str::to_owned)
        });
        (words.trim().to_owned(), line.await)
    }
}

/// What is seen by an application that logs as the program does, in one thread of its own.
fn seen(is_json: bool) -> Vec<(String, String)> {
    let work = move || {
        let lines = Lines::default();
        let out = lines.clone();
        let format = tracing_subscriber::fmt().with_writer(move || out.clone());
        let _log = if is_json {
            tracing::subscriber::set_default(format.json().flatten_event(true).finish())
        } else {
            tracing::subscriber::set_default(format.with_ansi(false).finish())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bring_about(&lines))
    };
    std::thread::spawn(work).join().expect("no panic")
}

async fn bring_about(lines: &Lines) -> Vec<(String, String)> {
    let program = servers::binary(servers::version());
    let server = NatsServer::start_program(&program, "").await.expect("starts");
    let callout = server.callout().authorize(rule).expect("a rule");
    let running: Running = callout.start(server.auth().await.unwrap()).await.expect("starts");
    let mut seen = Vec::new();
    let port = server.url().rsplit_once(':').unwrap().1.parse().expect("a port");
    for (_, user, _) in CASES {
        seen.push(lines.of(port, user).await);
    }
    running.stop().await;
    let Embedded { server, running, init: _init } = Embedded::start(Arc::new(Idle), None).await;
    seen.push(lines.of(server.port(), "alice").await);
    running.stop().await;
    seen
}

pub(super) fn rows() -> Vec<(&'static str, Row)> {
    let whats = CASES.map(|(what, _, reason)| (what, reason));
    let whats = whats.into_iter().chain([(UNTAKEN, "unsupported_credentials")]);
    let [text, as_json] = [false, true].map(seen);
    let rows = whats.zip(text).zip(as_json).map(|(((what, reason), (client, line)), (_, json))| {
        let json: Value = serde_json::from_str(&json).expect("a line");
        let code = reason.trim_start_matches("no reply: ");
        assert!(line.contains(&format!(" reason=\"{code}\" ")), "{what}: {line}");
        assert_eq!(json["reason"], code, "{what}");
        let put = |text: &str| settled(text, std::path::Path::new("no folder"));
        let row = Row {
            reason: reason.to_owned(),
            client,
            line: put(line.split_once("Z ").map_or("", |(_, rest)| rest.trim_start())),
            json: put(&without_time(json)),
            event: None,
            test: None,
            explain: None,
        };
        (what, row)
    });
    rows.collect()
}
