//! The keys of which a server has one: the curve key, and in config mode the issuer. Instances take
//! either generation while servers are changed over, each of which shows by its requests which one
//! it has: `[A]` becomes `[A, B]`, the servers change, and `[B]` is what stays.

use std::collections::BTreeSet;

use super::super::claims::seal_for;
use super::super::fleet::held;
use super::super::journal::Rotation;
use super::super::{KeysError, Result, files};
use super::{Rotator, Wait};
use crate::config::Mode;
use crate::deployment::KeyRole;
use crate::keyfile;

impl Rotator {
    /// Once the servers have changed, the old one may be gone from here. That all instances have
    /// the new one alone says so, unless none runs.
    pub(super) async fn servers_have_changed(
        &self,
        key: KeyRole,
        Rotation { old, new, .. }: &Rotation,
    ) -> Result<bool> {
        let only = |listed: &[String]| listed == [new.as_str()];
        let said = self.instances.count() > 0 && self.instances(key, only).is_none();
        if said || self.site.find(&self.config, key, old).is_none() {
            return Ok(true);
        }
        Ok(self.servers_behind(key, new).await?.is_some_and(|behind| behind.is_empty()))
    }

    pub(super) fn take_either(
        &mut self,
        key: KeyRole,
        old: &str,
        new: &str,
    ) -> Result<Option<Wait>> {
        let files = [self.seed(key, old)?, self.seed(key, new)?];
        self.list(key, &files)?;
        Ok(self.instances(key, |listed| listed.iter().any(|known| known == new)))
    }

    pub(super) fn take_new(&mut self, key: KeyRole, new: &str) -> Result<Option<Wait>> {
        let files = [self.seed(key, new)?];
        self.list(key, &files)?;
        Ok(self.instances(key, |listed| listed == [new]))
    }

    /// Gives the servers the new key, or says which of them a person has to give it to.
    pub(super) async fn change_servers(
        &mut self,
        key: KeyRole,
        old: &str,
        new: &str,
    ) -> Result<Option<Wait>> {
        let Mode::Operator(mode) = &self.config.mode else {
            let behind = self.servers_behind(key, new).await?.unwrap_or_default();
            if behind.is_empty() {
                return Ok(None);
            }
            self.change_confs(&[(old.to_owned(), new.to_owned())])?;
            return Ok(Some(Wait::Servers(behind)));
        };
        let auth = mode.auth_account;
        let said = |_| "xkey: every server seals requests for the new key".to_owned();
        self.change_accounts(&[auth], false, |body| seal_for(body, new), said).await?;
        let held = held(&*self.fleet, &auth).await?;
        if held.iter().any(|it| it.xkey() != Some(new)) {
            return Err(KeysError::unfit(
                "a server holds another AUTH than the one it was given; see the servers' logs",
            ));
        }
        Ok(None)
    }

    /// The servers that do not have the new key; in operator mode nobody knows which they are.
    async fn servers_behind(&self, key: KeyRole, new: &str) -> Result<Option<BTreeSet<String>>> {
        match &self.config.mode {
            Mode::Operator(mode) => {
                let held = held(&*self.fleet, &mode.auth_account).await?;
                let has = held.iter().all(|it| it.xkey() == Some(new));
                Ok(has.then(BTreeSet::new))
            }
            Mode::Config(_) => {
                let seeds = files::seeds_in(KeyRole::Xkey, &self.site.folder);
                let listed = self.config.callout.xkey.iter().cloned();
                let files: Vec<_> = listed.chain(seeds.into_iter().map(|(_, path)| path)).collect();
                let found = self.fleet.requests(&self.config, keyfile::xkeys(&files)?).await?;
                let mut behind = found.unseen;
                let keys = found.keys.into_iter();
                behind.extend(keys.filter(|(_, it)| !it.has(key, new)).map(|(server, _)| server));
                Ok(Some(behind))
            }
        }
    }
}
