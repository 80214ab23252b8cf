//! The servers and instances that run. Operator mode: the JWTs of the accounts, pushed to every
//! server, and the operator's own, which a server reads at its start. Config mode: the requests of
//! each server, which name the keys that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use async_trait::async_trait;
use futures_util::StreamExt as _;

use super::claims::HeldAccount;
use super::fleet::{Fleet, Requests, ServerKeys};
use super::instances::Instances;
use super::{KeysError, Result};
use crate::accounts::resolver::{self, ResolverError};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::deployment::{Login, round_trip};
use crate::keys::{AccountId, XKey};
use crate::protocol::envelope::{Envelope, SERVER_XKEY_HEADER};
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::VerifiedRequest;
use crate::servers::Cluster;
use crate::service::CALLOUT_SUBJECT;
use crate::store::Store;

/// How long a request of our own may take to be seen.
const PATIENCE: Duration = Duration::from_secs(3);

/// All servers, as the two logins of the service see them, and the instances that the tenant table
/// knows of.
pub(super) struct RunningFleet {
    pub(super) auth: Client,
    cluster: Cluster,
    store: Arc<dyn Store>,
}

impl RunningFleet {
    pub(super) async fn connect(config: &Config, store: &Arc<dyn Store>) -> Result<Self> {
        let auth = Login::Auth.connect(config).await?;
        let system = Login::System.connect(config).await?;
        Ok(Self { auth, cluster: Cluster::new(system), store: Arc::clone(store) })
    }

    /// How many clients in an account have a name that begins so.
    pub(super) async fn named(&self, account: &AccountId, name: &str) -> Result<usize> {
        let found = self.cluster.occupants(account.as_str()).await?;
        Ok(found.clients.iter().filter(|client| client.name.starts_with(name)).count())
    }

    /// A client without credentials connects to every server, and its request shows the keys.
    /// Servers that it does not reach are unseen.
    async fn knock(&self, config: &Config, xkeys: Vec<XKey>) -> Result<Requests> {
        let names = resolver::names(&self.cluster).await?;
        let mut found =
            Requests { unseen: names.values().cloned().collect(), ..Requests::default() };
        let envelopes: Vec<(String, Envelope)> = xkeys
            .into_iter()
            .map(|key| (key.public_key().to_string(), Envelope::new(vec![key])))
            .collect();
        let incoming = self.auth.subscribe(CALLOUT_SUBJECT).await;
        let mut incoming = incoming.map_err(KeysError::connection)?;
        // In a cluster, the subscription has to be known to the others.
        round_trip(&self.auth).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut urls: BTreeSet<String> = config.nats.urls.iter().cloned().collect();
        let info = self.auth.server_info();
        urls.extend(info.connect_urls.iter().map(|url| format!("nats://{url}")));
        let spent = SpentKeys::default();
        for url in urls {
            let name = format!("nats-callout keys {}", self.auth.new_inbox());
            let options = ConnectOptions::new()
                .name(name.clone())
                .ignore_discovered_servers()
                .connection_timeout(PATIENCE);
            let knocking = tokio::spawn(async move { options.connect(url.as_str()).await.is_ok() });
            if let Some((verified, xkey)) = seen(&mut incoming, &envelopes, &spent, &name).await {
                let server = verified.server().to_string();
                found.unseen.remove(names.get(&server).unwrap_or(&server));
                let keys = ServerKeys { issuer: verified.addressee().to_owned(), xkey };
                found.keys.insert(verified.server_name().to_owned(), keys);
            }
            knocking.abort();
        }
        Ok(found)
    }
}

/// The request about the client of this name, and the curve key that opens it.
async fn seen(
    incoming: &mut Subscriber,
    envelopes: &[(String, Envelope)],
    spent: &SpentKeys,
    name: &str,
) -> Option<(VerifiedRequest, String)> {
    while let Ok(Some(request)) = tokio::time::timeout(PATIENCE, incoming.next()).await {
        let header = request.headers.as_ref().and_then(|it| it.get(SERVER_XKEY_HEADER));
        let header = header.map(|value| value.as_str());
        let opened = envelopes.iter().find_map(|(public, envelope)| {
            Some((public, envelope.open(&request.payload, header).ok()?))
        });
        let Some((xkey, opened)) = opened else { continue };
        let verified = VerifiedRequest::verify(opened, spent, SystemClock.now());
        if let Ok((verified, _)) = verified
            && verified.client().name == name
        {
            return Some((verified, xkey.clone()));
        }
    }
    None
}

#[async_trait]
impl Fleet for RunningFleet {
    async fn instances(&self) -> Result<Instances> {
        Instances::ask(&*self.store, &self.auth).await
    }

    async fn operators(&self) -> Result<BTreeMap<String, Vec<String>>> {
        Ok(resolver::operators(&self.cluster).await?)
    }

    async fn accounts(&self) -> Result<Vec<AccountId>> {
        Ok(resolver::all_held(&self.cluster).await?)
    }

    async fn held_by(&self, account: &AccountId, servers: usize) -> Result<Vec<HeldAccount>> {
        let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
        let answers = self.cluster.gather(&subject, b"", servers).await?;
        if answers.len() < servers {
            return Err(KeysError::Unfit(format!(
                "{} of {servers} servers say what they hold of {account}; see the others' log",
                answers.len()
            )));
        }
        let tokens = answers.iter().filter_map(|answer| std::str::from_utf8(answer).ok());
        Ok(tokens.filter_map(|token| HeldAccount::read(token).ok()).collect())
    }

    async fn hold(&self, token: &str) -> Result<(), ResolverError> {
        resolver::hold(&self.cluster, token).await
    }

    async fn requests(&self, config: &Config, xkeys: Vec<XKey>) -> Result<Requests> {
        self.knock(config, xkeys).await
    }
}
