//! Whether an answer was of use. A grant is shown to observers once its server has read the answer while it
//! waited; one that came too late is shown as that. A refusal is shown as it goes out, unless it is too late by
//! then.
//!
//! Three things are known of an answer that went out: when it has been read ([`lines`](super::lines)), for how
//! long its server waits, and what that says of clients that it does not let in
//! ([`rejections`](super::rejections)). Where the first two leave a doubt, its word is waited for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::fates::{Fate, Fates};
use super::lines::Lines;
use super::rejections::{self, Word};
use super::replies::{All, Key};
use super::turns::Turn;
use super::way::Way;
use crate::audit::{Late, Lateness, Observers};
use crate::authorize::{Asker, Outcome, Reply, Verdict, Who};

/// For how long after an answer its server may have something against it: they read answers at once, but
/// for one that loads an account.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// How many answers are followed; what is more counts as it was decided.
const KEPT: usize = 100_000;

/// How long after its time-out a server's word is waited for.
const WORD: Duration = Duration::from_secs(1);

/// For how long a server that hangs is waited for.
const HANGING: Duration = Duration::from_secs(30);

/// For how long a stop waits for what servers read last.
const FAREWELL: Duration = Duration::from_secs(1);

/// An answer, its payload gone.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) reply: Reply,
    pub(super) asker: Asker,
    pub(super) received: Instant,
    pub(super) took: Duration,
}

impl Sent {
    /// Before this its server has not given up.
    fn may_give_up(&self) -> Instant {
        self.received + self.asker.surely()
    }

    /// When its server has said what it has to say.
    fn has_spoken(&self) -> Instant {
        self.received + self.asker.longest() + WORD
    }
}

#[derive(Debug)]
enum Note {
    /// An answer went out on this connection.
    Sent(usize, Key, Option<Turn>),
    /// No more will.
    Last(oneshot::Sender<()>),
}

/// Follows answers. Clones follow the same ones.
#[derive(Debug, Clone)]
pub(super) struct Receipts {
    /// Those of which it is not known whether they came in time.
    waiting: Arc<Mutex<HashMap<Key, Sent>>>,
    fates: Fates,
    notes: mpsc::Sender<Note>,
    observers: Observers,
    way: Way,
}

impl Receipts {
    /// Subscribes on `main`, and follows what goes out on `lines`.
    pub(super) async fn subscribe(
        main: &Client,
        replies: All,
        observers: Observers,
    ) -> Result<(Self, Follower), SubscribeError> {
        let subject = format!("_CALLOUT.way.{}", main.new_inbox().replace('.', "-"));
        let back = main.subscribe(subject.clone()).await?;
        let words = rejections::subscribe(main).await?;
        let lines = Lines::new(replies, subject.into());
        let way = lines.way();
        let (notes, taken) = mpsc::channel(KEPT);
        let fates = Fates::new(KEPT_FOR, KEPT);
        let receipts = Self { waiting: Arc::default(), fates, notes, observers, way };
        let (doubts, swept) = (VecDeque::new(), Instant::now());
        let hearing = Hearing::new(main.clone());
        let follower = Follower {
            receipts: receipts.clone(),
            hearing,
            lines,
            back,
            words,
            doubts,
            swept,
            taken,
        };
        Ok((receipts, follower))
    }

    /// How long answers are on their way.
    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }

    /// Why nobody waits for an answer any more.
    pub(super) fn too_late(&self, reply: &Reply, received: Instant) -> Option<Lateness> {
        let asker = reply.asker?;
        self.way.note_patience(asker.patience);
        if self.fates.has_given_up(&(asker.server, reply.connection.id)) {
            Some(Lateness::Server)
        } else {
            (received.elapsed() >= asker.longest()).then_some(Lateness::Overdue)
        }
    }

    /// An answer is about to go out. Whoever is refused is turned away in any case, and is shown before he
    /// learns of it.
    pub(super) fn expect(&self, sent: Sent) {
        if !matches!(sent.reply.verdict, Verdict::Granted { .. }) {
            return self.show(sent);
        }
        let key = (sent.asker.server, sent.reply.connection.id);
        let other = {
            let mut waiting = self.waiting.lock();
            if waiting.len() < KEPT { waiting.insert(key, sent) } else { Some(sent) }
        };
        if let Some(other) = other {
            self.show(other);
        }
    }

    /// It has gone out on this connection, or not at all.
    pub(super) fn went_out(&self, line: Option<usize>, key: Key, turn: Option<Turn>) {
        let Some(line) = line else { return self.settle_late(&key, Lateness::Lost) };
        if self.notes.try_send(Note::Sent(line, key, turn)).is_err() {
            self.settle(&key);
        }
    }

    /// Returns once all answers are settled, or after a moment.
    pub(super) async fn finish(&self) {
        let (settled, done) = oneshot::channel();
        if self.notes.send(Note::Last(settled)).await.is_ok() {
            // Nobody follows them any more otherwise.
            let _ = done.await;
        }
    }

    fn take(&self, key: &Key) -> Option<Sent> {
        self.waiting.lock().remove(key)
    }

    /// Nothing speaks against it.
    fn settle(&self, key: &Key) {
        if self.fates.has_given_up(key) {
            self.settle_late(key, Lateness::Server);
        } else if let Some(sent) = self.take(key) {
            self.show(sent);
        }
    }

    fn settle_late(&self, key: &Key, why: Lateness) {
        if let Some(Sent { reply, took, .. }) = self.take(key) {
            self.observers.late(&Late::new(reply, why, took));
        }
    }

    fn show(&self, sent: Sent) {
        let Sent { reply, took, .. } = sent;
        let outcome = Outcome::Reply(reply);
        self.observers.observe(&outcome, took);
        let Outcome::Reply(reply) = outcome else { return };
        let (Verdict::Granted { .. }, Some(asker)) = (&reply.verdict, reply.asker) else { return };
        let key = (asker.server, reply.connection.id);
        let fate = Fate::Granted(Box::new((reply, took)));
        // Its server may have said so while observers looked at it.
        if let Some(Fate::GivenUp) = self.fates.note(key, fate, Instant::now()) {
            self.hear(Word::InVain(key));
        }
    }

    /// A server has said something.
    fn hear(&self, word: Word) {
        match word {
            Word::Refused(key) => self.settle(&key),
            Word::InVain(key) => {
                if self.waiting.lock().contains_key(&key) {
                    return self.settle_late(&key, Lateness::Server);
                }
                match self.fates.take(&key) {
                    Some(Fate::Granted(shown)) => {
                        let (reply, took) = *shown;
                        self.observers.late(&Late::after_all(reply, took));
                    }
                    _ => {
                        self.fates.note(key, Fate::GivenUp, Instant::now());
                    }
                }
            }
            Word::Objection(key, objection) => {
                self.settle(&key);
                if let Some(Fate::Granted(shown)) = self.fates.take(&key) {
                    let Who { user, tenant, .. } = shown.0.who();
                    let (user, tenant) = (user.unwrap_or_default(), tenant.unwrap_or_default());
                    self.observers.rejected(&objection.to(user, tenant));
                }
            }
        }
    }
}

/// An answer that may have come too late.
#[derive(Debug)]
struct Doubt {
    /// When its server has spoken, if it has something to say.
    until: Instant,
    key: Key,
    /// The answer's connection was lost before it was known to be read.
    is_lost: bool,
}

/// Since when servers are heard.
struct Hearing {
    main: Client,
    connects: u64,
    since: Option<Instant>,
}

impl Hearing {
    fn new(main: Client) -> Self {
        Self { main, connects: 0, since: None }
    }

    fn look(&mut self) {
        let connects = self.main.statistics().connects.load(Relaxed);
        if self.main.connection_state() != State::Connected {
            self.since = None;
        } else if self.since.is_none() || connects != self.connects {
            self.since = Some(Instant::now());
        }
        self.connects = connects;
    }

    fn since_before(&self, moment: Instant) -> bool {
        self.since.is_some_and(|since| since <= moment)
    }
}

/// Follows answers until the last.
pub(super) struct Follower {
    receipts: Receipts,
    hearing: Hearing,
    lines: Lines,
    /// Messages of ours that have come back.
    back: Subscriber,
    /// What servers say.
    words: Subscriber,
    doubts: VecDeque<Doubt>,
    /// When those were looked for that have hung.
    swept: Instant,
    taken: mpsc::Receiver<Note>,
}

/// What a follower waits for.
enum Happening {
    Note(Option<Note>),
    CameBack(Message),
    Said(Message),
    Due,
}

impl Follower {
    /// Begins: the subscriptions are in force by now, or the first messages would not come back.
    pub(super) fn follow(self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(self.run()))
    }

    async fn run(mut self) {
        loop {
            let due = self.next_due();
            match self.wait(due).await {
                Happening::Note(None) => return,
                Happening::Note(Some(Note::Last(settled))) => {
                    self.settle_last().await;
                    // Whoever has asked waits.
                    let _ = settled.send(());
                    return;
                }
                happening => self.take(happening).await,
            }
        }
    }

    async fn wait(&mut self, due: Instant) -> Happening {
        tokio::select! {
            biased;
            note = self.taken.recv() => Happening::Note(note),
            Some(message) = self.back.next() => Happening::CameBack(message),
            Some(message) = self.words.next() => Happening::Said(message),
            () = tokio::time::sleep_until(due.into()) => Happening::Due,
        }
    }

    async fn take(&mut self, happening: Happening) {
        self.hearing.look();
        match happening {
            Happening::Note(Some(Note::Sent(line, key, turn))) => self.lines.note(line, key, turn),
            Happening::Note(_) => {}
            Happening::CameBack(message) => {
                let now = Instant::now();
                let Some(proof) = self.lines.came_back(&message.payload, now) else { return };
                self.receipts.observers.reply_way(proof.took);
                for key in proof.read {
                    self.read(key, proof.took);
                }
                self.lost(proof.lost);
            }
            Happening::Said(message) => {
                if let Some(word) = rejections::read(&message) {
                    self.receipts.hear(word);
                }
            }
            Happening::Due => {}
        }
        let lost = self.lines.send_due(Instant::now());
        self.lost(lost);
        self.settle_doubts();
        self.sweep();
    }

    fn next_due(&self) -> Instant {
        let doubt = self.doubts.front().map(|doubt| doubt.until);
        let due = [self.lines.next_due(), doubt].into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + WORD)
    }

    /// The server has read an answer by now.
    fn read(&mut self, key: Key, way: Duration) {
        let receipts = &self.receipts;
        let late = {
            let waiting = receipts.waiting.lock();
            let Some(sent) = waiting.get(&key) else { return };
            // The request has been on its way for about as long as the answer.
            let age = sent.received.elapsed() + way;
            (age > sent.asker.surely()).then(|| sent.has_spoken())
        };
        match late {
            None => receipts.settle(&key),
            Some(until) => self.doubts.push_back(Doubt { until, key, is_lost: false }),
        }
    }

    /// It is not known whether these were read. Their server says so if they were not, and there was nobody
    /// to hear it while the main connection was away.
    fn lost(&mut self, keys: Vec<Key>) {
        let waiting = self.receipts.waiting.lock();
        let doubts = keys.into_iter().filter_map(|key| {
            let until = waiting.get(&key)?.has_spoken();
            Some(Doubt { until, key, is_lost: true })
        });
        self.doubts.extend(doubts);
    }

    fn settle_doubts(&mut self) {
        let now = Instant::now();
        while self.doubts.front().is_some_and(|doubt| doubt.until <= now) {
            let Some(Doubt { key, is_lost, .. }) = self.doubts.pop_front() else { return };
            let asked = self.receipts.waiting.lock().get(&key).map(Sent::may_give_up);
            if is_lost && asked.is_some_and(|asked| !self.hearing.since_before(asked)) {
                self.receipts.settle_late(&key, Lateness::Lost);
            } else if self.receipts.way.is_hopeless() {
                self.doubts.push_back(Doubt { until: now + WORD, key, is_lost });
            } else {
                self.receipts.settle(&key);
            }
        }
    }

    /// Settles what nothing has become known of for long.
    fn sweep(&mut self) {
        if self.swept.elapsed() < WORD {
            return;
        }
        self.swept = Instant::now();
        self.lines.end_turns(self.swept);
        self.receipts.fates.sweep(self.swept);
        let hung: Vec<Key> = {
            let waiting = self.receipts.waiting.lock();
            let has_hung = |(_, sent): &(&Key, &Sent)| sent.received.elapsed() > HANGING;
            waiting.iter().filter(has_hung).map(|(key, _)| *key).collect()
        };
        for key in hung {
            if self.receipts.way.is_hopeless() {
                self.receipts.settle_late(&key, Lateness::Unread);
            } else {
                self.receipts.settle(&key);
            }
        }
    }

    /// Goes on for a moment until all that went out is read. What nothing speaks against then counts as it
    /// was decided.
    async fn settle_last(&mut self) {
        let end = Instant::now() + FAREWELL;
        while self.lines.awaits() && Instant::now() < end {
            let due = self.next_due().min(end);
            let happening = self.wait(due).await;
            self.take(happening).await;
        }
        let rest: Vec<Key> = self.receipts.waiting.lock().keys().copied().collect();
        for key in rest {
            self.receipts.settle(&key);
        }
    }
}
