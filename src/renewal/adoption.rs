//! The connections that nobody remembers: those that an instance granted which has stopped since. Servers
//! show whose they are and since when, not by what credential they came, nor when their grants end. So the
//! shortest life that such a grant can have counts, and the rows as they are now say who would be let in.
//!
//! What another instance remembers is found as well. Whoever is first renews it, and the other hears that
//! the connection is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{Admits, LATER, Renewals};
use crate::authn::{ByRow, Rejected};
use crate::authorize::{Authorizer, Renewable};
use crate::clock::Clock;
use crate::connections::everyone::Client;
use crate::servers::{Cluster, KnownServers};
use crate::store::CredentialStore;

/// An instance that starts anew takes its place before this is over.
const SETTLE: Duration = Duration::from_secs(2);

/// How many rows are read at a time, and the pause between.
const AT_ONCE: usize = 50;
const PAUSE: Duration = Duration::from_millis(250);

/// Finds them, once this instance decides, and whenever another one has gone or a server is back that was given
/// up.
pub(crate) struct Adopter {
    /// Keeps them in mind.
    pub(crate) renewals: Arc<Renewals>,
    /// Says who would be let in again, and for how long.
    pub(crate) authorizer: Arc<Authorizer>,
    /// Says whether there is time to ask.
    pub(crate) admits: Arc<dyn Admits>,
    /// The servers.
    pub(crate) cluster: Cluster,
    /// The rows.
    pub(crate) store: Arc<dyn CredentialStore>,
    /// Says who has ended.
    pub(crate) clock: Arc<dyn Clock>,
    /// How many instances there are.
    pub(crate) instances: watch::Receiver<usize>,
    /// Those that are there.
    pub(crate) servers: Arc<KnownServers>,
}

impl Adopter {
    /// Adopts, until it is dropped. May be called again.
    pub(crate) async fn run(&self) {
        let (mut instances, mut arrivals) = (self.instances.clone(), self.servers.arrivals());
        loop {
            // What changes while some are adopted is seen afterwards.
            let mut before = *instances.borrow_and_update();
            while !self.adopt().await {
                tokio::time::sleep(LATER).await;
            }
            tokio::select! {
                () = fewer(&mut instances, &mut before) => {}
                () = self.returns(&mut arrivals) => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Returns when a server is back whose connections have been given up.
    async fn returns(&self, arrivals: &mut watch::Receiver<u64>) {
        while arrivals.changed().await.is_ok() {
            if self.renewals.absent.lock().is_back(|server| self.servers.knows(server)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether all servers have said whom they have.
    async fn adopt(&self) -> bool {
        self.until_there_is_time().await;
        let listed = Instant::now();
        let (mut clients, silent) = match self.cluster.everyone().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "connections of before cannot be listed; trying again");
                return false;
            }
        };
        clients.retain(|client| !self.renewals.holds(client.server, client.info.id));
        // The grants of those who came first end first.
        clients.sort_by_key(|client| std::cmp::Reverse(client.age));
        let mut adopted = 0;
        while !clients.is_empty() {
            let rest = clients.split_off(clients.len().min(AT_ONCE));
            let some = std::mem::replace(&mut clients, rest);
            let asked = some.into_iter().map(|client| self.place(client, listed));
            adopted += join_all(asked).await.into_iter().filter(|it| *it).count();
            tokio::time::sleep(PAUSE).await;
            self.until_there_is_time().await;
        }
        if adopted > 0 {
            tracing::info!(
                adopted,
                "connections that nobody remembers are renewed in their time too"
            );
        }
        silent.is_empty()
    }

    async fn until_there_is_time(&self) {
        while !self.admits.could_admit().await {
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Whether it is to be renewed.
    async fn place(&self, client: Client, listed: Instant) -> bool {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let begun = listed.checked_sub(client.age).unwrap_or(listed);
        let proof = Arc::new(ByRow { store, clock, user: client.user.clone() });
        let Client { server, account, user, info, .. } = client;
        let unknown = Renewable::of_before(server, account, user, info, begun, proof);
        loop {
            match self.authorizer.would_renew(&unknown).await {
                Ok(Some(again)) if !again.is_bounded => {
                    self.renewals.adopt(unknown.granted(&again));
                    return true;
                }
                Ok(_) | Err(Rejected::Denied(_)) => return false,
                Err(Rejected::Fault(_)) => tokio::time::sleep(LATER).await,
            }
        }
    }
}

/// Returns when an instance has gone; never, once nobody counts them.
async fn fewer(instances: &mut watch::Receiver<usize>, before: &mut usize) {
    while instances.changed().await.is_ok() {
        let now = *instances.borrow_and_update();
        if now < std::mem::replace(before, now) {
            return;
        }
    }
    std::future::pending().await
}

impl std::fmt::Debug for Adopter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adopter").finish_non_exhaustive()
    }
}
