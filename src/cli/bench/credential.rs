//! What a client logs in with.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use crate::keys::SigningKey;

/// What a client logs in with.
pub(super) enum Credential {
    /// A password or a token, in lines that are the same each time.
    Secret {
        /// Empty where a token says it.
        user: String,
        secret: String,
        lines: Box<[u8]>,
    },
    /// Signs the server's nonce.
    Nkey(SigningKey),
    /// Shows a certificate.
    Certificate { tls: TlsConnector, lines: Box<[u8]> },
}

impl Credential {
    pub(super) fn password(user: &str, password: &str) -> Self {
        let lines = request(&json!({ "user": user, "pass": password }));
        Self::Secret { user: user.to_owned(), secret: password.to_owned(), lines }
    }

    /// `user` is whose it is, where that is known: MQTT wants a name.
    pub(super) fn token(user: &str, token: &str) -> Self {
        let lines = request(&json!({ "auth_token": token }));
        Self::Secret { user: user.to_owned(), secret: token.to_owned(), lines }
    }

    pub(super) fn certificate(tls: TlsConnector) -> Self {
        Self::Certificate { tls, lines: request(&json!({})) }
    }

    /// The lines that answer the server's INFO.
    pub(super) fn answer(&self, info: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Secret { lines, .. } | Self::Certificate { lines, .. } => Cow::Borrowed(lines),
            Self::Nkey(key) => {
                let signature = URL_SAFE_NO_PAD.encode(key.sign_now(nonce(info)));
                let options = json!({ "nkey": key.public_key(), "sig": signature });
                Cow::Owned(request(&options).into_vec())
            }
        }
    }

    /// What MQTT carries of it.
    pub(super) fn user_and_secret(&self) -> (&str, &str) {
        match self {
            Self::Secret { user, secret, .. } => (user, secret),
            Self::Nkey(_) | Self::Certificate { .. } => ("", ""),
        }
    }

    /// Its own way to speak TLS, if it has one.
    pub(super) fn tls(&self) -> Option<&TlsConnector> {
        match self {
            Self::Certificate { tls, .. } => Some(tls),
            Self::Secret { .. } | Self::Nkey(_) => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyKind;

    #[test]
    fn nonces_are_signed() {
        let info = br#"INFO {"client_ip":"::1","nonce":"hO4_-","xkey":"X"}"#;
        assert_eq!(nonce(info), b"hO4_-");
        assert_eq!(nonce(b"INFO {}"), b"");
        let key = SigningKey::generate(KeyKind::User).unwrap().0;
        let signature = URL_SAFE_NO_PAD.encode(key.sign_now(b"hO4_-"));
        let public = key.public_key().to_owned();
        let lines = Credential::Nkey(key).answer(info).into_owned();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.contains(&format!(r#""sig":"{signature}""#)), "{lines}");
        assert!(lines.contains(&format!(r#""nkey":"{public}""#)), "{lines}");
    }
}
