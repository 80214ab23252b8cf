//! What each mode has: the service's logins and keys, and the accounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::keys::AccountId;
use crate::store::TenantId;

/// The settings of the active mode.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one, made at the start")]
pub(crate) enum Mode {
    /// Decentralised: accounts are JWTs.
    Operator(OperatorMode),
    /// Centralised: accounts are written in the server's configuration.
    Config(ConfigMode),
}

impl Mode {
    /// The files of the service's logins in INTAKE and USERS.
    pub(crate) fn intake(&self) -> Option<[&Path; 2]> {
        fn logins<A>(it: &Intake<A>) -> [&Path; 2] {
            [&it.login, &it.users_login]
        }
        match self {
            Self::Operator(mode) => mode.intake.as_ref().map(logins),
            Self::Config(mode) => mode.intake.as_ref().map(logins),
        }
    }

    /// The mode's name, as `[nats] mode` has it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Config(_) => "config",
        }
    }
}

/// `[intake]`: where tenants' events are taken in, and the service's logins there.
#[derive(Debug, Clone)]
pub(crate) struct Intake<A> {
    /// The account INTAKE.
    pub(crate) account: A,
    /// The login in INTAKE: a creds file in operator mode, a user seed in config mode.
    pub(crate) login: PathBuf,
    /// The login in USERS, likewise.
    pub(crate) users_login: PathBuf,
}

/// What only operator mode has.
#[derive(Debug, Clone)]
pub(crate) struct OperatorMode {
    /// The service's login in AUTH, a creds file.
    pub(crate) credentials: PathBuf,
    /// The service's login in the system account, a creds file.
    pub(crate) system_credentials: PathBuf,
    /// The account AUTH.
    pub(crate) auth_account: AccountId,
    /// Signing keys of AUTH, which sign responses.
    pub(crate) response_signing: Vec<PathBuf>,
    /// Signing keys of the operator, which sign accounts.
    pub(crate) operator_signing: Vec<PathBuf>,
    /// Signing keys that every tenant's account lists, which sign users.
    pub(crate) user_signing: Vec<PathBuf>,
    /// The account BB.
    pub(crate) bb_account: AccountId,
    /// The account USERS, which shared tenants are placed in.
    pub(crate) users_account: AccountId,
    /// The account EVENTS, where the service's events are read; an older deployment has none.
    pub(crate) events_account: Option<AccountId>,
    /// The account ANSWERS, which passes BB's requests to tenants' own accounts.
    pub(crate) answers_account: AccountId,
    /// Where tenants' events are taken in; an older deployment has none, and BB takes them itself.
    pub(crate) intake: Option<Intake<AccountId>>,
    /// Under which name notifications reach an own account.
    pub(crate) notifications: Notifications,
}

/// What only config mode has.
#[derive(Debug, Clone)]
pub(crate) struct ConfigMode {
    /// The service's login in AUTH, a user seed.
    pub(crate) nkey: PathBuf,
    /// The service's login in the system account, a user seed.
    pub(crate) system_nkey: PathBuf,
    /// The name of the account AUTH.
    pub(crate) auth_account: String,
    /// The `issuer` of the server's `auth_callout` block, which signs users and responses.
    pub(crate) issuer: Vec<PathBuf>,
    /// Accounts that tenants share; the first is the default.
    pub(crate) accounts: Vec<String>,
    /// Accounts that are given to one tenant each.
    pub(crate) dedicated: BTreeMap<String, TenantId>,
    /// Where tenants' events are taken in; an older deployment has none, and BB takes them itself.
    pub(crate) intake: Option<Intake<String>>,
}

/// The name under which notifications reach a tenant's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notifications {
    /// `Notifications`
    Short,
    /// `user.<tenant id>.Notifications`
    Full,
}
