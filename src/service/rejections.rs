//! What servers say of clients that they do not let in. An answer may be of no use to one: it does not know
//! the account, expects another issuer, or counts as many connections as the account may have. Or none came
//! while it waited. So what was granted here may be refused there, and nobody but the server knows.
//!
//! It says so in the callout account (`sendAccountAuthErrorEvent` in nats-server's server/events.go), of
//! each client that it refuses, with what it has against the answer. Every instance hears of all, and knows
//! its own answers.

use async_nats::{Client, Message, SubscribeError, Subscriber};
use serde::Deserialize;

use super::replies::Key;
use crate::audit::Rejection;
use crate::authorize::Connection;

/// Where a server says it.
const SUBJECT: &str = "$SYS.ACCOUNT.CLIENT.AUTH.ERR";

/// How it begins where the answer was a refusal.
const REFUSED_BY_US: &str = "Auth callout service returned an error";

/// What a server says.
#[derive(Debug)]
pub(super) enum Word {
    /// The answer was our refusal, and came in time.
    Refused(Key),
    /// It has waited in vain (`processClientOrLeafCallout` gives no reason then).
    InVain(Key),
    /// It has something against the answer.
    Objection(Key, Objection),
}

/// What it has against an answer, about which connection.
#[derive(Debug)]
pub(super) struct Objection {
    connection: Connection,
    reason: String,
}

impl Objection {
    /// About the grant that was of no use.
    pub(super) fn to(self, user: String, tenant: String) -> Rejection {
        let Self { connection, reason } = self;
        Rejection { connection, user, tenant, reason }
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
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Refused {
    #[serde(default)]
    host: String,
    id: u64,
    #[serde(default)]
    name: String,
}

/// Hears what servers say.
pub(super) async fn subscribe(client: &Client) -> Result<Subscriber, SubscribeError> {
    client.subscribe(SUBJECT).await
}

/// What it says, if it makes sense.
pub(super) fn read(message: &Message) -> Option<Word> {
    let event: Event = match serde_json::from_slice(&message.payload) {
        Ok(event) => event,
        Err(error) => {
            tracing::debug!(%error, "a server's event about a refused client cannot be read");
            return None;
        }
    };
    let Event { server, client, reason } = event;
    let key = (server.id.parse().ok()?, client.id);
    Some(if reason.is_empty() {
        Word::InVain(key)
    } else if reason.starts_with(REFUSED_BY_US) {
        Word::Refused(key)
    } else {
        let connection = Connection::new(server.name, client.host, client.id, &client.name);
        // Lines of the log have texts in quotes.
        let reason = reason.replace('"', "'");
        Word::Objection(key, Objection { connection, reason })
    })
}
