//! Where tenants live by the configuration, and who signs their accounts.

use std::sync::Arc;

use crate::accounts::account::{AccountIssuer, Notifications};
use crate::config::{self, Config, ConfigMode, Mode, OperatorMode};
use crate::keyfile::{self, KeyFileError};
use crate::keys::{AccountId, OperatorId, SigningKey};
use crate::placement::{ConfigTargets, SystemAccounts, TargetError};
use crate::revoke::Places;
use crate::store::{Isolation, TenantRecord};

/// Who signs tenants' accounts, by the configuration's key files.
pub(crate) fn account_issuer(
    config: &Config,
    mode: &OperatorMode,
) -> Result<AccountIssuer, KeyFileError> {
    let purpose = "[operator] operator_signing";
    let operator = keyfile::generations::<OperatorId>(&mode.operator_signing, purpose)?;
    let users = keyfile::generations(&mode.user_signing, "[operator] user_signing")?;
    account_issuer_of(mode, config.isolation, operator.signing, users.listed)
}

/// Who signs tenants' accounts, with the keys that were read.
pub(crate) fn account_issuer_of(
    mode: &OperatorMode,
    default_isolation: Isolation,
    operator: SigningKey,
    mut user_signing: Vec<AccountId>,
) -> Result<AccountIssuer, KeyFileError> {
    // Whichever of them signs, accounts are the same.
    user_signing.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(AccountIssuer {
        operator: Arc::new(operator),
        user_signing,
        bb: mode.bb_account,
        intake: mode.intake.as_ref().map(|intake| intake.account),
        reserved: [reserved(mode)?.ids(), &[mode.users_account]].concat(),
        notifications: match mode.notifications {
            config::Notifications::Short => Notifications::Short,
            config::Notifications::Full => Notifications::Full,
        },
        default_isolation,
    })
}

/// The accounts that no tenant's user is ever in.
pub(crate) fn reserved(mode: &OperatorMode) -> Result<SystemAccounts, KeyFileError> {
    let sys = keyfile::account_of_creds(&mode.system_credentials)?;
    let newer =
        mode.intake.as_ref().map(|intake| intake.account).into_iter().chain(mode.events_account);
    let others = [mode.bb_account, mode.answers_account].into_iter().chain(newer);
    Ok(SystemAccounts::new(sys, mode.auth_account, others))
}

/// The accounts that tenants' users are placed in in config mode.
pub(crate) fn targets(mode: &ConfigMode) -> Result<ConfigTargets, TargetError> {
    ConfigTargets::new(&mode.auth_account, mode.accounts.clone(), mode.dedicated.clone())
}

/// How a tenant is kept apart; `None` if it has no place, since its row names an account that is no
/// target of its.
pub(crate) fn isolation_of(config: &Config, tenant: &TenantRecord) -> Option<Isolation> {
    match &config.mode {
        Mode::Operator(_) => Some(tenant.isolation.unwrap_or(config.isolation)),
        Mode::Config(mode) => targets(mode).ok()?.isolation(tenant),
    }
}

/// Where connections of tenants' users may be.
pub(crate) fn places(config: &Config) -> Result<Places, KeyFileError> {
    let (shared, reserved) = match &config.mode {
        Mode::Operator(mode) => {
            (vec![mode.users_account.to_string()], reserved(mode)?.ids().to_vec())
        }
        Mode::Config(mode) => {
            (mode.accounts.iter().chain(mode.dedicated.keys()).cloned().collect(), Vec::new())
        }
    };
    Ok(Places { shared, reserved, without_row: config.admits_without_row() })
}
