//! A client that speaks the bare protocol: it knows exactly what the server has done by the time a
//! PING is answered, and sends what no client library would.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::PATIENCE;

/// A server waits 2 s for a decision, and the service has none to give after 1.8 s.
const UNDECIDED: Duration = Duration::from_millis(1_500);

/// How a login ended.
pub(super) enum Login {
    Admitted(Session),
    Refused,
    /// For want of a decision, as with a busy service or a row that cannot be read.
    Undecided,
}

/// A connection that was admitted.
pub(super) struct Session {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Session {
    /// Connects with these fields of CONNECT; `None` where the server refuses. Where there was no
    /// decision tries again, this often in all.
    pub(super) fn open(port: u16, fields: &Value, attempts: usize) -> Option<Self> {
        for _ in 0..attempts {
            match Self::log_in(port, fields) {
                Login::Admitted(session) => return Some(session),
                Login::Refused => return None,
                Login::Undecided => {}
            }
        }
        None
    }

    /// Connects with these fields of CONNECT, once.
    pub(super) fn log_in(port: u16, fields: &Value) -> Login {
        let begun = Instant::now();
        match Self::try_open(port, fields) {
            Some(session) => Login::Admitted(session),
            None if begun.elapsed() > UNDECIDED => Login::Undecided,
            None => Login::Refused,
        }
    }

    fn try_open(port: u16, fields: &Value) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut session = Self { stream, reader };
        assert!(session.line().is_some_and(|line| line.starts_with("INFO ")));
        let mut options = json!({
            "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
            "echo": true, "headers": true, "no_responders": true,
        });
        for (name, value) in fields.as_object().expect("an object") {
            options[name] = value.clone();
        }
        session.try_say(&format!("CONNECT {options}\r\n")).map(|_| session)
    }

    /// Sends these lines; gives what the server has to say until it has handled the last of them:
    /// messages with their payload, and errors.
    pub(super) fn say(&mut self, lines: &str) -> Vec<String> {
        self.try_say(lines).unwrap_or_else(|| panic!("closed after {lines:?}"))
    }

    /// [`Self::say`] where the server may close the connection.
    pub(super) fn try_say(&mut self, lines: &str) -> Option<Vec<String>> {
        self.stream.write_all(format!("{lines}PING\r\n").as_bytes()).ok()?;
        let mut said = Vec::new();
        loop {
            let line = self.line()?;
            match line.split(' ').next().unwrap_or_default() {
                "PONG" => return Some(said),
                "INFO" => {}
                "PING" => self.stream.write_all(b"PONG\r\n").ok()?,
                "MSG" => {
                    let payload = self.line()?;
                    said.push(format!("{line} {payload}"));
                }
                _ => said.push(line),
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}
