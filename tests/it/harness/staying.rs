//! A client of a library at its defaults that stays connected, hears numbered messages, publishes, and
//! says what becomes of that: a program in `tests/clients` for each, and async-nats in this process.

mod rust;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Deserialize;

use self::rust::Rust;
use super::client::Login;
use super::clients::{self, Language};
use super::deployment::Mode;
use super::eventually;

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Library {
    NatsPy,
    NatsGo,
    TransportNode,
    Nats2,
    WsConnect,
    AsyncNats,
    Jnats,
    Libnats,
    Paho,
}

impl Library {
    pub(crate) const ALL: [Self; 9] = [
        Self::NatsPy,
        Self::NatsGo,
        Self::TransportNode,
        Self::Nats2,
        Self::WsConnect,
        Self::AsyncNats,
        Self::Jnats,
        Self::Libnats,
        Self::Paho,
    ];

    /// As its users know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NatsPy => "nats-py",
            Self::NatsGo => "nats.go",
            Self::TransportNode => "@nats-io/transport-node",
            Self::Nats2 => "npm nats 2",
            Self::WsConnect => "@nats-io/nats-core, wsconnect",
            Self::AsyncNats => "async-nats",
            Self::Jnats => "jnats",
            Self::Libnats => "libnats (C)",
            Self::Paho => "paho-mqtt, QoS 0",
        }
    }

    /// Fetches what it needs, which may take minutes.
    pub(crate) fn fetch(self) {
        if self != Self::AsyncNats {
            drop(self.program());
        }
    }

    /// Its program; `None` where its toolchain is missing, which is said.
    fn program(self) -> Option<Command> {
        let (language, name, argument) = match self {
            Self::NatsPy => (Language::Python, "staying", None),
            Self::Paho => (Language::Python, "staying_mqtt", None),
            Self::NatsGo => (Language::Go, "staying", None),
            Self::TransportNode => (Language::Node, "staying", Some("transport-node")),
            Self::Nats2 => (Language::Node, "staying", Some("nats")),
            Self::WsConnect => (Language::Node, "staying", Some("wsconnect")),
            Self::Jnats => (Language::Java, "staying", None),
            Self::Libnats => (Language::C, "staying", None),
            Self::AsyncNats => unreachable!("it is in this process"),
        };
        let mut command = clients::program(language, name)?;
        command.args(argument);
        Some(command)
    }
}

/// What a client subscribes to and publishes on.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    pub(crate) notifications: String,
    pub(crate) events: String,
}

impl Subjects {
    /// Those of a tenant's `bb` user, where the mode's default has it.
    pub(crate) fn of(mode: Mode, tenant: &str) -> Self {
        let prefix = match mode {
            Mode::Operator => String::new(),
            Mode::Config => format!("user.{tenant}."),
        };
        Self { notifications: format!("{prefix}Notifications"), events: format!("{prefix}Events") }
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Word {
    /// For the first time, with its subscription.
    Connected,
    Disconnected,
    Reconnected,
    Error {
        text: String,
    },
    /// For good.
    Closed,
    /// Numbers that it has not heard, and for how long it heard none.
    Gap {
        missed: u64,
        ms: u64,
    },
    /// The last number that it has heard.
    Seen {
        number: u64,
    },
}

impl Word {
    fn name(&self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Reconnected => "reconnected",
            Self::Error { .. } => "error",
            Self::Closed => "closed",
            Self::Gap { .. } => "gap",
            Self::Seen { .. } => "seen",
        }
    }
}

/// A line of a program: a word of one of its connections.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    connection: usize,
    #[serde(flatten)]
    word: Word,
}

/// How many connections a client has, and how often each publishes, and tells what it has heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) count: usize,
    pub(crate) pause: Duration,
}

impl Size {
    const ONE: Self = Self { count: 1, pause: Duration::from_millis(500) };
}

/// A word, and when it was said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) at: Instant,
    pub(crate) word: Word,
}

/// What one connection has said so far; of what it last heard, the last alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Said>>>);

impl Record {
    /// Everything that it has said, but the numbers it heard before the last one.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.0.lock().clone()
    }

    /// Whether it has closed for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().iter().any(|said| said.word == Word::Closed)
    }

    /// The last number that it has heard.
    pub(crate) fn heard(&self) -> Option<u64> {
        let said = self.0.lock();
        said.iter().rev().find_map(|said| match said.word {
            Word::Seen { number } => Some(number),
            _ => None,
        })
    }

    fn note(&self, word: Word) {
        let mut said = self.0.lock();
        if let Word::Seen { .. } = word {
            said.retain(|before| !matches!(before.word, Word::Seen { .. }));
        }
        said.push(Said { at: Instant::now(), word });
    }
}

#[derive(Debug)]
enum Kind {
    Program(Child),
    Rust { _client: Rust },
}

/// A client that stays. Most have one connection, and their words are its words.
#[derive(Debug)]
pub(crate) struct Staying {
    connections: Vec<Record>,
    /// Until when [`Self::says`] has looked.
    looked: Instant,
    kind: Kind,
}

impl Staying {
    /// Connects with a password; `None` where the library's toolchain is missing.
    pub(crate) fn connect(
        library: Library,
        url: &str,
        login: &Login,
        subjects: &Subjects,
    ) -> Option<Self> {
        let mut staying = Self::start(library, url, login, subjects)?;
        staying.says("connected");
        Some(staying)
    }

    /// [`Self::connect`] without the wait.
    pub(crate) fn start(
        library: Library,
        url: &str,
        login: &Login,
        subjects: &Subjects,
    ) -> Option<Self> {
        Self::start_many(library, url, login, subjects, Size::ONE)
    }

    /// [`Self::start`] with more connections, one after the other. A first login that fails is tried again
    /// where there are more than one.
    pub(crate) fn start_many(
        library: Library,
        url: &str,
        login: &Login,
        subjects: &Subjects,
        size: Size,
    ) -> Option<Self> {
        let Login::Password(user, password) = login else { unreachable!("a password") };
        let connections: Vec<Record> = (0..size.count).map(|_| Record::default()).collect();
        let looked = Instant::now();
        if library == Library::AsyncNats {
            let client =
                Rust::start(url, user, password, subjects, connections.clone(), size.pause);
            return Some(Self { connections, looked, kind: Kind::Rust { _client: client } });
        }
        let mut command = library.program()?;
        command.args([url, user, password, &subjects.notifications, &subjects.events]);
        command.args([size.count.to_string(), size.pause.as_secs_f64().to_string()]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("its stdout");
        let listeners = connections.clone();
        std::thread::spawn(move || listen(stdout, &listeners));
        Some(Self { connections, looked, kind: Kind::Program(child) })
    }

    /// What each of its connections says.
    pub(crate) fn connections(&self) -> &[Record] {
        &self.connections
    }

    /// Everything that its connection has said, but the numbers it heard before the last one.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.connections[0].said()
    }

    /// Whether it has closed for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.connections[0].is_closed()
    }

    /// The last number that it has heard.
    pub(crate) fn heard(&self) -> Option<u64> {
        self.connections[0].heard()
    }

    /// Waits for a word after the one that was waited for before; it may complain of what it finds when it
    /// comes back, and must not give up.
    #[track_caller]
    pub(crate) fn says(&mut self, word: &str) {
        self.looked = eventually(&format!("one that is {word}"), || {
            let said = self.said();
            let mut later = said.iter().filter(|said| said.at > self.looked);
            let found = later.find(|said| said.word.name() == word).map(|said| said.at);
            assert!(found.is_some() || !self.is_closed(), "before it was {word}: {said:?}");
            found
        });
    }
}

fn listen(stdout: ChildStdout, connections: &[Record]) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let said: Result<Line, _> = serde_json::from_str(&line);
        let said = said.unwrap_or_else(|error| panic!("{error}: {line}"));
        connections[said.connection].note(said.word);
    }
    // It has ended: for its users it is as closed as one that says so.
    for record in connections.iter().filter(|it| !it.is_closed()) {
        record.note(Word::Closed);
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        if let Kind::Program(child) = &mut self.kind {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
