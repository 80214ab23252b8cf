//! What differs between the modes: the keys that sign, where users are placed, and who answers for
//! accounts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use metrics::counter;

use super::base::Base;
use super::connect::Nats;
use super::parts::Part;
use super::{DaemonError, Result};
use crate::accounts::account::AccountIssuer;
use crate::accounts::answers::{self, AnswersKeeper};
use crate::accounts::delivery::Delivery;
use crate::accounts::lookup::Lookups;
use crate::authorize::Responder;
use crate::config::{Config, ConfigMode, Mode, OperatorMode};
use crate::deployment::{account_issuer_of, reserved, targets};
use crate::keyfile;
use crate::keys::{AccountId, OperatorId, Signer};
use crate::mint::Mint;
use crate::placement::{ConfigTargets, OperatorTargets, Placement, SystemAccounts};
use crate::revoke::OwnAccounts;

/// How long a server has to say what it holds of the account ANSWERS, which is looked at all the time.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(1);

/// What signs grants and answers.
pub(super) struct Signing {
    pub(super) mint: Mint,
    pub(super) responder: Responder,
    /// Other generations of the issuer, each for the servers that name it (config mode).
    pub(super) issuers: Vec<Arc<dyn Signer>>,
}

/// Where tenants live.
pub(super) enum Homes<'a> {
    /// In accounts made on the fly, or in one that they share.
    Own {
        /// What names that one.
        mode: &'a OperatorMode,
        /// What signs their accounts.
        issuer: Arc<AccountIssuer>,
        /// Where none of them lives.
        system: SystemAccounts,
    },
    /// In accounts that the servers' configuration makes.
    Listed(ConfigTargets),
}

/// Reads the keys that sign, and what no server is needed for.
pub(super) fn read(config: &Config) -> Result<(Signing, Homes<'_>)> {
    match &config.mode {
        Mode::Operator(mode) => operator_mode(config, mode),
        Mode::Config(mode) => config_mode(config, mode),
    }
}

fn operator_mode<'a>(config: &Config, mode: &'a OperatorMode) -> Result<(Signing, Homes<'a>)> {
    let purpose = "[operator] operator_signing";
    let accounts = keyfile::generations::<OperatorId>(&mode.operator_signing, purpose)?;
    let users = keyfile::generations(&mode.user_signing, "[operator] user_signing")?;
    let purpose = "[callout] response_signing";
    let responses = keyfile::generations::<AccountId>(&mode.response_signing, purpose)?;
    let system = reserved(mode)?;
    if system.target(mode.users_account).is_err() {
        return Err(DaemonError::Users(mode.users_account));
    }
    let issuer = account_issuer_of(mode, config.isolation, accounts.signing, users.listed)?;
    let signing = Signing {
        mint: Mint::new(Arc::new(users.signing), config.callout.ttl),
        responder: Responder {
            signer: Arc::new(responses.signing),
            issuer_account: Some(mode.auth_account),
        },
        issuers: Vec::new(),
    };
    Ok((signing, Homes::Own { mode, issuer: Arc::new(issuer), system }))
}

fn config_mode<'a>(config: &Config, mode: &ConfigMode) -> Result<(Signing, Homes<'a>)> {
    let keys = keyfile::generations::<AccountId>(&mode.issuer, "[callout] issuer")?;
    let others = keys.others.into_iter().map(|key| Arc::new(key) as Arc<dyn Signer>);
    let issuer = Arc::new(keys.signing);
    let signing = Signing {
        mint: Mint::new(issuer.clone(), config.callout.ttl),
        responder: Responder { signer: issuer, issuer_account: None },
        issuers: others.collect(),
    };
    Ok((signing, Homes::Listed(targets(mode)?)))
}

impl Homes<'_> {
    /// Begins to answer for accounts, where they are made on the fly.
    pub(super) async fn open(
        self,
        base: &Base<'_>,
        nats: &Nats,
    ) -> Result<(Placement, Option<OwnAccounts>)> {
        let (placement, own) = match self {
            Self::Listed(targets) => (Placement::Config(targets), None),
            Self::Own { mode, issuer, system } => {
                let own = answer_for_accounts(base, nats, mode, issuer).await?;
                let accounts = own.delivery.clone();
                let isolation = base.config.isolation;
                let targets = OperatorTargets::new(accounts, mode.users_account, isolation, system);
                (Placement::Operator(targets?), Some(own))
            }
        };
        let delivery = own.as_ref().map(|own| Arc::clone(&own.delivery));
        base.observed.metrics.show(move || {
            let pushed = delivery.as_ref().map_or(0, |delivery| delivery.pushed());
            counter!("nats_callout_accounts_pushed_total").absolute(pushed);
        });
        Ok((placement, own))
    }
}

async fn answer_for_accounts(
    base: &Base<'_>,
    nats: &Nats,
    mode: &OperatorMode,
    issuer: Arc<AccountIssuer>,
) -> Result<OwnAccounts> {
    let system = &nats.connections.system;
    let lookups = Lookups::subscribe(
        base.store.clone(),
        Arc::clone(&issuer),
        Arc::clone(&base.clock),
        system.clone(),
    );
    base.parts.spawn(Part::vital("lookups"), lookups.await?, |it, _| it.answer().boxed());
    let delivery = Delivery::new(
        base.cache.clone(),
        Arc::clone(&issuer),
        Arc::clone(&nats.servers),
        Arc::clone(&base.clock),
        nats.cluster.clone(),
    );
    let keeper = AnswersKeeper {
        store: base.store.clone(),
        issuer: Arc::clone(&issuer),
        cluster: nats.cluster.clone().with_patience(ANSWERS_PATIENCE),
        clock: Arc::clone(&base.clock),
        account: mode.answers_account,
    };
    let work = (keeper, answers::State::default());
    base.parts.spawn(Part::vital("answers"), work, |(it, state), _| it.keep(state).boxed());
    Ok(OwnAccounts { delivery: Arc::new(delivery), issuer })
}
