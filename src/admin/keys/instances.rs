//! The running instances, and the keys that each says it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::KeysError;
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
    pub(super) async fn ask(store: &dyn Store, auth: &Client) -> Result<Self, KeysError> {
        let mut silent = alive(store).await?;
        let mut told = BTreeMap::new();
        let inbox = auth.new_inbox();
        let answers = auth.subscribe(inbox.clone()).await;
        let mut answers = answers.map_err(KeysError::connection)?;
        let until = Instant::now() + PATIENCE;
        // One that is just connecting misses a first question.
        let mut repeat = tokio::time::interval(Duration::from_millis(500));
        while !silent.is_empty() {
            tokio::select! {
                _ = repeat.tick() => {
                    let asked = auth.publish_with_reply(KEYS_SUBJECT, inbox.clone(), "".into()).await;
                    asked.map_err(KeysError::connection)?;
                    auth.flush().await.map_err(KeysError::connection)?;
                }
                answer = answers.next() => {
                    let closed = || KeysError::connection("the connection was closed");
                    let answer = answer.ok_or_else(closed)?;
                    if let Ok(one) = serde_json::from_slice::<KeysOfInstance>(&answer.payload) {
                        silent.remove(&one.instance);
                        told.insert(one.instance.clone(), one);
                    }
                }
                () = tokio::time::sleep_until(until) => break,
            }
        }
        if !silent.is_empty() {
            // One that was killed looked alive for a moment.
            let alive = alive(store).await?;
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

async fn alive(store: &dyn Store) -> Result<BTreeSet<String>, KeysError> {
    let alive = store.instances(HEARTBEAT_SECONDS).await.map_err(KeysError::Instances)?;
    Ok(alive.into_iter().collect())
}
