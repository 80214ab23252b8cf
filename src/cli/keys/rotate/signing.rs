//! The keys that sign in operator mode, each of which the servers know two of: the one in use and
//! the next. `[A, B]` becomes `[B, A]`, and once nothing lives that A has signed, `[B, C]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::bail;

use super::super::files;
use super::super::servers::{listed, operator_keys, operator_with, relist};
use super::{Rotator, Wait};
use crate::clock::{Clock as _, SystemClock, UnixSeconds};
use crate::deployment::key_role::KeyRole;
use crate::keys::AccountId;

/// After the last instance was seen to sign with the new key, one may have answered with the old
/// one a moment ago, and a server may be as much behind.
const LEEWAY: UnixSeconds = 5;

impl Rotator<'_> {
    pub(super) async fn advance_signing(&mut self, key: KeyRole) -> anyhow::Result<Option<Wait>> {
        let mut rotation = self.rotation(key)?;
        let (old, new) = (rotation.old.clone(), rotation.new.clone());
        let new_file = self.seed(key, &new)?;
        if rotation.next.is_none() {
            let old_file = self.seed(key, &old)?;
            // Known everywhere, before anything signs with it.
            if let Some(wait) = self.servers_list(key, None, &[&old, &new]).await? {
                return Ok(Some(wait));
            }
            let knows = |generations: &[String]| generations.contains(&new);
            if let Some(wait) = self.instances(key, knows) {
                self.list(key, &[old_file, new_file])?;
                return Ok(Some(wait));
            }
            self.list(key, &[new_file.clone(), old_file])?;
            if let Some(wait) = self.instances(key, |generations| generations.first() == Some(&new))
            {
                return Ok(Some(wait));
            }
            let now = SystemClock.now();
            let since = *rotation.since.get_or_insert(now);
            self.journal.set(key, rotation.clone())?;
            if key == KeyRole::UserSigning && !self.now {
                let ttl = self.instances.ttl(self.config.callout.ttl).as_secs();
                let ttl = UnixSeconds::try_from(ttl).unwrap_or(UnixSeconds::MAX);
                let until = since.saturating_add(ttl).saturating_add(LEEWAY);
                if now < until {
                    return Ok(Some(Wait::Until(until)));
                }
            }
            let offline = self.offline()?.to_owned();
            rotation.next = Some(self.spare(key, &offline, &[&old, &new])?);
            self.journal.set(key, rotation.clone())?;
        }
        let Some(next) = rotation.next else { bail!("the next generation is not noted") };
        let next_file = self.public_file(key, &next)?;
        self.list(key, &[new_file, next_file])?;
        if key == KeyRole::OperatorSigning {
            self.resign_all().await?;
        }
        let both = |generations: &[String]| *generations == [new.clone(), next.clone()];
        let instances = self.instances(key, both);
        if key != KeyRole::OperatorSigning && instances.is_some() {
            return Ok(instances);
        }
        let servers = self.servers_list(key, Some(&old), &[&new, &next]).await?;
        if let Some(wait) = instances.or(servers) {
            return Ok(Some(wait));
        }
        self.forget(key, &old, &new)?;
        Ok(None)
    }

    /// The public half of the generation after the next, beside the keys in use.
    fn public_file(&mut self, key: KeyRole, public: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(files::name_of(key, public, "pub"));
        if !path.is_file() {
            files::replace(&path, &format!("{public}\n"))?;
            self.done.push(format!("{}: the generation after it is {public}", key.name()));
        }
        Ok(path)
    }

    /// Makes every server list these generations of a key, and no longer `without`.
    async fn servers_list(
        &mut self,
        key: KeyRole,
        without: Option<&str>,
        with: &[&str],
    ) -> anyhow::Result<Option<Wait>> {
        let mode = self.operator_mode()?;
        let accounts = match key {
            KeyRole::OperatorSigning => return self.operator_lists(without, with).await,
            KeyRole::ResponseSigning => vec![mode.auth_account],
            _ => self.accounts_of_users(without, mode.users_account).await?,
        };
        let operator = self.operator()?;
        let system = self.accounts_of_the_system()?;
        let change = |body: &mut _| relist(body, without, with);
        let pushed = self.servers.change(&accounts, &system, &operator, false, change).await?;
        if !pushed.is_empty() {
            self.done.push(format!(
                "{}: {} accounts changed on every server",
                key.name(),
                pushed.len()
            ));
        }
        self.update_confs(&pushed)?;
        Ok(None)
    }

    /// USERS, and tenants' own accounts where a key is to be taken off them; instances put new
    /// ones on.
    async fn accounts_of_users(
        &self,
        without: Option<&str>,
        users: AccountId,
    ) -> anyhow::Result<Vec<AccountId>> {
        let Some(old) = without else { return Ok(vec![users]) };
        let mut accounts = vec![users];
        let system = self.accounts_of_the_system()?;
        for account in self.servers.accounts().await? {
            if system.contains(&account) {
                continue;
            }
            let held = self.servers.held(&account).await?;
            if held.iter().any(|(claims, _)| listed(&claims.body.0).contains(old)) {
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
    ) -> anyhow::Result<Option<Wait>> {
        let fit = |tokens: &Vec<String>| {
            tokens.iter().any(|token| {
                let keys = operator_keys(token);
                with.iter().all(|key| keys.contains(*key))
                    && without.is_none_or(|without| !keys.contains(without))
            })
        };
        let trusted = self.servers.operators().await?;
        let unfit: BTreeSet<String> = trusted
            .iter()
            .filter(|(_, tokens)| !fit(tokens))
            .map(|(server, _)| server.clone())
            .collect();
        if unfit.is_empty() {
            return Ok(None);
        }
        let in_files = files::tokens_in_confs(&self.config, "operator");
        if !in_files.is_empty() && fit(&in_files) {
            return Ok(Some(Wait::Servers(unfit)));
        }
        let identity = files::operator_identity(self.offline()?)?;
        let Some(token) = trusted.values().flatten().next() else {
            bail!("no server trusts an operator");
        };
        if let Some(token) = operator_with(token, &identity, without, with, SystemClock.now())? {
            let tokens = BTreeMap::from([("operator".to_owned(), token.clone())]);
            self.update_confs(&tokens)?;
            if in_files.is_empty() {
                self.done
                    .push(format!("in the configuration of every server, write operator: {token}"));
            }
        }
        Ok(Some(Wait::Servers(unfit)))
    }

    /// Has the operator's new key sign every account that servers hold.
    async fn resign_all(&mut self) -> anyhow::Result<()> {
        let accounts = self.servers.accounts().await?;
        let system = self.accounts_of_the_system()?;
        let operator = self.operator()?;
        let pushed = self.servers.change(&accounts, &system, &operator, true, |_| false).await?;
        if !pushed.is_empty() {
            self.done.push(format!("operator-signing: {} accounts signed anew", pushed.len()));
        }
        self.update_confs(&pushed)
    }
}
