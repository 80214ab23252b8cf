//! What servers keep of accounts (operator mode): which they hold, and the order to forget those
//! of tenants that are gone. The JetStream data of an account stays on a server's disk.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::account::AccountIssuer;
use super::connections::{Cluster, ClusterError};
use super::servers::SystemReply;
use crate::clock::UnixSeconds;
use crate::keys::AccountId;
use crate::protocol::jwt::JwtError;

/// Accounts in one order: it has to fit into one message.
const ACCOUNTS_AT_ONCE: usize = 1_000;

/// Why accounts could not be taken off the servers.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The servers could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The order could not be signed.
    #[error("the order to forget accounts: {0}")]
    Signing(#[from] JwtError),
    /// A server refused it.
    #[error("server {server} refused to forget accounts: {reason}")]
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
pub async fn forget(
    cluster: &Cluster,
    issuer: &AccountIssuer,
    accounts: &[AccountId],
    now: UnixSeconds,
) -> Result<(), RemovalError> {
    for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
        let order = issuer.deletion(some, now).await?;
        let answers =
            cluster.ask_all::<SystemReply>("$SYS.REQ.CLAIMS.DELETE", order.as_bytes()).await?;
        for (server, answer) in answers.by_server {
            if let Some(fault) = answer.error {
                return Err(RemovalError::Refused { server, reason: fault.description });
            }
        }
        if !answers.silent.is_empty() {
            return Err(RemovalError::Silent(answers.silent.into_iter().collect()));
        }
        tracing::debug!(accounts = some.len(), "taken off the servers");
    }
    Ok(())
}

/// Those of the accounts that at least one server still holds.
pub async fn held(
    cluster: &Cluster,
    accounts: &[AccountId],
) -> Result<Vec<AccountId>, RemovalError> {
    let answers = cluster.ask_all::<Held>("$SYS.REQ.CLAIMS.LIST", b"").await?;
    let held: BTreeSet<String> =
        answers.by_server.into_values().flat_map(|answer| answer.data).collect();
    Ok(accounts.iter().filter(|account| held.contains(account.as_str())).copied().collect())
}

#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    data: Vec<String>,
}
