//! A login over MQTT 3.1.1: CONNECT and its answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::failure::Failure;
use super::stream::{Stream, Wire};

/// The byte that begins an answer to CONNECT.
const CONNACK: u8 = 0x20;

/// The server's words in an answer.
const BAD_CREDENTIALS: u8 = 4;
const NOT_AUTHORIZED: u8 = 5;

/// A user name, a password, and a session that is not kept.
const FLAGS: u8 = 0b1100_0010;

/// No client says anything once it is in: its connection is never too quiet.
const KEEP_ALIVE: u16 = 0;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A CONNECT; a client has an id that no other has, or it would end that one's connection.
fn connect(user: &str, password: &str) -> Vec<u8> {
    let id = format!("nats-callout-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([4, FLAGS]);
    body.extend(KEEP_ALIVE.to_be_bytes());
    for part in [id.as_str(), user, password] {
        text(&mut body, part);
    }
    let mut packet = vec![0x10];
    let mut left = body.len();
    loop {
        // The lowest seven bits.
        let low = u8::try_from(left & 0x7f).unwrap_or_default();
        left >>= 7;
        packet.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// A longer one than there can be is cut: no password is.
fn text(to: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    to.extend(length.to_be_bytes());
    to.extend(text.as_bytes().iter().take(usize::from(length)));
}

/// Logs in on a fresh connection.
pub(super) async fn log_in(
    stream: &mut Stream<impl Wire>,
    user: &str,
    password: &str,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of_error(&error);
    stream.send(&connect(user, password)).await.map_err(failed)?;
    let (mut answer, mut filled) = ([0; 4], 0);
    while filled < answer.len() {
        let free = answer.get_mut(filled..).unwrap_or_default();
        match stream.read(free).await.map_err(failed)? {
            0 => return Err(Failure::ConnectionClosed),
            read => filled += read,
        }
    }
    match answer {
        [CONNACK, _, _, 0] => Ok(()),
        [CONNACK, _, _, BAD_CREDENTIALS | NOT_AUTHORIZED] => Err(Failure::Refused),
        _ => Err(Failure::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let packet = connect("alice", "secret");
        assert_eq!((packet[0], usize::from(packet[1])), (0x10, packet.len() - 2));
        assert_eq!(&packet[2..10], b"\0\x04MQTT\x04\xc2");
        assert!(packet.ends_with(b"\0\x05alice\0\x06secret"));
        assert_ne!(connect("a", "b"), connect("a", "b"), "ids differ");
        let long = connect("alice", &"x".repeat(300));
        let length = usize::from(long[1] & 0x7f) | usize::from(long[2]) << 7;
        assert_eq!(length, long.len() - 3);
    }
}
