//! Who may ask an issuer about a token, and when. Made-up tokens cost whoever sends them nothing, so nobody's may
//! keep those of others waiting: who waits, waits by the network that his login comes from. The networks take
//! turns, those first from which the issuer has called a token active lately. Where more wait than may, the latest
//! of the largest crowd gives way, so that a crowd has all the room that nobody else wants.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Of so many places one goes to a stranger, if any waits: he may become known so.
const STRANGERS_PART: usize = 4;

/// Where a login comes from; none of a renewal, or where that is no address.
pub(super) type Network = Option<IpNet>;

/// Those who wait, by what they have in common.
#[derive(Debug)]
struct Crowds<K, T> {
    crowds: HashMap<K, Crowd<T>>,
    /// So many wait at most.
    most: usize,
}

#[derive(Debug)]
struct Crowd<T> {
    /// Whether it is no stranger's.
    is_known: bool,
    waiting: VecDeque<oneshot::Sender<T>>,
}

impl<K: Clone + Eq + Hash, T> Crowds<K, T> {
    fn new(most: usize) -> Self {
        Self { crowds: HashMap::new(), most }
    }

    fn has(&self, key: &K) -> bool {
        self.crowds.contains_key(key)
    }

    fn len(&self) -> usize {
        self.crowds.values().map(|crowd| crowd.waiting.len()).sum()
    }

    /// Adds one. Where too many wait then, the latest of the largest crowd is dropped, of crowds of one size
    /// that of a stranger, and the newest among those.
    fn push(&mut self, key: K, is_known: bool, call: oneshot::Sender<T>) {
        let new = || Crowd { is_known, waiting: VecDeque::new() };
        let own = self.crowds.entry(key.clone()).or_insert_with(new);
        own.is_known |= is_known;
        own.waiting.push_back(call);
        if self.len() <= self.most {
            return;
        }
        self.forget_gone();
        if self.len() > self.most {
            let ranks = self
                .crowds
                .iter()
                .map(|(at, crowd)| ((crowd.waiting.len(), !crowd.is_known, *at == key), at));
            if let Some((_, largest)) = ranks.max_by_key(|(rank, _)| *rank) {
                self.pop(&largest.clone(), VecDeque::pop_back);
            }
        }
    }

    /// Takes one out of a crowd.
    fn pop(
        &mut self,
        key: &K,
        which: fn(&mut VecDeque<oneshot::Sender<T>>) -> Option<oneshot::Sender<T>>,
    ) -> Option<oneshot::Sender<T>> {
        let crowd = self.crowds.get_mut(key)?;
        let call = which(&mut crowd.waiting);
        if crowd.waiting.is_empty() {
            self.crowds.remove(key);
        }
        call
    }

    /// Without those who have given up.
    fn forget_gone(&mut self) {
        for crowd in self.crowds.values_mut() {
            crowd.waiting.retain(|call| !call.is_closed());
        }
        self.crowds.retain(|_, crowd| !crowd.waiting.is_empty());
    }
}

/// The places of those who ask one issuer. Clones give the same ones.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// How many were given to somebody who had waited.
    given: usize,
    crowds: Crowds<Network, Place>,
    /// Whose turn it is, the next one first. Some may wait no more.
    turns: VecDeque<Network>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Places>);

impl Places {
    pub(super) fn new(free: usize, most: usize) -> Self {
        let (crowds, turns) = (Crowds::new(most), VecDeque::new());
        Self(Arc::new(Mutex::new(State { free, given: 0, crowds, turns })))
    }

    /// Waits for a place; none where too many wait, and most of them for this network.
    pub(super) async fn take(&self, source: Network, is_known: bool) -> Option<Place> {
        let called = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Some(self.clone())));
            }
            let (call, called) = oneshot::channel();
            state.push(source, is_known, call);
            called
        };
        called.await.ok()
    }
}

impl State {
    fn push(&mut self, source: Network, is_known: bool, call: oneshot::Sender<Place>) {
        if !self.crowds.has(&source) {
            self.turns.push_back(source);
        }
        self.crowds.push(source, is_known, call);
        self.turns.retain(|source| self.crowds.has(source));
    }

    /// The next one; his network comes last then.
    fn pop(&mut self) -> Option<oneshot::Sender<Place>> {
        let strangers = self.given % STRANGERS_PART == STRANGERS_PART - 1;
        let is_first = |source: &Network| {
            self.crowds.crowds.get(source).is_some_and(|crowd| crowd.is_known != strangers)
        };
        let at = self.turns.iter().position(is_first).unwrap_or(0);
        let source = self.turns.remove(at)?;
        let call = self.crowds.pop(&source, VecDeque::pop_front);
        if self.crowds.has(&source) {
            self.turns.push_back(source);
        }
        self.given = self.given.wrapping_add(1);
        call
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

/// The issuer that is to be asked, and where the login comes from: who waits for one is no crowd of another's.
type Asker = (Arc<str>, Network);

/// The logins that wait for any issuer: a part of all that may be under way.
#[derive(Debug)]
pub(super) struct Logins(Mutex<Crowds<Asker, ()>>);

/// A login that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Waits<'a> {
    logins: &'a Logins,
    gives_way: oneshot::Receiver<()>,
}

impl Logins {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(Crowds::new(most.max(1))))
    }

    /// Lets one wait, for whom another may have to give way.
    pub(super) fn enter(&self, asker: Asker, is_known: bool) -> Waits<'_> {
        let (call, gives_way) = oneshot::channel();
        self.0.lock().push(asker, is_known, call);
        Waits { logins: self, gives_way }
    }
}

impl Waits<'_> {
    /// Ends when the login has to give way, which may be at once.
    pub(super) async fn gives_way(&mut self) {
        let _ = (&mut self.gives_way).await;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.gives_way.close();
        self.logins.0.lock().forget_gone();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    fn from(address: &str) -> Network {
        Some(address.parse().unwrap())
    }

    /// The network with this number.
    fn network(number: u8) -> Network {
        from(&format!("203.0.113.{number}/32"))
    }

    /// Somebody who waits already.
    fn waiting(
        places: &Places,
        source: Network,
        is_known: bool,
    ) -> Pin<Box<impl Future<Output = Option<Place>>>> {
        let mut waiting = Box::pin(places.take(source, is_known));
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    /// The place of one of these who has got it.
    fn taken<F: Future<Output = Option<Place>>>(waiting: &mut Vec<Pin<Box<F>>>) -> Option<Place> {
        let mut all = waiting.iter_mut().enumerate();
        let (at, place) = all.find_map(|(at, it)| Some((at, it.now_or_never().flatten()?)))?;
        drop(waiting.remove(at));
        Some(place)
    }

    fn first(places: &Places) -> Place {
        places.take(from("192.0.2.254/32"), false).now_or_never().unwrap().unwrap()
    }

    #[test]
    fn networks_take_turns() {
        let places = Places::new(1, 100);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let first = first(&places);
        let mut flood: Vec<_> = (0..50).map(|_| waiting(&places, many, false)).collect();
        let mut other = waiting(&places, one, false);
        drop(first);
        let second = (&mut flood[0]).now_or_never().unwrap().unwrap();
        assert!((&mut other).now_or_never().is_none());
        drop(second);
        assert!(other.now_or_never().unwrap().is_some(), "after one of fifty");
    }

    #[test]
    fn who_has_been_in_comes_first_and_strangers_have_a_share() {
        let places = Places::new(1, 100);
        let first = first(&places);
        let mut strangers: Vec<_> =
            (0..20).map(|number| waiting(&places, network(number), false)).collect();
        let mut known: Vec<_> =
            (100..110).map(|number| waiting(&places, network(number), true)).collect();
        let (mut place, mut served) = (first, String::new());
        for _ in 0..15 {
            drop(place);
            let (who, called) = match taken(&mut known) {
                Some(called) => ('k', called),
                None => ('s', taken(&mut strangers).expect("somebody")),
            };
            served.push(who);
            place = called;
        }
        // Nothing is kept back of what nobody else wants.
        assert_eq!(served, "kkkskkkskkkskss");
    }

    #[test]
    fn who_has_given_up_holds_nobody_up() {
        let places = Places::new(1, 100);
        let first = first(&places);
        let gone = waiting(&places, None, false);
        let next = waiting(&places, None, false);
        drop(gone);
        drop(first);
        drop(next.now_or_never().unwrap().unwrap());
        assert!(places.take(None, false).now_or_never().unwrap().is_some(), "it is free again");
    }

    #[test]
    fn where_too_many_wait_the_crowds_latest_goes() {
        let places = Places::new(1, 3);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let _first = first(&places);
        let mut flood: Vec<_> = (0..3).map(|_| waiting(&places, many, false)).collect();
        let mut other = waiting(&places, one, false);
        assert!((&mut flood[2]).now_or_never().unwrap().is_none(), "is dropped");
        assert!((&mut flood[1]).now_or_never().is_none());
        assert!(places.take(many, false).now_or_never().unwrap().is_none());
        assert!((&mut other).now_or_never().is_none(), "waits");
        // Of crowds of one size those of strangers, and the newest of them.
        let mut known = waiting(&places, network(1), true);
        assert!((&mut flood[1]).now_or_never().unwrap().is_none());
        assert!(places.take(network(2), false).now_or_never().unwrap().is_none());
        assert!((&mut known).now_or_never().is_none());
        drop(waiting(&places, network(3), true));
        let state = places.0.lock();
        assert_eq!(state.turns.len(), state.crowds.crowds.len());
    }

    fn has_to_go(waits: &mut Waits<'_>) -> bool {
        waits.gives_way().now_or_never().is_some()
    }

    #[test]
    fn a_crowd_has_all_the_room_until_others_come() {
        let logins = Logins::new(10);
        let [many, one] = ["192.0.2.1/32", "198.51.100.1/32"].map(from);
        let issuer: Arc<str> = "issuer".into();
        let enter = |source| logins.enter((Arc::clone(&issuer), source), false);
        let mut crowd: Vec<_> = (0..10).map(|_| enter(many)).collect();
        assert!(!crowd.iter_mut().any(has_to_go));
        assert!(has_to_go(&mut enter(many)), "there is no room for the eleventh");
        let mut others: Vec<_> = (0..5).map(|_| enter(one)).collect();
        assert!(!others.iter_mut().any(has_to_go));
        let gone: Vec<_> = crowd.iter_mut().map(has_to_go).collect();
        assert_eq!(gone, [[false; 5], [true; 5]].concat(), "the latest");
        assert!(has_to_go(&mut enter(one)), "no more than they");
        drop((crowd, others));
        assert!(logins.0.lock().crowds.is_empty());
    }

    #[test]
    fn who_waits_for_one_issuer_is_no_crowd_of_anothers() {
        let logins = Logins::new(10);
        let source = from("192.0.2.1/32");
        let mut hung: Vec<_> =
            (0..10).map(|_| logins.enter(("hung".into(), source), false)).collect();
        let mut sound: Vec<_> =
            (0..3).map(|_| logins.enter(("sound".into(), source), false)).collect();
        assert!(!sound.iter_mut().any(has_to_go));
        assert_eq!(hung.iter_mut().filter_map(|it| has_to_go(it).then_some(())).count(), 3);
    }
}
