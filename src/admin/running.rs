//! The deployment that runs: what an operation asks of its servers and instances, step by step. The
//! order of the steps is the operation's. Without NATS its commit stands, and the instances follow when
//! they can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Admin, AdminError, Result, instances, purge};
use crate::accounts::resolver;
use crate::audit::Observer;
use crate::causes::chain;
use crate::config::{self, Mode};
use crate::connections::{Connections, Selection};
use crate::deployment::{self, Login};
use crate::events::decisions::{self, DecisionEvents};
use crate::events::publisher::Publisher;
use crate::keys::AccountId;
use crate::servers::Cluster;
use crate::store::{CredentialStore, TenantId, TenantRecord, UserRecord};

/// How long a server may take to read an answer that an instance has given.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// How long a connection to NATS may take.
const CONNECT: Duration = Duration::from_secs(2);

/// The steps of one operation.
#[async_trait]
pub(super) trait Steps: Send {
    /// Looks which of these are connected before anything is changed, and says how many. Without
    /// it, the other steps leave the servers alone.
    async fn look(&mut self, selection: Selection) -> Result<usize>;

    /// Waits until what is committed counts on every running instance.
    async fn settle(&mut self);

    /// Brings a tenant's account to the servers, as it is good for now.
    async fn bring(&mut self, tenant: &TenantId) -> Result<()>;

    /// Closes what is no longer allowed, and says how many distinct connections have ended since the
    /// look, whoever closed them; `None` where that is not known.
    async fn close(&mut self) -> Option<usize>;

    /// Deletes all streams of a tenant's account, and says how many there were.
    async fn purge(&mut self, tenant: &TenantRecord, account: AccountId) -> Result<usize>;

    /// Takes an account off the servers.
    async fn forget(&mut self, account: AccountId) -> Result<()>;
}

/// Makes what takes the steps of one operation.
pub(super) type MakeSteps = Arc<dyn Fn(&Admin) -> Box<dyn Steps> + Send + Sync>;

impl Admin {
    /// Looks who is connected for a change that is made in any case.
    pub(super) async fn try_look(&self, running: &mut dyn Steps, selection: Result<Selection>) {
        let looked = match selection {
            Ok(selection) => running.look(selection).await,
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            self.remark(&format!(
                "warning: {}; the change is made, and connections are closed by the running instances",
                chain(&error)
            ));
        }
    }

    /// All connections of a tenant's users.
    pub(super) fn of_tenant(
        &self,
        tenant: &TenantRecord,
        users: &[UserRecord],
    ) -> Result<Selection> {
        let mut selection = Selection::default();
        let places = deployment::places(&self.config)?;
        let names = users.iter().map(|user| user.name.as_str());
        places.select_tenant(&tenant.id, names, Duration::ZERO, &mut selection);
        if let Some(account) = places.own(tenant.account) {
            selection.add_account(account.as_str(), Duration::ZERO);
        }
        Ok(selection)
    }

    /// All connections of one user.
    pub(super) fn of_user(&self, tenant: &TenantRecord, user: &str) -> Result<Selection> {
        let mut selection = Selection::default();
        let places = deployment::places(&self.config)?;
        places.select_users([user], tenant.account, Duration::ZERO, &mut selection);
        Ok(selection)
    }
}

/// The steps by NATS.
pub(super) struct OverNats {
    admin: Admin,
    /// The connection to AUTH, where events of closed connections are wanted.
    auth: Option<Client>,
    found: Option<Looked>,
}

/// Who was connected before the change.
struct Looked {
    cluster: Cluster,
    selection: Selection,
    before: Connections,
}

impl OverNats {
    pub(super) fn of(admin: &Admin) -> Box<dyn Steps> {
        Box::new(Self { admin: admin.clone(), auth: None, found: None })
    }

    async fn connect(&self, login: Login) -> Result<Client> {
        let connecting = timeout(CONNECT, login.connect(&self.admin.config));
        Ok(connecting.await.map_err(|_| AdminError::silent())??)
    }

    /// Who is told of closed connections, and what publishes them in the end; none where the
    /// configuration wants none.
    fn events(&self) -> Option<(Arc<dyn Observer>, DecisionEvents)> {
        let (config, client) = (&self.admin.config, self.auth.clone()?);
        let prefix = client.new_inbox();
        let (log, events) = decisions::queue(
            config.events.queue,
            Publisher::new(client, config.events.source.clone(), config.streams.clone()),
            Arc::clone(&self.admin.store) as Arc<dyn CredentialStore>,
            Arc::clone(&self.admin.clock),
            prefix,
        );
        Some((Arc::new(log), events))
    }
}

#[async_trait]
impl Steps for OverNats {
    async fn look(&mut self, selection: Selection) -> Result<usize> {
        let client = self.connect(Login::System).await?;
        if self.admin.config.events.decisions != config::DecisionEvents::Off {
            self.auth = Some(self.connect(Login::Auth).await?);
        }
        let cluster = Cluster::new(client);
        let before = cluster.find(&selection, Instant::now()).await?;
        let count = before.ids.len();
        self.found = Some(Looked { cluster, selection, before });
        Ok(count)
    }

    async fn settle(&mut self) {
        instances::settle(&self.admin, self.auth.clone()).await
    }

    async fn bring(&mut self, tenant: &TenantId) -> Result<()> {
        let Some(found) = &self.found else { return Ok(()) };
        let Mode::Operator(mode) = &self.admin.config.mode else { return Ok(()) };
        let tenant = self.admin.tenant(tenant).await?;
        let places = deployment::places(&self.admin.config)?;
        let Some(account) = places.own(tenant.account) else { return Ok(()) };
        let issuer = deployment::account_issuer(&self.admin.config, mode)?;
        let standing = issuer.standing(&tenant, self.admin.now()).before_closing();
        let token = issuer.issue(&tenant, account, standing).await?;
        Ok(resolver::hold(&found.cluster, &token).await?)
    }

    async fn close(&mut self) -> Option<usize> {
        let found = self.found.as_ref()?;
        let (observer, events) = self.events().unzip();
        let closed = found.close(observer, &self.admin).await;
        if let Some(mut events) = events {
            let at_once = CancellationToken::new();
            at_once.cancel();
            events.run(&at_once).await;
        }
        closed
            .inspect_err(|error| {
                self.admin.remark(&format!(
                    "warning: the change is made, but connections may be left: {}",
                    chain(error)
                ));
            })
            .ok()
    }

    async fn purge(&mut self, tenant: &TenantRecord, account: AccountId) -> Result<usize> {
        let Mode::Operator(mode) = &self.admin.config.mode else { return Ok(0) };
        let found = self.found.as_ref().ok_or_else(AdminError::silent)?;
        let purged = purge::purge(&self.admin, mode, &found.cluster, tenant, account).await;
        Ok(purged.map_err(AdminError::Deployment)?)
    }

    async fn forget(&mut self, account: AccountId) -> Result<()> {
        let Some(found) = &self.found else { return Ok(()) };
        let Mode::Operator(mode) = &self.admin.config.mode else { return Ok(()) };
        let issuer = deployment::account_issuer(&self.admin.config, mode)?;
        let now = self.admin.now();
        Ok(resolver::forget(&found.cluster, &issuer, &[account], now).await?)
    }
}

impl Looked {
    async fn close(&self, observer: Option<Arc<dyn Observer>>, admin: &Admin) -> Result<usize> {
        let cluster = self.cluster.clone().with_observer(observer);
        let mut closed = cluster.close(&self.selection, Instant::now()).await?;
        if !self.selection.is_empty() {
            // An answer given just before may still be on its way to its server.
            tokio::time::sleep(LAST_ANSWERS).await;
            closed.merge(cluster.close(&self.selection, Instant::now()).await?);
        }
        let left = cluster.find(&self.selection, Instant::now()).await?;
        for silent in &left.silent {
            admin.remark(&format!(
                "warning: server {silent} does not answer: connections may be left on it, which \
                 the running instances close when it answers"
            ));
        }
        let mut ended = closed.ids;
        ended.extend(self.before.ids.iter().map(|(id, holder)| (id.clone(), holder.clone())));
        ended.retain(|id, _| !left.ids.contains_key(id));
        Ok(ended.len())
    }
}
