//! What the servers know of the keys, and how they come to know others. Operator mode: the JWTs of
//! the accounts, pushed to every server, and the operator's own, which a server reads at its start.
//! Config mode: the requests of each server, which name the keys that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::init;
use crate::accounts::resolver;
use crate::clock::{Clock as _, SystemClock, UnixSeconds};
use crate::config::Config;
use crate::deployment::{Login, round_trip};
use crate::keys::{AccountId, OperatorId, SigningKey, XKey};
use crate::protocol::envelope::{Envelope, SERVER_XKEY_HEADER};
use crate::protocol::jwt::{Body, Claims, Parsed};
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::VerifiedRequest;
use crate::servers::Cluster;
use crate::service::CALLOUT_SUBJECT;

/// How long a request of our own may take to be seen.
const PATIENCE: Duration = Duration::from_secs(3);

/// The claims of an account JWT, whatever they are: what is not changed stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct AnyAccount(pub(super) Map<String, Value>);

impl Body for AnyAccount {
    const TYPE: &'static str = "account";
}

/// The claims of an operator JWT, whatever they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct AnyOperator(pub(super) Map<String, Value>);

impl Body for AnyOperator {
    const TYPE: &'static str = "operator";
}

/// What is written anew with every token.
fn strip(body: &mut Map<String, Value>) {
    body.remove("type");
    body.remove("version");
}

/// A list of public keys in a JWT; a scoped signing key is an object that names it.
pub(super) fn listed(body: &Map<String, Value>) -> BTreeSet<String> {
    let keys = body.get("signing_keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let public = |key: &Value| key.as_str().or_else(|| key.get("key")?.as_str()).map(str::to_owned);
    keys.iter().filter_map(public).collect()
}

/// Takes a key off such a list, and puts others on it. Says whether that changed anything.
pub(super) fn relist(body: &mut Map<String, Value>, without: Option<&str>, with: &[&str]) -> bool {
    let before = listed(body);
    let mut after = before.clone();
    if let Some(without) = without {
        after.remove(without);
    }
    after.extend(with.iter().map(|&key| key.to_owned()));
    if after == before {
        return false;
    }
    let keys = body.entry("signing_keys").or_insert_with(|| json!([]));
    if let Some(keys) = keys.as_array_mut() {
        let public =
            |key: &Value| key.as_str().or_else(|| key.get("key")?.as_str()).map(str::to_owned);
        keys.retain(|key| public(key).is_some_and(|key| after.contains(&key)));
        let new = after.difference(&before).map(|key| Value::String(key.clone()));
        keys.extend(new);
        if keys.iter().all(Value::is_string) {
            keys.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    true
}

/// All servers, as the two logins of the service see them.
pub(super) struct Servers {
    pub(super) auth: Client,
    cluster: Cluster,
}

/// An account as one server holds it.
pub(super) type Held = (Claims<AnyAccount>, OperatorId);

impl Servers {
    pub(super) async fn connect(config: &Config) -> anyhow::Result<Self> {
        let auth = Login::Auth.connect(config).await?;
        let system = Login::System.connect(config).await?;
        Ok(Self { auth, cluster: Cluster::new(system) })
    }

    /// The operator JWTs of every server by its name. All servers have to answer.
    pub(super) async fn operators(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        Ok(resolver::operators(&self.cluster).await?)
    }

    /// An account as each server holds it.
    pub(super) async fn held(&self, account: &AccountId) -> anyhow::Result<Vec<Held>> {
        let count = self.operators().await?.len();
        self.held_by(account, count).await
    }

    async fn held_by(&self, account: &AccountId, count: usize) -> anyhow::Result<Vec<Held>> {
        let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
        let answers = self.cluster.gather(&subject, b"", count).await?;
        if answers.len() < count {
            bail!(
                "{} of {count} servers say what they hold of {account}; see the others' log",
                answers.len()
            );
        }
        let read = |answer: &bytes::Bytes| {
            let token = std::str::from_utf8(answer).ok()?;
            let (mut claims, issuer) =
                Parsed::<AnyAccount>::parse(token).ok()?.verify::<OperatorId>().ok()?;
            strip(&mut claims.body.0);
            Some((claims, issuer))
        };
        Ok(answers.iter().filter_map(read).collect())
    }

    /// How many clients in an account have a name that begins so.
    pub(super) async fn named(&self, account: &AccountId, name: &str) -> anyhow::Result<usize> {
        let found = self.cluster.occupants(account.as_str()).await?;
        Ok(found.clients.iter().filter(|client| client.name.starts_with(name)).count())
    }

    /// All accounts that servers hold.
    pub(super) async fn accounts(&self) -> anyhow::Result<Vec<AccountId>> {
        Ok(resolver::all_held(&self.cluster).await?)
    }

    /// Has every server hold an account that it does not know.
    pub(super) async fn hold(&self, token: &str) -> anyhow::Result<()> {
        Ok(resolver::hold(&self.cluster, token).await?)
    }

    /// Changes accounts on every server, and has them signed by `operator`. `change` says whether
    /// there is anything to change; with `resign`, another signature is a change as well. Accounts
    /// of the system get a newer time, since servers are given an older version of them at each
    /// start. Gives the new tokens.
    pub(super) async fn change(
        &self,
        accounts: &[AccountId],
        of_the_system: &[AccountId],
        operator: &SigningKey,
        resign: bool,
        change: impl Fn(&mut Map<String, Value>) -> bool,
    ) -> anyhow::Result<BTreeMap<AccountIdText, String>> {
        let count = self.operators().await?.len();
        let now = SystemClock.now();
        let mut pushed = BTreeMap::new();
        for account in accounts {
            let held = self.held_by(account, count).await?;
            let Some((newest, _)) = held.iter().max_by_key(|(claims, _)| claims.issued_at) else {
                continue;
            };
            let mut claims = newest.clone();
            let changed = change(&mut claims.body.0);
            let foreign = |(_, issuer): &Held| resign && issuer.as_str() != operator.public_key();
            let differ = held.iter().any(|(other, _)| other != newest);
            if !changed && !differ && !held.iter().any(foreign) {
                continue;
            }
            if of_the_system.contains(account) {
                claims.issued_at = newest.issued_at.saturating_add(1).max(now);
            }
            let token = claims.encode_now(operator)?;
            resolver::hold(&self.cluster, &token)
                .await
                .with_context(|| format!("account {account}"))?;
            pushed.insert(account.to_string(), token);
        }
        Ok(pushed)
    }

    /// Config mode: which of these keys each server has. A client without credentials connects to
    /// every server, and its request shows it. Servers that it does not reach are named.
    pub(super) async fn requests(
        &self,
        config: &Config,
        xkeys: Vec<XKey>,
    ) -> anyhow::Result<Requests> {
        let mut found = Requests::default();
        let names: BTreeMap<String, String> = self.operators_or_none().await?;
        found.unseen = names.values().cloned().collect();
        let publics: Vec<String> = xkeys.iter().map(|key| key.public_key().to_string()).collect();
        let envelopes: Vec<(String, Envelope)> = publics
            .into_iter()
            .zip(xkeys)
            .map(|(public, key)| (public, Envelope::new(vec![key])))
            .collect();
        let mut incoming = self.auth.subscribe(CALLOUT_SUBJECT).await?;
        // In a cluster, the subscription has to be known to the others.
        round_trip(&self.auth).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut urls: BTreeSet<String> = config.nats.urls.iter().cloned().collect();
        let info = self.auth.server_info();
        urls.extend(info.connect_urls.iter().map(|url| format!("nats://{url}")));
        let spent = SpentKeys::default();
        for url in urls {
            let name = format!("nats-callout keys {}", init::random_name()?);
            let options = ConnectOptions::new()
                .name(name.clone())
                .ignore_discovered_servers()
                .connection_timeout(PATIENCE);
            let knocking = tokio::spawn(async move { options.connect(url.as_str()).await.is_ok() });
            while let Ok(Some(request)) = tokio::time::timeout(PATIENCE, incoming.next()).await {
                let header = request.headers.as_ref().and_then(|it| it.get(SERVER_XKEY_HEADER));
                let header = header.map(|value| value.as_str());
                let opened = envelopes.iter().find_map(|(public, envelope)| {
                    Some((public, envelope.open(&request.payload, header).ok()?))
                });
                let Some((xkey, opened)) = opened else { continue };
                let verified = VerifiedRequest::verify(opened, &spent, SystemClock.now());
                let Ok((verified, _)) = verified else { continue };
                if verified.client().name == name {
                    let server = verified.server().to_string();
                    found.unseen.remove(names.get(&server).unwrap_or(&server));
                    let keys = (verified.addressee().to_owned(), xkey.clone());
                    found.keys.insert(verified.server_name().to_owned(), keys);
                    break;
                }
            }
            knocking.abort();
        }
        Ok(found)
    }

    async fn operators_or_none(&self) -> anyhow::Result<BTreeMap<String, String>> {
        Ok(resolver::names(&self.cluster).await?)
    }
}

/// An account's id as text.
pub(super) type AccountIdText = String;

/// What servers' requests show.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The issuer and the curve key of each server, by its name.
    pub(super) keys: BTreeMap<String, (String, String)>,
    /// Servers that are there and could not be looked at.
    pub(super) unseen: BTreeSet<String>,
}

/// The operator's JWT with other signing keys.
pub(super) fn operator_with(
    token: &str,
    identity: &SigningKey,
    without: Option<&str>,
    with: &[&str],
    now: UnixSeconds,
) -> anyhow::Result<Option<String>> {
    let (mut claims, issuer) = Parsed::<AnyOperator>::parse(token)?.verify::<OperatorId>()?;
    if issuer.as_str() != identity.public_key() {
        bail!("operator.nk is not the identity of the servers' operator, {issuer}");
    }
    strip(&mut claims.body.0);
    if !relist(&mut claims.body.0, without, with) {
        return Ok(None);
    }
    claims.issued_at = claims.issued_at.saturating_add(1).max(now);
    Ok(Some(claims.encode_now(identity)?))
}

/// The signing keys of an operator's JWT.
pub(super) fn operator_keys(token: &str) -> BTreeSet<String> {
    let parsed = Parsed::<AnyOperator>::parse(token);
    let verified = parsed.and_then(Parsed::verify::<OperatorId>);
    verified.map(|(claims, _)| listed(&claims.body.0)).unwrap_or_default()
}
