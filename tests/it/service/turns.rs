//! Who is served first where not all can be at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nats_callout::callout::{Running, Settings};
use nats_callout::internals::{Attempt, Authentication, Authenticator, AuthnError, Credentials};
use nats_callout::policy::DenyReason;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::embedding::Embedded;
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::{eventually_async, raw};

/// Refuses everybody, one at a time, once it may.
#[derive(Debug)]
struct Porter {
    begun: Mutex<Vec<String>>,
    may: Semaphore,
}

#[async_trait]
impl Authenticator for Porter {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let Credentials::Token(token) = attempt.credentials else { unreachable!("a token") };
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

#[tokio::test(flavor = "multi_thread")]
async fn who_still_waits_is_served_before_who_has_gone() {
    let init = Initialised::new(Mode::Config);
    let conf = std::fs::read_to_string(init.server_conf()).expect("it is there");
    std::fs::write(init.server_conf(), conf.replacen("timeout: 2\n", "timeout: 60\n", 1))
        .expect("is written");
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
