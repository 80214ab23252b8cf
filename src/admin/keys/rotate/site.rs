//! Where a rotation is done: the folders of the keys, and the seeds in them.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::{KeysError, Result, files, folder};
use crate::config::Config;
use crate::deployment::KeyRole;

/// The folders of a deployment's keys; nobody else changes keys meanwhile.
pub(super) struct Site {
    /// Where the keys in use lie.
    pub(super) folder: PathBuf,
    offline: Option<PathBuf>,
    _lock: File,
}

impl Site {
    /// The offline keys are beside those in use, if they are there, unless another folder is named.
    pub(super) fn enter(config: &Config, offline: Option<&Path>) -> Result<Self> {
        if let Some(fault) = config.audit().faults.into_iter().next() {
            return Err(fault.into());
        }
        let folder = folder(config)?;
        if let Some(named) = offline {
            check_offline(named, &folder)?;
        }
        let beside = Some(folder.join("offline")).filter(|folder| folder.is_dir());
        let offline = offline.map(Path::to_owned).or(beside);
        let lock = files::lock(&folder)?;
        for folder in [Some(&folder), offline.as_ref(), Some(&config.folder)].into_iter().flatten()
        {
            files::tidy(folder)?;
        }
        Ok(Self { folder, offline, _lock: lock })
    }

    pub(super) fn offline(&self) -> Result<&Path> {
        let unnamed = || KeysError::OfflineUnnamed(self.folder.join("offline"));
        self.offline.as_deref().ok_or_else(unnamed)
    }

    pub(super) fn is_offline(&self, file: &Path) -> bool {
        self.offline.is_some() && self.offline.as_deref() == file.parent()
    }

    /// Where the seed of a public key is: among those in use, else among the offline ones.
    pub(super) fn find(&self, config: &Config, key: KeyRole, public: &str) -> Option<PathBuf> {
        let named = key.files(config).iter();
        let named = named.filter_map(|path| Some((files::public_of(key, path)?, path.clone())));
        let seeds = self.folders().flat_map(|folder| files::seeds_in(key, folder));
        named.chain(seeds).find_map(|(found, path)| (found == public).then_some(path))
    }

    /// Removes all files of a generation that is out of use, and of the one in use what told of it
    /// as the next. Gives the seeds that were removed.
    pub(super) fn remove(&self, key: KeyRole, old: &str, new: &str) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for folder in self.folders() {
            for (public, path) in files::seeds_in(key, folder) {
                if public == old || (public == new && folder != self.folder) {
                    files::remove(&path)?;
                    removed.push(path);
                }
            }
            for path in files::publics_in(key, folder, &[old, new]) {
                files::remove(&path)?;
            }
        }
        Ok(removed)
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.folder.as_path()).chain(self.offline.as_deref())
    }
}

fn check_offline(named: &Path, in_use: &Path) -> Result<()> {
    if !named.is_dir() {
        return Err(KeysError::NoFolder(named.to_owned()));
    }
    let real = |path: &Path| path.canonicalize().map_err(KeysError::file("cannot open", path));
    if real(named)? == real(in_use)? {
        return Err(KeysError::SameFolder(named.to_owned()));
    }
    Ok(())
}

/// A seed that an earlier attempt has made and nothing uses, or a new one.
pub(super) fn spare(key: KeyRole, folder: &Path, used: &[&str]) -> Result<String> {
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
