//! Who may ask an issuer about a token, and when. Made-up tokens cost whoever sends them nothing, so nobody's may
//! keep those of others waiting: who waits, waits by the address that his login comes from, and the addresses
//! take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Where a login comes from; none of a renewal, or where that is no address.
pub(super) type Network = Option<IpNet>;

/// The places of those who ask one issuer. Clones give the same ones.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// So many wait at most.
    most: usize,
    waiting: HashMap<Network, VecDeque<oneshot::Sender<Place>>>,
    /// Those of whom somebody waits, the next one first.
    turns: VecDeque<Network>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Places>);

impl Places {
    pub(super) fn new(free: usize, most: usize) -> Self {
        let (waiting, turns) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(State { free, most, waiting, turns })))
    }

    /// Waits for a place; none where too many wait, and most of them for this source.
    pub(super) async fn take(&self, source: Network) -> Option<Place> {
        let called = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Some(self.clone())));
            }
            let (call, called) = oneshot::channel();
            state.push(source, call);
            state.shed();
            called
        };
        called.await.ok()
    }
}

impl State {
    fn push(&mut self, source: Network, call: oneshot::Sender<Place>) {
        let of_source = self.waiting.entry(source).or_default();
        if of_source.is_empty() {
            self.turns.push_back(source);
        }
        of_source.push_back(call);
    }

    /// The next one; his source comes last then.
    fn pop(&mut self) -> Option<oneshot::Sender<Place>> {
        let source = self.turns.pop_front()?;
        let of_source = self.waiting.get_mut(&source)?;
        let call = of_source.pop_front();
        if of_source.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        call
    }

    /// Where too many wait, the latest of those goes who wait for the most.
    fn shed(&mut self) {
        if self.waiting.values().map(VecDeque::len).sum::<usize>() <= self.most {
            return;
        }
        // Some may have given up.
        for of_source in self.waiting.values_mut() {
            of_source.retain(|call| !call.is_closed());
        }
        self.waiting.retain(|_, of_source| !of_source.is_empty());
        self.turns.retain(|source| self.waiting.contains_key(source));
        if self.waiting.values().map(VecDeque::len).sum::<usize>() > self.most
            && let Some(longest) = self.waiting.values_mut().max_by_key(|it| it.len())
        {
            longest.pop_back();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.0.take() else { return };
        loop {
            let Some(call) = ({
                let mut state = places.0.lock();
                let next = state.pop();
                if next.is_none() {
                    state.free += 1;
                }
                next
            }) else {
                return;
            };
            match call.send(Self(Some(places.clone()))) {
                Ok(()) => return,
                // He has given up.
                Err(mut place) => place.0 = None,
            }
        }
    }
}

/// The logins that wait for any issuer: a part of all that may be under way.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    by_source: Mutex<HashMap<Network, usize>>,
}

/// A login that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Waits<'a> {
    crowd: &'a Crowd,
    source: Network,
}

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), by_source: Mutex::default() }
    }

    /// Lets one wait more; none where as many wait as may. Sources with less than an equal share of them are let in
    /// all the same, twice as many in all.
    pub(super) fn enter(&self, source: Network) -> Option<Waits<'_>> {
        let mut by_source = self.by_source.lock();
        let all: usize = by_source.values().sum();
        let own = by_source.get(&source).copied().unwrap_or_default();
        let share = self.most / (by_source.len() + 1);
        if all >= self.most && (own >= share.max(1) || all >= 2 * self.most) {
            return None;
        }
        *by_source.entry(source).or_default() += 1;
        Some(Waits { crowd: self, source })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut by_source = self.crowd.by_source.lock();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn from(address: &str) -> Network {
        Some(address.parse().unwrap())
    }

    #[test]
    fn addresses_take_turns() {
        let places = Places::new(1, 100);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let first = places.take(many).now_or_never().unwrap().unwrap();
        let mut flood: Vec<_> = (0..50).map(|_| Box::pin(places.take(many))).collect();
        flood.iter_mut().for_each(|it| assert!(it.now_or_never().is_none()));
        let mut other = Box::pin(places.take(one));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        let second = (&mut flood[0]).now_or_never().unwrap().unwrap();
        assert!((&mut other).now_or_never().is_none());
        drop(second);
        assert!(other.now_or_never().unwrap().is_some(), "after one of fifty");
    }

    #[test]
    fn who_has_given_up_holds_nobody_up() {
        let places = Places::new(1, 100);
        let first = places.take(None).now_or_never().unwrap().unwrap();
        let mut gone = Box::pin(places.take(None));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(places.take(None));
        assert!((&mut next).now_or_never().is_none());
        drop(gone);
        drop(first);
        drop(next.now_or_never().unwrap().unwrap());
        assert!(places.take(None).now_or_never().unwrap().is_some(), "the place is free again");
    }

    #[test]
    fn where_too_many_wait_the_crowds_latest_goes() {
        let places = Places::new(1, 3);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let _first = places.take(many).now_or_never().unwrap().unwrap();
        let mut flood: Vec<_> = (0..3).map(|_| Box::pin(places.take(many))).collect();
        flood.iter_mut().for_each(|it| assert!(it.now_or_never().is_none()));
        let mut other = Box::pin(places.take(one));
        assert!((&mut other).now_or_never().is_none(), "waits");
        assert!((&mut flood[2]).now_or_never().unwrap().is_none(), "is dropped");
        assert!((&mut flood[1]).now_or_never().is_none());
        assert!(places.take(many).now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_crowd_leaves_room_for_others() {
        let crowd = Crowd::new(10);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let flood: Vec<_> = (0..20).filter_map(|_| crowd.enter(many)).collect();
        assert_eq!(flood.len(), 10);
        let others: Vec<_> = (0..20).filter_map(|_| crowd.enter(one)).collect();
        assert_eq!(others.len(), 3, "a third, with somebody who may still come");
        drop(flood);
        assert!(crowd.enter(many).is_some());
        drop(others);
        assert!(crowd.by_source.lock().is_empty());
    }
}
