//! SHOP's admin makes a stream, and its restricted service consumes it: with a durable consumer
//! and explicit acknowledgements, and in a queue group on core NATS.
//!
//! A service consumes with nothing but its lists, so they name what a client needs for that. To
//! publish: `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>` (to fetch),
//! `$JS.ACK.<stream>.<consumer>.>` (to acknowledge), and `$JS.API.CONSUMER.INFO.<stream>.<consumer>`
//! (most clients look the consumer up before the first fetch). To subscribe: nothing, since
//! messages arrive in its inbox.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Market, connect, publish, refused_publish, settled, subscribe, until};
use crate::harness::PATIENCE;
use crate::harness::client::{Connected, Login};
use crate::harness::deployment::Deployment;

/// What the service publishes, and what it needs to consume ORDERS by `processor`.
pub(super) const PUBLISH: &str = "orders.*,$JS.API.CONSUMER.MSG.NEXT.ORDERS.processor,\
                       $JS.API.CONSUMER.INFO.ORDERS.processor,$JS.ACK.ORDERS.processor.>";

const ACK_WAIT: Duration = Duration::from_secs(1);

pub(super) fn worker(deployment: &Deployment, name: &str) -> Login {
    deployment.user_add("shop", name, &["-p", PUBLISH, "-s", "payments.*"])
}

pub(super) async fn stream_and_consumer(admin: &Connected) {
    let stream = json!({ "name": "ORDERS", "subjects": ["orders.*"], "storage": "file" });
    admin.jetstream("$JS.API.STREAM.CREATE.ORDERS", &stream).await;
    let wait = u64::try_from(ACK_WAIT.as_nanos()).expect("short");
    let consumer = json!({
        "stream_name": "ORDERS",
        "config": { "durable_name": "processor", "ack_policy": "explicit", "ack_wait": wait },
    });
    admin.jetstream("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.processor", &consumer).await;
}

/// Up to `batch` messages of the consumer, as many as came within `expires`.
pub(super) async fn fetch(service: &Connected, batch: usize, expires: Duration) -> Vec<Message> {
    let client = &service.client;
    let inbox = client.new_inbox();
    let mut inbox_messages = client.subscribe(inbox.clone()).await.expect("subscribes");
    let nanos = u64::try_from(expires.as_nanos()).expect("short");
    let body = json!({ "batch": batch, "expires": nanos }).to_string();
    let subject = "$JS.API.CONSUMER.MSG.NEXT.ORDERS.processor";
    client.publish_with_reply(subject, inbox, body.into()).await.expect("is sent");
    let mut fetched = Vec::new();
    while fetched.len() < batch {
        let message = tokio::time::timeout(PATIENCE, inbox_messages.next())
            .await
            .unwrap_or_else(|_| panic!("no answer: {:?}", service.errors()))
            .expect("the connection is open");
        match message.status.map(|status| status.as_u16()) {
            None => fetched.push(message),
            Some(404 | 408) => break,
            Some(status) => panic!("{status}: {:?}", message.description),
        }
    }
    fetched
}

/// Acknowledges, and waits until the server has noted it.
pub(super) async fn ack(service: &Connected, message: &Message) {
    let reply = message.reply.clone().expect("where it is acknowledged");
    service
        .client
        .request(reply.clone(), "+ACK".into())
        .await
        .unwrap_or_else(|error| panic!("{reply}: {error}: {:?}", service.errors()));
}

/// Which time a message is delivered, as its acknowledgement subject says.
fn delivery(message: &Message) -> u64 {
    let reply = message.reply.as_ref().expect("where it is acknowledged");
    let count = reply.split('.').nth(4).expect("a count");
    count.parse().unwrap_or_else(|_| panic!("{reply}"))
}

pub(super) fn payloads(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| str::from_utf8(&message.payload).expect("text")).collect()
}

pub(super) async fn info(connected: &Connected) -> Value {
    connected.jetstream("$JS.API.CONSUMER.INFO.ORDERS.processor", &json!({})).await
}

async fn a_service_consumes_what_the_admin_made(market: &Market) {
    let login = worker(&market.deployment, "worker");
    let service = connect(&market.deployment, &login).await;
    for number in 1..=3 {
        let acknowledged = service.jetstream("orders.created", &json!(number)).await;
        assert_eq!(acknowledged, json!({ "stream": "ORDERS", "seq": number }));
    }

    // The first and the third are acknowledged; the second comes again, and not before its time.
    let first = fetch(&service, 3, PATIENCE).await;
    assert_eq!(payloads(&first), ["1", "2", "3"]);
    ack(&service, &first[0]).await;
    ack(&service, &first[2]).await;
    let state = info(&service).await;
    assert_eq!((&state["num_ack_pending"], &state["num_pending"]), (&json!(1), &json!(0)));

    // Durable: a connection that comes later, with another worker's login, goes on with it.
    drop(service);
    let other = worker(&market.deployment, "other-worker");
    let service = connect(&market.deployment, &other).await;
    let again = fetch(&service, 1, PATIENCE).await;
    assert_eq!(payloads(&again), ["2"]);
    assert_eq!((delivery(&first[1]), delivery(&again[0])), (1, 2));
    ack(&service, &again[0]).await;
    let state = info(&service).await;
    assert_eq!(
        (&state["num_ack_pending"], &state["ack_floor"]["stream_seq"]),
        (&json!(0), &json!(3))
    );
    // What is acknowledged does not come again: it would before what was delivered after it.
    service.jetstream("orders.created", &json!(4)).await;
    for times in 1..=2 {
        let last = fetch(&service, 1, PATIENCE).await;
        assert_eq!((payloads(&last), delivery(&last[0])), (vec!["4"], times));
    }
    assert_eq!(service.errors(), [""; 0], "nothing that a consumer needs is refused");
}

/// The lists lead to one consumer: not to the stream, nor to another consumer, nor to BLOG's.
async fn a_service_reaches_nothing_else_of_jetstream(market: &Market, admin: &Connected) {
    let login = worker(&market.deployment, "curious-worker");
    let service = connect(&market.deployment, &login).await;
    for subject in [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.ORDERS",
        "$JS.API.STREAM.PURGE.ORDERS",
        "$JS.API.STREAM.DELETE.ORDERS",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.MSG.GET.ORDERS",
        "$JS.API.DIRECT.GET.ORDERS",
        "$JS.API.CONSUMER.CREATE.ORDERS.mine",
        "$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.processor",
        "$JS.API.CONSUMER.DELETE.ORDERS.processor",
        "$JS.API.CONSUMER.MSG.NEXT.ORDERS.other",
        "$JS.ACK.ORDERS.other.1.1.1.1.0",
    ] {
        refused_publish(&service, subject).await;
    }

    // BLOG's worker with the same lists has the same names, and behind them nothing of SHOP's.
    let lists = ["-p", PUBLISH, "-s", "payments.*"];
    let stranger = market.deployment.user_add("blog", "blog-worker", &lists);
    let stranger = connect(&market.deployment, &stranger).await;
    let subject = "$JS.API.CONSUMER.INFO.ORDERS.processor";
    let answer = stranger.client.request(subject, "".into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
    assert_eq!(answer["error"]["description"], "stream not found", "{answer}");
    let asked = stranger.client.request("orders.created", "lost".into()).await;
    let error = asked.expect_err("no stream").kind();
    assert_eq!(error, async_nats::RequestErrorKind::NoResponders);
    let state = admin.jetstream("$JS.API.STREAM.INFO.ORDERS", &json!({})).await;
    assert_eq!(state["state"]["messages"], 0, "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_consumes_what_the_admin_made_and_reaches_nothing_else_of_jetstream() {
    let market = Market::open();
    let admin = market.connect(&market.shop).await;
    stream_and_consumer(&admin).await;
    a_service_reaches_nothing_else_of_jetstream(&market, &admin).await;
    a_service_consumes_what_the_admin_made(&market).await;
}

/// Instances of a service in one queue group share the messages: each goes to one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_splits_the_messages() {
    const MESSAGES: usize = 300;
    let market = Market::open();
    let admin = market.connect(&market.shop).await;
    let blog = market.connect(&market.blog).await;
    let lists = ["-p", "orders.*", "-s", "payments.*"];
    let login = market.deployment.user_add("shop", "billing", &lists);
    let (heard, mut all_heard) = tokio::sync::mpsc::unbounded_channel();
    let mut members = Vec::new();
    for number in 0..3 {
        let member = connect(&market.deployment, &login).await;
        let group = member.client.queue_subscribe("payments.*", "billing".to_owned()).await;
        let mut group = group.expect("is sent");
        refused_publish(&member, "settled").await;
        members.push(member);
        let heard = heard.clone();
        tokio::spawn(async move {
            while let Some(message) = group.next().await {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                let _ = heard.send((number, payload));
            }
        });
    }
    // The same group's name in another tenant is another group.
    let stranger = blog.client.queue_subscribe("payments.*", "billing".to_owned()).await;
    let mut stranger = stranger.expect("is sent");
    settled(&blog).await;
    let mut everything = subscribe(&admin, "payments.*").await;
    settled(&admin).await;

    for number in 0..MESSAGES {
        let payload = number.to_string();
        admin.client.publish("payments.received", payload.into()).await.expect("is sent");
    }
    settled(&admin).await;
    publish(&admin, "payments.last", "last").await;
    assert_eq!(until(&mut everything, "last").await.len(), MESSAGES);

    let mut shares = [0; 3];
    let mut seen = HashSet::new();
    while seen.len() <= MESSAGES {
        let next = tokio::time::timeout(PATIENCE, all_heard.recv()).await.expect("the rest");
        let (number, payload) = next.expect("the members live");
        shares[number] += 1;
        assert!(seen.insert(payload.clone()), "{payload} came twice");
    }
    assert!(shares.iter().all(|share| *share > MESSAGES / 30), "{shares:?}");

    publish(&blog, "payments.received", "last").await;
    assert_eq!(until(&mut stranger, "last").await, []);
    settled(&admin).await;
    assert!(all_heard.try_recv().is_err(), "a message too many");
}
