//! async-nats at its defaults.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;

use async_nats::{ConnectOptions, Event, Message, Subscriber};
use futures_util::StreamExt as _;

use super::{PAUSE, Record, Subjects, Word};

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
        record: Record,
    ) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ends);
        let (url, subjects) = (url.to_owned(), subjects.clone());
        let login = (user.to_owned(), password.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let thread = std::thread::spawn(move || {
            runtime.block_on(stay(&url, login, &subjects, &record, &until));
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

async fn stay(
    url: &str,
    (user, password): (String, String),
    subjects: &Subjects,
    record: &Record,
    ends: &AtomicBool,
) {
    let (events, connected) = (record.clone(), Arc::new(AtomicU64::new(0)));
    let options = ConnectOptions::with_user_and_password(user, password);
    let options = options.event_callback(move |event| {
        let said = word(&event, &connected);
        let events = events.clone();
        async move { said.into_iter().for_each(|word| events.note(word)) }
    });
    let client = match options.connect(url).await {
        Ok(client) => client,
        Err(error) => {
            record.note(Word::Error { text: error.to_string() });
            return record.note(Word::Closed);
        }
    };
    let heard = client.subscribe(subjects.notifications.clone()).await.expect("subscribes");
    client.flush().await.expect("flushes");
    record.note(Word::Connected);
    let last = AtomicU64::new(0);
    let publish = async {
        let mut number = 0;
        while !ends.load(Relaxed) {
            number += 1;
            let sent = client.publish(subjects.events.clone(), number.to_string().into()).await;
            if let Err(error) = sent {
                record.note(Word::Error { text: format!("publish: {error}") });
            }
            let number = last.load(Relaxed);
            if number > 0 {
                record.note(Word::Seen { number });
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = listen(heard, record, &last) => record.note(Word::Closed),
        () = publish => {}
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
