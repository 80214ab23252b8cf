//! From one generation of a key to the next, so that no login fails. START with
//! [`Rotator::advance`]: each call does all that can be done now, by looking at what there is
//! (files, instances, servers), and says what has to happen before it can go on. Stopped at any
//! point, it goes on where it was.
//!
//! Nothing signs with a key before everybody knows it, and nothing forgets one while anything that
//! it signed is of use: [`Step`] is the order.

mod served;
mod signing;
mod site;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use self::site::{Site, spare};
pub(crate) use self::step::Step;
use super::claims::AnyClaims;
use super::fleet::{AccountSigner, Fleet};
use super::instances::Instances;
use super::journal::{Journal, Rotation};
use super::servers::RunningFleet;
use super::{Admin, Error, KeysError, Result, check, files, load, operator_key};
use crate::clock::UnixSeconds;
use crate::config::{Config, Mode, OperatorMode};
use crate::deployment::KeyRole;
use crate::keyfile;
use crate::keys::AccountId;

/// What is to be rotated, and how.
#[derive(Debug, Clone, Default)]
pub struct RotationRequest {
    /// Which keys; none are those whose rotation is under way, or else all of the mode.
    pub keys: Vec<KeyRole>,
    /// The folder of the offline keys; without one, `offline` beside the keys in use.
    pub offline: Option<PathBuf>,
    /// Forget an old user-signing key at once, although grants that it signed are alive.
    pub now: bool,
}

/// What a rotation waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wait {
    /// These instances have to be restarted.
    Instances(BTreeSet<String>),
    /// These servers have to be restarted with their changed configuration.
    Servers(BTreeSet<String>),
    /// Grants that the old key signed are alive until then.
    Until(UnixSeconds),
}

/// How far the rotation of one key has come.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Progress {
    /// The key.
    pub key: KeyRole,
    /// What was in use.
    pub old: String,
    /// What takes its place.
    pub new: String,
    /// What has to happen before it goes on; `None`: it is done.
    pub wait: Option<Wait>,
}

/// Rotates keys. As long as it is there, nobody else rotates keys of this deployment.
pub struct Rotator {
    admin: Admin,
    site: Site,
    config: Config,
    journal: Journal,
    fleet: Box<dyn Fleet>,
    instances: Instances,
    /// Those that are not done.
    keys: Vec<KeyRole>,
    ended: Vec<Progress>,
    now: bool,
    /// What was done, for the person who looks on.
    done: Vec<String>,
    confs: BTreeSet<PathBuf>,
}

impl Rotator {
    /// Makes ready, and changes no key.
    pub async fn new(admin: &Admin, request: RotationRequest) -> Result<Self, Error> {
        check(&admin.config, &request.keys)?;
        let config = load(admin)?;
        let site = Site::enter(&config, request.offline.as_deref())?;
        let journal = Journal::read(&site.folder)?;
        let fleet = Box::new(RunningFleet::connect(&config, &admin.store).await?);
        Ok(Self::with(admin, config, site, journal, fleet, request))
    }

    fn with(
        admin: &Admin,
        config: Config,
        site: Site,
        journal: Journal,
        fleet: Box<dyn Fleet>,
        request: RotationRequest,
    ) -> Self {
        let under_way = || journal.keys_under_way(&config);
        let asked = [request.keys, under_way(), KeyRole::of(&config)].into_iter();
        let keys = asked.into_iter().find(|keys| !keys.is_empty()).unwrap_or_default();
        Self {
            admin: admin.clone(),
            site,
            config,
            journal,
            fleet,
            instances: Instances::default(),
            keys,
            ended: Vec::new(),
            now: request.now,
            done: Vec::new(),
            confs: BTreeSet::new(),
        }
    }

    /// Does all that can be done now, and says how far each key has come: those that are done
    /// first. One that had ended is begun anew, unless another of these has not: then it is the same
    /// rotation that goes on.
    pub async fn advance(&mut self) -> Result<Vec<Progress>, Error> {
        let advanced = self.advance_all().await;
        for line in self.done.drain(..) {
            self.admin.remark(&line);
        }
        let (done, waiting): (Vec<_>, Vec<_>) =
            advanced?.into_iter().partition(|one| one.wait.is_none());
        self.keys = waiting.iter().map(|one| one.key).collect();
        self.ended.extend(done);
        Ok(self.ended.iter().cloned().chain(waiting).collect())
    }

    /// The configurations of servers that were changed.
    #[must_use]
    pub fn confs(&self) -> &BTreeSet<PathBuf> {
        &self.confs
    }

    async fn advance_all(&mut self) -> Result<Vec<Progress>> {
        let keys = self.keys.clone();
        let goes_on = keys.iter().any(|&key| self.journal.under_way(key).is_some());
        for &key in &keys {
            if !goes_on || self.journal.get(key).is_none() {
                self.begin(key)?;
            }
        }
        // All of them first: with the last to end, nothing is noted any more.
        let rotations = keys.iter().map(|&key| Ok((key, self.rotation(key)?)));
        let rotations = rotations.collect::<Result<Vec<_>>>()?;
        let mut progress = Vec::new();
        for (key, Rotation { old, new, done, .. }) in rotations {
            let wait = if done { None } else { self.advance_one(key).await? };
            progress.push(Progress { key, old, new, wait });
        }
        Ok(progress)
    }

    async fn advance_one(&mut self, key: KeyRole) -> Result<Option<Wait>> {
        self.instances = self.fleet.instances().await?;
        let wait = self.take_steps(key).await;
        let wait = wait.map_err(|source| KeysError::Stopped { key, source: Box::new(source) })?;
        if wait.is_none() {
            self.journal.end(key)?;
        }
        Ok(wait)
    }

    /// The whole of a rotation. Each step looks whether it was taken, takes it if not, and says what
    /// has to happen before the next one may be.
    async fn take_steps(&mut self, key: KeyRole) -> Result<Option<Wait>> {
        let rotation = self.rotation(key)?;
        self.seed(key, &rotation.new)?;
        let [mut until_in_use, and_then] = Step::of(key);
        if self.is_in_use(key, &rotation).await? {
            until_in_use = &[];
        } else {
            self.seed(key, &rotation.old)?;
        }
        for &step in until_in_use.iter().chain(and_then) {
            if let Some(wait) = self.take(step, key).await? {
                return Ok(Some(wait));
            }
        }
        Ok(None)
    }

    async fn take(&mut self, step: Step, key: KeyRole) -> Result<Option<Wait>> {
        let rotation = self.rotation(key)?;
        let (old, new) = (rotation.old.as_str(), rotation.new.as_str());
        match step {
            Step::ServersLearn => self.servers_list(key, None, &[old, new]).await,
            Step::InstancesLearn => self.instances_learn(key, old, new),
            Step::Sign => self.sign(key, rotation),
            Step::GrantsEnd => Ok(self.grants_end(&rotation)),
            Step::NameNext => self.name_next(key, rotation),
            Step::ListNext => self.list_next(key, &rotation),
            Step::Resign => self.resign().await,
            Step::Forget => self.forget(key, &rotation).await,
            Step::TakeEither => self.take_either(key, old, new),
            Step::TakeNew => self.take_new(key, new),
            Step::ServersChange | Step::ServersKeep => self.change_servers(key, old, new).await,
            Step::Remove => self.remove(key, old, new),
        }
    }

    /// Whether the first part of the steps is over.
    async fn is_in_use(&self, key: KeyRole, rotation: &Rotation) -> Result<bool> {
        match key {
            KeyRole::Xkey | KeyRole::Issuer => self.servers_have_changed(key, rotation).await,
            _ => Ok(rotation.next.is_some()),
        }
    }

    /// Notes the rotation, with the seed of what is to come at hand.
    fn begin(&mut self, key: KeyRole) -> Result<()> {
        let listed = key.public(&self.config)?;
        let Some(old) = listed.first().cloned() else {
            return Err(KeysError::Unfit(format!("no file is listed for {key}")));
        };
        let new = match listed.get(1) {
            Some(next) if self.site.find(&self.config, key, next).is_none() => {
                let (public, folder) = (next.clone(), self.site.folder.clone());
                return Err(KeysError::NextAway { key, public, folder });
            }
            Some(next) => next.clone(),
            None => spare(key, &self.site.folder, &[&old])?,
        };
        if key == KeyRole::OperatorSigning {
            files::operator_identity(self.site.offline()?)?;
        }
        if !matches!(key, KeyRole::Xkey | KeyRole::Issuer) {
            self.site.offline()?;
        }
        self.done.push(format!("{key}: changing over from {old} to {new}"));
        self.journal.set(key, Rotation { old, new, since: None, next: None, done: false })
    }

    fn rotation(&self, key: KeyRole) -> Result<Rotation> {
        let noted = self.journal.get(key).cloned();
        noted.ok_or_else(|| KeysError::unfit("the rotation is not noted"))
    }

    /// The file of a generation as the configuration lists it: its seed, brought to where the
    /// others in use are.
    fn seed(&mut self, key: KeyRole, public: &str) -> Result<PathBuf> {
        let found = self.site.find(&self.config, key, public);
        let found = found.ok_or_else(|| KeysError::SeedAway(public.to_owned()))?;
        if !self.site.is_offline(&found) {
            return Ok(found);
        }
        let seed = keyfile::read_secret(&found)?;
        let here = self.site.folder.join(files::name_of(key, public, "nk"));
        files::replace(&here, &seed)?;
        self.done.push(format!("{key}: wrote {}", here.display()));
        Ok(here)
    }

    /// Writes the list of a key, if it is another, and reads the configuration again.
    fn list(&mut self, key: KeyRole, files: &[PathBuf]) -> Result<()> {
        if let Some(line) = files::set_list(&self.config, key, files)? {
            self.done.push(format!("{key}: {}: {line}", self.config.file.display()));
            self.config = load(&self.admin)?;
        }
        Ok(())
    }

    /// What is to be awaited until every instance's generations of a key satisfy `fit`.
    fn instances(&self, key: KeyRole, fit: impl Fn(&[String]) -> bool) -> Option<Wait> {
        let unfit = self.instances.unfit(key, fit);
        (!unfit.is_empty()).then_some(Wait::Instances(unfit))
    }

    fn operator_mode(&self) -> Result<&OperatorMode> {
        match &self.config.mode {
            Mode::Operator(mode) => Ok(mode),
            Mode::Config(_) => Err(KeysError::unfit("the mode is `config`")),
        }
    }

    /// Changes accounts on every server, and where the servers' configurations have old tokens of
    /// them, for a server that has lost its own. `said` is told of so many that were changed.
    async fn change_accounts(
        &mut self,
        accounts: &[AccountId],
        resign: bool,
        change: impl Fn(&mut AnyClaims) -> bool,
        said: impl FnOnce(usize) -> String,
    ) -> Result<()> {
        let mode = self.operator_mode()?;
        let operator = operator_key(mode)?;
        let of_the_system = accounts_of_the_system(mode)?;
        let signer = AccountSigner { operator: &operator, of_the_system: &of_the_system, resign };
        let pushed = signer.change(&*self.fleet, accounts, self.admin.now(), change).await?;
        if !pushed.is_empty() {
            self.done.push(said(pushed.len()));
        }
        self.update_confs(&pushed)
    }

    /// Puts new tokens where the servers' configurations have old ones.
    fn update_confs(&mut self, tokens: &BTreeMap<String, String>) -> Result<()> {
        self.change_confs(&files::newer(&self.config, tokens))
    }

    fn change_confs(&mut self, words: &[(String, String)]) -> Result<()> {
        for path in files::change_confs(&self.config, words)? {
            if self.confs.insert(path.clone()) {
                self.done.push(format!("wrote {}", path.display()));
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: KeyRole, old: &str, new: &str) -> Result<Option<Wait>> {
        for path in self.site.remove(key, old, new)? {
            self.done.push(format!("{key}: removed {}", path.display()));
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Rotator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotator").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// The accounts that nats-server.conf has from the start.
fn accounts_of_the_system(mode: &OperatorMode) -> Result<Vec<AccountId>> {
    let sys = keyfile::account_of_creds(&mode.system_credentials)?;
    let others = [mode.auth_account, mode.bb_account, mode.users_account, mode.answers_account];
    Ok(others.into_iter().chain(mode.events_account).chain([sys]).collect())
}
