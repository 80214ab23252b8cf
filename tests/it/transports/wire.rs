//! Bare logins over WebSocket and MQTT, without a library and its program: whether one is admitted
//! takes no longer than the server does.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::raw::Verdict;

fn open(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// What the server said and when it closed, as [`Verdict`] has it.
fn refused(said: &str) -> io::Result<Verdict> {
    let words: String = said.split_inclusive("\r\n").filter(|it| it.starts_with("-ERR")).collect();
    if words.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(Verdict::Refused(words))
    }
}

/// Logs in over WebSocket with these cookies, and with CONNECT options made of the server's INFO.
pub(crate) fn websocket(
    port: u16,
    cookies: &[(&str, &str)],
    credentials: impl FnOnce(&Value) -> Value,
) -> Verdict {
    try_websocket(port, cookies, credentials).expect("a server that answers")
}

fn try_websocket(
    port: u16,
    cookies: &[(&str, &str)],
    credentials: impl FnOnce(&Value) -> Value,
) -> io::Result<Verdict> {
    let stream = open(port)?;
    let cookies: Vec<String> =
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let cookies = match cookies.is_empty() {
        true => String::new(),
        false => format!("Cookie: {}\r\n", cookies.join("; ")),
    };
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{cookies}\r\n"
    );
    (&stream).write_all(upgrade.as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
    }

    let mut said = String::new();
    while !said.contains("\r\n") {
        said.push_str(&frame(&mut reader)?);
    }
    let info = said.strip_prefix("INFO ").unwrap_or_else(|| panic!("{said}"));
    let info = serde_json::from_str(info.lines().next().unwrap_or_default()).expect("json");
    let mut options = json!({
        "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
    });
    for (name, value) in credentials(&info).as_object().expect("an object") {
        options[name] = value.clone();
    }
    send(&stream, format!("CONNECT {options}\r\nPING\r\n").as_bytes())?;
    let mut said = String::new();
    loop {
        match frame(&mut reader) {
            Ok(text) => said.push_str(&text),
            Err(_) => return refused(&said),
        }
        if said.contains("PONG\r\n") {
            return Ok(Verdict::Admitted);
        }
    }
}

/// A frame of binary data, masked with zeros: a client has to mask.
fn send(mut stream: &TcpStream, data: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x82];
    match u16::try_from(data.len()).expect("a short message") {
        short @ ..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend(long.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(data);
    stream.write_all(&frame)
}

/// The text of the server's next frame; an error at its last one.
fn frame(reader: &mut impl io::Read) -> io::Result<String> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let length = match head[1] {
        short @ ..126 => u64::from(short),
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        _ => {
            let mut length = [0; 8];
            reader.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
    };
    let mut data = Vec::new();
    reader.take(length).read_to_end(&mut data)?;
    match head[0] & 0x0f {
        0x8 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(String::from_utf8_lossy(&data).into_owned()),
    }
}

/// Logs in over MQTT 3.1.1; whether that is admitted.
pub(crate) fn mqtt(port: u16, client_id: &str, user: &str, password: &str) -> bool {
    Mqtt::connect(port, client_id, (user, password), None).is_some()
}

/// A connection over MQTT 3.1.1.
pub(crate) struct Mqtt {
    stream: TcpStream,
}

impl Mqtt {
    /// Logs in, with a will of this topic and text that is to be retained; `None` if that is refused.
    pub(crate) fn connect(
        port: u16,
        client_id: &str,
        (user, password): (&str, &str),
        will: Option<(&str, &str)>,
    ) -> Option<Self> {
        // User, password and a clean session; a will of QoS 1.
        let flags = 0xc2 | will.map_or(0, |_| 0x2c);
        // Level 4; no need to keep it alive.
        let mut body = [field("MQTT"), vec![4, flags, 0, 0], field(client_id)].concat();
        if let Some((topic, text)) = will {
            body.extend([field(topic), field(text)].concat());
        }
        body.extend([field(user), field(password)].concat());
        let mut stream = open(port).expect("a server");
        stream.write_all(&packet(0x10, &body)).expect("is sent");
        let mut answer = [0; 4];
        // Where it closes without a word it is refused too.
        let admitted =
            stream.read_exact(&mut answer).is_ok_and(|()| answer[0] == 0x20 && answer[3] == 0);
        admitted.then_some(Self { stream })
    }

    /// Publishes a text that is to be retained, with QoS 0 and 1; whether the server has taken it,
    /// and not closed the connection.
    pub(crate) fn publish(&mut self, topic: &str, text: &str) -> bool {
        let at_most_once = [field(topic), text.into()].concat();
        let at_least_once = [field(topic), vec![0, 1], text.into()].concat();
        let ping = [0xc0, 0];
        let all = [&packet(0x31, &at_most_once), &packet(0x33, &at_least_once), &ping[..]].concat();
        self.stream.write_all(&all).is_ok() && self.pong().is_ok()
    }

    /// Reads up to the answer to a ping.
    fn pong(&mut self) -> io::Result<()> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            if head[0] == 0xd0 {
                return Ok(());
            }
            self.stream.read_exact(&mut vec![0; usize::from(head[1])])?;
        }
    }
}

/// A text as MQTT has it.
fn field(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text").to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// A packet of MQTT's.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    while left > 0 {
        let more = if left > 127 { 0x80 } else { 0 };
        packet.push((left % 128) as u8 | more);
        left /= 128;
    }
    packet.extend(body);
    packet
}
