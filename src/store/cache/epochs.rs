//! When what was last invalidated. Names are spread over a fixed number of places: two that share
//! one cost each other a load now and then, and no list of names ever grows.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{Change, Identity};

const PLACES: usize = 1024;

/// Where the last invalidation of something is noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

/// The counter, and the invalidations by place. Users, tenants and tokens share the places.
pub(super) struct Epochs {
    now: AtomicU64,
    everything: AtomicU64,
    places: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    fn place(&self, kind: u8, key: &str) -> Place {
        let hash = self.hasher.hash_one((kind, key));
        Place(usize::try_from(hash % PLACES as u64).unwrap_or(0))
    }

    pub(super) fn user(&self, name: &str) -> Place {
        self.place(b'u', name)
    }

    pub(super) fn tenant(&self, id: &str) -> Place {
        self.place(b't', id)
    }

    pub(super) fn token(&self, hash: &str) -> Place {
        self.place(b'k', hash)
    }

    /// Of its own: an identity is invalidated with the user that holds it.
    pub(super) fn identity(&self, identity: &Identity) -> Place {
        self.place(b'i', identity.as_str())
    }

    /// The current epoch: what begins from now on has a greater one.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// An epoch of its own, greater than all before.
    pub(super) fn advance(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn invalidate(&self, change: &Change) {
        let place = match change {
            Change::Tenant(id) => self.places.get(self.tenant(id).0),
            Change::User(name) => self.places.get(self.user(name).0),
            Change::Token(hash) => self.places.get(self.token(hash).0),
            Change::Everything => None,
        };
        // A load that begins between these two is told from one before by its greater epoch.
        let epoch = self.advance();
        place.unwrap_or(&self.everything).fetch_max(epoch, Ordering::SeqCst);
    }

    /// Whether nothing at these places was invalidated since `began`.
    pub(super) fn stands(&self, began: u64, places: &[Place]) -> bool {
        let before = |epoch: &AtomicU64| epoch.load(Ordering::SeqCst) < began;
        before(&self.everything)
            && places.iter().all(|place| self.places.get(place.0).is_some_and(before))
    }
}
