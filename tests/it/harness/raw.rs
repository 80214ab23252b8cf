//! The bare client protocol: the exact words in which a server refuses, and how long it took.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How a CONNECT ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server answered a PING.
    Admitted,
    /// The server's `-ERR` line, and everything after it until it closed the connection.
    Refused(String),
}

/// Connects with these CONNECT options (`{"user":...,"pass":...}`, `{"auth_token":...}`, `{}`).
pub(crate) fn connect(port: u16, credentials: &Value) -> (Verdict, Duration) {
    try_connect(port, credentials).expect("a server that answers")
}

/// [`connect`] to a server that may be about to die.
pub(crate) fn try_connect(port: u16, credentials: &Value) -> io::Result<(Verdict, Duration)> {
    answer(port, |_| credentials.clone())
}

/// Sends these CONNECT options, and closes before there is an answer.
pub(crate) fn hang_up(port: u16, credentials: &Value) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server");
    let mut info = String::new();
    BufReader::new(&stream).read_line(&mut info).expect("an INFO");
    stream.write_all(format!("CONNECT {credentials}\r\nPING\r\n").as_bytes()).expect("is sent");
}

/// [`connect`] with CONNECT options that answer the server's INFO: its nonce, signed.
pub(crate) fn connect_signed(port: u16, sign: impl FnOnce(&str) -> Value) -> Verdict {
    let sign = |info: &Value| sign(info["nonce"].as_str().expect("a nonce"));
    answer(port, sign).expect("a server that answers").0
}

/// [`connect_signed`] with all that the server's INFO says.
pub(crate) fn connect_info(port: u16, sign: impl FnOnce(&Value) -> Value) -> Verdict {
    answer(port, sign).expect("a server that answers").0
}

/// [`connect`]: how it ended, and the server's number of the connection.
pub(crate) fn connect_numbered(port: u16, credentials: &Value) -> (Verdict, u64) {
    let mut number = 0;
    let noted = |info: &Value| {
        number = info["client_id"].as_u64().expect("a number");
        credentials.clone()
    };
    let (verdict, _) = answer(port, noted).expect("a server that answers");
    (verdict, number)
}

fn answer(port: u16, credentials: impl FnOnce(&Value) -> Value) -> io::Result<(Verdict, Duration)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let info = line.strip_prefix("INFO ").unwrap_or_else(|| panic!("{line}"));
    let credentials = credentials(&serde_json::from_str(info).expect("json"));

    let mut options = json!({
        "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
        "echo": true, "headers": true, "no_responders": true,
    });
    for (name, value) in credentials.as_object().expect("an object") {
        options[name] = value.clone();
    }
    let start = Instant::now();
    (&stream).write_all(format!("CONNECT {options}\r\nPING\r\n").as_bytes())?;
    let mut refusal = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line);
        if line.starts_with("PONG") {
            return Ok((Verdict::Admitted, start.elapsed()));
        }
        if line.starts_with("-ERR") {
            refusal.push_str(&line);
        }
        // After a refusal the server closes, and a reset is a way to do it.
        match read {
            Ok(1..) => {}
            _ if !refusal.is_empty() => return Ok((Verdict::Refused(refusal), start.elapsed())),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
        }
    }
}
