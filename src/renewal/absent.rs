//! Servers that are not reached. One may be gone with all its connections, or be cut off for a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::keys::ServerId;

/// For how long one is left alone, and then asked once more.
pub(super) const ALONE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Absent {
    since: HashMap<ServerId, Instant>,
    /// Those whose connections have been forgotten.
    given_up: HashSet<ServerId>,
}

impl Absent {
    /// Whether a server has been found absent a moment ago.
    pub(super) fn is_away(&self, server: ServerId) -> bool {
        self.since.get(&server).is_some_and(|since| since.elapsed() < ALONE)
    }

    /// A server was not reached. Whether it is given up: it was not some time before either.
    pub(super) fn is_given_up(&mut self, server: ServerId) -> bool {
        let since = *self.since.entry(server).or_insert_with(Instant::now);
        let is_gone = since.elapsed() >= ALONE;
        if is_gone {
            self.since.remove(&server);
            self.given_up.insert(server);
        }
        is_gone
    }

    /// A server has answered.
    pub(super) fn is_there(&mut self, server: ServerId) {
        self.since.remove(&server);
    }

    /// Whether one that was given up is known again.
    pub(super) fn is_back(&mut self, is_known: impl Fn(&ServerId) -> bool) -> bool {
        let before = self.given_up.len();
        self.given_up.retain(|server| !is_known(server));
        self.given_up.len() < before
    }
}
