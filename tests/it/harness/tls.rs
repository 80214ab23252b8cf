//! Certificates: an authority of the test's own, what it issues to servers and to clients, and the
//! configuration lines that turn TLS on.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

/// An authority whose files are in a folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) ca: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one, named `name`.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let ca = folder.join(format!("{name}.pem"));
        std::fs::write(&ca, issuer.pem()).expect("a file");
        Self { folder: folder.to_owned(), issuer, ca }
    }

    /// A server's certificate for this machine.
    pub(crate) fn server(&self) -> Identity {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("server", params)
    }

    /// A client's certificate, whose names are the caller's.
    pub(crate) fn client(&self, file: &str, mut params: CertificateParams) -> Identity {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, params)
    }

    /// A certificate of its own making.
    pub(crate) fn sign(&self, params: &CertificateParams, pair: &KeyPair) -> rcgen::Certificate {
        params.signed_by(pair, &self.issuer).expect("a certificate")
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Identity {
        let pair = KeyPair::generate().expect("a key");
        let certificate = self.sign(&params, &pair);
        let path = |suffix: &str| self.folder.join(format!("{file}.{suffix}"));
        let identity = Identity { certificate: path("pem"), key: path("key") };
        std::fs::write(&identity.certificate, certificate.pem()).expect("a file");
        super::write_private(&identity.key, &pair.serialize_pem());
        identity
    }

    /// A `tls` block of nats-server; with `verify`, clients have to show a certificate of this
    /// authority.
    pub(crate) fn block(&self, verify: bool) -> String {
        let server = self.server();
        format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: {verify} }}\n",
            server.certificate, server.key, self.ca
        )
    }
}

/// A subject of these parts, in this order.
pub(crate) fn subject(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for (kind, value) in parts {
        subject.push(kind.clone(), *value);
    }
    subject
}

/// Parameters without any name.
pub(crate) fn nameless() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}
