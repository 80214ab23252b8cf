//! Which account a tenant's users are placed in, and in which form of isolation.
//!
//! In operator mode a tenant has an account of its own, or shares `USERS`; in config mode it
//! shares one of the accounts that the configuration lists as targets, or has one to itself if
//! the configuration gives it one. Nothing is ever placed elsewhere.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

use crate::authn::DenyReason;
use crate::keys::{AccountId, ServerId};
use crate::policy::Form;
use crate::store::{Isolation, StoreError, TenantRecord};

/// Names of accounts that no user is ever placed in.
const FORBIDDEN: [&str; 7] = ["AUTH", "SYS", "$SYS", "$G", "BB", "EVENTS", "INTAKE"];

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
    /// The account's JWT could not be signed.
    #[error("account JWT: {0}")]
    Signing(String),
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
pub trait Accounts: Debug + Send + Sync {
    /// Returns the tenant's account once `server` can place users in it.
    fn ready<'a>(
        &'a self,
        tenant: &'a TenantRecord,
        server: &'a ServerId,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<ReadyAccount, AccountError>>;
}

/// Somebody who is about to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The tenant.
    pub tenant: &'a TenantRecord,
    /// How the tenant is kept apart.
    pub form: Form,
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
    Refusal(DenyReason),
    /// Nobody can say at the moment how many connections the tenant has, and why: no fault of the
    /// client's, which gets no answer.
    Uncounted(String),
}

/// Hears of everybody before they are let in, and may have something against it.
pub trait Entrance: Debug + Send + Sync {
    /// Returns once there is nothing to wait for any more, before the arrival's deadline.
    fn enters<'a>(&'a self, arrival: Arrival<'a>) -> BoxFuture<'a, Result<(), Objection>>;
}

/// The subjects of notifications in the account that tenants share in operator mode. From there
/// they lead on to own accounts that answer, whose answers go to the reply subject of whoever
/// published: so nobody but BB may.
pub const NOTIFICATIONS: &str = "user.*.Notifications";

/// Where tenants are placed.
#[derive(Debug, Clone)]
pub enum Placement {
    /// Accounts are JWTs, made on the fly.
    Operator {
        /// Makes tenants' own accounts known.
        accounts: Arc<dyn Accounts>,
        /// The account that tenants share.
        users: AccountId,
        /// The isolation of tenants whose row names none.
        default_isolation: Isolation,
    },
    /// Accounts are names in the server's configuration.
    Config(ConfigTargets),
}

/// The accounts that may be targets in config mode.
#[derive(Debug, Clone)]
pub struct ConfigTargets {
    shared: Vec<String>,
    dedicated: BTreeMap<String, String>,
}

/// An account that must not be a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It belongs to the system.
    #[error(
        "account {0} must not be a target: users are never placed in AUTH, SYS, BB, EVENTS, INTAKE or $G"
    )]
    Forbidden(String),
    /// There is none.
    #[error("at least one shared target account is needed, such as USERS")]
    Empty,
    /// It is listed as shared and given to one tenant.
    #[error("account {0} is listed both as shared and as dedicated to one tenant")]
    Both(String),
}

impl ConfigTargets {
    /// The shared accounts, of which the first is the default, and those given to one tenant each
    /// (account name to tenant id).
    pub fn new(
        shared: Vec<String>,
        dedicated: BTreeMap<String, String>,
    ) -> Result<Self, TargetError> {
        if shared.is_empty() {
            return Err(TargetError::Empty);
        }
        for name in shared.iter().chain(dedicated.keys()) {
            if FORBIDDEN.contains(&name.as_str()) {
                return Err(TargetError::Forbidden(name.clone()));
            }
        }
        match shared.iter().find(|name| dedicated.contains_key(*name)) {
            Some(both) => Err(TargetError::Both(both.clone())),
            None => Ok(Self { shared, dedicated }),
        }
    }

    /// The account's name and form for a tenant; `None` if its row names an account that is no
    /// target of its.
    fn place(&self, tenant: &TenantRecord) -> Option<(&str, Form)> {
        let Some(name) = tenant.placement.as_deref() else {
            return self.shared.first().map(|name| (name.as_str(), Form::Shared));
        };
        if let Some(name) = self.shared.iter().find(|shared| *shared == name) {
            return Some((name, Form::Shared));
        }
        self.dedicated
            .get_key_value(name)
            .filter(|(_, owner)| *owner == tenant.id.as_str())
            .map(|(name, _)| (name.as_str(), Form::Own))
    }
}

/// The account of one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Operator mode: the account's identity.
    Account(AccountId),
    /// Config mode: the account's name.
    Named(String),
}

/// Where one login goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) target: Target,
    pub(crate) form: Form,
    /// Whether the server has yet to load the account.
    pub(crate) loads: bool,
}

impl Placement {
    /// Which form of isolation a tenant has; `None` if it has no place.
    pub(crate) fn form(&self, tenant: &TenantRecord) -> Option<Form> {
        match self {
            Self::Operator { default_isolation, .. } => {
                Some(match tenant.isolation.unwrap_or(*default_isolation) {
                    Isolation::Account => Form::Own,
                    Isolation::Shared => Form::Shared,
                })
            }
            Self::Config(targets) => targets.place(tenant).map(|(_, form)| form),
        }
    }

    /// Finds the tenant's place and waits until the server knows it. `Ok(None)` if it has none.
    pub(crate) async fn place(
        &self,
        tenant: &TenantRecord,
        server: &ServerId,
        deadline: Instant,
    ) -> Result<Option<Placed>, AccountError> {
        let Some(form) = self.form(tenant) else { return Ok(None) };
        let (target, loads) = match (self, form) {
            (Self::Operator { accounts, .. }, Form::Own) => {
                let ready = accounts.ready(tenant, server, deadline).await?;
                (Target::Account(ready.id), ready.loads)
            }
            (Self::Operator { users, .. }, Form::Shared) => (Target::Account(*users), false),
            (Self::Config(targets), _) => match targets.place(tenant) {
                Some((name, _)) => (Target::Named(name.to_owned()), false),
                None => return Ok(None),
            },
        };
        Ok(Some(Placed { target, form, loads }))
    }
}
