//! A client of the bare protocol that stays connected: over TCP, TLS with a certificate of its own,
//! WebSocket, or both. It can do what no library does, such as speak before CONNECT.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::websocket;
use crate::harness::client::Login;

/// Whatever bytes go through.
pub(super) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A connection to a server's client port.
pub(crate) struct Wire {
    lines: BufReader<Box<dyn Duplex>>,
    /// What the server said first.
    pub(crate) info: Value,
}

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(20);

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server that listens");
    stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
    stream
}

/// TLS on top of a connection, to a server that is called `localhost`.
fn tls(stream: TcpStream, config: &Arc<rustls::ClientConfig>) -> impl Duplex + use<> {
    let name = "localhost".try_into().expect("a name");
    let client = rustls::ClientConnection::new(config.clone(), name).expect("a TLS client");
    rustls::StreamOwned::new(client, stream)
}

impl Wire {
    /// Over TCP.
    pub(super) fn tcp(port: u16) -> Self {
        Self::greeted(BufReader::new(Box::new(tcp(port)))).expect("a greeting")
    }

    /// Over TLS, which begins after the greeting.
    pub(crate) fn tls(port: u16, config: &Arc<rustls::ClientConfig>) -> Self {
        let stream = tcp(port);
        // Byte by byte, so that nothing of the handshake is read ahead.
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"\n") {
            let mut byte = [0];
            (&stream).read_exact(&mut byte).expect("a greeting");
            greeting.push(byte[0]);
        }
        let info = parse_info(&String::from_utf8_lossy(&greeting)).expect("a greeting");
        Self { lines: BufReader::new(Box::new(tls(stream, config))), info }
    }

    /// Over a WebSocket, and TLS below it where there is a configuration; the error is the
    /// server's, who does not open one.
    pub(super) fn websocket(
        port: u16,
        config: Option<&Arc<rustls::ClientConfig>>,
    ) -> io::Result<Self> {
        let stream = tcp(port);
        let below: Box<dyn Duplex> = match config {
            Some(config) => Box::new(tls(stream, config)),
            None => Box::new(stream),
        };
        let stream = websocket::open(below)?;
        Self::greeted(BufReader::new(Box::new(stream)))
    }

    fn greeted(mut lines: BufReader<Box<dyn Duplex>>) -> io::Result<Self> {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        Ok(Self { lines, info: parse_info(&line)? })
    }

    /// Sends protocol lines as they are. That the connection is closed shows in what is said next.
    pub(super) fn send(&mut self, text: &str) {
        let stream = self.lines.get_mut();
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }

    /// The next line that is neither INFO nor the server's own PING; `None` once the connection is
    /// closed. No PING is answered, which may stay so for a minute: what is sent to a connection that is
    /// being closed makes its last words unreadable.
    pub(super) fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                // Some lines are said before a connection is reset.
                _ if line.starts_with("INFO ") || line == "PING\r\n" => {}
                _ if !line.is_empty() => return Some(line.trim_end().to_owned()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("the server said nothing for {SILENCE:?}")
                }
                _ => return None,
            }
        }
    }

    /// Sends CONNECT under a name with these fields, without waiting for anything.
    pub(super) fn offer(&mut self, name: &str, credentials: &Value) {
        let mut options = json!({
            "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
            "echo": true, "headers": true, "no_responders": true, "name": name,
        });
        for (field, value) in credentials.as_object().expect("an object") {
            options[field] = value.clone();
        }
        self.send(&format!("CONNECT {options}\r\nPING\r\n"));
    }

    /// What the server says to the last CONNECT: `admitted`, the words of its refusal, or `closed`
    /// where there are none.
    pub(super) fn verdict(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(line) = self.line() {
            match line.strip_prefix("-ERR ") {
                Some(error) => words.push(error.trim_matches('\'').to_owned()),
                None if line == "PONG" => return "admitted".to_owned(),
                None => panic!("{line}"),
            }
        }
        if words.is_empty() { "closed".to_owned() } else { words.join(", ") }
    }

    /// Logs in.
    pub(crate) fn login(&mut self, name: &str, credentials: &Value) -> String {
        self.offer(name, credentials);
        self.verdict()
    }

    /// Whether the connection is still there.
    pub(super) fn is_open(&mut self) -> bool {
        self.send("PING\r\n");
        self.line().as_deref() == Some("PONG")
    }

    /// Waits until the server closes the connection; gives the errors that it said.
    pub(super) fn end(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(line) = self.line() {
            if let Some(error) = line.strip_prefix("-ERR ") {
                words.push(error.trim_matches('\'').to_owned());
            }
        }
        words.join(", ")
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Logs in over TCP and leaves.
pub(super) fn verdict(port: u16, name: &str, login: &Login) -> String {
    Wire::tcp(port).login(name, &login.connect_fields())
}

fn parse_info(line: &str) -> io::Result<Value> {
    let json = line.strip_prefix("INFO ").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(json)?)
}
