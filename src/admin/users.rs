//! Users of a tenant: added, given another password, suspended, resumed and removed.

use super::{Admin, CertificateName, Name, Password, Result};
use crate::connections::Selection;
use crate::deployment::isolation_of;
use crate::keys::UserNkey;
use crate::policy::subject::Pattern;
use crate::store::{
    Isolation, NewUser, Status, StoreError, TenantId, TenantRecord, UserKind, UserRecord,
};

/// A user to be added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewUserRequest {
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// The login, unique over all tenants.
    pub(crate) name: Name,
    /// What it is for.
    pub(crate) role: Role,
    /// The policy, where not that of the kind.
    pub policy: Option<String>,
    /// The password. Where none is named, one is made for a user that has neither nkey nor
    /// certificate.
    pub password: Option<Password>,
    /// A public user nkey that may log in.
    pub nkey: Option<UserNkey>,
    /// A name in certificates that may log in.
    pub certificate: Option<CertificateName>,
}

impl NewUserRequest {
    /// A user with the policy of its kind and a password that is made.
    #[must_use]
    pub fn new(tenant: TenantId, name: Name, role: Role) -> Self {
        Self { tenant, name, role, policy: None, password: None, nkey: None, certificate: None }
    }
}

/// What a user is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A person's or an app's BB account, whose subjects follow from its tenant.
    Bb,
    /// A service with explicit lists.
    Service {
        /// Subjects to publish.
        publish: Vec<Pattern>,
        /// Subjects to subscribe.
        subscribe: Vec<Pattern>,
    },
}

/// A user that was added.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UserAdded {
    pub(crate) user: NewUser,
    /// Its password, if it has one, which nothing shows later.
    pub password: Option<Password>,
}

/// What becomes of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// It is refused, and its connections are closed.
    Suspend,
    /// It is let in again. Nothing is closed.
    Resume,
    /// It goes with its tokens, and its connections are closed.
    Remove,
}

impl Admin {
    /// The users of a tenant, by name.
    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRecord>> {
        Ok(self.store.users(tenant).await?)
    }

    /// A user of a tenant, which has to exist.
    pub async fn user(&self, tenant: &TenantId, name: &str) -> Result<UserRecord> {
        let missing = || StoreError::Missing { what: "user", key: name.to_owned() };
        let users = self.users(tenant).await?;
        Ok(users.into_iter().find(|user| user.name == name).ok_or_else(missing)?)
    }

    /// Adds a user to a tenant.
    pub async fn add_user(&self, request: NewUserRequest) -> Result<UserAdded> {
        let tenant = self.tenant(&request.tenant).await?;
        let has_password = request.nkey.is_none() && request.certificate.is_none();
        let password = match request.password {
            None if has_password => Some(Password::generate()?),
            password => password,
        };
        let password_hash = match &password {
            Some(password) => Some(password.hash().await?),
            None => None,
        };
        let text = |list: Vec<Pattern>| list.iter().map(|it| it.as_str().to_owned()).collect();
        let (kind, publish, subscribe) = match request.role {
            Role::Bb => (UserKind::Bb, Vec::new(), Vec::new()),
            Role::Service { publish, subscribe } => {
                (UserKind::Service, text(publish), text(subscribe))
            }
        };
        let user = NewUser {
            tenant: request.tenant,
            name: request.name.into(),
            kind,
            password_hash,
            nkey: request.nkey.map(|nkey| nkey.to_string()),
            certificate: request.certificate.map(Into::into),
            publish,
            subscribe,
            policy: request.policy,
        };
        self.store.add_user(&user).await?;
        self.remark_on_lists(&user, &tenant);
        Ok(UserAdded { user, password })
    }

    /// Replaces a user's password, by one that is made where none is named. The old one has stopped
    /// working when this returns.
    pub async fn set_user_password(
        &self,
        tenant: &TenantId,
        user: &str,
        password: Option<Password>,
    ) -> Result<Password> {
        let password = match password {
            Some(password) => password,
            None => Password::generate()?,
        };
        self.store.set_password(tenant, user, &password.hash().await?).await?;
        self.settle().await;
        Ok(password)
    }

    /// Suspends, resumes or removes a user: how many connections have ended with it, or `None` where
    /// that is not known.
    pub async fn change_user(
        &self,
        id: &TenantId,
        user: &str,
        change: UserChange,
    ) -> Result<Option<usize>> {
        let tenant = self.tenant(id).await?;
        self.user(id, user).await?;
        let selection = match change {
            UserChange::Resume => Ok(Selection::default()),
            UserChange::Suspend | UserChange::Remove => self.of_user(&tenant, user),
        };
        let mut running = self.running();
        self.try_look(&mut *running, selection).await;
        match change {
            UserChange::Suspend => self.store.set_user_status(id, user, Status::Suspended).await,
            UserChange::Resume => self.store.set_user_status(id, user, Status::Active).await,
            UserChange::Remove => self.store.remove_user(id, user).await,
        }?;
        running.settle().await;
        Ok(running.close().await)
    }

    /// Says what a service's lists come to, where that is not plain from the lists.
    fn remark_on_lists(&self, user: &NewUser, tenant: &TenantRecord) {
        if user.kind != UserKind::Service {
            return;
        }
        let is_by_lists = user.policy.is_none();
        if is_by_lists && user.publish.is_empty() && user.subscribe.is_empty() {
            self.remark(&format!(
                "note: {} has no subjects to publish or to subscribe, and may do nothing but log in",
                user.name
            ));
        } else if isolation_of(&self.config, tenant) == Some(Isolation::Shared) {
            self.remark(&format!(
                "note: tenant {id} shares an account, so the lists are taken below user.{id}. \
                 (orders.* grants user.{id}.orders.*)",
                id = tenant.id
            ));
        }
    }
}
