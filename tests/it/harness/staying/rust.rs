//! async-nats at its defaults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectOptions, Event, Message, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::{Record, Subjects, Word};

/// Between two connections, and before a first one is tried again.
const BETWEEN: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_secs(1);

/// A client on a thread of its own, which ends with the value.
#[derive(Debug)]
pub(super) struct Rust {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rust {
    pub(super) fn start(
        url: &str,
        user: &str,
        password: &str,
        subjects: &Subjects,
        records: Vec<Record>,
        pause: Duration,
    ) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ends);
        let (url, subjects) = (url.to_owned(), subjects.clone());
        let login = (user.to_owned(), password.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let thread = std::thread::spawn(move || {
            let stay = Stay { url, login, subjects, pause, ends: &until, tries: records.len() > 1 };
            let all = records.iter().zip(0..).map(|(record, at)| stay.stay(record, BETWEEN * at));
            runtime.block_on(join_all(all));
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Rust {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn word(event: &Event, connected: &AtomicU64) -> Option<Word> {
    match event {
        // The first one is told when there is a subscription too.
        Event::Connected => (connected.fetch_add(1, Relaxed) > 0).then_some(Word::Reconnected),
        Event::Disconnected => Some(Word::Disconnected),
        Event::Closed => Some(Word::Closed),
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            Some(Word::Error { text: event.to_string() })
        }
        Event::LameDuckMode | Event::Draining => None,
    }
}

/// What all connections do.
struct Stay<'a> {
    url: String,
    login: (String, String),
    subjects: Subjects,
    pause: Duration,
    ends: &'a AtomicBool,
    /// Whether a first login that fails is tried again.
    tries: bool,
}

impl Stay<'_> {
    async fn connect(&self, record: &Record) -> Result<Client, ConnectError> {
        loop {
            let (events, connected) = (record.clone(), Arc::new(AtomicU64::new(0)));
            let (user, password) = self.login.clone();
            let options = ConnectOptions::with_user_and_password(user, password);
            let options = options.event_callback(move |event| {
                let said = word(&event, &connected);
                let events = events.clone();
                async move { said.into_iter().for_each(|word| events.note(word)) }
            });
            match options.connect(&self.url).await {
                Err(error) if self.tries && !self.ends.load(Relaxed) => {
                    record.note(Word::Error { text: format!("at first: {error}") });
                    tokio::time::sleep(AGAIN).await;
                }
                done => return done,
            }
        }
    }

    async fn stay(&self, record: &Record, after: Duration) {
        tokio::time::sleep(after).await;
        let client = match self.connect(record).await {
            Ok(client) => client,
            Err(error) => {
                record.note(Word::Error { text: error.to_string() });
                return record.note(Word::Closed);
            }
        };
        let notifications = self.subjects.notifications.clone();
        let heard = client.subscribe(notifications).await.expect("subscribes");
        if let Err(error) = client.flush().await {
            record.note(Word::Error { text: format!("flush: {error}") });
        }
        record.note(Word::Connected);
        let last = AtomicU64::new(0);
        tokio::select! {
            () = listen(heard, record, &last) => record.note(Word::Closed),
            () = self.publish(&client, record, &last) => {}
        }
    }

    async fn publish(&self, client: &Client, record: &Record, last: &AtomicU64) {
        let mut number = 0;
        while !self.ends.load(Relaxed) {
            number += 1;
            let subject = self.subjects.events.clone();
            if let Err(error) = client.publish(subject, number.to_string().into()).await {
                record.note(Word::Error { text: format!("publish: {error}") });
            }
            let number = last.load(Relaxed);
            if number > 0 {
                record.note(Word::Seen { number });
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

async fn listen(mut heard: Subscriber, record: &Record, last: &AtomicU64) {
    let mut at = Instant::now();
    while let Some(message) = heard.next().await {
        let (number, before) = (number(&message), last.load(Relaxed));
        if before > 0 && number > before + 1 {
            let ms = u64::try_from(at.elapsed().as_millis()).expect("short");
            record.note(Word::Gap { missed: number - before - 1, ms });
        }
        last.store(number, Relaxed);
        at = Instant::now();
    }
}

fn number(message: &Message) -> u64 {
    std::str::from_utf8(&message.payload).ok().and_then(|it| it.parse().ok()).expect("a number")
}
