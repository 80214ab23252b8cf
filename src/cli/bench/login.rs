//! One login over the bare protocol, as cheap as it can be made: INFO, TLS where it is wanted, then
//! CONNECT and PING in one write, then PONG or `-ERR`.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use strum::{EnumCount, EnumIter, IntoStaticStr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::keys::SigningKey;

/// Enough for any line that counts; of a longer one (INFO may name many servers) the beginning is
/// kept.
const BUFFER: usize = 2_048;

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
    Tls,
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
            Self::TlsRequired => "the server demands TLS: name it as tls://HOST:PORT",
            Self::Tls => "no TLS: the certificate is not trusted, or the server wants another one",
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

    /// What TLS itself has against it comes as invalid data.
    fn of_tls(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Tls,
            _ => Self::of_error(error),
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

/// What a client logs in with.
pub(super) enum Credential {
    /// The lines are the same each time.
    Ready(Box<[u8]>),
    /// Signs the server's nonce.
    Nkey(SigningKey),
}

impl Credential {
    /// One that is sent as it is.
    pub(super) fn ready(options: &Value) -> Self {
        Self::Ready(request(options))
    }

    /// The lines that answer the server's INFO.
    fn answer(&self, info: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Ready(lines) => Cow::Borrowed(lines),
            Self::Nkey(key) => {
                let signature = URL_SAFE_NO_PAD.encode(key.sign_now(nonce(info)));
                let options = json!({ "nkey": key.public_key(), "sig": signature });
                Cow::Owned(request(&options).into_vec())
            }
        }
    }
}

/// The nonce of an INFO, which stands near its beginning; empty where the server has none.
fn nonce(info: &[u8]) -> &[u8] {
    const KEY: &[u8] = b"\"nonce\":\"";
    let begin = info.windows(KEY.len()).position(|part| part == KEY);
    let rest = begin.and_then(|begin| info.get(begin + KEY.len()..)).unwrap_or_default();
    rest.split(|byte| *byte == b'"').next().unwrap_or_default()
}

/// The two lines that a login sends.
fn request(credentials: &Value) -> Box<[u8]> {
    let mut options = json!({
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

/// A server, and how it is spoken with.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// A connection that is in. It is closed when it is dropped.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    lines: Lines,
}

/// Logs in once.
pub(super) async fn login(
    endpoint: &Endpoint,
    credential: &Credential,
) -> Result<Connection, Failure> {
    let failed = |error: io::Error| Failure::of_error(&error);
    let mut tcp = TcpStream::connect(endpoint.address).await.map_err(failed)?;
    // Closed at once: a port that lingers could not be used again for a minute.
    tcp.set_zero_linger().map_err(failed)?;
    let mut lines = Lines::new();
    let info = lines.next(&mut tcp).await?;
    if !info.starts_with(b"INFO ") {
        return Err(Failure::Other);
    }
    let request = credential.answer(info);
    let mut stream: Box<dyn Wire> = match &endpoint.tls {
        None => Box::new(tcp),
        Some((connector, name)) => {
            let encrypted = connector.connect(name.clone(), tcp).await;
            Box::new(encrypted.map_err(|error| Failure::of_tls(&error))?)
        }
    };
    stream.write_all(&request).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
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
    /// Answers the server's PINGs until the connection ends.
    pub(super) async fn stay(&mut self) {
        while let Ok(line) = self.lines.next(&mut self.stream).await {
            if line.starts_with(b"PING") {
                let answer = self.stream.write_all(b"PONG\r\n").await;
                if answer.is_err() || self.stream.flush().await.is_err() {
                    return;
                }
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

    async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<&[u8], Failure> {
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
        let credential = Credential::ready(&json!({"user": "alice", "pass": "a\"b"}));
        let result = login(&Endpoint { address, tls: None }, &credential).await.map(|_| ());
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
        let endpoint = Endpoint { address, tls: None };
        let result = login(&endpoint, &Credential::Ready(Box::new([]))).await;
        assert_eq!(result.err(), Some(Failure::ConnectionRefused));
    }

    #[test]
    fn nonces() {
        let info = br#"INFO {"client_ip":"::1","nonce":"hO4_-","xkey":"X"}"#;
        assert_eq!(nonce(info), b"hO4_-");
        assert_eq!(nonce(b"INFO {}"), b"");
        let key = SigningKey::generate(crate::keys::KeyKind::User).unwrap().0;
        let signature = URL_SAFE_NO_PAD.encode(key.sign_now(b"hO4_-"));
        let public = key.public_key().to_owned();
        let lines = Credential::Nkey(key).answer(info).into_owned();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.contains(&format!(r#""sig":"{signature}""#)), "{lines}");
        assert!(lines.contains(&format!(r#""nkey":"{public}""#)), "{lines}");
    }
}
