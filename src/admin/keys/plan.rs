//! The steps of a rotation from here to the end, for who wants to know before anything is changed.

use std::path::{Path, PathBuf};

use super::journal::Journal;
use super::{Admin, Result, Step, check, folder};
use crate::deployment::KeyRole;

/// What the rotation of one key takes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The key.
    pub key: KeyRole,
    /// What is in use.
    pub old: String,
    /// What takes its place; `None`: it is made then.
    pub new: Option<String>,
    /// Where the offline keys are.
    pub offline: PathBuf,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// What it takes to rotate these keys, or all of the mode where none is named. Nothing is changed,
/// and no server is asked.
pub(crate) fn plan(admin: &Admin, keys: &[KeyRole], offline: Option<&Path>) -> Result<Vec<Plan>> {
    let config = &admin.config;
    check(config, keys)?;
    let all = KeyRole::of(config);
    let folder = folder(config)?;
    let journal = Journal::read(&folder)?;
    let offline = offline.map_or_else(|| folder.join("offline"), Path::to_owned);
    let keys = if keys.is_empty() { &all } else { keys };
    let plans = keys.iter().map(|&key| {
        let mut listed = key.public(config)?.into_iter();
        let (old, new) = match journal.under_way(key) {
            Some(rotation) => (rotation.old.clone(), Some(rotation.new.clone())),
            None => (listed.next().unwrap_or_default(), listed.next()),
        };
        let steps = Step::of(key).concat();
        Ok(Plan { key, old, new, offline: offline.clone(), steps })
    });
    plans.collect()
}
