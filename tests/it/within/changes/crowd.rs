//! Bare connections, of which there can be many: held open, and asked whether they still are.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::PATIENCE;
use crate::harness::client::Login;

/// A refusal comes at once; after so long it is the server's own, which had no answer.
const UNANSWERED: Duration = Duration::from_secs(1);

/// A connection that has logged in.
#[derive(Debug)]
pub(crate) struct Held {
    stream: TcpStream,
    seen: String,
}

impl Held {
    /// Logs in; panics if that is refused. Who has no answer tries again, as real clients do: on a busy
    /// machine a password may not be hashed in time.
    #[track_caller]
    pub(crate) fn connect(port: u16, login: &Login) -> Self {
        let first = Instant::now();
        loop {
            let begun = Instant::now();
            match Self::try_connect(port, login) {
                Ok(held) => return held,
                Err(_) if begun.elapsed() > UNANSWERED && first.elapsed() < PATIENCE => {}
                Err(words) => panic!("{login:?} on port {port}: {words}"),
            }
        }
    }

    /// Logs in, or gives the server's words.
    pub(crate) fn try_connect(port: u16, login: &Login) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        stream.set_nodelay(true).expect("no delay");
        let mut held = Self { stream, seen: String::new() };
        held.read_until("\r\n", PATIENCE)?;
        let mut options = json!({
            "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
        });
        for (name, value) in login.connect_fields().as_object().expect("an object") {
            options[name] = value.clone();
        }
        held.write(&format!("CONNECT {options}\r\nPING\r\n"));
        held.read_until("PONG\r\n", PATIENCE)?;
        Ok(held)
    }

    fn write(&mut self, text: &str) {
        // A connection that is closed says so when it is read.
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Reads until `words` came; the error is what came before the end.
    fn read_until(&mut self, words: &str, patience: Duration) -> Result<(), String> {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 4096];
        while !self.seen.contains(words) {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(format!("closed: {}", self.seen)),
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(format!("reset: {}", self.seen));
                }
                Err(error) => panic!("waited {patience:?} for {words:?}: {error}; {}", self.seen),
            }
        }
        self.seen.clear();
        Ok(())
    }

    /// Says without being asked that it is there: whoever is silent for long is closed.
    pub(crate) fn keep(&mut self) {
        self.write("PONG\r\n");
    }

    /// Whether the server still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.seen.clear();
        self.write("PING\r\n");
        self.read_until("PONG\r\n", PATIENCE).is_ok()
    }

    /// Waits until the server closes it.
    #[track_caller]
    pub(crate) fn wait_closed(&mut self) {
        drop(self.last_words());
    }

    /// What the server says before it closes it.
    #[track_caller]
    pub(crate) fn last_words(&mut self) -> String {
        self.read_until("never sent by a server", PATIENCE).expect_err("it is closed")
    }
}
