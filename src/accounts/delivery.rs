//! Delivers a tenant's account JWT before the first login is answered: pushed to every server,
//! every acknowledgement awaited. Look-ups alone would not do in a cluster, where peers answer
//! that they do not know the account before the service can answer that it does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::future::Cache;

use super::account::{AccountIssuer, Standing};
use super::resolver;
use crate::clock::{Clock, UnixSeconds};
use crate::keys::{self, AccountId, ServerId};
use crate::placement::{AccountError, Accounts, ReadyAccount};
use crate::servers::{Cluster, KnownServers};
use crate::store::{CredentialStore, Limits, TenantRecord};

/// What is kept back of a request's time for the decision that follows the delivery.
const RESERVE: Duration = Duration::from_millis(200);

/// How long the acknowledgements of servers that no login waits for are awaited at most. A server
/// takes about a millisecond; one that is silent for this long is dead, cut off or very busy, and
/// looks the account up by itself.
const PATIENCE: Duration = Duration::from_millis(800);

/// So long a server has to have had before it can be said that it is silent.
const FAIR: Duration = Duration::from_millis(250);

/// How long a login waits at most until there is room for a lower limit of connections. A server that
/// does not answer for longer has yet to take the limit, too.
const ROOM: Duration = Duration::from_millis(300);

/// How many accounts are remembered as delivered; one that is forgotten is pushed again.
const REMEMBERED: u64 = 500_000;

/// An account that servers have acknowledged, as the row was then.
#[derive(Debug, Clone)]
struct Delivered {
    limits: Limits,
    updated_at: UnixSeconds,
    answers: bool,
    standing: Standing,
    servers: Arc<[ServerId]>,
}

impl Delivered {
    fn is_current(&self, tenant: &TenantRecord, server: &ServerId) -> bool {
        self.standing == Standing::Open
            && self.limits == tenant.limits
            && self.answers == tenant.answers
            && self.updated_at == tenant.updated_at
            && self.servers.contains(server)
    }

    /// Whether servers have to count more connections than now.
    fn admits_more_than(&self, connections: u64) -> bool {
        self.standing == Standing::Open
            && self.limits.connections.is_none_or(|before| before > connections)
    }
}

/// Pushes account JWTs to all servers.
pub(crate) struct Delivery {
    store: Arc<dyn CredentialStore>,
    issuer: Arc<AccountIssuer>,
    servers: Arc<KnownServers>,
    clock: Arc<dyn Clock>,
    cluster: Cluster,
    delivered: Cache<AccountId, Result<Delivered, AccountError>>,
    pushed: AtomicU64,
}

impl Delivery {
    /// Pushes to the servers of `cluster`, of which `servers` are awaited.
    pub(crate) fn new(
        store: Arc<dyn CredentialStore>,
        issuer: Arc<AccountIssuer>,
        servers: Arc<KnownServers>,
        clock: Arc<dyn Clock>,
        cluster: Cluster,
    ) -> Self {
        let delivered = Cache::builder().max_capacity(REMEMBERED).build();
        Self { store, issuer, servers, clock, cluster, delivered, pushed: AtomicU64::new(0) }
    }

    /// How many account JWTs it has pushed so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    async fn account_of(&self, tenant: &TenantRecord) -> Result<AccountId, AccountError> {
        if let Some(account) = tenant.account {
            return Ok(account);
        }
        let candidate = keys::random_account_id()
            .ok_or_else(|| AccountError::Signing("no account key could be made".to_owned()))?;
        self.store.account_of(tenant, candidate).await?.ok_or(AccountError::Gone)
    }

    /// Pushes the account again, to all servers, as the tenant's row and its standing are now.
    pub(crate) async fn refresh(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        standing: Standing,
    ) -> Result<(), AccountError> {
        if let Err(reason) = self.make_room(tenant, account, standing).await {
            return Err(AccountError::Delivery { account, reason });
        }
        let (delivered, silent) = self.push(tenant, account, standing, None).await?;
        self.delivered.insert(account, Ok(delivered)).await;
        if silent.is_empty() {
            return Ok(());
        }
        let reason = format!("{} servers did not acknowledge it in time", silent.len());
        Err(AccountError::Delivery { account, reason })
    }

    /// Delivers the account in time for a login through `server`.
    async fn deliver(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        server: ServerId,
        deadline: Instant,
    ) -> Result<Delivered, AccountError> {
        let until = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        let standing = self.issuer.standing(tenant, self.clock.now()).before_closing();
        let room = until.min(Instant::now() + ROOM).into();
        let made = self.make_room(tenant, account, standing);
        if let Ok(Err(reason)) = tokio::time::timeout_at(room, made).await {
            tracing::warn!(tenant = %tenant.id, reason, "clients may be closed with an error");
        }
        let needed = Some((server, until));
        let left = until.saturating_duration_since(Instant::now());
        let (delivered, _) = self.push(tenant, account, standing, needed).await?;
        if delivered.servers.contains(&server) {
            return Ok(delivered);
        }
        if left < FAIR {
            return Err(AccountError::Hurried(left));
        }
        let reason = format!("server {server} did not acknowledge it in time");
        Err(AccountError::Delivery { account, reason })
    }

    /// Closes the youngest connections beyond a limit that servers do not know yet. They would close
    /// them with an error, after which some clients never come back.
    async fn make_room(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        standing: Standing,
    ) -> Result<(), String> {
        let (Standing::Open, Some(most)) = (standing, tenant.limits.connections) else {
            return Ok(());
        };
        let falls = match self.delivered.get(&account).await {
            Some(Ok(before)) => before.admits_more_than(most),
            // Nobody is in an account that has just been made.
            _ => tenant.account.is_some(),
        };
        if falls {
            let closed = self.cluster.shrink(account.as_str(), most).await;
            closed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Who has acknowledged the account, and which servers have not. The one that is needed, if
    /// any, is awaited until the given time, whatever the others do.
    async fn push(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        standing: Standing,
        needed: Option<(ServerId, Instant)>,
    ) -> Result<(Delivered, Vec<ServerId>), AccountError> {
        let jwt = self
            .issuer
            .issue(tenant, account, standing)
            .await
            .map_err(|error| AccountError::Signing(error.to_string()))?;
        let failed = |reason: String| AccountError::Delivery { account, reason };

        let needed_for = needed.map(|(_, until)| until.saturating_duration_since(Instant::now()));
        let needed = needed.map(|(server, _)| server);
        let of_others = needed_for.map_or(PATIENCE, |most| most.min(PATIENCE));
        let patience = |server: &ServerId| match needed_for {
            Some(most) if needed == Some(*server) => most,
            // One may be found to be gone.
            _ if self.servers.knows(server) => of_others,
            _ => Duration::ZERO,
        };
        let mut missing = self.servers.known();
        let pushed = resolver::push(&self.cluster, &jwt, &missing, &patience).await;
        let pushed = pushed.map_err(|error| failed(error.to_string()))?;
        self.pushed.fetch_add(1, Ordering::Relaxed);
        missing.retain(|server| !pushed.contains_key(server) && patience(server) >= FAIR);
        let mut acknowledged = Vec::with_capacity(pushed.len());
        for (server, refusal) in pushed {
            match refusal {
                None => acknowledged.push(server),
                Some(reason) if needed.is_none_or(|needed| needed == server) => {
                    return Err(failed(format!("server {server} refused it: {reason}")));
                }
                Some(reason) => tracing::error!(
                    %server,
                    %account,
                    reason,
                    "another server refused an account; its own clients will not get in"
                ),
            }
        }
        for silent in &missing {
            tracing::warn!(server = %silent, %account, "server did not acknowledge an account");
            self.servers.gone(silent);
        }
        tracing::debug!(tenant = %tenant.id, %account, servers = acknowledged.len(), "delivered");
        let delivered = Delivered {
            limits: tenant.limits,
            updated_at: tenant.updated_at,
            answers: tenant.answers,
            standing,
            servers: acknowledged.into(),
        };
        Ok((delivered, missing))
    }
}

#[async_trait]
impl Accounts for Delivery {
    async fn ready(
        &self,
        tenant: &TenantRecord,
        server: &ServerId,
        deadline: Instant,
    ) -> Result<ReadyAccount, AccountError> {
        self.servers.heard(*server);
        let id = self.account_of(tenant).await?;
        let is_current = |known: &Result<Delivered, AccountError>| {
            known.as_ref().is_ok_and(|known| known.is_current(tenant, server))
        };
        loop {
            let deliver = self.deliver(tenant, id, *server, deadline);
            let entry = self
                .delivered
                .entry(id)
                .or_insert_with_if(deliver, |known| !is_current(known))
                .await;
            let loads = entry.is_fresh();
            // What another login waited for may have been another server's answer.
            if loads || is_current(entry.value()) {
                return entry.into_value().map(|_| ReadyAccount { id, loads });
            }
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
