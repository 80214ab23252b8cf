//! The running instances, and the keys that each says it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;

use super::{KeysError, Result};
use crate::admin::instances::{self, alive};
use crate::deployment::KeyRole;
use crate::deployment::key_role::{KEYS_SUBJECT, KeysOfInstance};
use crate::instance::HEARTBEAT_SECONDS;
use crate::store::Store;

/// How long instances have to answer: longer than a heartbeat is young.
const PATIENCE: Duration = Duration::from_secs(HEARTBEAT_SECONDS as u64 + 1);

/// Those that run.
#[derive(Debug, Default)]
pub(super) struct Instances {
    told: BTreeMap<String, KeysOfInstance>,
    /// They are alive and do not answer.
    silent: BTreeSet<String>,
}

impl Instances {
    /// Asks all that have a young heartbeat in the database.
    pub(super) async fn ask(store: &dyn Store, auth: &Client) -> Result<Self> {
        let mut silent = alive(store).await.map_err(KeysError::Instances)?;
        let mut told = BTreeMap::new();
        let hear = |one: KeysOfInstance| {
            let instance = one.instance.clone();
            told.insert(instance.clone(), one);
            instance
        };
        let asking = instances::ask(auth, KEYS_SUBJECT, &mut silent, hear);
        if let Ok(asked) = tokio::time::timeout(PATIENCE, asking).await {
            asked.map_err(KeysError::connection)?;
        }
        if !silent.is_empty() {
            // One that was killed looked alive for a moment.
            let alive = alive(store).await.map_err(KeysError::Instances)?;
            silent.retain(|instance| alive.contains(instance));
        }
        Ok(Self { told, silent })
    }

    #[cfg(test)]
    pub(super) fn of(told: impl IntoIterator<Item = KeysOfInstance>) -> Self {
        let told = told.into_iter().map(|one| (one.instance.clone(), one)).collect();
        Self { told, silent: BTreeSet::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.told.len() + self.silent.len()
    }

    /// The longest life of a grant by any of them.
    pub(super) fn ttl(&self, own: Duration) -> Duration {
        let longest = self.told.values().map(|one| Duration::from_secs(one.ttl)).max();
        longest.unwrap_or_default().max(own)
    }

    /// Those whose generations of a key do not satisfy `fit`, or are not known.
    pub(super) fn unfit(&self, key: KeyRole, fit: impl Fn(&[String]) -> bool) -> BTreeSet<String> {
        let unfit = self
            .told
            .values()
            .filter(|one| !one.keys.get(key.name()).is_some_and(|generations| fit(generations)));
        unfit.map(|one| one.instance.clone()).chain(self.silent.iter().cloned()).collect()
    }
}
