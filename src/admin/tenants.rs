//! Tenants: added, suspended, resumed and removed.

use std::time::Duration;

use super::ceiling;
use super::running::Steps;
use super::{Admin, AdminError, Name, Password, Result, When};
use crate::causes::chain;
use crate::clock::UnixSeconds;
use crate::config::Mode;
use crate::connections::Selection;
use crate::deployment;
use crate::keys::AccountId;
use crate::store::{
    Isolation, Limits, NewTenant, NewUser, ProvisioningStore, Status, StoreError, TenantId,
    TenantRecord, UserKind,
};

/// The policy of a tenant's first user.
const ADMIN: &str = "admin";

/// The limits of a tenant's own account, where none are asked for.
const DEFAULT_MEMORY: u64 = 64 << 20;
const DEFAULT_STORAGE: u64 = 5 << 30;

/// How long the servers may take to tell their maxima.
const CEILING_PATIENCE: Duration = Duration::from_secs(6);

/// A tenant to be added, with an admin user whose login is the tenant's id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewTenantRequest {
    /// The id.
    pub(crate) id: TenantId,
    /// The display name.
    pub(crate) name: Name,
    /// The isolation, where not the configured default.
    pub isolation: Option<Isolation>,
    /// JetStream memory of its own account in bytes; 64 MB where not named.
    pub memory: Option<u64>,
    /// JetStream storage of its own account in bytes; 5 GB where not named.
    pub storage: Option<u64>,
    /// The policy of its `bb` users, where not the default.
    pub policy: Option<String>,
    /// Own account: whether BB's requests on `user.<id>.Notifications` are answered.
    pub answers: bool,
    /// When the licence ends.
    pub expires: Option<When>,
}

impl NewTenantRequest {
    /// A tenant as the configuration has them, whose licence does not end.
    #[must_use]
    pub fn new(id: TenantId, name: Name) -> Self {
        Self {
            id,
            name,
            isolation: None,
            memory: None,
            storage: None,
            policy: None,
            answers: false,
            expires: None,
        }
    }
}

/// A tenant that was added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TenantAdded {
    pub(crate) tenant: NewTenant,
    /// How it is kept apart.
    pub isolation: Isolation,
    pub(crate) admin: NewUser,
    /// The password of its admin, a user of the tenant's own id, which nothing shows later.
    pub password: Password,
}

/// A tenant that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// How many connections have ended with it; `None` where that is not known.
    pub kicked: Option<usize>,
    /// How many streams were deleted, where that was asked for.
    pub streams_deleted: Option<usize>,
}

/// All tenants; a row that cannot be read is an error.
pub(crate) async fn all(store: &dyn ProvisioningStore) -> Result<Vec<TenantRecord>, StoreError> {
    store.tenants().await?.into_iter().collect()
}

/// The JetStream limits of a tenant, where none are asked for: in a shared account they have no effect.
pub(crate) fn default_limits(isolation: Isolation) -> Limits {
    let (memory, storage) = match isolation {
        Isolation::Account => (DEFAULT_MEMORY, DEFAULT_STORAGE),
        Isolation::Shared => (0, 0),
    };
    Limits { memory, storage, ..Limits::default() }
}

impl Admin {
    /// All tenants, by id.
    pub async fn tenants(&self) -> Result<Vec<TenantRecord>> {
        Ok(all(&*self.store).await?)
    }

    /// A tenant, which has to exist.
    pub async fn tenant(&self, id: &TenantId) -> Result<TenantRecord> {
        let missing = || StoreError::Missing { what: "tenant", key: id.to_string() };
        Ok(self.store.tenant(id).await?.ok_or_else(missing)?)
    }

    /// How many connections a tenant's users have now.
    pub async fn connected(&self, tenant: &TenantRecord) -> Result<usize> {
        let users = self.users(&tenant.id).await?;
        self.running().look(self.of_tenant(tenant, &users)?).await
    }

    /// Adds a tenant, unless JetStream would not admit its limits beside the others'.
    pub async fn add_tenant(&self, request: NewTenantRequest) -> Result<TenantAdded> {
        if request.isolation == Some(Isolation::Account)
            && matches!(self.config.mode, Mode::Config(_))
        {
            return Err(AdminError::NoOwnAccounts.into());
        }
        let isolation = request.isolation.unwrap_or(self.config.isolation);
        if request.answers && isolation == Isolation::Shared {
            return Err(AdminError::AnsweredAnyway.into());
        }
        let expires_at = self.ends(request.expires)?;
        let tenant = NewTenant {
            limits: self.limits(isolation, request.memory, request.storage),
            id: request.id,
            name: request.name.into(),
            isolation: request.isolation,
            policy: request.policy,
            answers: request.answers,
            expires_at,
        };
        self.check_ceiling(&tenant).await?;
        let password = Password::generate()?;
        let admin = self.insert_tenant(&tenant, &password).await?;
        Ok(TenantAdded { tenant, isolation, admin, password })
    }

    /// Adds a tenant as it is, with its admin user: nothing is checked, and no server is asked.
    pub(crate) async fn insert_tenant(
        &self,
        tenant: &NewTenant,
        password: &Password,
    ) -> Result<NewUser> {
        let admin = NewUser {
            tenant: tenant.id.clone(),
            name: tenant.id.to_string(),
            kind: UserKind::Bb,
            password_hash: Some(password.hash().await?),
            nkey: None,
            certificate: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            policy: Some(ADMIN.to_owned()),
        };
        self.store.add_tenant(tenant, &admin).await?;
        Ok(admin)
    }

    /// Refuses a tenant's users, and closes their connections: how many have ended with it, or `None`
    /// where that is not known.
    pub async fn suspend_tenant(&self, id: &TenantId) -> Result<Option<usize>> {
        let tenant = self.tenant(id).await?;
        let users = self.users(id).await?;
        let selection = self.of_tenant(&tenant, &users);
        self.set_status(&tenant, Status::Suspended, selection).await
    }

    /// Lets a suspended tenant's users in again. Nothing is closed: `None` where NATS was not there to
    /// learn of it.
    pub async fn resume_tenant(&self, id: &TenantId) -> Result<Option<usize>> {
        let tenant = self.tenant(id).await?;
        self.set_status(&tenant, Status::Active, Ok(Selection::default())).await
    }

    /// Removes a tenant with its users, tokens and account, and with all its JetStream data where
    /// `purge` says so. Those can be deleted only through NATS, and nothing is removed without it.
    pub async fn remove_tenant(&self, id: &TenantId, purge: bool) -> Result<Removed> {
        let tenant = self.tenant(id).await?;
        let users = self.users(id).await?;
        let selection = self.of_tenant(&tenant, &users);
        let own = self.own_account(&tenant, purge)?;
        let mut running = self.running();
        let streams_deleted = match own {
            Some(account) if purge => {
                Some(self.purge(&mut *running, id, account, selection?).await?)
            }
            _ => {
                self.try_look(&mut *running, selection).await;
                purge.then_some(0)
            }
        };
        self.store.remove_tenant(id).await?;
        running.settle().await;
        let kicked = running.close().await;
        if let Some(account) = own
            && let Err(error) = running.forget(account).await
        {
            self.remark(&format!(
                "warning: the tenant is removed, but its account is not off all servers yet: {}; the \
                 running instances see to it",
                chain(&error)
            ));
        }
        if own.is_some() && !purge && tenant.limits.jetstream() {
            self.remark(
                "note: its JetStream data, if it had any, stays on the servers' disks; a purge would \
                 have deleted it",
            );
        }
        Ok(Removed { kicked, streams_deleted })
    }

    async fn set_status(
        &self,
        tenant: &TenantRecord,
        status: Status,
        selection: Result<Selection>,
    ) -> Result<Option<usize>> {
        let mut running = self.running();
        self.try_look(&mut *running, selection).await;
        self.store.set_tenant_status(&tenant.id, status).await?;
        running.settle().await;
        // Before its connections: a client that is closed may come back in no time.
        if tenant.status != status
            && let Err(error) = running.bring(&tenant.id).await
        {
            self.remark(&format!(
                "warning: the change is made, but not all servers know what the tenant's account is \
                 good for now: {}; the running instances see to it",
                chain(&error)
            ));
        }
        Ok(running.close().await)
    }

    /// Deletes the streams of a tenant that is about to be removed, and says how many there were.
    async fn purge(
        &self,
        running: &mut dyn Steps,
        id: &TenantId,
        account: AccountId,
        selection: Selection,
    ) -> Result<usize> {
        let looked = running.look(selection).await;
        looked.map_err(|error| AdminError::NothingRemoved(Box::new(error)))?;
        // Nobody may write any more, and the account is still there to delete from.
        self.store.set_tenant_status(id, Status::Suspended).await?;
        running.settle().await;
        running.close().await;
        let tenant = self.tenant(id).await?;
        let purged = running.purge(&tenant, account).await;
        let not_removed = |source| AdminError::NotRemoved { tenant: id.clone(), source };
        purged.map_err(|error| not_removed(Box::new(error)).into())
    }

    /// The account of a tenant's own. What keys are missing for is said later, and done by the running
    /// instances, unless the account is needed.
    fn own_account(&self, tenant: &TenantRecord, is_needed: bool) -> Result<Option<AccountId>> {
        match (&self.config.mode, deployment::places(&self.config)) {
            (Mode::Operator(_), Ok(places)) => Ok(places.own(tenant.account)),
            (Mode::Operator(_), Err(error)) if is_needed => Err(error.into()),
            _ => Ok(None),
        }
    }

    /// The JetStream limits of a new tenant: in a shared account they are kept only where they are
    /// asked for.
    fn limits(&self, isolation: Isolation, memory: Option<u64>, storage: Option<u64>) -> Limits {
        if isolation == Isolation::Shared && (memory.is_some() || storage.is_some()) {
            self.remark(
                "note: JetStream limits have no effect in a shared account; they are kept in the row",
            );
        }
        let default = default_limits(isolation);
        Limits {
            memory: memory.unwrap_or(default.memory),
            storage: storage.unwrap_or(default.storage),
            ..default
        }
    }

    /// Refuses limits that JetStream would not admit beside those of the tenants that are there. A
    /// server that cannot be asked, or an id that is taken, is no matter of this check.
    async fn check_ceiling(&self, new: &NewTenant) -> Result<()> {
        let added = TenantRecord {
            isolation: new.isolation,
            limits: new.limits,
            created_at: UnixSeconds::MAX,
            ..TenantRecord::new(new.id.clone())
        };
        if !new.limits.jetstream() || !ceiling::counts(&added, &self.config) {
            return Ok(());
        }
        let asked = tokio::time::timeout(CEILING_PATIENCE, ceiling::of_server(&self.config));
        let unknown = match asked.await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(ceiling))) => {
                let mut tenants = self.tenants().await?;
                if tenants.iter().any(|tenant| tenant.id == new.id) {
                    return Ok(());
                }
                tenants.push(added);
                let over = ceiling.exceeded_by(&tenants, &self.config).into_iter();
                let mut own = over.filter(|excess| excess.tenant == new.id.as_str());
                return own
                    .next()
                    .map_or(Ok(()), |excess| Err(AdminError::Ceiling(excess.to_string()).into()));
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.remark(&format!(
            "note: whether the limits fit into nats-server's JetStream maxima is not known \
             ({unknown}); see `nats-callout doctor` once it runs"
        ));
        Ok(())
    }
}
