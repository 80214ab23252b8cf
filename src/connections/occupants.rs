//! Who and what is in an account, on every server: its clients and leaf nodes, what it exports, its
//! streams with their consumers, and which users its callout lets in by itself. The daemon's check of AUTH judges this, and nothing
//! here makes a server do anything but answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::Occupant;
use crate::keys::OperatorId;
use crate::protocol::claims::AccountBody;
use crate::protocol::jwt::Parsed;
use crate::servers::{Cluster, ClusterError, ServerAnswer};

/// What is in an account, over all servers.
#[derive(Debug, Default)]
pub(crate) struct Occupants {
    /// Its clients.
    pub(crate) clients: Vec<Occupant>,
    /// Its leaf nodes, counted by server.
    pub(crate) leafnodes: BTreeMap<String, u64>,
    /// Whether any server knows the account.
    pub(crate) is_known: bool,
    /// Whether it has JetStream.
    pub(crate) jetstream: bool,
    /// The subjects that it offers to other accounts.
    pub(crate) exports: BTreeSet<String>,
    /// What it takes of other accounts: their ids or names, and subjects.
    pub(crate) imports: BTreeSet<(String, String)>,
    /// The `auth_users` of its JWT (operator mode): users that its callout is not asked about.
    pub(crate) auth_users: BTreeSet<String>,
    /// Its streams, by name.
    pub(crate) streams: BTreeMap<String, Kept>,
    /// The longest time that a login may take on any server.
    pub(crate) login_timeout: Duration,
    /// Servers that did not answer in time.
    pub(crate) silent: BTreeSet<String>,
}

impl Cluster {
    /// Looks through `account`, its id or its name.
    pub(crate) async fn occupants(&self, account: &str) -> Result<Occupants, ClusterError> {
        let (clients, silent) = self.clients_in(account).await?;
        let mut found = Occupants { clients, silent, ..Occupants::default() };
        let times = self.ask_all::<ServerAnswer<Times>>("$SYS.REQ.SERVER.PING.VARZ", b"").await?;
        let times = times.by_server.values().filter_map(|answer| answer.data.as_ref());
        let longest = times.map(|times| times.auth_timeout).fold(0.0, f64::max);
        found.login_timeout = Duration::try_from_secs_f64(longest).unwrap_or_default();

        let subject = format!("$SYS.REQ.ACCOUNT.{account}.INFO");
        let answers = self.ask_all::<ServerAnswer<Info>>(&subject, b"").await?;
        found.silent.extend(answers.silent);
        for (server, answer) in answers.by_server {
            let Some(info) = answer.data else { continue };
            if info.leafnode_connections > 0 {
                found.leafnodes.insert(server, info.leafnode_connections);
            }
            found.is_known = true;
            found.jetstream |= info.jetstream_enabled;
            found.exports.extend(info.exports.into_iter().map(|export| export.subject));
            let imports = info.imports.into_iter().map(|import| (import.account, import.subject));
            found.imports.extend(imports);
            let claims =
                Parsed::<AccountBody>::parse(&info.jwt).and_then(Parsed::verify::<OperatorId>);
            if let Ok((claims, _)) = claims {
                let users = claims.body.authorization.auth_users;
                found.auth_users.extend(users.iter().map(ToString::to_string));
            }
        }
        let question = json!({
            "streams": true, "consumer": true, "direct_consumer": true, "config": true,
        });
        let subject = format!("$SYS.REQ.ACCOUNT.{account}.JSZ");
        let question = question.to_string();
        let answers = self.ask_all::<ServerAnswer<Stores>>(&subject, question.as_bytes()).await?;
        found.silent.extend(answers.silent);
        // A server without JetStream, or with none of it in the account, says nothing of streams.
        let stores = answers.by_server.into_values().filter_map(|answer| answer.data);
        for stream in stores.flat_map(|stores| stores.stream_detail) {
            // Each copy of a stream knows all of its consumers but the servers' own.
            let kept = found.streams.entry(stream.name).or_insert(stream.config);
            let consumers = stream.consumer_detail.into_iter().chain(stream.direct_consumer_detail);
            kept.consumers.extend(consumers.map(|consumer| (consumer.name, consumer.config)));
        }
        Ok(found)
    }

    /// What accounts take of `account`: their names, and the subjects. Accounts that no server has
    /// loaded are not looked at: those of a configuration file all are.
    pub(crate) async fn takers(
        &self,
        account: &str,
    ) -> Result<BTreeSet<(String, String)>, ClusterError> {
        let answers = self.ask_all::<ServerAnswer<Accounts>>(ACCOUNTS, b"").await?;
        let known = answers.by_server.into_values().filter_map(|answer| answer.data);
        let known: BTreeSet<String> = known.flat_map(|found| found.accounts).collect();
        let mut taken = BTreeSet::new();
        for name in known {
            let question = json!({ "account": name }).to_string();
            let answers =
                self.ask_all::<ServerAnswer<Accounts>>(ACCOUNTS, question.as_bytes()).await?;
            let found = answers.by_server.into_values().filter_map(|answer| answer.data);
            let imports = found.filter_map(|found| found.account_detail).flat_map(|it| it.imports);
            let of_it = imports.filter(|import| import.account == account);
            taken.extend(of_it.map(|import| (name.clone(), import.subject)));
        }
        Ok(taken)
    }
}

/// Asks for the names of all accounts, or for what one of them is, whatever its name.
const ACCOUNTS: &str = "$SYS.REQ.SERVER.PING.ACCOUNTZ";

/// A stream, as far as it takes to know what it does.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Kept {
    /// What it listens to.
    #[serde(default)]
    pub(crate) subjects: Vec<String>,
    #[serde(default)]
    republish: Option<Republish>,
    #[serde(default)]
    subject_transform: Option<IgnoredAny>,
    #[serde(default)]
    mirror: Option<IgnoredAny>,
    #[serde(default)]
    sources: Vec<IgnoredAny>,
    /// Its consumers, by name. Servers of 2.10, and early ones of 2.11, do not tell of those
    /// that are `direct`.
    #[serde(skip)]
    pub(crate) consumers: BTreeMap<String, Consumer>,
}

impl Kept {
    /// Whether messages come into it, or go out, otherwise than by its subjects and its consumers.
    #[must_use]
    pub(crate) fn moves_messages(&self) -> bool {
        self.republish.is_some()
            || self.subject_transform.is_some()
            || self.mirror.is_some()
            || !self.sources.is_empty()
    }

    /// In words.
    #[must_use]
    pub(crate) fn what_it_does(&self) -> String {
        let mut words = Vec::new();
        if !self.subjects.is_empty() {
            words.push(format!("listens to {}", self.subjects.join(", ")));
        }
        if let Some(republish) = &self.republish {
            words.push(format!("publishes to {}", republish.dest));
        }
        if self.mirror.is_some() || !self.sources.is_empty() {
            words.push("copies another stream".to_owned());
        }
        if self.subject_transform.is_some() {
            words.push("renames what it stores".to_owned());
        }
        if words.is_empty() {
            words.push("listens to nothing".to_owned());
        }
        words.join(", ")
    }
}

/// A consumer, likewise.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Consumer {
    /// Where it delivers to, unless it waits to be asked.
    #[serde(default)]
    pub(crate) deliver_subject: Option<String>,
    /// As servers make it for a mirror, or a source.
    #[serde(default)]
    pub(crate) direct: bool,
}

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    auth_timeout: f64,
}

#[derive(Deserialize)]
struct Accounts {
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    account_detail: Option<Info>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    jetstream_enabled: bool,
    #[serde(default)]
    leafnode_connections: u64,
    #[serde(default)]
    exports: Vec<Exported>,
    #[serde(default)]
    imports: Vec<Imported>,
    #[serde(default)]
    jwt: String,
}

#[derive(Deserialize)]
struct Exported {
    #[serde(default)]
    subject: String,
}

#[derive(Deserialize)]
struct Imported {
    #[serde(default)]
    account: String,
    #[serde(default)]
    subject: String,
}

#[derive(Deserialize)]
struct Stores {
    #[serde(default)]
    stream_detail: Vec<StreamDetail>,
}

#[derive(Deserialize)]
struct StreamDetail {
    name: String,
    #[serde(default)]
    config: Kept,
    #[serde(default)]
    consumer_detail: Vec<ConsumerDetail>,
    #[serde(default)]
    direct_consumer_detail: Vec<ConsumerDetail>,
}

#[derive(Deserialize)]
struct ConsumerDetail {
    name: String,
    #[serde(default)]
    config: Consumer,
}

#[derive(Debug, Deserialize)]
struct Republish {
    #[serde(default)]
    dest: String,
}
