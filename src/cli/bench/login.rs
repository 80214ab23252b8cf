//! One login over the bare protocol, as cheap as it can be made: INFO, then CONNECT and PING in one
//! write, then PONG or `-ERR`; with TLS behind INFO, or around a WebSocket or MQTT.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::credential::Credential;
use super::failure::Failure;
use super::mqtt;
use super::stream::{Stream, Wire};

/// Enough for any line that counts; of a longer one (INFO may name many servers) the beginning is
/// kept.
const BUFFER: usize = 2_048;

/// What is spoken, below TLS or without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Nats,
    WebSocket,
    Mqtt,
}

/// A server, and how it is spoken with.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// Its scheme in a URL.
    pub(super) fn scheme(&self) -> &'static str {
        match (self.protocol, self.tls.is_some()) {
            (Protocol::Nats, false) => "nats",
            (Protocol::Nats, true) => "tls",
            (Protocol::WebSocket, false) => "ws",
            (Protocol::WebSocket, true) => "wss",
            (Protocol::Mqtt, false) => "mqtt",
            (Protocol::Mqtt, true) => "mqtts",
        }
    }

    /// TLS around a connection, where it is wanted.
    async fn secured(
        &self,
        tcp: TcpStream,
        credential: &Credential,
    ) -> Result<Box<dyn Wire>, Failure> {
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let connector = credential.tls().unwrap_or(connector);
        let encrypted = connector.connect(name.clone(), tcp).await;
        Ok(Box::new(encrypted.map_err(|error| Failure::of_error(&error))?))
    }
}

/// A connection that is in. It is closed when it is dropped.
pub(super) struct Connection {
    stream: Stream<Box<dyn Wire>>,
    lines: Lines,
}

/// Logs in once.
pub(super) async fn login(
    endpoint: &Endpoint,
    credential: &Credential,
) -> Result<Connection, Failure> {
    let failed = |error: io::Error| Failure::of_error(&error);
    let tcp = TcpStream::connect(endpoint.address).await.map_err(failed)?;
    // Closed at once: a port that lingers could not be used again for a minute.
    tcp.set_zero_linger().map_err(failed)?;
    let mut lines = Lines::new();
    let (mut stream, request) = match endpoint.protocol {
        Protocol::Mqtt => {
            let mut stream = Stream::plain(endpoint.secured(tcp, credential).await?);
            let (user, secret) = credential.user_and_secret();
            mqtt::log_in(&mut stream, user, secret).await?;
            return Ok(Connection { stream, lines });
        }
        Protocol::WebSocket => {
            let wire = endpoint.secured(tcp, credential).await?;
            let mut stream = Stream::websocket(wire).await.map_err(failed)?;
            let request = credential.answer(lines.info(&mut stream).await?);
            (stream, request)
        }
        // INFO comes before TLS.
        Protocol::Nats => {
            let mut bare = Stream::plain(tcp);
            let request = credential.answer(lines.info(&mut bare).await?);
            (Stream::plain(endpoint.secured(bare.into_wire(), credential).await?), request)
        }
    };
    stream.send(&request).await.map_err(failed)?;
    loop {
        let line = lines.next(&mut stream).await?;
        if line.starts_with(b"PONG") {
            return Ok(Connection { stream, lines });
        }
        if line.starts_with(b"-ERR") {
            return Err(Failure::of_words(line));
        }
    }
}

impl Connection {
    /// Answers the server's PINGs until the connection ends. (MQTT has none.)
    pub(super) async fn stay(&mut self) {
        while let Ok(line) = self.lines.next(&mut self.stream).await {
            if line.starts_with(b"PING") && self.stream.send(b"PONG\r\n").await.is_err() {
                return;
            }
        }
    }
}

/// The lines of a connection, each cut to the buffer's size.
struct Lines {
    buffer: Box<[u8; BUFFER]>,
    filled: usize,
    used: usize,
}

impl Lines {
    fn new() -> Self {
        Self { buffer: Box::new([0; BUFFER]), filled: 0, used: 0 }
    }

    async fn info(&mut self, stream: &mut Stream<impl Wire>) -> Result<&[u8], Failure> {
        let line = self.next(stream).await?;
        if line.starts_with(b"INFO ") { Ok(line) } else { Err(Failure::Other) }
    }

    async fn next(&mut self, stream: &mut Stream<impl Wire>) -> Result<&[u8], Failure> {
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        let mut looked_at = 0;
        loop {
            let unseen = self.buffer.get(looked_at..self.filled).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                self.used = looked_at + end + 1;
                return Ok(self.buffer.get(..self.used).unwrap_or_default());
            }
            if self.filled == BUFFER {
                // The rest of a long line is of no interest: its space is used again.
                self.filled = BUFFER / 2;
            }
            looked_at = self.filled;
            let free = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match stream.read(free).await {
                Ok(0) => return Err(Failure::ConnectionClosed),
                Ok(read) => self.filled += read,
                Err(error) => return Err(Failure::of_error(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn endpoint(address: SocketAddr) -> Endpoint {
        Endpoint { address, protocol: Protocol::Nats, tls: None }
    }

    /// What a login makes of a server that says `greeting` and then `answer`.
    async fn against(greeting: &str, answer: &str) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (greeting, answer) = (greeting.to_owned(), answer.to_owned());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting.as_bytes()).await.unwrap();
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            // In pieces, as a network may deliver it.
            for piece in answer.as_bytes().chunks(7) {
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let credential = Credential::password("alice", "a\"b");
        let result = login(&endpoint(address), &credential).await.map(|_| ());
        let sent = server.await.unwrap();
        if greeting_is_sound(&sent) {
            assert!(sent.contains(r#""user":"alice""#) && sent.contains(r#""pass":"a\"b""#));
        }
        result
    }

    fn greeting_is_sound(sent: &str) -> bool {
        sent.starts_with("CONNECT {") && sent.ends_with("}\r\nPING\r\n")
    }

    #[tokio::test]
    async fn what_servers_answer() {
        let info = "INFO {\"server_id\":\"N\"}\r\n";
        assert_eq!(against(info, "PONG\r\n").await, Ok(()));
        let long = format!("INFO {{\"connect_urls\":\"{}\"}}\r\n", "x".repeat(20_000));
        assert_eq!(against(&long, "INFO {}\r\nPING\r\nPONG\r\n").await, Ok(()));
        for (answer, failure) in [
            ("-ERR 'Authorization Violation'\r\n", Failure::Refused),
            ("-ERR 'Authentication Timeout'\r\n", Failure::ServerTimeout),
            ("-ERR 'maximum connections exceeded'\r\n", Failure::LimitExceeded),
            ("-ERR 'maximum account active connections exceeded'\r\n", Failure::LimitExceeded),
            ("-ERR 'Secure Connection - TLS Required'\r\n", Failure::TlsRequired),
            ("-ERR 'what'\r\n", Failure::Other),
            ("", Failure::ConnectionClosed),
        ] {
            assert_eq!(against(info, answer).await, Err(failure), "{answer}");
        }
        assert_eq!(against("HTTP/1.1 400 Bad Request\r\n", "").await, Err(Failure::Other));
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let endpoint = endpoint(address);
        let result = login(&endpoint, &Credential::password("a", "b")).await;
        assert_eq!(result.err(), Some(Failure::ConnectionRefused));
    }
}
