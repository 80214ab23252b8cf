//! What tenants and their applications do all day, on real servers: two tenants side by side, and
//! apps in every language, with core NATS and with JetStream.
//!
//! [`Market`] has the tenants SHOP and BLOG, each with its admin and a restricted service.

mod apart;
mod apps;
mod orders;
mod storage;
mod wildcards;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;

use crate::harness::PATIENCE;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Mode};

/// SHOP and BLOG, as their operator added them.
#[derive(Debug)]
struct Market {
    deployment: Deployment,
    shop: Login,
    order_service: Login,
    blog: Login,
    post_service: Login,
}

impl Market {
    fn open() -> Self {
        let deployment = Deployment::start(Mode::Operator);
        let shop = tenant(&deployment, "SHOP", "shop", &["--storage", "1GB"]);
        let blog = tenant(&deployment, "BLOG", "blog", &["--storage", "1GB"]);
        let order_service = deployment.user_add(
            "shop",
            "order-service",
            &["-p", "orders.*,events.order.*", "-s", "payments.*,inventory.*"],
        );
        let post_service = deployment.user_add(
            "blog",
            "post-service",
            &["-p", "posts.*,orders.*", "-s", "comments.*,payments.*"],
        );
        Self { deployment, shop, order_service, blog, post_service }
    }

    async fn connect(&self, login: &Login) -> Connected {
        connect(&self.deployment, login).await
    }
}

/// Adds a tenant under a name that is not its id; gives its admin's login.
fn tenant(deployment: &Deployment, name: &str, id: &str, extra: &[&str]) -> Login {
    let args = [&["--json", "tenant", "add", name, "--id", id], extra].concat();
    let made = deployment.cli(&args).success().json();
    assert_eq!((&made["tenant"]["name"], &made["user"]["name"]), (&name.into(), &id.into()));
    Login::password(id, made["password"].as_str().expect("a password"))
}

async fn connect(deployment: &Deployment, login: &Login) -> Connected {
    client::connect(&deployment.url(), login, "_INBOX").await.unwrap_or_else(|error| {
        panic!("{login:?}: {error}\n{}\n{}", deployment.service.log(), deployment.server.log())
    })
}

async fn publish(connected: &Connected, subject: &str, payload: &'static str) {
    connected.client.publish(subject.to_owned(), payload.into()).await.expect("is sent");
}

async fn subscribe(connected: &Connected, subject: &str) -> Subscriber {
    connected.client.subscribe(subject.to_owned()).await.expect("is sent")
}

/// The server has seen everything that this admin sent before.
async fn settled(admin: &Connected) {
    admin.round_trip(&admin.client.new_inbox()).await;
}

/// The server refuses this user a publish, and has then seen everything that it sent before.
async fn refused_publish(user: &Connected, subject: &str) {
    publish(user, subject, "refused").await;
    user.violation(&["publish", &format!("\"{subject}\"")]).await;
}

/// The server refuses this user a subscription.
async fn refused_subscribe(user: &Connected, subject: &str) {
    let _refused = subscribe(user, subject).await;
    user.violation(&["subscription", &format!("\"{subject}\"")]).await;
}

/// The next message, which must come.
async fn next(subscriber: &mut Subscriber) -> Message {
    tokio::time::timeout(PATIENCE, subscriber.next())
        .await
        .expect("a message")
        .expect("the connection is open")
}

/// The messages up to the one with this payload: subject and payload of each.
async fn until(subscriber: &mut Subscriber, last: &str) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    loop {
        let message = next(subscriber).await;
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        if payload == last {
            return seen;
        }
        seen.push((message.subject.to_string(), payload));
    }
}
