//! A program that hears of every change of tenants and users: it reads the durable consumer `events`
//! of the stream AUTH_EVENTS, which the service makes, with the login that `init` writes for it. It
//! routes by type, acknowledges explicitly, tries again up to a limit and sets aside what fails for
//! good. Handling is idempotent by the event's id: an event may come more than once.
//!
//! ```text
//! cargo run --example event_consumer -- nats://127.0.0.1:4222 DIR/keys/events.creds FOLDER [CONSUMER]
//! ```
//!
//! The login may fetch, acknowledge and look at its consumers, and nothing else, so the client is told
//! both where their API is and what its inboxes begin with. A pull that waits for more than two
//! minutes needs heartbeats, as `messages()` has them.
//!
//! Here an event is handled by writing it to `FOLDER/<type>/<id>.json`, which fails while there is
//! no such folder.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, AckKind, Message};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;

const STREAM: &str = "AUTH_EVENTS";
const CONSUMER: &str = "events";
const MAX_DELIVER: i64 = 5;
const RETRY: Duration = Duration::from_millis(200);

/// What a consumer needs of a CloudEvent.
#[derive(Deserialize)]
struct Event<'a> {
    id: String,
    r#type: String,
    subject: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(credentials), Some(folder)) = (args.next(), args.next(), args.next())
    else {
        return Err("usage: event_consumer URL CREDENTIALS FOLDER [CONSUMER]".into());
    };
    let consumer = args.next().unwrap_or_else(|| CONSUMER.to_owned());
    // Operator mode has a creds file, config mode a seed.
    let options = if credentials.ends_with(".creds") {
        ConnectOptions::with_credentials_file(credentials).await?
    } else {
        ConnectOptions::with_nkey(std::fs::read_to_string(credentials)?.trim().to_owned())
    };
    let options = options.name("event consumer").custom_inbox_prefix("_INBOX_events");
    let context = jetstream::with_prefix(options.connect(url).await?, "JS.auth.API");
    let consumer: PullConsumer = context.get_consumer_from_stream(consumer, STREAM).await?;
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        settle(&message?, Path::new(&folder)).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Acknowledges what is handled; has the rest delivered again, or sets it aside.
async fn settle(message: &Message, folder: &Path) -> Result<(), async_nats::Error> {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(&message.payload) else {
        println!("parked {}", message.subject);
        return message.ack_with(AckKind::Term).await;
    };
    let Event { id, r#type, subject, .. } = &event;
    match handle(&event, folder) {
        Ok(true) => println!("handled {} {subject} {id}", r#type),
        Ok(false) => println!("again {} {subject} {id}", r#type),
        Err(error) if message.info()?.delivered < MAX_DELIVER => {
            println!("failed {} {subject} {id}: {error}", r#type);
            return message.ack_with(AckKind::Nak(Some(RETRY))).await;
        }
        Err(_) => {
            write(&folder.join("parked"), &event)?;
            println!("parked {} {subject} {id}", r#type);
            return message.ack_with(AckKind::Term).await;
        }
    }
    // The server confirms: handled once is handled for good.
    message.double_ack().await
}

/// Routes by type. `false` if the event was handled before.
fn handle(event: &Event<'_>, folder: &Path) -> std::io::Result<bool> {
    match event.r#type.as_str() {
        "auth.tenant.created"
        | "auth.tenant.updated"
        | "auth.tenant.removed"
        | "auth.user.created"
        | "auth.user.updated"
        | "auth.user.removed" => write(&folder.join(&event.r#type), event),
        // Types that came later are for later programs.
        _ => Ok(false),
    }
}

/// Writes the data under the event's id, once.
fn write(folder: &Path, event: &Event<'_>) -> std::io::Result<bool> {
    let path = folder.join(format!("{}.json", event.id));
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(event.data.get().as_bytes()).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
