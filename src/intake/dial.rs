//! One login on one server: its INFO, TLS where it asks for it, the nonce signed, and the first
//! PONG.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
#[cfg(feature = "aws-lc-rs")]
use tokio_rustls::rustls::crypto::aws_lc_rs as tls;
#[cfg(not(feature = "aws-lc-rs"))]
use tokio_rustls::rustls::crypto::ring as tls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::wire::{self, Frame, WireError};
use crate::causes::with_tls_remedy;
use crate::keys::{KeyError, KeyKind, SigningKey};

/// How long a server may take from the first byte to the PONG.
const PATIENCE: Duration = Duration::from_secs(2);

/// Read at once.
pub(super) const CHUNK: usize = 64 << 10;

/// Where the authorities are named that servers are trusted by.
const TRUST: &str = "[nats] tls_ca";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The network, or TLS.
    #[error("{}", with_tls_remedy(.0.to_string(), TRUST))]
    Io(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer within {PATIENCE:?}")]
    Silence,
    /// What answers is no server of NATS.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// It said something else than what begins a connection.
    #[error("the server began with something else than INFO")]
    NoInfo,
    /// It does not take the login.
    #[error("the server refused: {0}")]
    Refused(String),
    /// A certificate or a key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

impl From<rustls::Error> for DialError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(with_tls_remedy(error.to_string(), TRUST))
    }
}

impl From<pem::Error> for DialError {
    fn from(error: pem::Error) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    wants_tls: bool,
}

/// A text that is no address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no server's address: write nats://host:port or tls://host:port")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let wants_tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(invalid()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(invalid)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| invalid())?,
            None if port.is_empty() => 4222,
            None => return Err(invalid()),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port, wants_tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The servers, and how TLS is spoken with those that ask for it.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Tried in this order.
    pub addresses: Vec<Address>,
    /// Who vouches for the servers, a PEM file; without one, whom the operating system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate to show and its key, PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who logs in: an nkey, and in operator mode the user JWT that names it.
pub struct Login {
    key: SigningKey,
    jwt: Option<Zeroizing<String>>,
    /// Where it is from, for the log.
    source: String,
}

impl Login {
    /// With a user seed.
    pub fn nkey(seed: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_seed(seed, KeyKind::User)?;
        Ok(Self { key, jwt: None, source: String::new() })
    }

    /// With a user JWT that names the seed's key.
    pub fn jwt(jwt: Zeroizing<String>, seed: &str) -> Result<Self, KeyError> {
        Ok(Self { jwt: Some(jwt), ..Self::nkey(seed)? })
    }

    /// Says where it is from, a file, for the log.
    #[must_use]
    pub fn from_file(mut self, file: &Path) -> Self {
        self.source = file.display().to_string();
        self
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.key.public_key())
    }
}

/// What a server says of itself.
#[derive(Debug, Default, Deserialize)]
struct Info {
    #[serde(default)]
    nonce: String,
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    max_payload: usize,
}

/// A connection's bytes, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that has logged in.
pub(crate) struct Dialed {
    stream: Box<dyn Socket>,
    /// What came behind the first PONG.
    pub(crate) read: BytesMut,
    /// The most that the server takes in one message.
    pub(crate) max_payload: usize,
}

impl Dialed {
    pub(crate) fn split(
        self,
    ) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin, BytesMut) {
        let (read, write) = tokio::io::split(self.stream);
        (read, write, self.read)
    }
}

/// Logs in.
pub(crate) async fn dial(
    address: &Address,
    servers: &Servers,
    login: &Login,
    name: &str,
) -> Result<Dialed, DialError> {
    tokio::time::timeout(PATIENCE, handshake(address, servers, login, name))
        .await
        .map_err(|_| DialError::Silence)?
}

async fn handshake(
    address: &Address,
    servers: &Servers,
    login: &Login,
    name: &str,
) -> Result<Dialed, DialError> {
    let mut tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
    tcp.set_nodelay(true)?;
    let mut read = BytesMut::new();
    let info = loop {
        fill(&mut tcp, &mut read).await?;
        if let Some((frame, length)) = wire::parse(&read, |_| false)? {
            let Frame::Info(info) = frame else { return Err(DialError::NoInfo) };
            let info: Info = serde_json::from_slice(info).map_err(|_| DialError::NoInfo)?;
            read.advance(length);
            break info;
        }
    };
    let wants_tls = address.wants_tls || info.tls_required;
    let mut stream: Box<dyn Socket> = match wants_tls {
        true => Box::new(encrypted(tcp, address, servers).await?),
        false => Box::new(tcp),
    };
    let signature = URL_SAFE_NO_PAD.encode(login.key.sign_now(info.nonce.as_bytes()));
    let connect = serde_json::json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": wants_tls,
        "name": name,
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "echo": false,
        "headers": true,
        "no_responders": true,
        "sig": signature,
        // The JWT names the key; an empty one is none.
        "jwt": login.jwt.as_ref().map_or("", |jwt| jwt.as_str()),
        "nkey": if login.jwt.is_some() { "" } else { login.key.public_key() },
    });
    stream.write_all(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).await?;
    stream.flush().await?;
    loop {
        while let Some((frame, length)) = wire::parse(&read, |_| false)? {
            match frame {
                Frame::Pong => {
                    read.advance(length);
                    return Ok(Dialed { stream, read, max_payload: info.max_payload });
                }
                Frame::Error(text) => {
                    return Err(DialError::Refused(String::from_utf8_lossy(text).into_owned()));
                }
                Frame::Ping => stream.write_all(b"PONG\r\n").await?,
                Frame::Info(_) | Frame::Message(_) | Frame::Ok => {}
            }
            read.advance(length);
        }
        fill(&mut stream, &mut read).await?;
    }
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> std::io::Result<()> {
    read.reserve(CHUNK);
    match stream.read_buf(read).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The files are read anew each time: certificates are renewed.
async fn encrypted(
    tcp: TcpStream,
    address: &Address,
    servers: &Servers,
) -> Result<TlsStream<TcpStream>, DialError> {
    let (ca, identity) = (servers.ca.clone(), servers.identity.clone());
    let config = tokio::task::spawn_blocking(move || client_config(ca, identity));
    let config = config.await.map_err(|error| DialError::Tls(error.to_string()))??;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| DialError::Tls(error.to_string()))?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
}

pub(crate) fn client_config(
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
) -> Result<ClientConfig, DialError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in CertificateDer::pem_file_iter(file)? {
                roots.add(certificate?)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(tls::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    Ok(builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parsed = |text: &str| text.parse::<Address>().map(|it| (it.to_string(), it.wants_tls));
        assert_eq!(parsed("nats://a.example:4333"), Ok(("a.example:4333".to_owned(), false)));
        assert_eq!(parsed("tls://10.0.0.1/"), Ok(("10.0.0.1:4222".to_owned(), true)));
        assert_eq!(parsed("localhost:1"), Ok(("localhost:1".to_owned(), false)));
        assert_eq!(parsed("nats://[::1]:4333"), Ok(("[::1]:4333".to_owned(), false)));
        assert_eq!(parsed("[::1]"), Ok(("[::1]:4222".to_owned(), false)));
        for text in ["", "nats://", "ws://a:1", "a:b", "a:70000", "[::1", "[::1]x", "u:p@a:1"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("nats://host:port"), "{text}");
        }
    }

    #[test]
    fn logins_are_checked_and_not_shown() {
        let (_, seed) = SigningKey::generate(KeyKind::User).unwrap();
        let login = Login::jwt(Zeroizing::new("eyJ.x.y".to_owned()), &seed).unwrap();
        assert!(Login::nkey(&seed).unwrap().jwt.is_none());
        let (_, account) = SigningKey::generate(KeyKind::Account).unwrap();
        assert!(Login::nkey(&account).is_err());
        let shown = format!("{login:?}");
        assert!(!shown.contains(seed.as_str()) && !shown.contains("eyJ"), "{shown}");
    }
}
