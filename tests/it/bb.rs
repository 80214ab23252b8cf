//! The BB side: the application behind the tenants, which reads all tenants' events from one
//! stream, notifies each of them and asks them questions, on real servers, in both modes.
//!
//! [`Backend`] is BB's own login as `init` wrote it, with a reader of the consumer
//! `ProcessEvents`.

pub(crate) mod answers;
mod attacks;
mod flood;
mod frozen;
mod logins;
pub(crate) mod notifier;
mod older;
mod scenario;
mod streams;

use std::path::Path;
use std::time::Duration;

use async_nats::{ConnectOptions, Request};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::servers::NatsServer;
use crate::harness::{PATIENCE, eventually_async};

/// Where the next event of the consumer is asked for.
const NEXT: &str = "$JS.API.CONSUMER.MSG.NEXT.ReceivedEvents.ProcessEvents";

/// BB, logged in.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) connected: Connected,
}

impl Backend {
    pub(crate) async fn connect(deployment: &Deployment) -> Self {
        Self::connect_to(&deployment.server, deployment).await
    }

    /// Connects to this server alone.
    pub(crate) async fn connect_to(server: &NatsServer, init: &Initialised) -> Self {
        let keys = init.dir().join("keys");
        let options = match init.mode {
            Mode::Operator => {
                let creds = read(&keys.join("bb.creds"));
                ConnectOptions::with_credentials(&creds).expect("a creds file")
            }
            Mode::Config => ConnectOptions::with_nkey(read(&keys.join("bb.nk")).trim().to_owned()),
        };
        let connected = client::connect_with(&server.url(), options, "_INBOX")
            .await
            .unwrap_or_else(|error| panic!("BB: {error}\n{}", server.log()));
        Self { connected }
    }

    /// The next event: its subject and payload. It is acknowledged.
    async fn next_event(&self) -> (String, String) {
        self.event_within(PATIENCE).await.expect("an event")
    }

    async fn event_within(&self, patience: Duration) -> Option<(String, String)> {
        let client = &self.connected.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.expect("subscribes");
        let expires = u64::try_from(patience.as_nanos()).expect("short");
        let body = serde_json::json!({ "batch": 1, "expires": expires }).to_string();
        client.publish_with_reply(NEXT, inbox, body.into()).await.expect("publishes");
        loop {
            let message = tokio::time::timeout(patience + PATIENCE, answers.next())
                .await
                .expect("JetStream answers")
                .expect("the connection is open");
            match message.status.map(|status| status.as_u16()) {
                None => {
                    let reply = message.reply.expect("where it is acknowledged");
                    client.publish(reply, "+ACK".into()).await.expect("publishes");
                    let payload = String::from_utf8_lossy(&message.payload).into_owned();
                    return Some((message.subject.to_string(), payload));
                }
                // Idle heartbeats and the like.
                Some(100) => {}
                // No message in that time.
                Some(404 | 408) => return None,
                Some(status) => panic!("{status}: {:?}", message.description),
            }
        }
    }

    /// Publishes a notification without asking for anything.
    pub(crate) async fn notify(&self, tenant: &str, text: &str) {
        let subject = format!("user.{tenant}.Notifications");
        self.connected.client.publish(subject, text.to_owned().into()).await.expect("publishes");
        self.settled().await;
    }

    /// Returns once the server has seen everything that was sent.
    async fn settled(&self) {
        self.connected.round_trip(&self.connected.client.new_inbox()).await;
    }

    /// The configuration and the state of a stream.
    async fn stream(&self, name: &str) -> Value {
        self.connected
            .jetstream(&format!("$JS.API.STREAM.INFO.{name}"), &serde_json::json!({}))
            .await
    }

    /// How many messages a stream holds.
    async fn messages(&self, name: &str) -> u64 {
        self.stream(name).await["state"]["messages"].as_u64().expect("a count")
    }

    /// Waits until a stream holds so many messages.
    async fn holds(&self, name: &str, messages: u64) {
        eventually_async(&format!("{messages} messages in {name}"), || async {
            (self.messages(name).await == messages).then_some(())
        })
        .await;
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// How a tenant is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    Own,
    Shared,
}

/// A tenant's `bb` user, logged in.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: String,
    isolation: Isolation,
    connected: Connected,
}

impl App {
    /// Adds a tenant and logs its `bb` user in.
    pub(crate) async fn add(
        deployment: &Deployment,
        id: &str,
        isolation: Isolation,
        extra: &[&str],
    ) -> Self {
        let mut args = extra.to_vec();
        if deployment.mode == Mode::Operator {
            let how = if isolation == Isolation::Own { "account" } else { "shared" };
            args.extend(["--isolation", how]);
        }
        // Many of them have to fit below the ceiling of a test's deployment.
        args.extend(["--memory", "1MB", "--storage", "16MB"]);
        deployment.tenant_add(id, &args);
        let login = deployment.user_add(id, &format!("{id}-app"), &["--kind", "bb"]);
        Self::connect(deployment, id, isolation, &login).await
    }

    async fn connect(
        deployment: &Deployment,
        id: &str,
        isolation: Isolation,
        login: &Login,
    ) -> Self {
        let connected = client::connect(&deployment.url(), login, &format!("_INBOX_{id}"))
            .await
            .unwrap_or_else(|error| panic!("{id}: {error}\n{}", deployment.service.log()));
        Self { id: id.to_owned(), isolation, connected }
    }

    /// The name of a subject of `user.<id>` as this tenant sees it.
    fn subject(&self, name: &str) -> String {
        match self.isolation {
            Isolation::Own => name.to_owned(),
            Isolation::Shared => format!("user.{}.{name}", self.id),
        }
    }

    /// Publishes an event and waits until the server has it.
    async fn event(&self, text: &str) {
        let client = &self.connected.client;
        client.publish(self.subject("Events"), text.to_owned().into()).await.expect("publishes");
        self.settled().await;
    }

    /// Publishes an event as a request; JetStream's answer.
    async fn asked(&self, text: &str) -> Value {
        let request = self.connected.client.request(self.subject("Events"), text.to_owned().into());
        let answer = request.await.unwrap_or_else(|error| panic!("{}: {error}", self.id));
        serde_json::from_slice(&answer.payload).expect("json")
    }

    /// Returns once the server has seen everything that was sent: an own account asks its
    /// JetStream, a shared one hears itself.
    async fn settled(&self) {
        match self.isolation {
            Isolation::Own => {
                self.connected.jetstream("$JS.API.INFO", &serde_json::json!({})).await;
            }
            Isolation::Shared => self.connected.round_trip(&self.subject("settled")).await,
        }
    }

    /// Listens to notifications.
    pub(crate) async fn notifications(&self) -> async_nats::Subscriber {
        let subject = self.subject("Notifications");
        let subscriber = self.connected.client.subscribe(subject).await.expect("subscribes");
        self.settled().await;
        subscriber
    }

    /// Answers every notification that asks for it, with its own id.
    pub(crate) async fn answering(&self) -> tokio::task::JoinHandle<()> {
        let mut requests = self.notifications().await;
        let (client, id) = (self.connected.client.clone(), self.id.clone());
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                client.publish(reply, format!("answer of {id}").into()).await.expect("is sent");
            }
        })
    }
}

/// The next message, which has to come.
pub(crate) async fn next(subscriber: &mut async_nats::Subscriber) -> (String, String) {
    let message = tokio::time::timeout(PATIENCE, subscriber.next())
        .await
        .expect("a message")
        .expect("the connection is open");
    (message.subject.to_string(), String::from_utf8_lossy(&message.payload).into_owned())
}

/// Nothing has come, and nothing is on its way: `after` says that it has been waited for.
fn silent(subscriber: &mut async_nats::Subscriber) {
    use futures_util::FutureExt as _;
    if let Some(message) = subscriber.next().now_or_never() {
        panic!("unexpected: {message:?}");
    }
}

/// Waits for an answer to a request by BB: the tenant's subscription may not be everywhere yet, and
/// what is asked before the tenant may answer is heard and never answered.
pub(crate) async fn answer(backend: &Backend, tenant: &str) -> String {
    let subject = format!("user.{tenant}.Notifications");
    let answer = eventually_async(&format!("an answer on {subject}"), || async {
        let question =
            Request::new().payload("question".into()).timeout(Some(Duration::from_secs(1)));
        backend.connected.client.send_request(subject.clone(), question).await.ok()
    })
    .await;
    String::from_utf8_lossy(&answer.payload).into_owned()
}
