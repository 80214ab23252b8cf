//! The keys that sign in operator mode, each of which the servers know two of: the one in use and
//! the next. `[A, B]` becomes `[B, A]`, and once nothing lives that A has signed, `[B, C]`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::claims::{operator_keys, operator_with, relist};
use super::super::fleet::held;
use super::super::journal::Rotation;
use super::super::{KeysError, Result, files};
use super::site::spare;
use super::{Rotator, Wait, accounts_of_the_system};
use crate::clock::UnixSeconds;
use crate::deployment::KeyRole;
use crate::keys::AccountId;

/// After the last instance was seen to sign with the new key, one may have answered with the old
/// one a moment ago, and a server may be as much behind.
const LEEWAY: UnixSeconds = 5;

impl Rotator {
    pub(super) fn instances_learn(
        &mut self,
        key: KeyRole,
        old: &str,
        new: &str,
    ) -> Result<Option<Wait>> {
        let wait = self.instances(key, |listed| listed.iter().any(|known| known == new));
        if wait.is_some() {
            let files = [self.seed(key, old)?, self.seed(key, new)?];
            self.list(key, &files)?;
        }
        Ok(wait)
    }

    pub(super) fn sign(&mut self, key: KeyRole, rotation: Rotation) -> Result<Option<Wait>> {
        let files = [self.seed(key, &rotation.new)?, self.seed(key, &rotation.old)?];
        self.list(key, &files)?;
        let wait = self.instances(key, |listed| listed.first() == Some(&rotation.new));
        if wait.is_none() && rotation.since.is_none() {
            let since = Some(self.admin.now());
            self.journal.set(key, Rotation { since, ..rotation })?;
        }
        Ok(wait)
    }

    /// When the last grant has ended that the old key signed.
    pub(super) fn grants_end(&self, rotation: &Rotation) -> Option<Wait> {
        let now = self.admin.now();
        let ttl = self.instances.ttl(self.config.callout.ttl).as_secs();
        let ttl = UnixSeconds::try_from(ttl).unwrap_or(UnixSeconds::MAX);
        let since = rotation.since.unwrap_or(now);
        let until = since.saturating_add(ttl).saturating_add(LEEWAY);
        (now < until && !self.now).then_some(Wait::Until(until))
    }

    pub(super) fn name_next(&mut self, key: KeyRole, rotation: Rotation) -> Result<Option<Wait>> {
        let used = [rotation.old.as_str(), &rotation.new];
        let next = Some(spare(key, self.site.offline()?, &used)?);
        self.journal.set(key, Rotation { next, ..rotation })?;
        Ok(None)
    }

    /// Of the next one its public half is enough here.
    pub(super) fn list_next(&mut self, key: KeyRole, rotation: &Rotation) -> Result<Option<Wait>> {
        let next = named(rotation)?;
        let path = self.site.folder.join(files::name_of(key, next, "pub"));
        if !path.is_file() {
            files::replace(&path, &format!("{next}\n"))?;
            self.done.push(format!("{key}: the generation after it is {next}"));
        }
        let files = [self.seed(key, &rotation.new)?, path];
        self.list(key, &files)?;
        Ok(None)
    }

    /// Has the operator's new key sign every account that servers hold.
    pub(super) async fn resign(&mut self) -> Result<Option<Wait>> {
        let accounts = self.fleet.accounts().await?;
        let said = |count| format!("operator-signing: {count} accounts signed anew");
        self.change_accounts(&accounts, true, |_| false, said).await?;
        Ok(None)
    }

    pub(super) async fn forget(
        &mut self,
        key: KeyRole,
        rotation: &Rotation,
    ) -> Result<Option<Wait>> {
        let (new, next) = (rotation.new.as_str(), named(rotation)?);
        let instances = self.instances(key, |listed| listed == [new, next]);
        // Nothing is left that the operator's old key signed: servers and instances are restarted
        // in one go.
        if key != KeyRole::OperatorSigning && instances.is_some() {
            return Ok(instances);
        }
        let servers = self.servers_list(key, Some(&rotation.old), &[new, next]).await?;
        Ok(instances.or(servers))
    }

    /// Makes every server list these generations of a key, and no longer `without`.
    pub(super) async fn servers_list(
        &mut self,
        key: KeyRole,
        without: Option<&str>,
        with: &[&str],
    ) -> Result<Option<Wait>> {
        let mode = self.operator_mode()?;
        let accounts = match key {
            KeyRole::OperatorSigning => return self.operator_lists(without, with).await,
            KeyRole::ResponseSigning => vec![mode.auth_account],
            _ => self.accounts_of_users(without, mode.users_account).await?,
        };
        let change = |body: &mut _| relist(body, without, with);
        let said = |count| format!("{key}: {count} accounts changed on every server");
        self.change_accounts(&accounts, false, change, said).await?;
        Ok(None)
    }

    /// USERS, and tenants' own accounts where a key is to be taken off them; instances put new
    /// ones on.
    async fn accounts_of_users(
        &self,
        without: Option<&str>,
        users: AccountId,
    ) -> Result<Vec<AccountId>> {
        let Some(old) = without else { return Ok(vec![users]) };
        let mut accounts = vec![users];
        let system = accounts_of_the_system(self.operator_mode()?)?;
        for account in self.fleet.accounts().await? {
            if system.contains(&account) {
                continue;
            }
            let held = held(&*self.fleet, &account).await?;
            if held.iter().any(|it| it.listed().contains(old)) {
                accounts.push(account);
            }
        }
        Ok(accounts)
    }

    /// The operator's own JWT is in the servers' configurations and is read at their start.
    async fn operator_lists(
        &mut self,
        without: Option<&str>,
        with: &[&str],
    ) -> Result<Option<Wait>> {
        let fit = |tokens: &Vec<String>| {
            tokens.iter().any(|token| {
                let keys = operator_keys(token);
                with.iter().all(|key| keys.contains(*key))
                    && without.is_none_or(|without| !keys.contains(without))
            })
        };
        let trusted = self.fleet.operators().await?;
        let unfit = trusted.iter().filter(|(_, tokens)| !fit(tokens));
        let unfit: BTreeSet<String> = unfit.map(|(server, _)| server.clone()).collect();
        if unfit.is_empty() {
            return Ok(None);
        }
        let in_files = files::tokens_in_confs(&self.config, "operator");
        if !in_files.is_empty() && fit(&in_files) {
            return Ok(Some(Wait::Servers(unfit)));
        }
        let identity = files::operator_identity(self.site.offline()?)?;
        let Some(token) = trusted.values().flatten().next() else {
            return Err(KeysError::unfit("no server trusts an operator"));
        };
        if let Some(token) = operator_with(token, &identity, without, with, self.admin.now())? {
            let tokens = BTreeMap::from([("operator".to_owned(), token.clone())]);
            self.update_confs(&tokens)?;
            if in_files.is_empty() {
                self.done
                    .push(format!("in the configuration of every server, write operator: {token}"));
            }
        }
        Ok(Some(Wait::Servers(unfit)))
    }
}

/// The generation after the new one.
fn named(rotation: &Rotation) -> Result<&str> {
    let next = rotation.next.as_deref();
    next.ok_or_else(|| KeysError::unfit("the next generation is not noted"))
}
