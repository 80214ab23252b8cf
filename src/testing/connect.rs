//! What a client sends, and what its server knows of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::SigningKey;
use crate::policy::ConnectionType;
use crate::protocol::claims::{ClientInfo, ClientTls, ConnectOptions};

/// The nonce of the connection.
const NONCE: &str = "KmzFHcWAD5C_iEk";

/// A client that connects: over TCP from 127.0.0.1, where nothing else is said.
#[derive(Debug, Clone)]
pub struct Connect {
    client: ClientInfo,
    sent: ConnectOptions,
    tls: Option<ClientTls>,
}

impl Connect {
    /// With a user name and a password.
    #[must_use]
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, password) = (user.into(), password.into());
        let sent = ConnectOptions { user: user.clone(), password, ..ConnectOptions::default() };
        let mut connect = Self::with(sent);
        connect.client.user = user;
        connect
    }

    /// With a token.
    #[must_use]
    pub fn token(token: impl Into<String>) -> Self {
        Self::with(ConnectOptions { auth_token: token.into(), ..ConnectOptions::default() })
    }

    /// With an nkey, by which it signs its connection's nonce.
    #[must_use]
    pub fn nkey(key: &SigningKey) -> Self {
        let nkey = key.public_key().to_owned();
        let mut connect = Self::with(ConnectOptions { nkey, ..ConnectOptions::default() });
        connect.client.nonce = NONCE.to_owned();
        connect.signed_by(key)
    }

    /// The same, signed by another key than the one that it names.
    #[must_use]
    pub fn signed_by(mut self, key: &SigningKey) -> Self {
        self.sent.signature = URL_SAFE_NO_PAD.encode(key.sign_now(NONCE.as_bytes()));
        self
    }

    /// With a certificate in PEM, which the server has verified.
    #[must_use]
    pub fn certificate(pem: impl Into<String>) -> Self {
        let verified_chains = vec![vec![pem.into()]];
        let tls = ClientTls { verified_chains, ..ClientTls::default() };
        Self { tls: Some(tls), ..Self::with(ConnectOptions::default()) }
    }

    /// With nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::with(ConnectOptions::default())
    }

    /// The same, from another address.
    #[must_use]
    pub fn from(mut self, host: impl Into<String>) -> Self {
        self.client.host = host.into();
        self
    }

    /// The same, by another kind of connection.
    #[must_use]
    pub fn over(mut self, connection_type: ConnectionType) -> Self {
        let ClientInfo { kind, connection_type, .. } = connection_type.client();
        self.client = ClientInfo { kind, connection_type, ..self.client };
        self
    }

    fn with(sent: ConnectOptions) -> Self {
        let client =
            ClientInfo { host: "127.0.0.1".to_owned(), id: 7, ..ConnectionType::Nats.client() };
        let sent = ConnectOptions { lang: "rust".to_owned(), protocol: 1, ..sent };
        Self { client, sent, tls: None }
    }

    pub(super) fn into_parts(self) -> (ClientInfo, ConnectOptions, Option<ClientTls>) {
        (self.client, self.sent, self.tls)
    }
}
