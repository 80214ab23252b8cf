//! What it takes to change accounts with the offline keys at hand.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::claims::AnyClaims;
use super::fleet::AccountSigner;
use super::servers::RunningFleet;
use super::{Admin, KeysError, Result, files, folder, operator_key};
use crate::config::{Config, OperatorMode};
use crate::deployment::creds::creds;
use crate::keyfile;
use crate::keys::{AccountId, KeyKind, SigningKey};
use crate::protocol::claims::UserBody;

/// The keys of a deployment in operator mode, in use and offline, and its servers; nobody else
/// changes keys meanwhile.
pub(super) struct Hands<'a> {
    pub(super) admin: &'a Admin,
    pub(super) config: &'a Config,
    pub(super) mode: &'a OperatorMode,
    /// Where the keys in use are.
    pub(super) folder: PathBuf,
    offline: PathBuf,
    pub(super) servers: RunningFleet,
    /// What signs accounts.
    pub(super) operator: SigningKey,
    _lock: File,
}

impl<'a> Hands<'a> {
    /// The offline keys are beside those in use, unless `offline` is another folder.
    pub(super) async fn on(
        admin: &'a Admin,
        config: &'a Config,
        mode: &'a OperatorMode,
        offline: Option<&Path>,
    ) -> Result<Self> {
        let folder = folder(config)?;
        let offline = offline.map_or_else(|| folder.join("offline"), Path::to_owned);
        if !offline.is_dir() {
            return Err(KeysError::OfflineAway(offline));
        }
        let lock = files::lock(&folder)?;
        let servers = RunningFleet::connect(config, &admin.store).await?;
        let operator = operator_key(mode)?;
        Ok(Self { admin, config, mode, folder, offline, servers, operator, _lock: lock })
    }

    /// The file of an account's offline key.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.offline.join(format!("{name}.nk"))
    }

    /// The key in it.
    pub(super) fn key(&self, name: &str) -> Result<SigningKey> {
        Ok(keyfile::signing_key(&self.file(name), KeyKind::Account)?)
    }

    /// [`Self::key`], which is made where there is none.
    pub(super) fn key_or_new(&self, name: &str) -> Result<SigningKey> {
        if !self.file(name).exists() {
            let (_, seed) = SigningKey::generate(KeyKind::Account)?;
            files::replace(&self.file(name), &format!("{}\n", *seed))?;
        }
        self.key(name)
    }

    /// Changes an account of the system on every server; gives its new token if it was another.
    pub(super) async fn change(
        &self,
        account: AccountId,
        change: impl Fn(&mut AnyClaims) -> bool,
    ) -> Result<BTreeMap<String, String>> {
        let of_the_system = &[account];
        let signer = AccountSigner { operator: &self.operator, of_the_system, resign: false };
        signer.change(&self.servers, &[account], self.admin.now(), change).await
    }

    /// Writes the login of this name among the keys in use, with what it may do now; who has it
    /// already keeps its key. Gives its file.
    pub(super) fn login(&self, name: &str, issuer: &SigningKey, body: UserBody) -> Result<PathBuf> {
        let file = self.folder.join(format!("{name}.creds"));
        let seed = match file.exists() {
            true => keyfile::seed_of_creds(&file)?,
            false => SigningKey::generate(KeyKind::User)?.1,
        };
        let user = SigningKey::from_seed(&seed, KeyKind::User)?;
        files::replace(&file, &creds(name, (&user, &seed), issuer, body, self.admin.now())?)?;
        Ok(file)
    }
}
