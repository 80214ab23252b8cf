//! What each mode has: the service's logins and keys, and the accounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::keys::AccountId;
use crate::store::TenantId;

/// The settings of the active mode.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one, made at the start")]
pub enum Mode {
    /// Decentralised: accounts are JWTs.
    Operator(OperatorMode),
    /// Centralised: accounts are written in the server's configuration.
    Config(ConfigMode),
}

impl Mode {
    /// The files of the service's logins in INTAKE and USERS.
    #[must_use]
    pub fn intake(&self) -> Option<[&Path; 2]> {
        fn logins<A>(it: &Intake<A>) -> [&Path; 2] {
            [&it.login, &it.users_login]
        }
        match self {
            Self::Operator(mode) => mode.intake.as_ref().map(logins),
            Self::Config(mode) => mode.intake.as_ref().map(logins),
        }
    }

    /// The mode's name, as `[nats] mode` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Config(_) => "config",
        }
    }
}

/// `[intake]`: where tenants' events are taken in, and the service's logins there.
#[derive(Debug, Clone)]
pub struct Intake<A> {
    /// The account INTAKE.
    pub account: A,
    /// The login in INTAKE: a creds file in operator mode, a user seed in config mode.
    pub login: PathBuf,
    /// The login in USERS, likewise.
    pub users_login: PathBuf,
}

/// What only operator mode has.
#[derive(Debug, Clone)]
pub struct OperatorMode {
    /// The service's login in AUTH, a creds file.
    pub credentials: PathBuf,
    /// The service's login in the system account, a creds file.
    pub system_credentials: PathBuf,
    /// The account AUTH.
    pub auth_account: AccountId,
    /// Signing keys of AUTH, which sign responses.
    pub response_signing: Vec<PathBuf>,
    /// Signing keys of the operator, which sign accounts.
    pub operator_signing: Vec<PathBuf>,
    /// Signing keys that every tenant's account lists, which sign users.
    pub user_signing: Vec<PathBuf>,
    /// The account BB.
    pub bb_account: AccountId,
    /// The account USERS, which shared tenants are placed in.
    pub users_account: AccountId,
    /// The account EVENTS, where the service's events are read; an older deployment has none.
    pub events_account: Option<AccountId>,
    /// The account ANSWERS, which passes BB's requests to tenants' own accounts.
    pub answers_account: AccountId,
    /// Where tenants' events are taken in; an older deployment has none, and BB takes them itself.
    pub intake: Option<Intake<AccountId>>,
    /// Under which name notifications reach an own account.
    pub notifications: Notifications,
}

/// What only config mode has.
#[derive(Debug, Clone)]
pub struct ConfigMode {
    /// The service's login in AUTH, a user seed.
    pub nkey: PathBuf,
    /// The service's login in the system account, a user seed.
    pub system_nkey: PathBuf,
    /// The name of the account AUTH.
    pub auth_account: String,
    /// The `issuer` of the server's `auth_callout` block, which signs users and responses.
    pub issuer: Vec<PathBuf>,
    /// Accounts that tenants share; the first is the default.
    pub accounts: Vec<String>,
    /// Accounts that are given to one tenant each.
    pub dedicated: BTreeMap<String, TenantId>,
    /// Where tenants' events are taken in; an older deployment has none, and BB takes them itself.
    pub intake: Option<Intake<String>>,
}

/// The name under which notifications reach a tenant's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifications {
    /// `Notifications`
    Short,
    /// `user.<tenant id>.Notifications`
    Full,
}
