//! Logins by certificate: the server has verified the chain in the TLS handshake, and a name in the
//! client's certificate is in some user's row.

pub(crate) mod name;

use std::sync::Arc;

use async_trait::async_trait;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::by_identity::ByIdentity;
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Principal, Rejected,
};
use crate::clock::{Clock, UnixSeconds};
use crate::protocol::claims::ClientTls;
use crate::protocol::credentials::Credentials;
use crate::protocol::request::CLOCK_LEEWAY;
use crate::redact::shortened;
use crate::store::{CredentialStore, Identity};

/// The word for the log.
const METHOD: &str = "certificate";

/// How many names of a certificate that is nobody's are in the log.
const SHOWN: usize = 8;

/// Finds the user by a name in the certificate: an e-mail address, a DNS name, a URI, or the subject.
/// Where names are those of several users, nobody is let in.
#[derive(Debug)]
pub(crate) struct CertificateAuthenticator(ByIdentity);

/// What a certificate says of its holder.
struct Holder {
    names: Vec<String>,
    begins: UnixSeconds,
    ends: UnixSeconds,
}

impl CertificateAuthenticator {
    /// Looks names up in `store`.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn CredentialStore>, clock: Arc<dyn Clock>) -> Self {
        Self(ByIdentity { store, clock, method: METHOD, unknown })
    }

    async fn authenticate_tls(&self, tls: &ClientTls) -> Result<Principal, Rejected> {
        let holder = read(tls).ok_or(DenyReason::UnknownCertificate)?;
        if self.0.clock.now().saturating_add(CLOCK_LEEWAY) < holder.begins {
            return Err(DenyReason::UnknownCertificate.into());
        }
        let identity = |name: String| Identity::Certificate(name.into_boxed_str());
        let identities = holder.names.into_iter().map(identity).collect();
        self.0.authenticate(identities, Some(holder.ends)).await
    }
}

/// Nobody has any of the names.
fn unknown(identities: &[Identity]) -> Denied {
    let names = identities.iter().take(SHOWN).filter_map(|identity| match identity {
        Identity::Certificate(name) => Some(shortened(name)),
        Identity::Nkey(_) => None,
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let detail = format!("no row has one of its names: {names}");
    Denied::from(DenyReason::UnknownCertificate).with_detail(detail)
}

/// The names that a certificate in PEM is looked up by, in order; `None` if it cannot be read.
#[must_use]
pub fn names(pem: &str) -> Option<Vec<String>> {
    parse(pem).map(|holder| holder.names)
}

/// The names in the client's own certificate, and when it ends; `None` if it cannot be read.
pub(crate) fn verified(tls: &ClientTls) -> Option<(Vec<String>, UnixSeconds)> {
    read(tls).map(|holder| (holder.names, holder.ends))
}

/// Reads the client's own certificate out of what the server has verified. What the server was
/// shown and did not verify is not looked at.
fn read(tls: &ClientTls) -> Option<Holder> {
    parse(tls.verified_chains.first()?.first()?)
}

/// Reads the first certificate of a PEM text; `None` if it cannot be read in full.
fn parse(pem: &str) -> Option<Holder> {
    let pem = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    let (rest, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    if pem.label != "CERTIFICATE" || !rest.is_empty() {
        return None;
    }
    let validity = certificate.validity();
    Some(Holder {
        names: name::of(&certificate)?,
        begins: validity.not_before.timestamp(),
        ends: validity.not_after.timestamp(),
    })
}

#[async_trait]
impl Authenticator for CertificateAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        match attempt.credentials {
            Credentials::Certificate(tls) => Authentication::of(self.authenticate_tls(tls).await),
            _ => Ok(Authentication::NotMine),
        }
    }
}

#[cfg(test)]
mod tests;
