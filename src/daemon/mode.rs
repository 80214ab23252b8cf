//! What differs between the modes: the keys that sign, where users are placed, and who answers for
//! accounts.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DaemonError, Store};
use crate::accounts::account::{AccountIssuer, Notifications};
use crate::accounts::answers::Answers;
use crate::accounts::delivery::Delivery;
use crate::accounts::lookup;
use crate::authorize::Responder;
use crate::clock::Clock;
use crate::config::{self, Config, ConfigMode, Mode, OperatorMode};
use crate::keyfile::{self, Generations, KeyFileError};
use crate::keys::{AccountId, KeyKind, OperatorId, Signer, SigningKey};
use crate::mint::Mint;
use crate::placement::{ConfigTargets, OperatorTargets, Placement, SystemAccounts, TargetError};
use crate::revoke::{OwnAccounts, Places};
use crate::servers::{Cluster, Servers};
use crate::store::cache::Cached;
use crate::store::{Isolation, ProvisioningStore, TenantRecord};

/// How long a server has to say what it holds of the account ANSWERS, which is looked at all the time.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(1);

/// What differs between the modes.
pub(super) struct Parts {
    pub(super) placement: Placement,
    pub(super) mint: Mint,
    pub(super) responder: Responder,
    pub(super) own: Option<OwnAccounts>,
    /// Other generations of the issuer, each for the servers that name it (config mode).
    pub(super) issuers: Vec<Arc<dyn Signer>>,
}

/// The keys that sign, read before anything else begins.
pub(super) enum SigningKeys<'a> {
    Operator(Box<OperatorKeys>, &'a OperatorMode),
    Config(Generations<AccountId>, &'a ConfigMode),
}

pub(super) struct OperatorKeys {
    accounts: SigningKey,
    users: Generations<AccountId>,
    responses: SigningKey,
}

impl<'a> SigningKeys<'a> {
    pub(super) fn read(config: &'a Config) -> Result<Self, KeyFileError> {
        let account =
            |files, purpose| keyfile::generations::<AccountId>(files, KeyKind::Account, purpose);
        Ok(match &config.mode {
            Mode::Operator(mode) => {
                let accounts = keyfile::generations::<OperatorId>(
                    &mode.operator_signing,
                    KeyKind::Operator,
                    "[operator] operator_signing",
                )?;
                let keys = OperatorKeys {
                    accounts: accounts.signing,
                    users: account(&mode.user_signing, "[operator] user_signing")?,
                    responses: account(&mode.response_signing, "[callout] response_signing")?
                        .signing,
                };
                Self::Operator(Box::new(keys), mode)
            }
            Mode::Config(mode) => Self::Config(account(&mode.issuer, "[callout] issuer")?, mode),
        })
    }
}

#[allow(clippy::too_many_arguments, reason = "wiring: each is used once")]
pub(super) async fn operator_mode(
    config: &Config,
    mode: &OperatorMode,
    keys: OperatorKeys,
    store: &Arc<dyn Store>,
    cache: Arc<Cached>,
    servers: Arc<Servers>,
    (system, cluster): (Client, Cluster),
    clock: &Arc<dyn Clock>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Parts, DaemonError> {
    let system_accounts = reserved(mode)?;
    if system_accounts.target(mode.users_account).is_err() {
        return Err(DaemonError::Users(mode.users_account));
    }
    let issuer = account_issuer(mode, config.isolation, keys.accounts, keys.users.listed)?;
    let issuer = Arc::new(issuer);
    tasks.spawn({
        let (store, issuer) = (Arc::clone(store), Arc::clone(&issuer));
        let (clock, system) = (Arc::clone(clock), system.clone());
        let answering = lookup::answer(store, issuer, clock, system, stop.clone()).await?;
        async move { answering.await.unwrap_or_default() }
    });
    let delivery = Arc::new(
        Delivery::start(
            cache,
            Arc::clone(&issuer),
            servers,
            Arc::clone(clock),
            (system, cluster.clone()),
            stop.clone(),
        )
        .await?,
    );
    let answers = Answers {
        store: Arc::clone(store) as Arc<dyn ProvisioningStore>,
        issuer: Arc::clone(&issuer),
        cluster: cluster.with_patience(ANSWERS_PATIENCE),
        clock: Arc::clone(clock),
        account: mode.answers_account,
    };
    tasks.spawn(answers.keep(stop.clone()));
    Ok(Parts {
        placement: Placement::Operator(OperatorTargets::new(
            delivery.clone(),
            mode.users_account,
            config.isolation,
            system_accounts,
        )?),
        mint: Mint::new(Arc::new(keys.users.signing), config.callout.ttl),
        responder: Responder {
            signer: Arc::new(keys.responses),
            issuer_account: Some(mode.auth_account),
        },
        own: Some(OwnAccounts { delivery, issuer }),
        issuers: Vec::new(),
    })
}

/// Who signs tenants' accounts, with the keys that were read.
pub(crate) fn account_issuer(
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
fn reserved(mode: &OperatorMode) -> Result<SystemAccounts, KeyFileError> {
    let sys = keyfile::account_of_creds(&mode.system_credentials)?;
    let newer =
        mode.intake.as_ref().map(|intake| intake.account).into_iter().chain(mode.events_account);
    let others = [mode.bb_account, mode.answers_account].into_iter().chain(newer);
    Ok(SystemAccounts::new(sys, mode.auth_account, others))
}

/// The accounts that tenants' users are placed in in config mode.
fn targets(mode: &ConfigMode) -> Result<ConfigTargets, TargetError> {
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

pub(super) fn config_mode(
    config: &Config,
    mode: &ConfigMode,
    issuer: Generations<AccountId>,
) -> Result<Parts, DaemonError> {
    let others = issuer.others.into_iter().map(|key| Arc::new(key) as Arc<dyn Signer>);
    let issuers = others.collect();
    let issuer = Arc::new(issuer.signing);
    Ok(Parts {
        placement: Placement::Config(targets(mode)?),
        mint: Mint::new(issuer.clone(), config.callout.ttl),
        responder: Responder { signer: issuer, issuer_account: None },
        own: None,
        issuers,
    })
}
