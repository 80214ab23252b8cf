//! The connections that are alive, over all servers: finds those of an account or of some of its
//! users, and closes them. [`revoke`](crate::revoke) knows which; commands use it to count.
//!
//! Servers are asked one by one, each for every page of its list, and only those that have
//! connections in the account: a question about an account makes a server load it.

pub(crate) mod everyone;
mod inhabited;
pub(crate) mod occupants;
mod sample;
mod selection;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

pub(crate) use self::sample::Sighting;
use self::selection::Members;
pub(crate) use self::selection::Selection;
use crate::audit::Kick;
use crate::servers::{Cluster, ClusterError, ServerAnswer, Unanswered};

/// Connections in one answer: what servers give at most by default.
const PAGE: usize = 1_024;

/// Users of an account that are asked for one by one, which costs a server less than pages of all
/// its connections, each of which it sorts anew; of more, the whole list is read.
const USERS_ONE_BY_ONE: usize = 64;

/// How many connections are closed at a time.
const KICKS_AT_ONCE: usize = 64;

/// How often servers are asked again what is left. Pages move while others come and go.
const ROUNDS: usize = 4;

/// For how long after a change instances may have granted what they knew before it.
const STALENESS: Duration = Duration::from_secs(2);

/// A connection, by its server and its number there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId {
    /// The server.
    pub(crate) server: String,
    /// The connection.
    pub(crate) cid: u64,
}

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The account it is in.
    pub(crate) account: String,
    /// The login name.
    pub(crate) user: String,
    /// The client's address.
    pub(crate) host: String,
}

/// A login, as servers show it: the account that it is in, and its name or public key there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resident {
    /// The account.
    pub(crate) account: String,
    /// The login name, or the public key.
    pub(crate) user: String,
}

/// How the closing of one connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It was closed.
    Closed,
    /// It was gone before, or the server does not answer.
    Gone,
    /// It is somebody else's, and was left alone.
    Foreign(Resident),
}

/// How the breaking of one connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// It was there, and is closed.
    Broken,
    /// It was gone before.
    Gone,
    /// Its server does not answer.
    Silent,
    /// Its server is not reached.
    NoServer,
}

/// A client of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occupant {
    /// The connection.
    pub(crate) id: ConnectionId,
    /// The login name, or the public key.
    pub(crate) user: String,
    /// What it calls itself.
    pub(crate) name: String,
    /// Its address.
    pub(crate) host: String,
    /// For how long it has been connected, by the server's own clock.
    pub(crate) age: Duration,
    /// Whether it has subscribed or published, which takes a login that was answered.
    pub(crate) is_active: bool,
}

/// The connections that were found or closed.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// The connections, and whose they are.
    pub(crate) ids: BTreeMap<ConnectionId, Holder>,
    /// Servers that did not answer in time.
    pub(crate) silent: BTreeSet<String>,
}

impl Connections {
    /// Takes in what another question found.
    pub(crate) fn merge(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.silent.extend(other.silent);
    }
}

impl Cluster {
    /// The connections that are meant. `begun` is when the change was first acted upon; whatever
    /// connected since then did so under the new rules.
    pub(crate) async fn find(
        &self,
        selection: &Selection,
        begun: Instant,
    ) -> Result<Connections, ClusterError> {
        let mut found = Connections::default();
        if selection.is_empty() {
            return Ok(found);
        }
        let accounts: Vec<&str> = selection.0.keys().map(String::as_str).collect();
        let inhabited = self.inhabited(&accounts).await?;
        found.silent = inhabited.silent;
        let questions = inhabited
            .accounts
            .into_iter()
            .map(|(server, accounts)| self.find_on(server, accounts, selection, begun));
        join_all(questions).await.into_iter().for_each(|part| found.merge(part));
        Ok(found)
    }

    /// All clients of an account, and the servers that did not answer.
    pub(crate) async fn clients_in(
        &self,
        account: &str,
    ) -> Result<(Vec<Occupant>, BTreeSet<String>), ClusterError> {
        let inhabited = self.inhabited(&[account]).await?;
        let (mut clients, mut silent) = (Vec::new(), inhabited.silent);
        for server in inhabited.accounts.into_keys() {
            let Some(pages) = self.list(&server, account, None).await else {
                silent.insert(server);
                continue;
            };
            for page in pages {
                clients.extend(page.occupants(&server, account));
            }
        }
        Ok((clients, silent))
    }

    /// Closes the connections that are meant, and reports those that it has closed. Asks until
    /// there are none left, a few times at most.
    pub(crate) async fn close(
        &self,
        selection: &Selection,
        begun: Instant,
    ) -> Result<Connections, ClusterError> {
        let mut closed = Connections::default();
        let mut tried = BTreeSet::new();
        for _ in 0..ROUNDS {
            let mut found = self.find(selection, begun).await?;
            closed.silent = found.silent;
            found.ids.retain(|id, _| !tried.contains(id));
            if found.ids.is_empty() {
                break;
            }
            tried.extend(found.ids.keys().cloned());
            closed.merge(self.kick(found.ids).await);
        }
        Ok(closed)
    }

    /// Leaves at most so many connections in an account: closes the youngest.
    pub(crate) async fn shrink(&self, account: &str, most: u64) -> Result<(), ClusterError> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        for _ in 0..ROUNDS {
            let (mut clients, _) = self.clients_in(account).await?;
            if clients.len() <= most {
                break;
            }
            clients.sort_by_key(|client| Reverse(client.age));
            let beyond = clients.into_iter().skip(most).map(|client| {
                let (user, host) = (client.user, client.host);
                (client.id, Holder { account: account.to_owned(), user, host })
            });
            self.kick(beyond.collect()).await;
        }
        Ok(())
    }

    /// Closes one connection, if its server shows it to be `of`'s.
    pub(crate) async fn close_one(&self, id: ConnectionId, of: &Resident) -> Closing {
        match self.resident(&id).await {
            None => return Closing::Gone,
            Some(found) if found != *of => return Closing::Foreign(found),
            Some(_) => {}
        }
        match self.break_off(&id).await {
            Break::Broken => Closing::Closed,
            Break::Gone | Break::Silent | Break::NoServer => Closing::Gone,
        }
    }

    /// Closes one connection without a word (`KICK` in nats-server's server/events.go).
    pub(crate) async fn break_off(&self, id: &ConnectionId) -> Break {
        let subject = format!("$SYS.REQ.SERVER.{}.KICK", id.server);
        match self.try_ask::<ServerAnswer>(&subject, &json!({ "cid": id.cid })).await {
            Ok(answer) if answer.error.is_some() => Break::Gone,
            Ok(_) => Break::Broken,
            Err(Unanswered::Silent) => Break::Silent,
            Err(Unanswered::Absent) => Break::NoServer,
        }
    }

    /// Tells a client that its server would have it go elsewhere (`LDM`), which most take no notice of.
    /// A server does nothing for who does not ask for an answer.
    pub(crate) async fn give_notice(&self, id: &ConnectionId) {
        let subject = format!("$SYS.REQ.SERVER.{}.LDM", id.server);
        let _told = self.ask::<ServerAnswer>(&subject, &json!({ "cid": id.cid })).await;
    }

    /// Whether its server has this connection, in whatever account, or none yet.
    pub(crate) async fn is_there(&self, id: &ConnectionId) -> bool {
        self.resident(id).await.is_some()
    }

    /// Whose connection it is, by its server; `None` if it has no such client.
    async fn resident(&self, id: &ConnectionId) -> Option<Resident> {
        let subject = format!("$SYS.REQ.SERVER.{}.CONNZ", id.server);
        let question = json!({ "auth": true, "cid": id.cid });
        let found = self.ask::<ServerAnswer<Page>>(&subject, &question).await?.data?.connections;
        let listed = found.into_iter().find(|listed| listed.cid == id.cid)?;
        Some(Resident { account: listed.account, user: listed.authorized_user })
    }

    async fn kick(&self, ids: BTreeMap<ConnectionId, Holder>) -> Connections {
        let mut closed = Connections::default();
        let mut kicks = stream::iter(ids)
            .map(|(id, holder)| async move {
                let broken = self.break_off(&id).await;
                (id, holder, broken)
            })
            .buffer_unordered(KICKS_AT_ONCE);
        while let Some((id, holder, broken)) = kicks.next().await {
            match broken {
                Break::Gone => {}
                Break::Broken => {
                    let Holder { account, user, host } = holder.clone();
                    let server = id.server.clone();
                    self.note_closed(&Kick { server, cid: id.cid, account, user, host });
                    closed.ids.insert(id, holder);
                }
                Break::Silent | Break::NoServer => drop(closed.silent.insert(id.server)),
            }
        }
        closed
    }

    async fn find_on(
        &self,
        server: String,
        accounts: BTreeSet<String>,
        selection: &Selection,
        begun: Instant,
    ) -> Connections {
        let mut found = Connections::default();
        for account in accounts {
            let Some(members) = selection.0.get(&account) else { continue };
            let one_by_one = members.everyone.is_none()
                && members.prefixes.is_empty()
                && members.users.len() <= USERS_ONE_BY_ONE;
            let users: Vec<Option<&str>> = if one_by_one {
                members.users.keys().map(|user| Some(user.as_str())).collect()
            } else {
                vec![None]
            };
            for user in users {
                let Some(pages) = self.list(&server, &account, user).await else {
                    found.silent.insert(server.clone());
                    continue;
                };
                let meant = pages.iter().flat_map(|page| page.meant(&account, members, begun));
                found.ids.extend(meant.map(|listed| {
                    let holder = Holder {
                        account: account.clone(),
                        user: listed.authorized_user.clone(),
                        host: listed.ip.clone(),
                    };
                    (ConnectionId { server: server.clone(), cid: listed.cid }, holder)
                }));
            }
        }
        found
    }

    /// All pages of a server's list; `None` if it does not answer.
    async fn list(&self, server: &str, account: &str, user: Option<&str>) -> Option<Vec<Page>> {
        let subject = format!("$SYS.REQ.SERVER.{server}.CONNZ");
        let mut pages: Vec<Page> = Vec::new();
        loop {
            let question = json!({
                "auth": true, "acc": account, "user": user.unwrap_or_default(), "sort": "cid",
                "limit": PAGE, "offset": pages.len() * PAGE,
            });
            let page = self.ask::<ServerAnswer<Page>>(&subject, &question).await?.data?;
            let full = page.connections.len() >= PAGE;
            pages.push(page);
            if !full {
                return Some(pages);
            }
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_answer(payload: &[u8]) {
    inhabited::read_answer(payload);
    let members = Members { everyone: Some(Duration::ZERO), ..Members::default() };
    if let Some(ServerAnswer { data: Some(page), .. }) = ServerAnswer::<Page>::parse(payload) {
        let _ = page.meant("", &members, Instant::now());
    }
}

/// One page of a server's connections, with its own time.
#[derive(Deserialize)]
struct Page {
    now: Timestamp,
    #[serde(default)]
    connections: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    cid: u64,
    start: Timestamp,
    #[serde(default)]
    account: String,
    #[serde(default)]
    authorized_user: String,
    #[serde(default)]
    ip: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subscriptions: u64,
    #[serde(default)]
    in_msgs: u64,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "type")]
    connection_type: String,
}

impl Page {
    fn occupants(self, server: &str, account: &str) -> Vec<Occupant> {
        let now = self.now;
        let here = self.connections.into_iter().filter(|listed| listed.account == account);
        here.map(|listed| Occupant {
            id: ConnectionId { server: server.to_owned(), cid: listed.cid },
            age: now.duration_since(listed.start).try_into().unwrap_or_default(),
            user: listed.authorized_user,
            name: listed.name,
            host: listed.ip,
            is_active: listed.subscriptions > 0 || listed.in_msgs > 0,
        })
        .collect()
    }

    /// The connections on it that are meant: old enough by the server's own clock.
    fn meant(&self, account: &str, members: &Members, begun: Instant) -> Vec<&Listed> {
        let acted = begun.elapsed();
        self.connections
            .iter()
            .filter(|listed| listed.account == account)
            .filter(|listed| {
                members.age(&listed.authorized_user).is_some_and(|age| {
                    let spared = age.saturating_sub(STALENESS).saturating_add(acted);
                    let spared = SignedDuration::try_from(spared).unwrap_or(SignedDuration::MAX);
                    self.now.duration_since(listed.start) >= spared
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        serde_json::from_value(json!({
            "now": "2026-11-20T12:00:00Z",
            "connections": [
                { "cid": 1, "start": "2026-11-20T11:00:00.123456789Z", "account": "A",
                  "authorized_user": "alice" },
                { "cid": 2, "start": "2026-11-20T12:59:59+01:00", "account": "A",
                  "authorized_user": "bob" },
                { "cid": 3, "start": "2026-11-20T11:00:00Z", "account": "B",
                  "authorized_user": "alice" },
            ],
        }))
        .unwrap()
    }

    fn meant(selection: &Selection, account: &str) -> Vec<u64> {
        cids(&page(), &selection.0[account], account, Instant::now())
    }

    fn cids(page: &Page, members: &Members, account: &str, begun: Instant) -> Vec<u64> {
        page.meant(account, members, begun).iter().map(|listed| listed.cid).collect()
    }

    const NEW: Duration = Duration::ZERO;
    const OLD: Duration = Duration::from_secs(60);

    #[test]
    fn everyone_in_an_account_or_some_of_its_users() {
        let mut selection = Selection::default();
        selection.add_user("A", "bob", NEW);
        assert_eq!(meant(&selection, "A"), [2]);
        selection.add_account("A", NEW);
        assert_eq!(meant(&selection, "A"), [1, 2]);
    }

    #[test]
    fn users_whose_names_begin_alike() {
        let mut selection = Selection::default();
        selection.add_prefix("A", "ali", OLD);
        assert_eq!(meant(&selection, "A"), [1]);
        selection.add_prefix("A", "ali/", NEW);
        assert_eq!(meant(&selection, "A"), [1]);
        selection.add_prefix("A", "b", OLD);
        assert_eq!(meant(&selection, "A"), [1], "bob came after that change");
        selection.add_prefix("A", "b", NEW);
        assert_eq!(meant(&selection, "A"), [1, 2]);
    }

    #[test]
    fn what_began_after_the_change_is_left_alone() {
        let mut selection = Selection::default();
        selection.add_account("A", OLD);
        assert_eq!(meant(&selection, "A"), [1]);
        selection.add_user("A", "bob", NEW);
        assert_eq!(meant(&selection, "A"), [1, 2], "the newer change counts");
        let earlier = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let cids = cids(&page(), &selection.0["A"], "A", earlier);
        assert_eq!(cids, [1], "acted upon long ago");
    }
}
