//! Who holds others up in the database, looked at from time to time, for the log and the metrics: a
//! program that hangs in a transaction stops logins and suspensions, and the service cannot end it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;

use super::metrics::{Metrics, size};
use crate::store::{Hindrance, Store};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// What the last look found of a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    /// How many sessions wait for its locks.
    blocks: u64,
    /// How many notices a second it sends, if too many.
    notices: u64,
    /// In how many looks without a break: everybody waits for a moment now and then.
    looks: u32,
}

/// Every role that was ever found, with what the last look found of it.
#[derive(Debug, Default)]
pub(super) struct Hindrances(Mutex<BTreeMap<String, Held>>);

impl Hindrances {
    pub(super) fn show(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.show(move || {
            let nobody = (String::new(), Held::default());
            for (role, held) in this.by_role().into_iter().chain([nobody]) {
                let Held { blocks, notices, .. } = held;
                gauge!("nats_callout_database_blocked", "role" => role.clone()).set(size(blocks));
                gauge!("nats_callout_database_notices", "role" => role).set(size(notices));
            }
        });
    }

    /// Looks from time to time.
    pub(super) async fn watch(&self, store: &dyn Store) {
        loop {
            tokio::time::sleep(LOOK).await;
            match store.hindrances().await {
                Ok(found) => self.note(found),
                // Others say so where the database is away.
                Err(error) => tracing::debug!(%error, "who holds others up is not known"),
            }
        }
    }

    fn by_role(&self) -> BTreeMap<String, Held> {
        self.0.lock().clone()
    }

    fn note(&self, found: Vec<Hindrance>) {
        let mut roles = self.0.lock();
        let before = roles.clone();
        roles.values_mut().for_each(|held| *held = Held::default());
        for Hindrance { role, session, blocks, notices } in found {
            let looks = before.get(&role).map_or(0, |held| held.looks) + 1;
            if looks == 2 {
                tracing::warn!(
                    role,
                    session,
                    blocks,
                    notices,
                    "a session holds others up in the database: these wait for its locks, or it sends \
                     so many notices a second"
                );
            }
            let held = roles.entry(role).or_default();
            held.blocks += blocks;
            held.notices += notices;
            held.looks = looks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_shown_until_it_is_gone() {
        let of = |session, blocks, notices| Hindrance {
            role: "seller".to_owned(),
            session,
            blocks,
            notices,
        };
        let hindrances = Hindrances::default();
        hindrances.note(vec![of(1, 2, 0), of(2, 1, 9_000)]);
        assert_eq!(hindrances.by_role()["seller"], Held { blocks: 3, notices: 9_000, looks: 1 });
        hindrances.note(Vec::new());
        assert_eq!(hindrances.by_role()["seller"], Held::default());
    }
}
