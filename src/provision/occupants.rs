//! Who and what is in an account, on every server: its clients and leaf nodes, what it exports, and
//! which users its callout lets in by itself. The daemon's check of AUTH judges this, and nothing
//! here makes a server do anything but answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::connections::{Cluster, ClusterError, Occupant};
use crate::keys::OperatorId;
use crate::protocol::claims::AccountBody;
use crate::protocol::jwt::Parsed;

/// What is in an account, over all servers.
#[derive(Debug, Default)]
pub struct Occupants {
    /// Its clients.
    pub clients: Vec<Occupant>,
    /// Its leaf nodes, counted by server.
    pub leafnodes: BTreeMap<String, u64>,
    /// The subjects that it offers to other accounts.
    pub exports: BTreeSet<String>,
    /// The `auth_users` of its JWT (operator mode): users that its callout is not asked about.
    pub auth_users: BTreeSet<String>,
    /// The longest time that a login may take on any server.
    pub login_timeout: Duration,
    /// Servers that did not answer in time.
    pub silent: BTreeSet<String>,
}

impl Cluster {
    /// Looks through `account`, its id or its name.
    pub async fn occupants(&self, account: &str) -> Result<Occupants, ClusterError> {
        let (clients, silent) = self.clients_in(account).await?;
        let mut found = Occupants { clients, silent, ..Occupants::default() };
        let times = self.ask_all::<Answer<Times>>("$SYS.REQ.SERVER.PING.VARZ", b"").await?;
        let times = times.by_server.values().filter_map(|answer| answer.data.as_ref());
        let longest = times.map(|times| times.auth_timeout).fold(0.0, f64::max);
        found.login_timeout = Duration::try_from_secs_f64(longest).unwrap_or_default();

        let subject = format!("$SYS.REQ.ACCOUNT.{account}.INFO");
        let answers = self.ask_all::<Answer<Info>>(&subject, b"").await?;
        found.silent.extend(answers.silent);
        for (server, answer) in answers.by_server {
            let Some(info) = answer.data else { continue };
            if info.leafnode_connections > 0 {
                found.leafnodes.insert(server, info.leafnode_connections);
            }
            found.exports.extend(info.exports.into_iter().map(|export| export.subject));
            let claims =
                Parsed::<AccountBody>::parse(&info.jwt).and_then(Parsed::verify::<OperatorId>);
            if let Ok((claims, _)) = claims {
                let users = claims.body.authorization.auth_users;
                found.auth_users.extend(users.iter().map(ToString::to_string));
            }
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
}

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    auth_timeout: f64,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    leafnode_connections: u64,
    #[serde(default)]
    exports: Vec<Exported>,
    #[serde(default)]
    jwt: String,
}

#[derive(Deserialize)]
struct Exported {
    #[serde(default)]
    subject: String,
}
