//! Whose turn it is. So many logins are under way at once, from the decision until the server has read the
//! answer, and the others wait here: what waits inside the server is served in order, those first whose clients
//! have gone, and costs it as much as one who is still there. A decision that takes long, since it waits for a
//! hash or for the database, is set aside, and another has its turn.
//!
//! Those who wait as long as each other are a class, and the classes take turns. In a class the oldest comes
//! first, or the newest once the oldest has little time left: not all can be served then, and who came last has
//! the most of it. Whoever has probably gone comes when nobody else waits, and few of them at once, so that they
//! are not in the way of those who come next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::way::Way;

/// Logins under way at once, without those that are set aside: some 150 ms of work for a server with two cores.
const WINDOW: usize = 256;

/// When a decision is set aside.
const LONG: Duration = Duration::from_millis(50);

/// How much of its time one has to have left, or a quarter of it: some of it had gone before the server asked.
const LEFT: Duration = Duration::from_secs(1);

/// How many are under way where one is called who has probably gone.
const FEW: usize = 16;

/// How often the log speaks of requests that were dropped.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Gives turns. Clones give the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    way: Way,
    most: usize,
    most_waiting: usize,
    state: Mutex<State>,
    /// Somebody waits.
    waits: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Without those that are set aside.
    under_way: usize,
    /// Those in decision that are not set aside, by their numbers, which rise, and when they began.
    deciding: BTreeMap<u64, Instant>,
    set_aside: BTreeSet<u64>,
    next: u64,
    waiting: usize,
    /// By how long they wait for an answer.
    classes: BTreeMap<Duration, VecDeque<Waiting>>,
    /// The class that had the last turn.
    last: Duration,
    /// Those who have probably gone, oldest first.
    stale: VecDeque<Waiting>,
    shed: u64,
    /// Dropped since the log last said so, and when that was.
    unsaid: u64,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    called: oneshot::Sender<Turn>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LoadStats {
    /// Logins under way: in decision, or answered and not yet read by the server.
    pub(crate) in_flight: usize,
    /// Requests that wait for one of those to end.
    pub(crate) waiting: usize,
    /// Requests dropped unanswered so far.
    pub(crate) shed: u64,
}

/// A login that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    /// `None` once it is another's.
    number: Option<u64>,
}

impl Turns {
    pub(super) fn new(most: usize, most_waiting: usize, way: Way) -> Self {
        let (state, waits) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { way, most, most_waiting, state, waits }))
    }

    /// The numbers as they are now.
    #[must_use]
    pub(crate) fn stats(&self) -> LoadStats {
        let state = self.0.state.lock();
        let in_flight = state.under_way + state.set_aside.len();
        LoadStats { in_flight, waiting: state.waiting, shed: state.shed }
    }

    /// Waits for a turn of a request that came at `since`, whose client waits for so long. `None` if it was
    /// dropped, since too many wait.
    pub(super) async fn wait(&self, since: Instant, patience: Duration) -> Option<Turn> {
        let turn = {
            let mut state = self.0.state.lock();
            let now = Instant::now();
            if state.waiting == 0 && state.has_room(self.0.most, now) {
                let number = Some(state.begin(now));
                return Some(Turn { turns: self.clone(), number });
            }
            let (called, turn) = oneshot::channel();
            state.classes.entry(patience).or_default().push_back(Waiting { since, called });
            state.waiting += 1;
            if state.waiting > self.0.most_waiting {
                state.drop_one();
            }
            self.call(&mut state);
            self.0.waits.notify_one();
            turn
        };
        turn.await.ok()
    }

    /// For how long nats-server holds an answer up: on its way, and before it goes out while the server has not
    /// read most of those before it.
    pub(crate) fn held_up(&self) -> Duration {
        let waits = {
            let state = self.0.state.lock();
            let unread = state.under_way - state.deciding.len();
            state.oldest().filter(|_| unread > WINDOW / 2)
        };
        waits.map_or(Duration::ZERO, |since| since.elapsed()).max(self.0.way.longest())
    }

    /// Whether that takes a good part of a client's time.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up() >= self.0.way.patience() / 4
    }

    /// Sets aside what takes long while somebody waits, though nothing else happens meanwhile.
    pub(super) async fn watch(&self) {
        loop {
            while self.stats().waiting == 0 {
                self.0.waits.notified().await;
            }
            tokio::time::sleep(LONG).await;
            self.call(&mut self.0.state.lock());
        }
    }

    /// A request is dropped before it is opened.
    pub(super) fn note_shed(&self) {
        self.0.state.lock().note_shed();
    }

    /// Calls those who wait, as far as there is room.
    fn call(&self, state: &mut State) {
        let (now, way) = (Instant::now(), self.0.way.of_most());
        while state.has_room(self.0.most, now)
            && let Some(Waiting { called, .. }) = state.next(now, way)
        {
            let number = state.begin(now);
            if let Err(mut turn) = called.send(Turn { turns: self.clone(), number: Some(number) }) {
                // Its request is given up.
                turn.number = None;
                state.end(number);
            }
        }
    }
}

impl Turn {
    /// The decision has been made, and the answer goes out.
    pub(super) fn is_decided(&self) {
        if let Some(number) = self.number {
            let mut state = self.turns.0.state.lock();
            if state.set_aside.remove(&number) {
                state.under_way += 1;
            } else {
                state.deciding.remove(&number);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let mut state = self.turns.0.state.lock();
            state.end(number);
            self.turns.call(&mut state);
        }
    }
}

impl State {
    /// Whether one more may begin, of so many in all; those whose decisions take long are set aside.
    fn has_room(&mut self, most: usize, now: Instant) -> bool {
        while self.under_way >= WINDOW
            && let Some(first) = self.deciding.first_entry()
            && now.saturating_duration_since(*first.get()) >= LONG
        {
            self.set_aside.insert(first.remove_entry().0);
            self.under_way -= 1;
        }
        self.under_way < WINDOW && self.under_way + self.set_aside.len() < most
    }

    fn begin(&mut self, now: Instant) -> u64 {
        self.next += 1;
        self.under_way += 1;
        self.deciding.insert(self.next, now);
        self.next
    }

    fn end(&mut self, number: u64) {
        self.deciding.remove(&number);
        if !self.set_aside.remove(&number) {
            self.under_way -= 1;
        }
    }

    /// Who is next. What goes out now is read after `way`.
    fn next(&mut self, now: Instant, way: Duration) -> Option<Waiting> {
        let Self { under_way, classes, stale, last, waiting, .. } = self;
        for (patience, class) in classes.iter_mut() {
            let has_gone =
                |it: &mut Waiting| now.saturating_duration_since(it.since) + way >= *patience;
            while let Some(gone) = class.pop_front_if(has_gone) {
                stale.push_back(gone);
            }
        }
        classes.retain(|_, class| !class.is_empty());
        let given_up = |it: &mut Waiting| it.called.is_closed();
        while stale.pop_front_if(given_up).is_some() {
            *waiting -= 1;
        }
        let after = (std::ops::Bound::Excluded(*last), std::ops::Bound::Unbounded);
        let turn = classes.range(after).next().or_else(|| classes.iter().next());
        let next = match turn.map(|(patience, _)| *patience) {
            None if *under_way < FEW => stale.pop_back(),
            None => None,
            Some(patience) => {
                *last = patience;
                let class = classes.get_mut(&patience)?;
                let old = patience.saturating_sub(LEFT.max(patience / 4));
                let is_old =
                    class.front().is_some_and(|it| now.saturating_duration_since(it.since) >= old);
                if is_old { class.pop_back() } else { class.pop_front() }
            }
        };
        *waiting -= usize::from(next.is_some());
        next
    }

    /// Since when the one has waited who has for longest, of those who still do.
    fn oldest(&self) -> Option<Instant> {
        self.classes.values().filter_map(|class| class.front()).map(|it| it.since).min()
    }

    /// Drops one who has probably gone, or who has waited for longest.
    fn drop_one(&mut self) {
        let oldest = |class: &VecDeque<Waiting>| class.front().map(|it| it.since);
        let dropped = self.stale.pop_front().or_else(|| {
            let classes = self.classes.values_mut().filter(|class| !class.is_empty());
            classes.min_by_key(|class| oldest(class))?.pop_front()
        });
        if dropped.is_some() {
            self.waiting -= 1;
            self.note_shed();
        }
    }

    fn note_shed(&mut self) {
        self.shed += 1;
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::warn!(dropped = self.unsaid, "overloaded: requests were dropped unanswered");
            (self.unsaid, self.said) = (0, Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const TWO: Duration = Duration::from_secs(2);
    const TEN: Duration = Duration::from_secs(10);

    fn turns(most: usize, most_waiting: usize) -> Turns {
        Turns::new(most, most_waiting, Way::new(1, 1))
    }

    fn ago(time: Duration) -> Instant {
        Instant::now().checked_sub(time).unwrap()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// All that there are.
    fn taken(turns: &Turns, count: usize) -> Vec<Turn> {
        let take = || turns.wait(Instant::now(), TWO).now_or_never().expect("at once");
        (0..count).map(|_| take().expect("a turn")).collect()
    }

    type Waiter = tokio::task::JoinHandle<()>;

    /// Waits for turns, and says who had his; none lasts.
    struct Crowd {
        turns: Turns,
        came: Arc<Mutex<Vec<&'static str>>>,
        waiters: Vec<Waiter>,
    }

    impl Crowd {
        async fn of(turns: &Turns, who: &[(&'static str, Duration, Duration)]) -> Self {
            let (came, mut waiters) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
            for &(name, age, patience) in who {
                let (turns, came) = (turns.clone(), Arc::clone(&came));
                let before = turns.stats().waiting;
                let waiting = turns.clone();
                waiters.push(tokio::spawn(async move {
                    if let Some(turn) = waiting.wait(ago(age), patience).await {
                        came.lock().push(name);
                        drop(turn);
                    }
                }));
                while turns.stats().waiting == before {
                    tokio::task::yield_now().await;
                }
            }
            Self { turns: turns.clone(), came, waiters }
        }

        async fn order(self, ends: Turn) -> Vec<&'static str> {
            drop(ends);
            for waiter in self.waiters {
                waiter.await.unwrap();
            }
            assert_eq!(self.turns.stats().waiting, 0);
            self.came.lock().clone()
        }
    }

    #[tokio::test]
    async fn who_came_first_is_first_while_all_have_time() {
        let turns = turns(1, 8);
        let only = taken(&turns, 1).remove(0);
        let who = [("a", ms(500), TWO), ("b", ms(400), TWO), ("c", ms(0), TWO)];
        let order = Crowd::of(&turns, &who).await.order(only).await;
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(turns.stats(), LoadStats::default());
    }

    #[tokio::test]
    async fn who_came_last_is_first_once_the_oldest_has_little_time_and_who_has_gone_is_last() {
        let turns = turns(1, 8);
        let only = taken(&turns, 1).remove(0);
        let who = [
            ("gone first", ms(2_600), TWO),
            ("gone", ms(2_500), TWO),
            ("old", ms(1_200), TWO),
            ("middle", ms(700), TWO),
            ("new", ms(600), TWO),
        ];
        let order = Crowd::of(&turns, &who).await.order(only).await;
        assert_eq!(order, ["new", "middle", "old", "gone", "gone first"]);
    }

    #[tokio::test]
    async fn those_of_other_patience_take_turns() {
        let turns = turns(1, 8);
        let only = taken(&turns, 1).remove(0);
        let who = [
            ("two 1", ms(300), TWO),
            ("two 2", ms(200), TWO),
            ("ten 1", ms(6_000), TEN),
            ("ten 2", ms(5_000), TEN),
            ("two 3", ms(100), TWO),
        ];
        let order = Crowd::of(&turns, &who).await.order(only).await;
        assert_eq!(order, ["two 1", "ten 1", "two 2", "ten 2", "two 3"]);
    }

    #[tokio::test]
    async fn who_has_gone_does_not_come_in_crowds() {
        let turns = turns(1_024, 1_024);
        let mut under_way = taken(&turns, WINDOW);
        let gone: Vec<_> = (0..100).map(|_| ("gone", TEN, TWO)).collect();
        let crowd = Crowd::of(&turns, &gone).await;
        under_way.truncate(FEW);
        tokio::task::yield_now().await;
        assert_eq!(crowd.came.lock().len(), 0, "others may come");
        assert_eq!(crowd.order(under_way.remove(0)).await.len(), 100);
    }

    #[tokio::test]
    async fn decisions_that_take_long_are_set_aside_and_those_made_are_not() {
        let turns = turns(WINDOW + 2, 8);
        let (decided, deciding) = (taken(&turns, WINDOW - 4), taken(&turns, 4));
        decided.iter().for_each(Turn::is_decided);
        tokio::time::sleep(LONG).await;
        let more = taken(&turns, 2);
        assert_eq!(turns.stats().in_flight, WINDOW + 2);
        assert!(turns.wait(Instant::now(), TWO).now_or_never().is_none(), "more than there may be");
        // It goes out now, beside as many others as may be.
        deciding.iter().for_each(Turn::is_decided);
        drop((decided, deciding, more));
        assert_eq!(turns.stats().in_flight, 0);
        assert_eq!(turns.0.state.lock().under_way, 0);
    }

    #[tokio::test]
    async fn a_server_holds_up_who_waits_while_it_has_not_read_the_answers_before() {
        let turns = turns(WINDOW + 1, 8);
        let under_way = taken(&turns, WINDOW);
        let mut waits = Box::pin(turns.wait(ago(ms(600)), TWO));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(turns.held_up(), Duration::ZERO, "decisions do");
        under_way.iter().for_each(Turn::is_decided);
        assert!(turns.held_up() >= ms(600) && turns.is_held_up());
        drop(under_way);
        assert!(waits.await.is_some());
        assert_eq!(turns.held_up(), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_waits_is_called_once_decisions_have_taken_long() {
        let turns = turns(WINDOW + 1, 8);
        let _deciding = taken(&turns, WINDOW);
        let mut waits = Box::pin(turns.wait(Instant::now(), TWO));
        assert!((&mut waits).now_or_never().is_none());
        tokio::select! {
            turn = waits => assert!(turn.is_some()),
            () = turns.watch() => {}
            () = tokio::time::sleep(LONG * 20) => panic!("nobody calls"),
        }
    }

    #[tokio::test]
    async fn one_is_dropped_though_nobody_of_another_patience_waits() {
        let turns = turns(1, 1);
        let only = taken(&turns, 1).remove(0);
        let mut first = Box::pin(turns.wait(Instant::now(), TWO));
        assert!((&mut first).now_or_never().is_none());
        drop(only);
        let _first = first.await;
        let mut waiting = [0, 1].map(|_| Box::pin(turns.wait(Instant::now(), TEN)));
        assert!(waiting.iter_mut().all(|it| it.now_or_never().is_none()));
        assert_eq!(turns.stats(), LoadStats { in_flight: 1, waiting: 1, shed: 1 });
    }

    #[tokio::test]
    async fn too_many_are_dropped_who_waited_longest_first() {
        let turns = turns(1, 2);
        let only = taken(&turns, 1).remove(0);
        let mut oldest = Box::pin(turns.wait(ago(ms(300)), TWO));
        assert!((&mut oldest).now_or_never().is_none());
        let mut second = Box::pin(turns.wait(ago(ms(200)), TEN));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(turns.wait(ago(ms(100)), TWO));
        assert!((&mut third).now_or_never().is_none());
        assert!(oldest.await.is_none());
        assert_eq!(turns.stats(), LoadStats { in_flight: 1, waiting: 2, shed: 1 });
        // A request that is given up has no turn.
        drop(third);
        drop(only);
        assert!(second.await.is_some());
        assert_eq!(turns.stats(), LoadStats { shed: 1, ..LoadStats::default() });
    }
}
