//! The service's two logins, as the configuration names their credentials.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Request};
use tokio::sync::mpsc;

use crate::causes::{chain, with_tls_remedy};
use crate::config::{Config, Mode, Nats};
use crate::keyfile::{self, KeyFileError};

/// How long a login may take that somebody waits for; a busy server's takes a while.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a server has for a round trip.
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// When a server asks a new client for the first time whether it is there, which is before it has decided
/// if the service is silent.
const FIRST_PING: Duration = Duration::from_millis(1_500);

/// Which of the service's logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// In the account AUTH.
    Auth,
    /// In the system account.
    System,
}

impl Login {
    /// Reads its credentials: how it connects, and by what TLS.
    pub(crate) fn options(self, config: &Config) -> Result<ConnectOptions, KeyFileError> {
        let options = match &config.mode {
            Mode::Operator(mode) => {
                let path = match self {
                    Self::Auth => &mode.credentials,
                    Self::System => &mode.system_credentials,
                };
                let creds = keyfile::read_secret(path)?;
                ConnectOptions::with_credentials(&creds).map_err(|error| {
                    KeyFileError::Unusable {
                        path: path.clone(),
                        problem: format!("is no creds file: {error}"),
                    }
                })?
            }
            Mode::Config(mode) => {
                let path = match self {
                    Self::Auth => &mode.nkey,
                    Self::System => &mode.system_nkey,
                };
                ConnectOptions::with_nkey(keyfile::read_secret(path)?.trim().into())
            }
        };
        Ok(with_tls(&config.nats, options))
    }

    /// Those of somebody who works on the deployment, and waits.
    pub(crate) fn working(self, config: &Config) -> Result<ConnectOptions, KeyFileError> {
        let options = self.options(config)?;
        Ok(options.name("nats-callout command").connection_timeout(PATIENCE))
    }

    /// Logs in, for work on the deployment.
    pub(crate) async fn connect(self, config: &Config) -> Result<Client, LoginError> {
        let urls = config.nats.urls.as_slice();
        let connected = self.working(config)?.connect(urls).await;
        connected.map_err(|source| LoginError::Connect { urls: urls.join(", "), source })
    }
}

/// Why one of the service's own logins could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LoginError {
    /// Its credentials.
    #[error(transparent)]
    Credentials(#[from] KeyFileError),
    /// No server lets it in.
    #[error("cannot log in at {urls}{}", tls_hint(&chain(source)))]
    Connect {
        /// Where.
        urls: String,
        /// Why.
        source: async_nats::ConnectError,
    },
}

/// What an error of a connection to the servers says, and what to do where they refuse TLS as it is configured.
pub(crate) fn connect_failure(error: &async_nats::ConnectError) -> String {
    let text = chain(error);
    let hint = tls_hint(&text);
    with_tls_remedy(text, TRUST) + hint
}

/// Where the authorities are named that servers are trusted by.
const TRUST: &str = "[nats] tls_ca";

/// What a server says of a certificate that is not good enough.
const NOT_TAKEN: [&str; 5] = [
    "UnknownCA",
    "BadCertificate",
    "CertificateUnknown",
    "CertificateExpired",
    "UnsupportedCertificate",
];

/// Servers say no more than the name of an alert.
fn tls_hint(text: &str) -> &'static str {
    if text.contains("CertificateRequired") {
        " (the server asks for a client certificate: [nats] tls_certificate and tls_key)"
    } else if NOT_TAKEN.iter().any(|alert| text.contains(&format!("fatal alert: {alert}"))) {
        " (the server does not take the certificate of [nats] tls_certificate)"
    } else {
        ""
    }
}

/// Whether a client that connected after `took`, and hears by `losses` that its connection is lost, was let in
/// by no more than the server's first question, and closed within `patience`: to the library any word of the
/// server means that it is in.
pub(crate) async fn was_only_asked(
    took: Duration,
    losses: &mut mpsc::UnboundedReceiver<()>,
    patience: Duration,
) -> bool {
    took >= FIRST_PING && tokio::time::timeout(patience, losses.recv()).await.is_ok()
}

/// Waits until the server has taken what was sent before: a question that nobody answers.
pub(crate) async fn round_trip(client: &Client) {
    let nowhere = client.new_inbox();
    let request = Request::new().timeout(Some(ROUND_TRIP));
    drop(client.send_request(nowhere, request).await);
}

/// Adds what the configuration says of TLS.
pub(crate) fn with_tls(nats: &Nats, mut options: ConnectOptions) -> ConnectOptions {
    if let Some(ca) = &nats.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &nats.tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_asks_for_a_certificate_is_told_of() {
        let asked = tls_hint("TLS error: received fatal alert: CertificateRequired");
        assert!(asked.contains("[nats] tls_certificate and tls_key"), "{asked}");
        let refused = tls_hint("TLS error: received fatal alert: UnknownCA");
        assert!(refused.contains("does not take the certificate"), "{refused}");
        assert_eq!(tls_hint("IO error: Connection refused (os error 111)"), "");
    }
}
