//! `keys rotate`: from one generation of a key to the next, so that no login fails. START with
//! [`Rotator::advance`]: each call does all that can be done now, by looking at what there is
//! (files, instances, servers), and says what has to happen before it can go on. Stopped at any
//! point, it goes on where it was.
//!
//! Nothing signs with a key before everybody knows it, and nothing forgets one while anything that
//! it signed is of use.

mod served;
mod signing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::super::output::{note, time};
use super::super::{Context, Usage, load};
use super::files;
use super::instances::Instances;
use super::journal::{Journal, Rotation};
use super::servers::Servers;
use crate::clock::UnixSeconds;
use crate::config::{Config, Files, Mode, OperatorMode};
use crate::deployment::key_role::KeyRole;
use crate::keyfile;
use crate::keys::{AccountId, KeyKind, SigningKey};

/// What a rotation waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// These instances have to be restarted.
    Instances(BTreeSet<String>),
    /// These servers have to be restarted with their changed configuration.
    Servers(BTreeSet<String>),
    /// Grants that the old key signed are alive until then.
    Until(UnixSeconds),
}

/// What became of one key.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) key: KeyRole,
    pub(super) rotation: Rotation,
    /// `None`: it is done.
    pub(super) wait: Option<Wait>,
}

/// Rotates keys.
pub(super) struct Rotator<'a> {
    context: &'a Context,
    config: Config,
    /// Where the keys that are in use lie.
    folder: PathBuf,
    offline: Option<PathBuf>,
    journal: Journal,
    servers: Servers,
    instances: Instances,
    /// Forget the old generation although grants of it are alive.
    now: bool,
    /// What was done, for the person who looks on.
    done: Vec<String>,
    /// The configurations of servers that were changed.
    confs: BTreeSet<PathBuf>,
    _lock: std::fs::File,
}

impl<'a> Rotator<'a> {
    pub(super) async fn new(
        context: &'a Context,
        offline: Option<&Path>,
        now: bool,
    ) -> anyhow::Result<Self> {
        let config = load(&context.admin.config().file, Files::MustExist)?;
        let faults = config.audit();
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault.into());
        }
        let folder = folder(&config)?;
        if let Some(named) = offline
            && !named.is_dir()
        {
            return Err(Usage(format!("--offline: {} is no folder", named.display())).into());
        }
        if let Some(named) = offline
            && named.canonicalize()? == folder.canonicalize()?
        {
            return Err(Usage(format!(
                "--offline: {} is the folder of the keys in use; keep the others elsewhere",
                named.display()
            ))
            .into());
        }
        let beside = Some(folder.join("offline")).filter(|folder| folder.is_dir());
        let offline = offline.map(Path::to_owned).or(beside);
        let lock = files::lock(&folder)?;
        for folder in [Some(&folder), offline.as_ref(), Some(&config.folder)].into_iter().flatten()
        {
            files::tidy(folder)?;
        }
        let journal = Journal::read(&folder)?;
        let servers = Servers::connect(&config).await?;
        let instances = Instances::default();
        let (done, confs) = (Vec::new(), BTreeSet::new());
        Ok(Self {
            context,
            config,
            folder,
            offline,
            journal,
            servers,
            instances,
            now,
            done,
            confs,
            _lock: lock,
        })
    }

    /// Does for these keys all that can be done now. One that has ended is begun anew, unless
    /// another of these has not: then it is the same rotation that goes on.
    pub(super) async fn advance(&mut self, keys: &[KeyRole]) -> anyhow::Result<Vec<Progress>> {
        let goes_on = keys.iter().any(|&key| self.journal.under_way(key).is_some());
        for &key in keys {
            if !goes_on || self.journal.get(key).is_none() {
                self.begin(key)?;
            }
        }
        // All of them first: with the last to end, nothing is noted any more.
        let rotations = keys.iter().map(|&key| Ok((key, self.rotation(key)?)));
        let rotations = rotations.collect::<anyhow::Result<Vec<_>>>()?;
        let mut progress = Vec::new();
        for (key, rotation) in rotations {
            if rotation.done {
                progress.push(Progress { key, rotation, wait: None });
                continue;
            }
            self.instances = Instances::ask(self.context, &self.servers.auth).await?;
            let wait = match key {
                KeyRole::Xkey | KeyRole::Issuer => self.advance_served(key).await,
                _ => self.advance_signing(key).await,
            };
            let wait = wait.with_context(|| format!("{}, which can be resumed", key.name()))?;
            let rotation = self.journal.get(key).cloned().unwrap_or(rotation);
            if wait.is_none() {
                self.journal.end(key)?;
            }
            progress.push(Progress { key, rotation, wait });
        }
        Ok(progress)
    }

    /// Keys whose rotation is under way.
    pub(super) fn under_way(&self) -> Vec<KeyRole> {
        self.journal.keys_under_way(&self.config)
    }

    /// What was done since this was last asked.
    pub(super) fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    /// The configurations of servers that were changed.
    pub(super) fn confs(&self) -> &BTreeSet<PathBuf> {
        &self.confs
    }

    /// Notes the rotation, with the seed of what is to come at hand.
    fn begin(&mut self, key: KeyRole) -> anyhow::Result<()> {
        let listed = key.public(&self.config)?;
        let Some(old) = listed.first().cloned() else {
            bail!("no file is listed for {}", key.name());
        };
        let new = match listed.get(1) {
            Some(next) => {
                if self.find_seed(key, next).is_none() {
                    return Err(Usage(format!(
                        "the seed of {next}, the next generation of {}, is neither in {} nor among \
                         the offline keys; name their folder with --offline DIR",
                        key.name(),
                        self.folder.display(),
                    ))
                    .into());
                }
                next.clone()
            }
            None => self.spare(key, &self.folder.clone(), &[&old])?,
        };
        if matches!(key, KeyRole::OperatorSigning) {
            files::operator_identity(self.offline()?)?;
        }
        if !matches!(key, KeyRole::Xkey | KeyRole::Issuer) {
            self.offline()?;
        }
        self.done.push(format!("{}: changing over from {old} to {new}", key.name()));
        self.journal.set(key, Rotation { old, new, since: None, next: None, done: false })
    }

    fn rotation(&self, key: KeyRole) -> anyhow::Result<Rotation> {
        self.journal.get(key).cloned().context("the rotation is not noted")
    }

    fn offline(&self) -> anyhow::Result<&Path> {
        self.offline.as_deref().ok_or_else(|| {
            let beside = self.folder.join("offline");
            Usage(format!(
                "there is no {}, where the offline keys are at first; name their folder with \
                 --offline DIR: the next generation is kept there, and the operator's identity",
                beside.display()
            ))
            .into()
        })
    }

    /// A seed that an earlier attempt has made and nothing uses, or a new one.
    fn spare(&self, key: KeyRole, folder: &Path, used: &[&str]) -> anyhow::Result<String> {
        let seeds = files::seeds_in(key, folder);
        let spare = seeds.into_iter().find(|(public, path)| {
            let name = files::name_of(key, public, "nk");
            !used.contains(&public.as_str())
                && path.file_name().is_some_and(|found| found == name.as_str())
        });
        match spare {
            Some((public, _)) => Ok(public),
            None => files::generate(key, folder),
        }
    }

    /// Where the seed of a public key is: among those in use, else among the offline ones.
    fn find_seed(&self, key: KeyRole, public: &str) -> Option<PathBuf> {
        let mut folders = vec![self.folder.as_path()];
        folders.extend(self.offline.as_deref());
        let seeds = folders.into_iter().flat_map(|folder| files::seeds_in(key, folder));
        let named = key
            .files(&self.config)
            .iter()
            .filter_map(|path| Some((files::public_of(key, path)?, path.clone())));
        let mut all = named.chain(seeds);
        all.find_map(|(found, path)| (found == public).then_some(path))
    }

    /// The file of a generation as the configuration lists it: its seed, brought to where the
    /// others in use are.
    fn seed(&mut self, key: KeyRole, public: &str) -> anyhow::Result<PathBuf> {
        let found = self.find_seed(key, public).with_context(|| {
            format!("there is no seed of {public}; name the folder of the offline keys with --offline DIR")
        })?;
        if self.offline.as_deref() != found.parent() {
            return Ok(found);
        }
        let seed = keyfile::read_secret(&found)?;
        let here = self.folder.join(files::name_of(key, public, "nk"));
        files::replace(&here, &seed)?;
        self.done.push(format!("{}: wrote {}", key.name(), here.display()));
        Ok(here)
    }

    /// Writes the list of a key, if it is another, and reads the configuration again.
    fn list(&mut self, key: KeyRole, files: &[PathBuf]) -> anyhow::Result<()> {
        if let Some(line) = files::set_list(&self.config, key, files)? {
            self.done.push(format!("{}: {}: {line}", key.name(), self.config.file.display()));
            self.config = load(&self.config.file.clone(), Files::MustExist)?;
        }
        Ok(())
    }

    /// What is to be awaited until every instance's generations of a key satisfy `fit`.
    fn instances(&self, key: KeyRole, fit: impl Fn(&[String]) -> bool) -> Option<Wait> {
        let unfit = self.instances.unfit(key, fit);
        (!unfit.is_empty()).then_some(Wait::Instances(unfit))
    }

    fn operator_mode(&self) -> anyhow::Result<&OperatorMode> {
        match &self.config.mode {
            Mode::Operator(mode) => Ok(mode),
            Mode::Config(_) => bail!("the mode is `config`"),
        }
    }

    /// The operator's signing key in use.
    fn operator(&self) -> anyhow::Result<SigningKey> {
        let first = self.operator_mode()?.operator_signing.first();
        Ok(keyfile::signing_key(first.context("no operator key")?, KeyKind::Operator)?)
    }

    /// The accounts that nats-server.conf has from the start.
    fn accounts_of_the_system(&self) -> anyhow::Result<Vec<AccountId>> {
        let mode = self.operator_mode()?;
        let sys = keyfile::account_of_creds(&mode.system_credentials)?;
        let others = [mode.auth_account, mode.bb_account, mode.users_account, mode.answers_account];
        Ok(others.into_iter().chain(mode.events_account).chain([sys]).collect())
    }

    /// Puts new tokens of accounts where the servers' configurations have old ones, for a server
    /// that has lost its own.
    fn update_confs(&mut self, tokens: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let mut words = Vec::new();
        for (name, new) in tokens {
            let old = files::tokens_in_confs(&self.config, name).into_iter();
            words.extend(old.filter(|old| old != new).map(|old| (old, new.clone())));
        }
        self.change_confs(&words)
    }

    fn change_confs(&mut self, words: &[(String, String)]) -> anyhow::Result<()> {
        for path in files::change_confs(&self.config, words)? {
            if self.confs.insert(path.clone()) {
                self.done.push(format!("wrote {}", path.display()));
            }
        }
        Ok(())
    }

    /// Removes all files of a generation that is out of use, and of the one in use what told of it
    /// as the next.
    fn forget(&mut self, key: KeyRole, old: &str, new: &str) -> anyhow::Result<()> {
        let mut folders = vec![self.folder.clone()];
        folders.extend(self.offline.clone());
        for folder in &folders {
            for (public, path) in files::seeds_in(key, folder) {
                if public == old || (public == new && *folder != self.folder) {
                    files::remove(&path)?;
                    self.done.push(format!("{}: removed {}", key.name(), path.display()));
                }
            }
            for path in files::publics_in(key, folder, &[old, new]) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Where the keys that are in use lie.
pub(super) fn folder(config: &Config) -> anyhow::Result<PathBuf> {
    let files = KeyRole::of(config).into_iter().flat_map(|key| key.files(config).first());
    let folder = files.filter_map(|file| file.parent()).next();
    folder.map(Path::to_owned).context("the configuration lists no key")
}

impl Wait {
    /// What a person has to do.
    pub(super) fn text(&self) -> String {
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::Instances(ids) => format!(
                "restart these instances of the service, one after the other: {}",
                names(ids)
            ),
            Self::Servers(servers) => format!(
                "bring these servers their changed configuration, and restart one after the other, \
                 each while the instances that are connected to it are stopped: {}",
                names(servers)
            ),
            Self::Until(at) => format!(
                "logins that the old key signed may last until {}; go on then (or say --now, which \
                 closes their connections)",
                time(*at)
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Instances(ids) => json!({ "restart_instances": ids }),
            Self::Servers(servers) => json!({ "restart_servers": servers }),
            Self::Until(at) => json!({ "wait_until": time(*at) }),
        }
    }
}

/// Tells a person what was done.
pub(super) fn tell(lines: Vec<String>) {
    for line in lines {
        note(&line);
    }
}
