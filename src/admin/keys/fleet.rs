//! What a change of keys asks of the servers and the instances, and tells them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::claims::{AnyClaims, HeldAccount};
use super::instances::Instances;
use super::{KeysError, Result};
use crate::accounts::resolver::ResolverError;
use crate::clock::UnixSeconds;
use crate::config::Config;
use crate::deployment::KeyRole;
use crate::keys::{AccountId, SigningKey, XKey};

/// The servers and the instances of a deployment.
#[async_trait]
pub(super) trait Fleet: Send + Sync {
    /// The running instances, and the keys that each has.
    async fn instances(&self) -> Result<Instances>;

    /// The operator JWTs of every server by its name. All servers have to answer.
    async fn operators(&self) -> Result<BTreeMap<String, Vec<String>>>;

    /// All accounts that servers hold.
    async fn accounts(&self) -> Result<Vec<AccountId>>;

    /// An account as each of so many servers holds it.
    async fn held_by(&self, account: &AccountId, servers: usize) -> Result<Vec<HeldAccount>>;

    /// Has every server hold an account.
    async fn hold(&self, token: &str) -> Result<(), ResolverError>;

    /// Config mode: which of these curve keys, and which issuer, each server has. Its requests show
    /// it.
    async fn requests(&self, config: &Config, xkeys: Vec<XKey>) -> Result<Requests>;
}

/// What servers' requests show.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The keys of each server, by its name.
    pub(super) keys: BTreeMap<String, ServerKeys>,
    /// Servers that are there and could not be looked at.
    pub(super) unseen: BTreeSet<String>,
}

/// The keys that one server has.
#[derive(Debug)]
pub(super) struct ServerKeys {
    pub(super) issuer: String,
    pub(super) xkey: String,
}

impl ServerKeys {
    pub(super) fn has(&self, key: KeyRole, public: &str) -> bool {
        *(if key == KeyRole::Xkey { &self.xkey } else { &self.issuer }) == public
    }
}

/// Changes accounts on every server.
pub(super) struct AccountSigner<'a> {
    /// Signs them.
    pub(super) operator: &'a SigningKey,
    /// Those that servers are given an older version of at each start: they get a newer time.
    pub(super) of_the_system: &'a [AccountId],
    /// Whether another signature is a change as well.
    pub(super) resign: bool,
}

impl AccountSigner<'_> {
    /// Changes these accounts; `change` says whether there is anything to change. Gives the new
    /// tokens by the accounts' ids.
    pub(super) async fn change(
        &self,
        fleet: &dyn Fleet,
        accounts: &[AccountId],
        now: UnixSeconds,
        change: impl Fn(&mut AnyClaims) -> bool,
    ) -> Result<BTreeMap<String, String>> {
        let servers = fleet.operators().await?.len();
        let mut pushed = BTreeMap::new();
        for account in accounts {
            let held = fleet.held_by(account, servers).await?;
            let Some(newest) = held.iter().max_by_key(|it| it.claims.issued_at) else { continue };
            let mut claims = newest.claims.clone();
            let changed = change(&mut claims.body.0);
            let foreign =
                |it: &HeldAccount| self.resign && it.issuer.as_str() != self.operator.public_key();
            let differ = held.iter().any(|it| it.claims != newest.claims);
            if !changed && !differ && !held.iter().any(foreign) {
                continue;
            }
            if self.of_the_system.contains(account) {
                claims.issued_at = newest.claims.issued_at.saturating_add(1).max(now);
            }
            let token = claims.encode_now(self.operator)?;
            let held = fleet.hold(&token).await;
            held.map_err(|source| KeysError::Account { account: account.to_string(), source })?;
            pushed.insert(account.to_string(), token);
        }
        Ok(pushed)
    }
}

/// An account as each server holds it.
pub(super) async fn held(fleet: &dyn Fleet, account: &AccountId) -> Result<Vec<HeldAccount>> {
    let servers = fleet.operators().await?.len();
    fleet.held_by(account, servers).await
}
