//! What servers say of clients that they do not let in. An answer may be of no use to one: it does not know
//! the account, expects another issuer, or counts as many connections as the account may have. So what was
//! granted here may be refused there, and nobody but the server knows.
//!
//! It says so in the callout account (`sendAccountAuthErrorEvent` in nats-server's server/events.go), of
//! each client that it refuses, with what it has against the answer. Every instance hears of all, and knows
//! its own grants.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use moka::future::Cache;
use serde::Deserialize;

use crate::audit::{Observers, Rejection};
use crate::authorize::{Connection, Reply, Verdict};

/// Where a server says it.
const SUBJECT: &str = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";

/// How it begins where the answer was a refusal. A client without an answer in time has no reason at all.
const REFUSED_BY_US: &str = "Auth callout service returned an error";

/// How long a grant is kept: servers read answers at once, but for one that loads an account.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// How many are.
const KEPT: u64 = 100_000;

/// Grants that a server may yet have something against.
#[derive(Debug, Clone)]
pub(super) struct Unconfirmed(Cache<(String, u64), Arc<Granted>>);

#[derive(Debug)]
struct Granted {
    user: String,
    tenant: String,
}

impl Default for Unconfirmed {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build())
    }
}

impl Unconfirmed {
    /// Notes an answer that goes out, if it is a grant.
    pub(super) async fn note(&self, reply: &Reply) {
        let Connection { server, id, .. } = &reply.connection;
        if let Verdict::Granted { user, tenant, .. } = &reply.verdict {
            let granted = Arc::new(Granted { user: user.clone(), tenant: tenant.clone() });
            self.0.insert((server.clone(), *id), granted).await;
        }
    }

    async fn rejected(&self, event: Event) -> Option<Rejection> {
        let Event { server, client, reason } = event;
        let granted = self.0.remove(&(server.name.clone(), client.id)).await?;
        let connection = Connection { server: server.name, host: client.host, id: client.id };
        let Granted { user, tenant } = &*granted;
        Some(Rejection { connection, user: user.clone(), tenant: tenant.clone(), reason })
    }
}

/// `DisconnectEventMsg` of server/events.go, as far as it is of use.
#[derive(Debug, Deserialize)]
struct Event {
    server: Server,
    client: Refused,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Refused {
    #[serde(default)]
    host: String,
    id: u64,
}

/// Hears what servers say.
pub(super) struct Rejections {
    events: Subscriber,
    observers: Observers,
    unconfirmed: Unconfirmed,
}

impl Rejections {
    pub(super) async fn subscribe(
        client: &Client,
        observers: Observers,
        unconfirmed: Unconfirmed,
    ) -> Result<Self, SubscribeError> {
        let events = client.subscribe(SUBJECT).await?;
        Ok(Self { events, observers, unconfirmed })
    }

    pub(super) async fn run(mut self) {
        while let Some(message) = self.events.next().await {
            if let Some(event) = objection(&message)
                && let Some(rejection) = self.unconfirmed.rejected(event).await
            {
                self.observers.rejected(&rejection);
            }
        }
    }
}

/// What a server has against an answer; none where it was a refusal, or there was none.
fn objection(message: &Message) -> Option<Event> {
    let event: Event = match serde_json::from_slice(&message.payload) {
        Ok(event) => event,
        Err(error) => {
            tracing::debug!(%error, "a server's event about a refused client cannot be read");
            return None;
        }
    };
    let is_ours = event.reason.is_empty() || event.reason.starts_with(REFUSED_BY_US);
    (!is_ours).then_some(event)
}
