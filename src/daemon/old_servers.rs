//! Whether the servers keep accounts' JetStream apart, where anybody but the operator has any.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Mode};
use crate::provision::connections::{Cluster, ClusterError};
use crate::provision::versions::REMEDY;

/// What is wrong with which servers: all in operator mode, where tenants have JetStream by their rows; in
/// config mode those where a tenant's own account has it.
pub(crate) async fn faults(
    config: &Config,
    cluster: &Cluster,
) -> Result<Vec<String>, ClusterError> {
    let old = cluster.sharing_jetstream().await?;
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let whose = match &config.mode {
        Mode::Operator(_) => "tenants with accounts of their own".to_owned(),
        Mode::Config(mode) => {
            let mut having = Vec::new();
            for account in mode.dedicated.keys() {
                if cluster.occupants(account).await?.jetstream {
                    having.push(account.as_str());
                }
            }
            if having.is_empty() {
                for (server, version) in old {
                    tracing::warn!(server, version, "{BB}; {REMEDY}");
                }
                return Ok(Vec::new());
            }
            format!("the tenants of {}", having.join(", "))
        }
    };
    let fault = |(server, version)| {
        format!(
            "on server {server} ({version}) {whose} can use every account's JetStream, AUTH's and BB's \
             included; {REMEDY}"
        )
    };
    Ok(old.into_iter().map(fault).collect())
}

/// What is left where tenants have no JetStream.
pub(crate) const BB: &str = "BB's login can use every account's JetStream on this server, AUTH's included: nobody may have it \
     who may not have the service's keys";

/// Says so of servers that come, until `stop`.
pub(super) async fn watch(
    config: Config,
    cluster: Cluster,
    mut arrivals: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(arrivals.changed()).await {
        let Some(found) = stop.run_until_cancelled(faults(&config, &cluster)).await else { return };
        match found {
            Ok(faults) => faults.iter().for_each(|fault| tracing::error!("{fault}")),
            Err(error) => tracing::warn!(%error, "the servers' versions are not known"),
        }
    }
}
