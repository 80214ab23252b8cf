//! What a client logs in with.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use crate::keys::SigningKey;

/// The library's language, as CONNECT has it.
const LANG: &str = "nats-callout";

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
    Nkey { key: SigningKey, lang: &'static str },
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

    pub(super) fn nkey(key: SigningKey) -> Self {
        Self::Nkey { key, lang: LANG }
    }

    /// The same, from a library that waits as long as its default (the service serves those first that still
    /// wait).
    pub(super) fn with_patience(mut self, timeout: Duration) -> Self {
        let speaks = match timeout.as_secs_f64() {
            ..=2.0 => "go",
            ..=5.0 => "rust",
            _ => "nats.js",
        };
        match &mut self {
            Self::Nkey { lang, .. } => *lang = speaks,
            Self::Secret { lines, .. } | Self::Certificate { lines, .. } => {
                let said = String::from_utf8_lossy(lines);
                let [own, other] = [LANG, speaks].map(|lang| format!("\"lang\":\"{lang}\""));
                *lines = said.replacen(&own, &other, 1).into_bytes().into_boxed_slice();
            }
        }
        self
    }

    /// The lines that answer the server's INFO.
    pub(super) fn answer(&self, info: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Secret { lines, .. } | Self::Certificate { lines, .. } => Cow::Borrowed(lines),
            Self::Nkey { key, lang } => {
                let signature = URL_SAFE_NO_PAD.encode(key.sign_now(nonce(info)));
                let options = json!({ "nkey": key.public_key(), "sig": signature, "lang": lang });
                Cow::Owned(request(&options).into_vec())
            }
        }
    }

    /// What MQTT carries of it.
    pub(super) fn user_and_secret(&self) -> (&str, &str) {
        match self {
            Self::Secret { user, secret, .. } => (user, secret),
            Self::Nkey { .. } | Self::Certificate { .. } => ("", ""),
        }
    }

    /// Its own way to speak TLS, if it has one.
    pub(super) fn tls(&self) -> Option<&TlsConnector> {
        match self {
            Self::Certificate { tls, .. } => Some(tls),
            Self::Secret { .. } | Self::Nkey { .. } => None,
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
        "lang": LANG,
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
        let lines = Credential::nkey(key).answer(info).into_owned();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.contains(&format!(r#""sig":"{signature}""#)), "{lines}");
        assert!(lines.contains(&format!(r#""nkey":"{public}""#)), "{lines}");
    }
}
