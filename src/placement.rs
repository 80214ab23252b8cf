//! Which account a tenant's users are placed in, and how they are kept apart there.
//!
//! In operator mode a tenant has an account of its own, or shares `USERS`; in config mode it
//! shares one of the accounts that the configuration lists as targets, or has one to itself if
//! the configuration gives it one. Nothing is ever placed elsewhere.

mod target;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

pub(crate) use self::target::Target;
pub(crate) use self::target::{SystemAccounts, TargetAccount, TargetError};
use crate::authn::Denied;
use crate::keys::{AccountId, ServerId};
use crate::store::{Isolation, StoreError, TenantId, TenantRecord};

/// Why a tenant's account cannot be used right now, which is no fault of the client's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccountError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tenant was deleted meanwhile.
    #[error("the tenant no longer exists")]
    Gone,
    /// The server did not take the account's JWT.
    #[error("account {account} could not be delivered to the server: {reason}")]
    Delivery {
        /// The account.
        account: AccountId,
        /// What happened.
        reason: String,
    },
    /// So little time was left that no server could have taken it for certain.
    #[error("the server had {} ms to take the account", .0.as_millis())]
    Hurried(Duration),
    /// The account's JWT could not be signed.
    #[error("account JWT: {0}")]
    Signing(String),
    /// The tenant has an account of its own, and its row does not name it.
    #[error("the tenant's row names no account of its own")]
    Unnamed,
    /// The account is none that users may be placed in.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// A tenant's account that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyAccount {
    /// The account.
    pub id: AccountId,
    /// Whether the server has yet to load it: a slow reply, that others should not queue behind.
    pub loads: bool,
}

/// Makes accounts known to servers (operator mode).
#[async_trait]
pub trait Accounts: Debug + Send + Sync {
    /// Returns the tenant's account once `server` can place users in it.
    async fn ready(
        &self,
        tenant: &TenantRecord,
        server: &ServerId,
        deadline: Instant,
    ) -> Result<ReadyAccount, AccountError>;
}

/// Somebody who is about to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The tenant.
    pub tenant: &'a TenantRecord,
    /// How the tenant is kept apart.
    pub isolation: Isolation,
    /// The server.
    pub server: &'a ServerId,
    /// The connection's number there.
    pub cid: u64,
    /// When an answer is of no use any more.
    pub deadline: Instant,
}

/// What is against somebody who is about to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// A refusal.
    Refusal(Denied),
    /// Nobody can say at the moment how many connections the tenant has, and why: no fault of the
    /// client's, which gets no answer.
    Uncounted(String),
}

/// Hears of everybody before they are let in, and may have something against it.
#[async_trait]
pub trait Entrance: Debug + Send + Sync {
    /// Returns once there is nothing to wait for any more, before the arrival's deadline.
    async fn enters(&self, arrival: Arrival<'_>) -> Result<(), Objection>;
}

/// The subjects of notifications in the account that tenants share in operator mode. From there
/// they lead on to own accounts that answer, whose answers go to the reply subject of whoever
/// published: so nobody but BB may.
pub(crate) const NOTIFICATIONS: &str = "user.*.Notifications";

/// Where tenants are placed.
#[derive(Debug, Clone)]
pub enum Placement {
    /// Accounts are JWTs, made on the fly.
    Operator(OperatorTargets),
    /// Accounts are names in the server's configuration.
    Config(ConfigTargets),
    /// Accounts that an application names for each user, as the tenant's placement.
    Chosen(ChosenTargets),
}

/// Any account but the system's, as its name or, in operator mode, its public key.
#[derive(Debug, Clone)]
pub struct ChosenTargets(Choice);

#[derive(Debug, Clone)]
enum Choice {
    Names { auth: String, system: String },
    Ids(SystemAccounts),
}

impl ChosenTargets {
    /// Accounts by name (config mode), where the service is connected to the account `auth`, and servers
    /// have the system account `system`.
    #[must_use]
    pub fn named(auth: &str, system: &str) -> Self {
        Self(Choice::Names { auth: auth.to_owned(), system: system.to_owned() })
    }

    /// Accounts by public key (operator mode).
    #[must_use]
    pub fn ids(system: SystemAccounts) -> Self {
        Self(Choice::Ids(system))
    }

    /// The account, if users may be placed in it.
    pub fn target(&self, account: &str) -> Result<TargetAccount, TargetError> {
        match &self.0 {
            Choice::Names { system, .. } if system == account => {
                Err(TargetError::Forbidden(account.to_owned()))
            }
            Choice::Names { auth, .. } => TargetAccount::named(account, auth),
            Choice::Ids(system) => system.target(account.parse().map_err(TargetError::Key)?),
        }
    }
}

/// The accounts of operator mode.
#[derive(Debug, Clone)]
pub struct OperatorTargets {
    accounts: Arc<dyn Accounts>,
    users: TargetAccount,
    default_isolation: Isolation,
    system: SystemAccounts,
}

impl OperatorTargets {
    /// Tenants have own accounts, which `accounts` makes known, or share the account `users`;
    /// those whose row names no isolation have the default one.
    pub fn new(
        accounts: Arc<dyn Accounts>,
        users: AccountId,
        default_isolation: Isolation,
        system: SystemAccounts,
    ) -> Result<Self, TargetError> {
        let users = system.target(users)?;
        Ok(Self { accounts, users, default_isolation, system })
    }
}

/// The accounts of config mode.
#[derive(Debug, Clone)]
pub struct ConfigTargets {
    shared: Vec<(String, TargetAccount)>,
    dedicated: BTreeMap<String, (TargetAccount, TenantId)>,
}

impl ConfigTargets {
    /// The shared accounts, of which the first is the default, and those given to one tenant each,
    /// where the service is connected to the account `auth`.
    pub fn new(
        auth: &str,
        shared: Vec<String>,
        dedicated: BTreeMap<String, TenantId>,
    ) -> Result<Self, TargetError> {
        if shared.is_empty() {
            return Err(TargetError::Empty);
        }
        if let Some(both) = shared.iter().find(|name| dedicated.contains_key(*name)) {
            return Err(TargetError::Both(both.clone()));
        }
        let target = |name: String| Ok((TargetAccount::named(&name, auth)?, name));
        let shared = shared.into_iter().map(target);
        let dedicated = dedicated.into_iter().map(|(name, tenant)| {
            let (account, name) = target(name)?;
            Ok((name, (account, tenant)))
        });
        Ok(Self {
            shared: shared
                .map(|it| it.map(|(account, name)| (name, account)))
                .collect::<Result<_, _>>()?,
            dedicated: dedicated.collect::<Result<_, _>>()?,
        })
    }

    /// How a tenant is kept apart; `None` if its row names an account that is no target of its.
    #[must_use]
    pub fn isolation(&self, tenant: &TenantRecord) -> Option<Isolation> {
        self.place(tenant).map(|(isolation, _)| isolation)
    }

    fn place(&self, tenant: &TenantRecord) -> Option<(Isolation, &TargetAccount)> {
        let Some(name) = tenant.placement.as_deref() else {
            return self.shared.first().map(|(_, account)| (Isolation::Shared, account));
        };
        if let Some((_, account)) = self.shared.iter().find(|(shared, _)| shared == name) {
            return Some((Isolation::Shared, account));
        }
        self.dedicated
            .get(name)
            .filter(|(_, owner)| *owner == tenant.id)
            .map(|(account, _)| (Isolation::Account, account))
    }
}

/// Where a tenant lives, worked out once for a login.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) isolation: Isolation,
    account: Account<'a>,
}

#[derive(Debug)]
enum Account<'a> {
    /// It is there.
    Known(&'a TargetAccount),
    /// The same, as it was chosen for this login.
    Chosen(TargetAccount),
    /// It is the tenant's own, and the server may have yet to learn of it.
    Own(&'a OperatorTargets),
}

/// Where one login goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) account: TargetAccount,
    pub(crate) isolation: Isolation,
    /// Whether the server has yet to load the account.
    pub(crate) loads: bool,
}

impl Placement {
    /// Where a tenant lives; `None` if it has no place.
    pub(crate) fn site(&self, tenant: &TenantRecord) -> Option<Site<'_>> {
        match self {
            Self::Operator(targets) => {
                let isolation = tenant.isolation.unwrap_or(targets.default_isolation);
                let account = match isolation {
                    Isolation::Account => Account::Own(targets),
                    Isolation::Shared => Account::Known(&targets.users),
                };
                Some(Site { isolation, account })
            }
            Self::Config(targets) => {
                let (isolation, account) = targets.place(tenant)?;
                Some(Site { isolation, account: Account::Known(account) })
            }
            Self::Chosen(targets) => {
                let account = targets.target(tenant.placement.as_deref()?).ok()?;
                Some(Site { isolation: Isolation::Account, account: Account::Chosen(account) })
            }
        }
    }
}

impl Site<'_> {
    /// The account, as servers name it; none where the tenant has yet to get one of its own.
    pub(crate) fn account(&self, tenant: &TenantRecord) -> Option<String> {
        match &self.account {
            Account::Known(account) => Some(account.to_string()),
            Account::Chosen(account) => Some(account.to_string()),
            Account::Own(_) => tenant.account.map(|id| id.to_string()),
        }
    }

    /// Waits until the server knows the tenant's account.
    pub(crate) async fn ready(
        &self,
        tenant: &TenantRecord,
        server: &ServerId,
        deadline: Instant,
    ) -> Result<Placed, AccountError> {
        let (account, loads) = match &self.account {
            Account::Known(account) => ((*account).clone(), false),
            Account::Chosen(account) => (account.clone(), false),
            Account::Own(targets) => {
                let ready = targets.accounts.ready(tenant, server, deadline).await?;
                (targets.system.target(ready.id)?, ready.loads)
            }
        };
        Ok(Placed { account, isolation: self.isolation, loads })
    }
}
