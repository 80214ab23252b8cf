//! One login over the bare protocol, as cheap as it can be made: INFO, then CONNECT and PING in one
//! write that was made before, then PONG or `-ERR`, then the end.

use std::io;
use std::net::SocketAddr;

use strum::{EnumCount, EnumIter, IntoStaticStr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Enough for any line that counts; of a longer one (INFO may name many servers) the beginning is
/// kept.
pub(super) const BUFFER: usize = 2_048;

/// Why a login failed, as far as a client can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Failure {
    Refused,
    ServerTimeout,
    Timeout,
    ConnectionRefused,
    ConnectionReset,
    ConnectionClosed,
    LimitExceeded,
    TlsRequired,
    NoFileDescriptors,
    NoLocalPorts,
    Other,
}

impl Failure {
    pub(super) fn code(self) -> &'static str {
        self.into()
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Refused => {
                "the server said Authorization Violation: a wrong login, or the service gave no \
                 answer in time"
            }
            Self::ServerTimeout => "the server said Authentication Timeout",
            Self::Timeout => "nothing came within --timeout",
            Self::ConnectionRefused => "nobody listens there",
            Self::ConnectionReset => "the connection was reset",
            Self::ConnectionClosed => "the server closed the connection without a word",
            Self::LimitExceeded => "a limit on connections, of the server or of the account",
            Self::TlsRequired => "the server demands TLS, which bench does not speak",
            Self::NoFileDescriptors => "this machine is out of file descriptors: raise ulimit -n",
            Self::NoLocalPorts => "this machine is out of local ports: use fewer connections",
            Self::Other => "something else",
        }
    }

    fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::ConnectionReset,
            io::ErrorKind::AddrNotAvailable => Self::NoLocalPorts,
            io::ErrorKind::TimedOut => Self::Timeout,
            // EMFILE and ENFILE have no kind of their own.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::NoFileDescriptors,
            _ => Self::Other,
        }
    }

    fn of_words(line: &[u8]) -> Self {
        let has = |words: &str| line.windows(words.len()).any(|part| part == words.as_bytes());
        if has("Authorization Violation") {
            Self::Refused
        } else if has("Authentication Timeout") {
            Self::ServerTimeout
        } else if has("maximum ") {
            Self::LimitExceeded
        } else if has("TLS") {
            Self::TlsRequired
        } else {
            Self::Other
        }
    }
}

/// The two lines that a login sends.
pub(super) fn request(credentials: &serde_json::Value) -> Box<[u8]> {
    let mut options = serde_json::json!({
        "verbose": false,
        "pedantic": false,
        "lang": "nats-callout",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "name": "nats-callout bench",
    });
    if let (Some(options), Some(credentials)) = (options.as_object_mut(), credentials.as_object()) {
        options.extend(credentials.clone());
    }
    format!("CONNECT {options}\r\nPING\r\n").into_bytes().into_boxed_slice()
}

/// Logs in once and closes the connection.
pub(super) async fn login(
    address: SocketAddr,
    request: &[u8],
    buffer: &mut [u8; BUFFER],
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::of_error(&error);
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    // Closed at once: a port that lingers could not be used again for a minute.
    stream.set_zero_linger().map_err(failed)?;
    let mut lines = Lines { stream: &mut stream, buffer, filled: 0, used: 0 };
    if !lines.next().await?.starts_with(b"INFO ") {
        return Err(Failure::Other);
    }
    lines.stream.write_all(request).await.map_err(failed)?;
    loop {
        let line = lines.next().await?;
        if line.starts_with(b"PONG") {
            return Ok(());
        }
        if line.starts_with(b"-ERR") {
            return Err(Failure::of_words(line));
        }
    }
}

/// The lines of a connection, each cut to the buffer's size.
struct Lines<'a> {
    stream: &'a mut TcpStream,
    buffer: &'a mut [u8; BUFFER],
    filled: usize,
    used: usize,
}

impl Lines<'_> {
    async fn next(&mut self) -> Result<&[u8], Failure> {
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
            match self.stream.read(free).await {
                Ok(0) => return Err(Failure::ConnectionClosed),
                Ok(read) => self.filled += read,
                Err(error) => return Err(Failure::of_error(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

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
        let request = request(&serde_json::json!({"user": "alice", "pass": "a\"b"}));
        let result = login(address, &request, &mut [0; BUFFER]).await;
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
        let result = login(address, b"", &mut [0; BUFFER]).await;
        assert_eq!(result, Err(Failure::ConnectionRefused));
    }
}
