//! The policies in use, read again whenever their folder changes. A login is decided by one whole
//! set, the old or the new; an edit with mistakes is reported and changes nothing.
//!
//! The folder's texts are read a few times a second and compared: that sees every kind of edit,
//! exchanged symbolic links (of the folder, as of a ConfigMap's files) and network file systems
//! included, which notifications of the operating system do not, and costs some 0.1 ms.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::counter;
use parking_lot::Mutex;

use super::metrics::{Metrics, set};
use crate::authn::Principal;
use crate::config::Config;
use crate::deployment::policies::faults;
use crate::exposure::{POLICIES, Trust};
use crate::policy::rules::{PolicyError, PolicySet, Source, Sources};
use crate::policy::{ConnectionContext, Decision, Policy};

/// How often the folder is read. An edit is taken once two readings in a row are the same, so that
/// a file that is being written is not; which is well within the second that is promised.
const PERIOD: Duration = Duration::from_millis(200);

/// The policies in use.
#[derive(Debug)]
pub(super) struct Policies {
    current: ArcSwap<PolicySet>,
    folder: Option<PathBuf>,
    trust: Trust,
    seen: Mutex<Seen>,
    broken: AtomicBool,
    reloads: AtomicU64,
}

/// What a reading of the folder gave: its texts, or why there are none.
type Reading = Result<Vec<Source>, String>;

#[derive(Debug)]
struct Seen {
    /// The last reading.
    last: Reading,
    /// The last one that was looked into.
    judged: Reading,
}

impl Policies {
    /// Reads the configured policies for the first time; the shipped ones have no folder.
    pub(super) fn read(folder: Option<PathBuf>, trust: Trust) -> Result<Self, PolicyError> {
        let sources = match &folder {
            Some(folder) => Sources::of(folder)?.policies,
            None => Vec::new(),
        };
        let current = ArcSwap::from_pointee(PolicySet::read(sources.clone())?);
        let seen = Seen { last: Ok(sources.clone()), judged: Ok(sources) };
        Ok(Self {
            current,
            folder,
            trust,
            seen: Mutex::new(seen),
            broken: AtomicBool::new(false),
            reloads: AtomicU64::new(0),
        })
    }

    /// Says which policies issuers name that there are not, or that want more than is handed to them, now: they may be
    /// edited later.
    pub(super) fn warn_of_faults(&self, config: &Config) {
        for problem in faults(config, &self.current.load()) {
            tracing::warn!("{problem}");
        }
    }

    pub(super) fn show(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.show(move || {
            set("nats_callout_policies_broken", this.are_broken());
            counter!("nats_callout_policy_reloads_total").absolute(this.reloads());
        });
    }

    /// Follows the folder, if there is one.
    pub(super) async fn watch(self: Arc<Self>) {
        if self.folder.is_none() {
            return;
        }
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let policies = Arc::clone(&self);
            // A network file system may hang, which must not hold up logins.
            if tokio::task::spawn_blocking(move || policies.refresh()).await.is_err() {
                tracing::error!("the policies were not read again; the old ones stay in use");
            }
        }
    }

    /// Whether the last edit was not taken.
    fn are_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// How many edits were taken.
    fn reloads(&self) -> u64 {
        self.reloads.load(Relaxed)
    }

    /// Reads the folder once, and takes what has not changed since the last time.
    fn refresh(&self) {
        let Some(folder) = &self.folder else { return };
        let reading = match Sources::of(folder) {
            // The first that others can change: an edit may be theirs.
            Ok(sources) => match self.trust.writers_in(folder, POLICIES).first() {
                None => Ok(sources.policies),
                Some(exposure) => Err(exposure.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        let mut seen = self.seen.lock();
        if seen.last != reading {
            seen.last = reading;
            return;
        }
        if seen.judged == reading {
            return;
        }
        seen.judged = reading.clone();
        drop(seen);
        let judged =
            reading.and_then(|sources| PolicySet::read(sources).map_err(|error| error.to_string()));
        match judged {
            Ok(policies) => {
                let names: Vec<&str> = policies.names().collect();
                tracing::info!(
                    policies = names.join(", "),
                    "the policies were edited and are in use"
                );
                self.current.store(Arc::new(policies));
                self.broken.store(false, Relaxed);
                self.reloads.fetch_add(1, Relaxed);
            }
            Err(error) => {
                tracing::error!(
                    "the policies were edited and cannot be used; the old ones stay in use: {error}"
                );
                self.broken.store(true, Relaxed);
            }
        }
    }
}

impl Policy for Policies {
    fn decide(&self, principal: &Principal, context: &ConnectionContext<'_>) -> Decision {
        self.current.load().decide(principal, context)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::ConnectionType;
    use crate::store::{Isolation, LoginRecord, TenantRecord, UserKind, UserRecord};

    fn write(folder: &Path, number: u32) {
        let text = format!(
            "[account]\npublish = [\"v.{number}\"]\nsubscribe = [\"v.{number}\"]\n[shared]\n"
        );
        std::fs::write(folder.join("live.toml"), text).unwrap();
    }

    fn version(policies: &Policies) -> String {
        let record = LoginRecord {
            tenant: TenantRecord::new("42".parse().unwrap()),
            user: UserRecord {
                policy: Some("live".to_owned()),
                ..UserRecord::new("alice", UserKind::Bb)
            },
        };
        let principal = Principal::new(Arc::new(record), "password", None, 0).unwrap();
        let client = ConnectionType::Nats.client();
        let context = ConnectionContext { isolation: Isolation::Account, client: &client, now: 0 };
        let Decision::Permit(grant) = policies.decide(&principal, &context) else {
            panic!("refused")
        };
        assert_eq!(grant.publish, grant.subscribe, "of one set");
        grant.publish[0].to_string()
    }

    #[test]
    fn an_edit_is_taken_once_it_has_settled_and_only_if_it_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1);
        let policies = Policies::read(Some(folder.path().to_owned()), Trust::new(None)).unwrap();
        let refresh = || {
            policies.refresh();
            (version(&policies), policies.are_broken(), policies.reloads())
        };
        let is = |number: u32, broken, reloads| (format!("v.{number}"), broken, reloads);
        assert_eq!(refresh(), is(1, false, 0));
        write(folder.path(), 2);
        assert_eq!(refresh(), is(1, false, 0), "it may be half written");
        write(folder.path(), 3);
        assert_eq!(refresh(), is(1, false, 0), "it was");
        assert_eq!(refresh(), is(3, false, 1));
        assert_eq!(refresh(), is(3, false, 1));
        std::fs::write(folder.path().join("live.toml"), "[account]\n").unwrap();
        assert_eq!(refresh(), is(3, false, 1));
        assert_eq!(refresh(), is(3, true, 1));
        assert_eq!(refresh(), is(3, true, 1));
        // As it was before the mistake.
        write(folder.path(), 3);
        refresh();
        assert_eq!(refresh(), is(3, false, 2));
        let away = folder.path().with_extension("away");
        std::fs::rename(folder.path(), &away).unwrap();
        refresh();
        assert_eq!(refresh(), is(3, true, 2));
        std::fs::rename(&away, folder.path()).unwrap();
        refresh();
        assert_eq!(refresh(), is(3, false, 3));
    }

    #[test]
    fn a_thousand_edits_and_never_a_mixture() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 0);
        let policies = Policies::read(Some(folder.path().to_owned()), Trust::new(None)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while policies.reloads() < 1_000 {
                        version(&policies);
                    }
                });
            }
            for number in 1..=1_000 {
                write(folder.path(), number);
                policies.refresh();
                policies.refresh();
                assert_eq!(version(&policies), format!("v.{number}"));
            }
        });
    }
}
