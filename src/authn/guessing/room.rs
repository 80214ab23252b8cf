//! The places in which guesses wait, with a share for each account and source. Who ranks before
//! another takes his place, so that those who fill it all shut out nobody.
//!
//! They wait here and not in the lane's list, which its threads go through under a lock: with all guesses in
//! that list the column "token p50 / p99" of `cargo bench --bench load -- guessing` got worse with 1,000
//! sources, in each of four runs (p99 24 to 70 ms in the place of 13 to 48 ms).

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::failures::Failures;
use super::standing::{Class, Rank, Standing};

/// One account has one part in so many of all places, and one source that guesses likewise.
const ACCOUNT_PART: usize = 4;
const SOURCE_PART: usize = 16;

/// The places.
#[derive(Debug)]
pub(super) struct Room {
    places: usize,
    taken: Mutex<Vec<Taken>>,
}

#[derive(Debug)]
struct Taken {
    standing: Arc<Standing>,
    /// Cancelled when another takes the place.
    displaced: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    /// One for each attempt, so it tells which place this is.
    standing: Arc<Standing>,
}

impl Room {
    pub(super) fn new(places: usize) -> Self {
        Self { places: places.max(1), taken: Mutex::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.taken().len()
    }

    /// A place, if there is one within the shares, or if somebody who ranks behind `standing` has
    /// one: the last of them is displaced then.
    pub(super) fn enter(
        self: &Arc<Self>,
        standing: &Arc<Standing>,
        displaced: &CancellationToken,
        now: Instant,
    ) -> Option<Place> {
        let rank = standing.rank(now);
        let mut taken = self.taken();
        let part = |of: usize| (self.places / of).max(1);
        if rank.class == Class::Source {
            let source = |other: &Standing| is_same(&other.source, &standing.source);
            make_room(&mut taken, part(SOURCE_PART), source, rank, now)?;
        }
        let account = |other: &Standing| is_same(&other.account, &standing.account);
        make_room(&mut taken, part(ACCOUNT_PART), account, rank, now)?;
        make_room(&mut taken, self.places, |_| true, rank, now)?;
        let (standing, displaced) = (Arc::clone(standing), displaced.clone());
        taken.push(Taken { standing: Arc::clone(&standing), displaced });
        Some(Place { room: Arc::clone(self), standing })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock()
    }
}

/// Sees to it that fewer than `most` of those that `belongs` tells have a place.
fn make_room(
    taken: &mut Vec<Taken>,
    most: usize,
    belongs: impl Fn(&Standing) -> bool,
    rank: Rank,
    now: Instant,
) -> Option<()> {
    let rivals = || taken.iter().enumerate().filter(|(_, other)| belongs(&other.standing));
    if rivals().count() < most {
        return Some(());
    }
    let ranks = rivals().map(|(at, other)| (other.standing.rank(now), at));
    let (_, at) = ranks.max().filter(|(last, _)| *last > rank)?;
    taken.swap_remove(at).displaced.cancel();
    Some(())
}

/// Whether both are counted, and are the same.
fn is_same(one: &Option<Arc<Failures>>, other: &Option<Arc<Failures>>) -> bool {
    one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken().retain(|other| !Arc::ptr_eq(&other.standing, &self.standing));
    }
}
