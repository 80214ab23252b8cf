//! All clients of all servers.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{PAGE, Page};
use crate::keys::ServerId;
use crate::protocol::claims::ClientInfo;
use crate::servers::{Answers, Cluster, ClusterError, ServerAnswer};

/// A client, as its server shows it.
#[derive(Debug)]
pub(crate) struct Client {
    /// The server.
    pub(crate) server: ServerId,
    /// The account that it is in: its name in config mode, its public key in operator mode.
    pub(crate) account: String,
    /// The login name, or the public key.
    pub(crate) user: String,
    /// Its connection id, its address, and how it is connected.
    pub(crate) info: ClientInfo,
    /// For how long it has been connected, by the server's own clock.
    pub(crate) age: Duration,
}

impl Cluster {
    /// All clients, and the servers that did not answer.
    pub(crate) async fn everyone(&self) -> Result<(Vec<Client>, BTreeSet<String>), ClusterError> {
        let question = question(0).to_string();
        let first = self.ask_all("$SYS.REQ.SERVER.PING.CONNZ", question.as_bytes());
        let Answers { by_server, mut silent } = first.await?;
        let mut clients = Vec::new();
        let all = join_all(by_server.into_iter().map(|(server, first)| self.rest(server, first)));
        for (server, pages) in all.await {
            match (pages, server.parse()) {
                (Some(pages), Ok(id)) => {
                    clients.extend(pages.into_iter().flat_map(|page| page.clients(id)));
                }
                _ => drop(silent.insert(server)),
            }
        }
        Ok((clients, silent))
    }

    /// A server's pages behind the first one, and that one; none if it does not answer.
    async fn rest(&self, server: String, first: ServerAnswer<Page>) -> (String, Option<Vec<Page>>) {
        let subject = format!("$SYS.REQ.SERVER.{server}.CONNZ");
        let mut pages: Vec<Page> = first.data.into_iter().collect();
        while pages.last().is_some_and(|page| page.connections.len() >= PAGE) {
            let question = question(pages.len());
            let answer = self.ask::<ServerAnswer<Page>>(&subject, &question).await;
            let Some(page) = answer.and_then(|answer| answer.data) else { return (server, None) };
            pages.push(page);
        }
        (server, Some(pages).filter(|pages| !pages.is_empty()))
    }
}

fn question(page: usize) -> serde_json::Value {
    json!({ "auth": true, "sort": "cid", "limit": PAGE, "offset": page * PAGE })
}

impl Page {
    fn clients(self, server: ServerId) -> impl Iterator<Item = Client> {
        let now = self.now;
        self.connections.into_iter().map(move |listed| Client {
            server,
            age: now.duration_since(listed.start).try_into().unwrap_or_default(),
            account: listed.account,
            user: listed.authorized_user,
            info: ClientInfo {
                id: listed.cid,
                host: listed.ip,
                kind: listed.kind,
                connection_type: listed.connection_type,
                ..ClientInfo::default()
            },
        })
    }
}
