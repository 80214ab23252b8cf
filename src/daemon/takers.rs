//! Config mode: which account sends events as which tenant. INTAKE offers every tenant's subject to every
//! account, and what an account takes of it stands in nats-server.conf alone: one that takes another
//! tenant's sends events under that tenant's name, and nothing in a message tells who did.

use crate::config::{Config, Mode};
use crate::servers::{Cluster, ClusterError};

/// What to do about it.
pub(crate) const REMEDY: &str = "take that import out of nats-server.conf and reload the servers, or, where the \
     account is that tenant's, say so in [placement] dedicated";

/// Says in the log which there are.
pub(super) async fn say(config: &Config, cluster: &Cluster) {
    match faults(config, cluster).await {
        Ok(faults) => faults.iter().for_each(|it| tracing::warn!("{it}; {REMEDY}")),
        Err(error) => tracing::warn!(%error, "what accounts take of INTAKE is not known"),
    }
}

/// The accounts that take of INTAKE what is not their own tenant's.
pub(crate) async fn faults(
    config: &Config,
    cluster: &Cluster,
) -> Result<Vec<String>, ClusterError> {
    let Mode::Config(mode) = &config.mode else { return Ok(Vec::new()) };
    let Some(intake) = &mode.intake else { return Ok(Vec::new()) };
    let mut faults = Vec::new();
    for (account, subject) in cluster.takers(&intake.account).await? {
        let tenant = mode.dedicated.get(&account);
        if tenant.is_some_and(|tenant| subject == own_subject(tenant.as_str())) {
            continue;
        }
        let whose = tenant.map_or_else(
            || "which no tenant has for itself".to_owned(),
            |tenant| format!("which is the tenant {tenant}'s"),
        );
        faults.push(format!(
            "the account {account}, {whose}, takes {subject} of {intake}: what it sends there is taken for \
             another tenant's events",
            intake = intake.account
        ));
    }
    Ok(faults)
}

/// What a tenant's own account takes of INTAKE.
pub(crate) fn own_subject(tenant: &str) -> String {
    format!("own.{tenant}.Events")
}
