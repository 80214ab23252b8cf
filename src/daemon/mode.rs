//! What differs between the modes: the keys that sign, where users are placed, and who answers for
//! accounts.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DaemonError, Store};
use crate::accounts::answers::Answers;
use crate::accounts::delivery::Delivery;
use crate::accounts::lookup;
use crate::authorize::Responder;
use crate::clock::Clock;
use crate::config::{Config, ConfigMode, Mode, OperatorMode};
use crate::deployment::{account_issuer_of, reserved, targets};
use crate::keyfile::{self, Generations, KeyFileError};
use crate::keys::{AccountId, KeyKind, OperatorId, Signer, SigningKey};
use crate::mint::Mint;
use crate::placement::{OperatorTargets, Placement};
use crate::revoke::OwnAccounts;
use crate::servers::{Cluster, Servers};
use crate::store::ProvisioningStore;
use crate::store::cache::Cached;

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
    let issuer = account_issuer_of(mode, config.isolation, keys.accounts, keys.users.listed)?;
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
