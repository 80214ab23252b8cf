//! The bytes of a connection: over TCP, TLS or WebSocket (RFC 6455, as much as nats-server needs of
//! it).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A whole message, in binary.
const MESSAGE: u8 = 0x82;
const CLOSE: u8 = 0x08;

/// A client has to mask what it sends; with zeros, it stays as it is.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0; 4];

/// The longest head of an answer to the upgrade.
const MAX_HEAD: usize = 4_096;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: nats\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: bmF0cy1jYWxsb3V0LWJlbg==\r\n\
                       Sec-WebSocket-Version: 13\r\n\r\n";

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// Reads and writes what is inside of frames, where there are any.
pub(super) struct Stream<W> {
    wire: W,
    /// Of a WebSocket: what is left of the frame that is being read.
    frame: Option<u64>,
}

impl<W: Wire> Stream<W> {
    pub(super) fn plain(wire: W) -> Self {
        Self { wire, frame: None }
    }

    pub(super) fn into_wire(self) -> W {
        self.wire
    }

    /// Asks for a WebSocket.
    pub(super) async fn websocket(mut wire: W) -> io::Result<Self> {
        wire.write_all(UPGRADE.as_bytes()).await?;
        wire.flush().await?;
        let mut head = Vec::new();
        // Byte by byte: what comes behind the head is a frame's.
        while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
            head.push(wire.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { wire, frame: Some(0) })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.frame {
            None => self.wire.write_all(bytes).await?,
            Some(_) => self.wire.write_all(&framed(bytes)).await?,
        }
        self.wire.flush().await
    }

    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = &mut self.frame else { return self.wire.read(buffer).await };
        while *left == 0 {
            let (kind, length) = (self.wire.read_u8().await?, self.wire.read_u8().await?);
            if kind & 0x0f == CLOSE {
                return Ok(0);
            }
            *left = match length & !MASKED {
                126 => u64::from(self.wire.read_u16().await?),
                127 => self.wire.read_u64().await?,
                short => u64::from(short),
            };
        }
        let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.wire.read(buffer.get_mut(..most).unwrap_or_default()).await?;
        *left -= read as u64;
        Ok(read)
    }
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![MESSAGE];
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(short @ 0..126), _) => frame.push(MASKED | short),
        (_, Ok(length)) => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(MASKED | 127);
            frame.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(bytes);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length() {
        for (length, head) in [
            (5, &[0x82, 0x85][..]),
            (125, &[0x82, 0xfd]),
            (126, &[0x82, 0xfe, 0, 126]),
            (70_000, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let frame = framed(&vec![7; length]);
            assert!(frame.starts_with(head), "{length}: {:?}", &frame[..12]);
            assert_eq!(frame.len(), head.len() + 4 + length);
        }
    }

    #[tokio::test]
    async fn what_is_in_frames_is_read() {
        let (ours, mut server) = tokio::io::duplex(1 << 10);
        let answers = async {
            let mut asked = vec![0; UPGRADE.len()];
            server.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, UPGRADE.as_bytes());
            server.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n").await.unwrap();
            server
                .write_all(&[0x82, 3, b'a', b'b', b'c', 0x82, 0, 0x82, 126, 0, 1, b'd'])
                .await
                .unwrap();
            server.write_all(&[0x88, 2, 3, 232]).await.unwrap();
        };
        let (stream, ()) = tokio::join!(Stream::websocket(ours), answers);
        let mut stream = stream.unwrap();
        let (mut seen, mut buffer) = (Vec::<u8>::new(), [0; 2]);
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                read => seen.extend(&buffer[..read]),
            }
        }
        assert_eq!(seen, b"abcd");
    }

    #[tokio::test]
    async fn a_server_that_has_no_websocket_is_told_apart() {
        let (ours, mut server) = tokio::io::duplex(1 << 10);
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let error = Stream::websocket(ours).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
