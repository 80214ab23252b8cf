//! Who is served first where not all can be at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nats_callout::callout::{Running, Settings};
use nats_callout::internals::{
    Attempt, Authentication, Authenticator, AuthnError, Credentials, DenyReason,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::embedding::Embedded;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{eventually, eventually_async, http, raw, servers};

/// Refuses everybody, one at a time, once it may.
#[derive(Debug)]
struct Porter {
    begun: Mutex<Vec<String>>,
    may: Semaphore,
}

#[async_trait]
impl Authenticator for Porter {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let Credentials::Token { token, .. } = attempt.credentials else { unreachable!("a token") };
        self.begun.lock().push(token.expose().to_owned());
        self.may.acquire().await.expect("is not closed").forget();
        Ok(Authentication::Refused(DenyReason::Refused.into()))
    }
}

/// A client of a library, which waits for as long as the server.
fn comes(port: u16, name: &str, lang: &str) -> JoinHandle<raw::Verdict> {
    let options = json!({ "auth_token": name, "lang": lang });
    tokio::task::spawn_blocking(move || raw::connect(port, &options).0)
}

async fn waiting(running: &Running, count: usize) {
    eventually_async("it waits", async || (running.waiting() == count).then_some(())).await;
}

/// Of a server that waits for a minute.
fn of_patience() -> Initialised {
    let init = Initialised::new(Mode::Config);
    let conf = std::fs::read_to_string(init.server_conf()).expect("it is there");
    std::fs::write(init.server_conf(), conf.replacen("timeout: 2\n", "timeout: 60\n", 1))
        .expect("is written");
    init
}

#[tokio::test(flavor = "multi_thread")]
async fn who_still_waits_is_served_before_who_has_gone() {
    let init = of_patience();
    let porter = Arc::new(Porter { begun: Mutex::default(), may: Semaphore::new(0) });
    let settings =
        Settings { max_in_flight: 1, deadline: Duration::from_secs(60), ..Settings::default() };
    let Embedded { server, running, init: _init } =
        Embedded::start_on(init, settings, porter.clone(), None).await;

    let mut clients = vec![comes(server.port(), "first", "go")];
    eventually_async("it is decided about", async || porter.begun.lock().first().map(|_| ())).await;
    for (count, name) in ["gone 1", "gone 2"].into_iter().enumerate() {
        clients.push(comes(server.port(), name, "go"));
        waiting(&running, count + 1).await;
    }
    // For so long does nats.go wait.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let later = [("go 1", "go"), ("go 2", "go"), ("node", "nats.js"), ("python", "python3")];
    for (count, (name, lang)) in later.into_iter().enumerate() {
        clients.push(comes(server.port(), name, lang));
        waiting(&running, count + 3).await;
    }
    porter.may.add_permits(clients.len());
    for client in clients {
        let verdict = client.await.expect("no panic");
        assert!(matches!(verdict, raw::Verdict::Refused(_)), "{verdict:?}");
    }
    let order = ["first", "go 1", "node", "go 2", "python", "gone 2", "gone 1"];
    assert_eq!(*porter.begun.lock(), order);
    running.stop().await;
}

/// Of no password: some 0.3 s of work.
const HASH: &str = "$pbkdf2-sha512$i=300000,l=64$c2l4dGVlbiBieXRlcyBvaw$CRN7wWhgnsI9j5Hv0C0nWzFkW88U4D1c/bNqrbDZCyTCAmOVrQlZIcFPTR63ZXehnzXub9kcYIyfI0EYEcMF/A";

fn waiting_of(deployment: &Deployment) -> u32 {
    let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
    let mut lines = metrics.lines();
    let waiting = lines.find_map(|line| line.strip_prefix("nats_callout_requests_waiting "));
    waiting.expect("a line of it").parse().expect("a number")
}

/// No row has been read for them yet.
#[test]
fn a_command_does_not_wait_for_those_who_wait_for_a_turn() {
    let one_at_a_time = [("NATS_CALLOUT_CALLOUT_MAX_IN_FLIGHT", "1")];
    let deployment = Deployment::start_initialised(servers::version(), &one_at_a_time, of_patience);
    let users: String = (0..30)
        .map(|n| {
            format!(
                "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'u{n}', '{HASH}');\n"
            )
        })
        .collect();
    deployment.sql(&format!(
        "BEGIN;\nINSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n{users}COMMIT;"
    ));
    let port = deployment.server.port();
    let come = |n| {
        let login = json!({ "user": format!("u{n}"), "pass": "wrong" });
        std::thread::spawn(move || raw::connect(port, &login).0)
    };
    let clients: Vec<_> = (0..30).map(come).collect();
    eventually("a queue", || (waiting_of(&deployment) >= 20).then_some(()));
    let said = deployment.cli(&["tenant", "suspend", "42"]).success();
    assert_eq!(said.stderr, "", "no warning");
    assert!(waiting_of(&deployment) > 0, "it has not waited for all");
    for client in clients {
        let verdict = client.join().expect("no panic");
        assert!(matches!(verdict, raw::Verdict::Refused(_)), "{verdict:?}");
    }
}
