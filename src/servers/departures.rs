//! Which connections are closed, as servers say.

use async_nats::{Client, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use serde::Deserialize;

use crate::keys::ServerId;

/// Where a server says it (`accountDisconnectEvent` in nats-server's server/events.go).
const SUBJECT: &str = "$SYS.ACCOUNT.*.DISCONNECT";

/// Hears of connections that are closed.
#[derive(Debug)]
pub(crate) struct Departures(Subscriber);

#[derive(Deserialize)]
struct Event {
    server: Server,
    client: Departed,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Departed {
    id: u64,
}

impl Departures {
    /// Subscribes on a connection of the system account.
    pub(crate) async fn subscribe(system: &Client) -> Result<Self, SubscribeError> {
        Ok(Self(system.subscribe(SUBJECT).await?))
    }

    /// The next one; none when the connection is gone for good.
    pub(crate) async fn next(&mut self) -> Option<(ServerId, u64)> {
        loop {
            let message = self.0.next().await?;
            let event = serde_json::from_slice::<Event>(&message.payload);
            if let Ok(Event { server, client }) = event
                && let Ok(server) = server.id.parse()
            {
                return Some((server, client.id));
            }
        }
    }
}
