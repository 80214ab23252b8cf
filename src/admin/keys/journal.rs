//! Which rotations are under way: public keys alone, in `rotation.json` beside the keys. What a
//! rotation has come to is looked up each time; this only says from which key to which. One that
//! has ended stays until the others have, so that the same command, run again, does not begin it
//! anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{KeysError, Result, files};
use crate::clock::UnixSeconds;
use crate::config::Config;
use crate::deployment::KeyRole;

/// One rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rotation {
    /// What was in use.
    pub(super) old: String,
    /// What takes its place.
    pub(super) new: String,
    /// When every instance was first seen to sign with the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<UnixSeconds>,
    /// The generation after it, from when the old one is being forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// It has ended, and another has not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) done: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    rotations: BTreeMap<String, Rotation>,
}

impl Journal {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("rotation.json");
        let rotations = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                KeysError::Unfit(format!("{} is not understood: {error}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(KeysError::file("cannot read", &path)(error)),
        };
        Ok(Self { path, rotations })
    }

    pub(super) fn get(&self, key: KeyRole) -> Option<&Rotation> {
        self.rotations.get(key.name())
    }

    /// The rotation of a key, unless it has ended.
    pub(super) fn under_way(&self, key: KeyRole) -> Option<&Rotation> {
        self.get(key).filter(|rotation| !rotation.done)
    }

    /// The keys whose rotation is under way.
    pub(super) fn keys_under_way(&self, config: &Config) -> Vec<KeyRole> {
        let keys = KeyRole::of(config).into_iter();
        keys.filter(|&key| self.under_way(key).is_some()).collect()
    }

    pub(super) fn set(&mut self, key: KeyRole, rotation: Rotation) -> Result<()> {
        self.rotations.insert(key.name().to_owned(), rotation);
        self.write()
    }

    pub(super) fn end(&mut self, key: KeyRole) -> Result<()> {
        if let Some(rotation) = self.rotations.get_mut(key.name()) {
            rotation.done = true;
        }
        if self.rotations.values().all(|rotation| rotation.done) {
            self.rotations.clear();
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        if self.rotations.is_empty() {
            return files::remove(&self.path);
        }
        files::replace(&self.path, &(serde_json::to_string_pretty(&self.rotations)? + "\n"))
    }
}
