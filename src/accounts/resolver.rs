//! What servers keep of accounts (operator mode): which they hold, and the order to forget those
//! of tenants that are gone. The JetStream data of an account stays on a server's disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;

use super::account::{AccountIssuer, IssueError};
use crate::clock::UnixSeconds;
use crate::keys::{AccountId, ServerId};
use crate::servers::{Cluster, ClusterError, ServerAnswer};

/// Where servers take accounts.
const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Accounts in one order: it has to fit into one message.
const ACCOUNTS_AT_ONCE: usize = 1_000;

/// Why servers hold other accounts than they should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolverError {
    /// The servers could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The order could not be signed.
    #[error("the order to forget accounts: {0}")]
    Signing(#[from] IssueError),
    /// A server refused it.
    #[error("server {server} refused the order about accounts: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Servers did not answer.
    #[error("no answer from {}", .0.join(", "))]
    Silent(Vec<String>),
}

/// Makes all servers forget accounts. They close what connections are left in them.
pub(crate) async fn forget(
    cluster: &Cluster,
    issuer: &AccountIssuer,
    accounts: &[AccountId],
    now: UnixSeconds,
) -> Result<(), ResolverError> {
    for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
        let token = issuer.deletion(some, now).await?;
        order(cluster, "$SYS.REQ.CLAIMS.DELETE", &token).await?;
        tracing::debug!(accounts = some.len(), "taken off the servers");
    }
    Ok(())
}

/// Makes all servers hold an account.
pub(crate) async fn hold(cluster: &Cluster, token: &str) -> Result<(), ResolverError> {
    order(cluster, UPDATE, token).await
}

/// Pushes an account to all servers, and waits for these, for each as long as `patience` says: which
/// answered, and why they refused it.
pub(super) async fn push(
    cluster: &Cluster,
    token: &str,
    awaited: &[ServerId],
    patience: impl Fn(&ServerId) -> Duration,
) -> Result<HashMap<ServerId, Option<String>>, ClusterError> {
    let names = awaited.iter().map(ToString::to_string).collect();
    let patience = |name: &str| name.parse().map_or(Duration::ZERO, |server| patience(&server));
    let answers =
        cluster.ask_awaited::<ServerAnswer>(&names, UPDATE, token.as_bytes(), patience).await?;
    let servers = answers.into_iter().filter_map(|(name, answer)| {
        Some((name.parse().ok()?, answer.error.map(|fault| fault.description)))
    });
    Ok(servers.collect())
}

/// What every server has to acknowledge.
async fn order(cluster: &Cluster, subject: &str, token: &str) -> Result<(), ResolverError> {
    let answers = cluster.ask_all::<ServerAnswer>(subject, token.as_bytes()).await?;
    for (server, answer) in answers.by_server {
        if let Some(fault) = answer.error {
            return Err(ResolverError::Refused { server, reason: fault.description });
        }
    }
    if !answers.silent.is_empty() {
        return Err(ResolverError::Silent(answers.silent.into_iter().collect()));
    }
    Ok(())
}

/// Those of the accounts that at least one server still holds.
pub(crate) async fn held(
    cluster: &Cluster,
    accounts: &[AccountId],
) -> Result<Vec<AccountId>, ResolverError> {
    let held: HashSet<AccountId> = all_held(cluster).await?.into_iter().collect();
    Ok(accounts.iter().filter(|account| held.contains(account)).copied().collect())
}

/// All accounts that at least one server holds.
pub(crate) async fn all_held(cluster: &Cluster) -> Result<Vec<AccountId>, ResolverError> {
    let answers = cluster.ask_all::<ServerAnswer<Vec<String>>>("$SYS.REQ.CLAIMS.LIST", b"").await?;
    let held: BTreeSet<String> =
        answers.by_server.into_values().filter_map(|answer| answer.data).flatten().collect();
    Ok(held.iter().filter_map(|account| account.parse().ok()).collect())
}

/// The JWTs of the operators that each server trusts, by the server's name. All have to answer.
pub(crate) async fn operators(
    cluster: &Cluster,
) -> Result<BTreeMap<String, Vec<String>>, ResolverError> {
    let answers = trusts(cluster).await?;
    Ok(answers
        .into_values()
        .map(|it| (it.server.name, it.data.unwrap_or_default().operators))
        .collect())
}

/// The name of each server, by its id. All have to answer.
pub(crate) async fn names(cluster: &Cluster) -> Result<BTreeMap<String, String>, ResolverError> {
    Ok(trusts(cluster).await?.into_iter().map(|(id, it)| (id, it.server.name)).collect())
}

async fn trusts(
    cluster: &Cluster,
) -> Result<BTreeMap<String, ServerAnswer<Operators>>, ResolverError> {
    let answers =
        cluster.ask_all::<ServerAnswer<Operators>>("$SYS.REQ.SERVER.PING.VARZ", b"").await?;
    if answers.silent.is_empty() {
        Ok(answers.by_server)
    } else {
        Err(ResolverError::Silent(answers.silent.into_iter().collect()))
    }
}

#[derive(Default, Deserialize)]
struct Operators {
    #[serde(default, rename = "trusted_operators_jwt")]
    operators: Vec<String>,
}
