//! What became of one connection, as its server shows it.

use serde::Deserialize;
use serde_json::json;
use strum::{EnumCount, EnumIter, IntoStaticStr};

use super::ConnectionId;
use crate::servers::{Cluster, ServerAnswer};

/// Open connections and those that were closed lately (`ConnAll` in nats-server's server/monitor.go).
const OPEN_AND_CLOSED: u8 = 2;

/// How a connection is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Sighting {
    /// It is there.
    Connected,
    /// It was used, and is closed.
    Left,
    /// It is closed, and nobody has used it: its client did not wait for the answer, say.
    Gone,
    /// Its server did not let it in.
    Refused,
    /// Its server does not answer, or does not know of it any more.
    Unknown,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    connections: Vec<Seen>,
}

#[derive(Deserialize)]
struct Seen {
    cid: u64,
    /// Why it was closed.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    subscriptions: u64,
    #[serde(default)]
    in_msgs: u64,
}

impl Sighting {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    fn of(seen: &Seen) -> Self {
        match seen.reason.as_str() {
            "" => Self::Connected,
            // `ClosedState` in server/client.go.
            "Authentication Failure" | "Authentication Timeout" => Self::Refused,
            _ if seen.subscriptions > 0 || seen.in_msgs > 0 => Self::Left,
            _ => Self::Gone,
        }
    }
}

impl Cluster {
    /// What became of a connection that was let in.
    pub(crate) async fn sight(&self, id: &ConnectionId) -> Sighting {
        let subject = format!("$SYS.REQ.SERVER.{}.CONNZ", id.server);
        let question = json!({ "cid": id.cid, "state": OPEN_AND_CLOSED });
        let page = self.ask::<ServerAnswer<Page>>(&subject, &question).await;
        let seen = page.and_then(|it| it.data).map(|page| page.connections).unwrap_or_default();
        let it = seen.into_iter().find(|seen| seen.cid == id.cid);
        it.map_or(Sighting::Unknown, |seen| Sighting::of(&seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_closed_had_used_it_or_not() {
        let of = |reason: &str, in_msgs| {
            let seen = Seen { cid: 1, reason: reason.to_owned(), subscriptions: 0, in_msgs };
            Sighting::of(&seen)
        };
        assert_eq!(of("", 0), Sighting::Connected);
        assert_eq!(of("Client Closed", 1), Sighting::Left);
        assert_eq!(of("Client Closed", 0), Sighting::Gone);
        assert_eq!(of("Authentication Failure", 0), Sighting::Refused);
    }
}
