//! What a tenant's account does by itself: schedules, redelivery and republishing, of which none needs a
//! client.

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{account_of, read};
use crate::bb::Backend;
use crate::bb::answers::account_jwt;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{PATIENCE, eventually, eventually_async, http, loudly, servers};

/// What each robot says.
const SCHEDULED: &str = "scheduled";
const DELIVERED: &str = "delivered";
const ANSWERED: &str = "answered";

/// How often a message is delivered again that nobody acknowledges.
const AGAIN: Duration = Duration::from_millis(100);

/// A tenant with its robots.
struct Robots {
    id: &'static str,
    login: Login,
    /// Those that the server knows.
    kinds: Vec<&'static str>,
}

impl Robots {
    async fn start(deployment: &Deployment, id: &'static str, extra: &[&str]) -> Self {
        let args = [&["--memory", "1MB", "--storage", "16MB"], extra].concat();
        let login = deployment.tenant_add(id, &args);
        let admin = client::connect(&deployment.url(), &login, "_INBOX").await.expect("connects");
        let mut robots = Self { id, login, kinds: vec![DELIVERED, ANSWERED] };
        deliver_to_events(&admin, &robots.text(DELIVERED)).await;
        create(
            &admin,
            json!({ "name": "ANSWERS", "subjects": ["Notifications"],
                "republish": { "src": "Notifications", "dest": "Events" } }),
        )
        .await;
        let version = servers::version();
        if ["2.10", "2.11", "2.12"].iter().any(|line| servers::is(version, line)) {
            loudly(&format!("SKIPPED: schedules, which nats-server {version} has not"));
        } else {
            create(
                &admin,
                json!({ "name": "TICKS", "subjects": ["tick", "schedule"],
                    "allow_msg_schedules": true,
                    "republish": { "src": "tick", "dest": "Events" } }),
            )
            .await;
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Schedule", "@every 1s");
            headers.insert("Nats-Schedule-Target", "tick");
            let (client, text) = (&admin.client, robots.text(SCHEDULED));
            let published = client.publish_with_headers("schedule", headers, text.into());
            published.await.expect("publishes");
            robots.kinds.push(SCHEDULED);
        }
        admin.client.flush().await.expect("is sent");
        robots
    }

    /// What one of them says. By the subject alone it may be anybody's: a delivery keeps the one that
    /// the message was stored under.
    fn text(&self, kind: &str) -> String {
        format!("{kind} by {}", self.id)
    }

    fn said(&self, message: &Message) -> bool {
        String::from_utf8_lossy(&message.payload).contains(&self.text(""))
    }

    async fn notify(&self, backend: &Backend) {
        backend.notify(self.id, &self.text(ANSWERED)).await;
    }

    /// Waits until all of them have been heard.
    async fn are_heard(&self, backend: &Backend, ear: &mut Subscriber) {
        let mut missing = self.kinds.clone();
        let begun = Instant::now();
        while !missing.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{missing:?} of {}", self.id);
            let message = next(ear).await;
            let text = String::from_utf8_lossy(&message.payload);
            missing.retain(|kind| !text.contains(&self.text(kind)));
            // An account that is just back may have missed it.
            if missing.contains(&ANSWERED) && text.contains(DELIVERED) {
                self.notify(backend).await;
            }
        }
    }

    async fn data(&self, deployment: &Deployment) -> Vec<Value> {
        let admin = eventually_async("the login", || async {
            client::connect(&deployment.url(), &self.login, "_INBOX").await.ok()
        })
        .await;
        let mut states = Vec::new();
        for stream in ["BEATS", "ANSWERS"] {
            let subject = format!("$JS.API.STREAM.INFO.{stream}");
            states.push(admin.jetstream(&subject, &json!({})).await["state"].clone());
        }
        states
    }
}

/// Has an account deliver this text to `Events`, again and again.
pub(super) async fn deliver_to_events(admin: &Connected, text: &str) {
    create(admin, json!({ "name": "BEATS", "subjects": ["beat"] })).await;
    admin.jetstream("beat", &json!(text)).await;
    let consumer = json!({ "stream_name": "BEATS", "config": {
        "durable_name": "ROBOT", "deliver_subject": "Events", "ack_policy": "explicit",
        "ack_wait": AGAIN.as_nanos() as u64, "max_deliver": -1,
    } });
    admin.jetstream("$JS.API.CONSUMER.DURABLE.CREATE.BEATS.ROBOT", &consumer).await;
}

async fn create(admin: &Connected, config: Value) {
    let subject = format!("$JS.API.STREAM.CREATE.{}", config["name"].as_str().expect("a name"));
    admin.jetstream(&subject, &config).await;
}

pub(super) async fn next(ear: &mut Subscriber) -> Message {
    let message = tokio::time::timeout(PATIENCE, ear.next()).await;
    message.expect("an event").expect("the connection is open")
}

/// Nothing comes of a tenant while another one's robots go on, as often as those of the first would:
/// a schedule twice, a delivery ten times and more.
async fn silent(backend: &Backend, robots: &Robots, witness: &Robots, ear: &mut Subscriber) {
    let (mut scheduled, mut delivered) = (0, 0);
    let wants_schedules = witness.kinds.contains(&SCHEDULED);
    robots.notify(backend).await;
    while delivered < 10 || wants_schedules && scheduled < 2 {
        let message = next(ear).await;
        assert!(!robots.said(&message), "of a tenant that is over: {message:?}");
        let text = String::from_utf8_lossy(&message.payload);
        scheduled += usize::from(text.contains(SCHEDULED));
        delivered += usize::from(text.contains(DELIVERED));
    }
}

/// What BB hears from now on.
pub(super) async fn listen(backend: &Backend) -> Subscriber {
    let client = &backend.connected.client;
    let inbox = client.new_inbox();
    let ear = client.subscribe(inbox.clone()).await.expect("subscribes");
    let consumer = json!({ "stream_name": "ReceivedEvents", "config": {
        "deliver_subject": inbox, "deliver_policy": "new", "ack_policy": "none" } });
    backend.connected.jetstream("$JS.API.CONSUMER.CREATE.ReceivedEvents", &consumer).await;
    ear
}

/// The three robots of a tenant that is suspended, expired, moved and removed, and of one that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_does_by_itself_ends_with_its_tenant() {
    let deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let robots = Robots::start(&deployment, "robots", &[]).await;
    let witness = Robots::start(&deployment, "witness", &[]).await;
    let before = robots.data(&deployment).await;
    robots.are_heard(&backend, &mut listen(&backend).await).await;

    deployment.cli(&["tenant", "suspend", "robots"]).success();
    silent(&backend, &robots, &witness, &mut listen(&backend).await).await;
    // Who has nobody connected has nobody to bring it back.
    deployment.cli(&["tenant", "resume", "robots"]).success();
    robots.are_heard(&backend, &mut listen(&backend).await).await;

    let end = jiff::Timestamp::now().as_second() + 2;
    let at = jiff::Timestamp::from_second(end).expect("a time");
    deployment.sql(&format!("UPDATE tenants SET expires_at = '{at}' WHERE id = 'robots'"));
    let mut ear = listen(&backend).await;
    robots.are_heard(&backend, &mut ear).await;
    eventually("the end", || (jiff::Timestamp::now().as_second() >= end).then_some(()));
    quiet(&mut ear, &robots).await;
    silent(&backend, &robots, &witness, &mut listen(&backend).await).await;
    deployment.sql("UPDATE tenants SET expires_at = NULL WHERE id = 'robots'");
    robots.are_heard(&backend, &mut listen(&backend).await).await;

    deployment.sql("UPDATE tenants SET isolation = 'shared' WHERE id = 'robots'");
    quiet(&mut listen(&backend).await, &robots).await;
    silent(&backend, &robots, &witness, &mut listen(&backend).await).await;
    deployment.sql("UPDATE tenants SET isolation = 'account' WHERE id = 'robots'");
    robots.are_heard(&backend, &mut listen(&backend).await).await;

    let after = robots.data(&deployment).await;
    assert_eq!(after[0]["messages"], before[0]["messages"], "{before:?} {after:?}");
    assert!(after[1]["messages"].as_u64() > before[1]["messages"].as_u64(), "{after:?}");

    // The intake hears nobody who was removed; of the account itself the server tells.
    let account = account_of(&deployment, "robots");
    assert!(has_streams(&deployment, &account));
    deployment.cli(&["tenant", "remove", "robots", "--yes"]).success();
    eventually("the end of its streams", || (!has_streams(&deployment, &account)).then_some(()));
    quiet(&mut listen(&backend).await, &robots).await;
    silent(&backend, &robots, &witness, &mut listen(&backend).await).await;
}

/// Whether the server runs JetStream for an account.
fn has_streams(deployment: &Deployment, account: &str) -> bool {
    let monitor = format!("127.0.0.1:{}", deployment.monitor);
    let found = http::get(&monitor, "/jsz?accounts=true").expect("an answer").body;
    assert!(found.contains("account_details"), "{found}");
    found.contains(account)
}

/// Waits until a tenant is heard no more.
async fn quiet(ear: &mut Subscriber, robots: &Robots) {
    let begun = Instant::now();
    let mut last = begun;
    while last.elapsed() < 4 * AGAIN {
        assert!(begun.elapsed() < PATIENCE, "{} is heard without an end", robots.id);
        if let Ok(Some(message)) = tokio::time::timeout(AGAIN, ear.next()).await
            && robots.said(&message)
        {
            last = Instant::now();
        }
    }
}

/// A stream acknowledges what BB asks of a tenant that `answers`.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_over_answers_nothing() {
    let deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let robots = Robots::start(&deployment, "robots", &["--answers"]).await;
    let client = &backend.connected.client;
    let subject = format!("user.{}.Notifications", robots.id);
    let ask = async || client.request(subject.clone(), "asked".into()).await;
    eventually_async("an acknowledgement", || async { ask().await.ok() }).await;
    deployment.cli(&["tenant", "suspend", "robots"]).success();
    ask().await.expect_err("nobody answers");
    eventually("the list without it", || {
        let answers = read(&account_jwt(&deployment, "answers_account"))?;
        answers.body.imports.is_empty().then_some(())
    });
    deployment.cli(&["tenant", "resume", "robots"]).success();
    eventually_async("an acknowledgement", || async { ask().await.ok() }).await;
}
