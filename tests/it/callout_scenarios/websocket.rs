//! As much of WebSocket (RFC 6455) as a client of nats-server needs: the opening handshake, and one
//! binary frame for each write.

use std::io::{self, Read, Write};

use super::wire::Duplex;

/// A stream of the payloads of binary frames.
struct WebSocket {
    below: Box<dyn Duplex>,
    /// What the current frame still holds.
    left: u64,
}

/// Upgrades a connection.
pub(super) fn open(mut below: Box<dyn Duplex>) -> io::Result<impl Duplex> {
    below.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    below.flush()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        below.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    Ok(WebSocket { below, left: 0 })
}

impl WebSocket {
    /// Reads the head of a frame; false at the end of the connection.
    fn next_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; 2];
        self.below.read_exact(&mut head)?;
        let is_close = head[0] & 0x0f == 8;
        self.left = match head[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                self.below.read_exact(&mut long)?;
                u64::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut longer = [0; 8];
                self.below.read_exact(&mut longer)?;
                u64::from_be_bytes(longer)
            }
            short => u64::from(short),
        };
        Ok(!is_close)
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.below.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Write for WebSocket {
    fn write(&mut self, payload: &[u8]) -> io::Result<usize> {
        // A client has to mask; a mask of zeros is one.
        let mut frame = vec![0x82];
        match u16::try_from(payload.len()).expect("a short frame") {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("below 126")),
            long => {
                frame.push(0x80 | 126);
                frame.extend(long.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.below.write_all(&frame)?;
        Ok(payload.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}
