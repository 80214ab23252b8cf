//! The second phase: the connections stand, and whether the servers keep AUTH and tenants apart has been
//! looked at.

use std::sync::Arc;

use async_nats::Client;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::connect::{Clients, Nats, connect_all};
use super::event_sinks::EventSinks;
use super::isolation::Isolation;
use super::parts::Part;
use super::prepared::{Deciding, Prepared};
use super::{DaemonError, Result, old_servers, takers, waits};
use crate::authn::hashing::Pace;
use crate::deployment::key_role::PublicKeys;
use crate::placement::Placement;
use crate::revoke::OwnAccounts;
use crate::servers::{Cluster, KnownServers};
use crate::streams::readers;

/// A service that is not asked yet.
pub(super) struct Connected<'a> {
    pub(super) base: Base<'a>,
    pub(super) deciding: Deciding,
    pub(super) keys: PublicKeys,
    pub(super) nats: Nats,
    pub(super) sinks: EventSinks,
    pub(super) placement: Placement,
    /// Operator mode.
    pub(super) own: Option<OwnAccounts>,
}

impl<'a> Connected<'a> {
    /// Connects, for as long as it takes or until `shutdown`.
    pub(super) async fn new(prepared: Prepared<'a>, shutdown: &CancellationToken) -> Result<Self> {
        let Prepared { base, deciding, homes, keys } = prepared;
        let connections = connect_all(base.config, shutdown).await?;
        connections.show(&base.observed.metrics);
        let servers = Arc::new(KnownServers::default());
        let watching = servers.watch(&connections.system).await?;
        base.parts.spawn(Part::vital("servers"), watching, |it, _| it.run().boxed());
        look(&base, &connections, &servers, deciding.pace).await?;
        let id = nats_id(&connections.main);
        let sinks = EventSinks::new(&base, &connections.events, &id);
        let cluster =
            Cluster::new(connections.system.clone()).with_observer(sinks.decisions.clone());
        let nats = Nats { connections, servers, cluster, id };
        let (placement, own) = homes.open(&base, &nats).await?;
        Ok(Self { base, deciding, keys, nats, sinks, placement, own })
    }
}

/// Looks whether AUTH is the service's alone and whether servers keep tenants apart, and goes on looking.
async fn look(
    base: &Base<'_>,
    connections: &Clients,
    servers: &KnownServers,
    pace: Pace,
) -> Result<()> {
    let Base { config, parts, .. } = base;
    let cluster = Cluster::new(connections.system.clone());
    let (main, denials) = (connections.main.clone(), connections.denials.clone());
    let isolation = Arc::new(Isolation::new(config, main, denials, cluster)?);
    let found = isolation.look().await;
    if !found.violations.is_empty() {
        return Err(DaemonError::Isolation(found.violations));
    }
    for what in &found.unknown {
        tracing::warn!("who else is in AUTH is not known yet: {what}");
    }
    if let Some(exports) = &found.exports {
        for fault in readers::judge(exports, &config.streams.events).faults() {
            tracing::warn!("{fault}; {}", readers::REMEDY);
        }
    }
    let cluster = Cluster::new(connections.system.clone());
    match old_servers::faults(config, &cluster).await {
        Ok(faults) if faults.is_empty() => {}
        Ok(faults) => return Err(DaemonError::OldServers(faults)),
        Err(error) => tracing::warn!(%error, "the servers' versions are not known yet"),
    }
    // Of each account there is a question, and nobody waits for the answers.
    let asking = ((*config).clone(), cluster.clone());
    parts.spawn(Part::minor("takers").until_done(), asking, |(config, cluster), _| {
        takers::say(config, cluster).boxed()
    });
    let watching = (config.callout.deadline, pace, cluster.clone(), servers.arrivals());
    parts.spawn(Part::minor("waits"), watching, |(deadline, pace, cluster, arrivals), _| {
        waits::watch(*deadline, *pace, cluster, arrivals).boxed()
    });
    let watching = ((*config).clone(), cluster, servers.arrivals());
    parts.spawn(Part::minor("versions"), watching, |(config, cluster, arrivals), _| {
        old_servers::watch(config, cluster, arrivals).boxed()
    });
    isolation.show(&base.observed.metrics);
    parts.spawn(Part::minor("isolation"), isolation, |it, _| it.watch().boxed());
    Ok(())
}

/// An id that no other instance has: the connection's inbox is random.
fn nats_id(client: &Client) -> String {
    client.new_inbox().replace("_INBOX.", "").replace('.', "-")
}
