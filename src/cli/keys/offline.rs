//! What it takes to change accounts with the offline keys at hand.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::Usage;
use super::servers::Servers;
use super::{files, rotate};
use crate::config::{Config, OperatorMode};
use crate::keyfile;
use crate::keys::{KeyKind, SigningKey};

/// The keys of a deployment in operator mode, in use and offline, and its servers; nobody else
/// changes keys meanwhile.
pub(super) struct Hands<'a> {
    pub(super) config: &'a Config,
    pub(super) mode: &'a OperatorMode,
    /// Where the keys in use are.
    pub(super) folder: PathBuf,
    offline: PathBuf,
    pub(super) servers: Servers,
    /// What signs accounts.
    pub(super) operator: SigningKey,
    _lock: File,
}

impl<'a> Hands<'a> {
    /// The offline keys are beside those in use, unless `offline` is another folder.
    pub(super) async fn on(
        config: &'a Config,
        mode: &'a OperatorMode,
        offline: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = rotate::folder(config)?;
        let offline = offline.map_or_else(|| folder.join("offline"), Path::to_owned);
        if !offline.is_dir() {
            let what = format!("{} is no folder; name it with --offline", offline.display());
            return Err(Usage(what).into());
        }
        let lock = files::lock(&folder)?;
        let servers = Servers::connect(config).await?;
        let first = mode.operator_signing.first().context("no operator key")?;
        let operator = keyfile::signing_key(first, KeyKind::Operator)?;
        Ok(Self { config, mode, folder, offline, servers, operator, _lock: lock })
    }

    /// The file of an account's offline key.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.offline.join(format!("{name}.nk"))
    }

    /// The key in it.
    pub(super) fn key(&self, name: &str) -> anyhow::Result<SigningKey> {
        Ok(keyfile::signing_key(&self.file(name), KeyKind::Account)?)
    }

    /// [`Self::key`], which is made where there is none.
    pub(super) fn key_or_new(&self, name: &str) -> anyhow::Result<SigningKey> {
        if !self.file(name).exists() {
            let (_, seed) = SigningKey::generate(KeyKind::Account)?;
            files::replace(&self.file(name), &format!("{}\n", *seed))?;
        }
        self.key(name)
    }
}
