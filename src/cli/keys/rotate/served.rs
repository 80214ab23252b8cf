//! The keys of which a server has one: the curve key, and in config mode the issuer. Instances take
//! either generation while servers are changed over, each of which shows by its requests which one
//! it has: `[A]` becomes `[A, B]`, the servers change, and `[B]` is what stays.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::super::files;
use super::{Rotator, Wait};
use crate::config::Mode;
use crate::deployment::key_role::KeyRole;
use crate::keyfile;

impl Rotator<'_> {
    pub(super) async fn advance_served(&mut self, key: KeyRole) -> anyhow::Result<Option<Wait>> {
        let rotation = self.rotation(key)?;
        let (old, new) = (rotation.old.as_str(), rotation.new.as_str());
        let new_file = self.seed(key, new)?;
        let only = |generations: &[String]| *generations == [new.to_owned()];
        // Once the servers have changed, the old one may be gone from here. That all instances have
        // the new one alone says so, unless none runs.
        let have_changed = self.instances.count() > 0 && self.instances(key, only).is_none();
        if self.find_seed(key, old).is_some() && !have_changed {
            let behind = self.servers_behind(key, new).await?;
            if behind.as_ref().is_none_or(|behind| !behind.is_empty()) {
                let old_file = self.seed(key, old)?;
                self.list(key, &[old_file, new_file.clone()])?;
                let knows = |generations: &[String]| generations.iter().any(|known| known == new);
                if let Some(wait) = self.instances(key, knows) {
                    return Ok(Some(wait));
                }
                if let Some(wait) = self.change_servers(key, old, new).await? {
                    return Ok(Some(wait));
                }
            }
        }
        self.list(key, &[new_file])?;
        if let Some(wait) = self.instances(key, only) {
            return Ok(Some(wait));
        }
        if let Some(wait) = self.change_servers(key, old, new).await? {
            return Ok(Some(wait));
        }
        self.forget(key, old, new)?;
        Ok(None)
    }

    /// The servers that do not have the new key.
    async fn servers_behind(
        &self,
        key: KeyRole,
        new: &str,
    ) -> anyhow::Result<Option<BTreeSet<String>>> {
        match &self.config.mode {
            Mode::Operator(mode) => {
                let held = self.servers.held(&mode.auth_account).await?;
                let has = held.iter().all(|(claims, _)| xkey_of(&claims.body.0) == Some(new));
                Ok(has.then(BTreeSet::new))
            }
            Mode::Config(_) => {
                let mut files = self.config.callout.xkey.clone();
                files.extend(
                    files::seeds_in(KeyRole::Xkey, &self.folder).into_iter().map(|it| it.1),
                );
                let xkeys = keyfile::xkeys(&files)?;
                let found = self.servers.requests(&self.config, xkeys).await?;
                let mut behind = found.unseen;
                behind.extend(found.keys.into_iter().filter_map(|(server, (issuer, xkey))| {
                    let has = if key == KeyRole::Xkey { xkey } else { issuer };
                    (has != new).then_some(server)
                }));
                Ok(Some(behind))
            }
        }
    }

    /// Gives the servers the new key, or says which of them a person has to give it to.
    async fn change_servers(
        &mut self,
        key: KeyRole,
        old: &str,
        new: &str,
    ) -> anyhow::Result<Option<Wait>> {
        let Mode::Operator(mode) = &self.config.mode else {
            let behind = self.servers_behind(key, new).await?.unwrap_or_default();
            if behind.is_empty() {
                return Ok(None);
            }
            self.change_confs(&[(old.to_owned(), new.to_owned())])?;
            return Ok(Some(Wait::Servers(behind)));
        };
        let auth = mode.auth_account;
        let operator = self.operator()?;
        let change = |body: &mut Map<String, Value>| {
            if xkey_of(body) == Some(new) {
                return false;
            }
            let settings = body.get_mut("authorization").and_then(Value::as_object_mut);
            settings.map(|it| it.insert("xkey".to_owned(), new.into())).is_some()
        };
        let pushed = self.servers.change(&[auth], &[auth], &operator, false, change).await?;
        if !pushed.is_empty() {
            self.done.push("xkey: every server seals requests for the new key".to_owned());
        }
        self.update_confs(&pushed)?;
        let held = self.servers.held(&auth).await?;
        let has = |body: &Map<String, Value>| xkey_of(body) == Some(new);
        held.iter().all(|(claims, _)| has(&claims.body.0)).then_some(()).context(
            "a server holds another AUTH than the one it was given; see the servers' logs",
        )?;
        Ok(None)
    }
}

fn xkey_of(body: &Map<String, Value>) -> Option<&str> {
    body.get("authorization")?.get("xkey")?.as_str()
}
