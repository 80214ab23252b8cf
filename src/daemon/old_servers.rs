//! Whether the servers keep tenants apart ([`versions`]).

use tokio::sync::watch;

use crate::config::{Config, Mode};
use crate::servers::versions::{self, REMEDY, text};
use crate::servers::{Cluster, ClusterError};

/// What is wrong with which servers. Those that share JetStream: all in operator mode, where tenants have it by
/// their rows; in config mode those where a tenant's own account has it.
pub(crate) async fn faults(
    config: &Config,
    cluster: &Cluster,
) -> Result<Vec<String>, ClusterError> {
    let old = cluster.sharing_jetstream().await?;
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let whose = match &config.mode {
        Mode::Operator(_) => Some("tenants with accounts of their own".to_owned()),
        Mode::Config(mode) => {
            let mut having = Vec::new();
            for account in mode.dedicated.keys() {
                if cluster.occupants(account).await?.jetstream {
                    having.push(account.as_str());
                }
            }
            (!having.is_empty()).then(|| format!("the tenants of {}", having.join(", ")))
        }
    };
    let mut faults = Vec::new();
    for (server, version) in old {
        let on = format!("on server {server} ({})", text(version));
        if let Some(whose) = &whose {
            faults.push(format!(
                "{on} {whose} can use every account's JetStream, AUTH's and BB's included; {REMEDY}"
            ));
        } else if versions::traces_anywhere(version) {
            faults.push(format!(
                "{on} a tenant can send what the server writes to every subject of its account, other \
                 tenants' Notifications included, by the header Nats-Trace-Dest; {REMEDY}"
            ));
        } else {
            tracing::warn!("{on} {BB}; {REMEDY}");
        }
    }
    Ok(faults)
}

/// What is left where tenants have no JetStream.
pub(crate) const BB: &str = "BB's login can use every account's JetStream, AUTH's included: nobody may have it \
     who may not have the service's keys";

/// Says so of servers that come.
pub(super) async fn watch(config: &Config, cluster: &Cluster, arrivals: &mut watch::Receiver<u64>) {
    while arrivals.changed().await.is_ok() {
        cluster.call_anew();
        match faults(config, cluster).await {
            Ok(faults) => faults.iter().for_each(|fault| tracing::error!("{fault}")),
            Err(error) => tracing::warn!(%error, "the servers' versions are not known"),
        }
    }
}
