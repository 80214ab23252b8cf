//! Where an issuer's keys come from: its discovery document
//! ([OpenID Connect Discovery](https://openid.net/specs/openid-connect-discovery-1_0.html)), a URL,
//! or a file. What comes from the network is small, soon there, and from that host itself: a
//! redirect is followed nowhere, and no proxy is used but one that is configured.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Certificate, Client, Proxy, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::keys::{KeySet, KeySetError};
use crate::causes::chain;
use crate::protocol::credentials::Secret;
use crate::redact::shown_path;

/// The longest answer or file that is read.
const MAX_BYTES: usize = 1 << 20;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a file is looked at for a change.
const LOOK: Duration = Duration::from_secs(1);

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url}: {source}")]
    Url { url: String, source: UrlError },
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url}: answers with the status {status}, and has to with 200")]
    Status { url: String, status: StatusCode },
    #[error("{from}: longer than {MAX_BYTES} bytes")]
    TooLong { from: String },
    #[error("{url}: no discovery document: {reason}")]
    Discovery { url: String, reason: String },
    #[error("{url}: is of the issuer {said:?}, and has to be of {issuer:?}")]
    OtherIssuer { url: String, said: String, issuer: String },
    #[error("{from}: {source}")]
    Keys { from: String, source: KeySetError },
    #[error("{}: {source}", shown_path(path).display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: no certificates in PEM form that TLS can use: {reason}", shown_path(path).display())]
    Certificates { path: PathBuf, reason: String },
    #[error("{}: holds no token for `Authorization: Bearer`", shown_path(path).display())]
    Bearer { path: PathBuf },
    #[error("the proxy cannot be used: {reason}")]
    Proxy { reason: String },
}

/// Why an address is not one to fetch keys from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// It is no address.
    #[error("no URL: {0}")]
    Malformed(String),
    /// Anybody on the way could put in keys of their own.
    #[error(
        "not https, which is needed but for hosts such as localhost and 127.0.0.1, or with \
         insecure_http = true"
    )]
    Insecure,
    /// A user or password would be in logs and messages.
    #[error("it must not hold credentials")]
    Credentials,
}

/// Checks an address to fetch keys from: https, or http to this machine itself or where that is wanted.
pub(crate) fn check_url(text: &str, insecure_http: bool) -> Result<(), UrlError> {
    parse_url(text, insecure_http).map(drop)
}

/// Checks the address of a proxy.
pub(crate) fn check_proxy(text: &str) -> Result<(), String> {
    Proxy::all(text).map(drop).map_err(|error| chain(&error.without_url()))
}

fn parse_url(text: &str, insecure_http: bool) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|error| UrlError::Malformed(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && (is_here || insecure_http)) {
        return Err(UrlError::Insecure);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credentials);
    }
    Ok(url)
}

/// Checks where a discovery document of `at` leads to: what came safely must not lead to keys that do not.
fn check_lead(at: &Url, to: &str, insecure_http: bool) -> Result<(), UrlError> {
    match parse_url(to, insecure_http)?.scheme() {
        "https" => Ok(()),
        _ if at.scheme() == "https" && !insecure_http => Err(UrlError::Insecure),
        _ => Ok(()),
    }
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    /// For how long the issuer says that it holds.
    pub(super) max_age: Option<Duration>,
}

/// When a file was written, and how long it is.
pub(super) type Stamp = (SystemTime, u64);

#[derive(Debug)]
pub(super) enum Source {
    /// The issuer's discovery document says where.
    Discovery {
        issuer: String,
    },
    Url(String),
    File(PathBuf),
}

/// How keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Way {
    /// The only certificates that servers are trusted by, where not those of the system.
    pub ca_file: Option<PathBuf>,
    /// A file whose text is shown to them.
    pub bearer_file: Option<PathBuf>,
    /// The URL of a proxy that they are asked by, which may hold a password.
    pub proxy: Option<Secret>,
    /// Whether they may be asked by plain http.
    pub insecure_http: bool,
}

#[derive(Debug)]
pub(super) struct Origin {
    pub(super) source: Source,
    /// How servers are asked.
    pub(super) way: Way,
    /// What keys have to serve, to be of use.
    pub(super) algorithms: Vec<Algorithm>,
}

#[derive(Deserialize)]
pub(super) struct DiscoveryDocument {
    issuer: String,
    pub(super) jwks_uri: String,
}

impl Origin {
    pub(super) async fn fetch(&self) -> Result<Fetched, FetchError> {
        match &self.source {
            Source::File(path) => {
                let text = read_file(path).await?;
                self.keys(&path.display().to_string(), &text, None)
            }
            Source::Url(url) => self.download(url).await,
            Source::Discovery { issuer } => {
                let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
                let (at, text, _) = self.get(&url).await?;
                let document: DiscoveryDocument = match serde_json::from_slice(&text) {
                    Ok(document) => document,
                    Err(error) => {
                        return Err(FetchError::Discovery { url, reason: error.to_string() });
                    }
                };
                if document.issuer != *issuer {
                    let (said, issuer) = (document.issuer, issuer.clone());
                    return Err(FetchError::OtherIssuer { url, said, issuer });
                }
                let url = document.jwks_uri;
                match check_lead(&at, &url, self.way.insecure_http) {
                    Ok(()) => self.download(&url).await,
                    Err(source) => Err(FetchError::Url { url, source }),
                }
            }
        }
    }

    /// What tells a file from the one that it becomes; of other places, nobody tells.
    pub(super) async fn stamp(&self) -> Option<Stamp> {
        let Source::File(path) = &self.source else { return None };
        let path = path.clone();
        let found =
            tokio::task::spawn_blocking(move || std::fs::metadata(path)).await.ok()?.ok()?;
        Some((found.modified().ok()?, found.len()))
    }

    /// Returns once the file is another than it was.
    pub(super) async fn changed(&self, before: Option<Stamp>) {
        if !matches!(self.source, Source::File(_)) {
            return std::future::pending().await;
        }
        while self.stamp().await == before {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn download(&self, url: &str) -> Result<Fetched, FetchError> {
        let (url, text, max_age) = self.get(url).await?;
        self.keys(url.as_str(), &text, max_age)
    }

    fn keys(
        &self,
        from: &str,
        text: &[u8],
        max_age: Option<Duration>,
    ) -> Result<Fetched, FetchError> {
        let failed = |source| FetchError::Keys { from: from.to_owned(), source };
        let keys = KeySet::parse(text, &self.algorithms).map_err(failed)?;
        Ok(Fetched { keys, max_age })
    }

    async fn get(&self, url: &str) -> Result<(Url, Vec<u8>, Option<Duration>), FetchError> {
        let url = parse_url(url, self.way.insecure_http)
            .map_err(|source| FetchError::Url { url: url.to_owned(), source })?;
        let unreachable = |error: reqwest::Error| {
            let reason = chain(&error.without_url());
            FetchError::Unreachable { url: url.to_string(), reason }
        };
        let client = self.client(&url).await?;
        let mut request = client.get(url.clone()).header(ACCEPT, "application/json");
        if let Some(path) = &self.way.bearer_file {
            request = request.bearer_auth(bearer(path).await?.as_str());
        }
        let mut response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { status: response.status(), url: url.into() });
        }
        let max_age = max_age(response.headers());
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if text.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLong { from: url.into() });
            }
            text.extend_from_slice(&chunk);
        }
        Ok((url, text, max_age))
    }

    /// A client for one question: certificates may have changed since the last one.
    async fn client(&self, url: &Url) -> Result<Client, FetchError> {
        let builder = Client::builder()
            .user_agent(concat!("nats-callout/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(TIMEOUT);
        let builder = match &self.way.proxy {
            Some(proxy) => builder.proxy(
                Proxy::all(proxy.expose())
                    .map_err(|error| FetchError::Proxy { reason: chain(&error.without_url()) })?,
            ),
            None => builder,
        };
        let builder = match &self.way.ca_file {
            Some(path) => {
                let bad = |error: reqwest::Error| FetchError::Certificates {
                    path: path.clone(),
                    reason: chain(&error),
                };
                let pem = read_file(path).await?;
                let certificates = Certificate::from_pem_bundle(&pem).map_err(bad)?;
                if certificates.is_empty() {
                    let reason = "it holds none".to_owned();
                    return Err(FetchError::Certificates { path: path.clone(), reason });
                }
                builder.tls_certs_only(certificates)
            }
            // Plain http needs none, and a machine may have none.
            None if url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        builder.build().map_err(|error| FetchError::Unreachable {
            url: url.to_string(),
            reason: chain(&error),
        })
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::File { path: path.to_owned(), source };
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&file)?.len();
        if length > MAX_BYTES as u64 { Ok(None) } else { std::fs::read(file).map(Some) }
    });
    let read = read.await.map_err(|error| failed(std::io::Error::other(error)))?;
    match read.map_err(failed)? {
        Some(bytes) => Ok(bytes),
        None => Err(FetchError::TooLong { from: path.display().to_string() }),
    }
}

/// A token that a file holds, which is replaced now and then.
async fn bearer(path: &Path) -> Result<Zeroizing<String>, FetchError> {
    let text = Zeroizing::new(read_file(path).await?);
    let token = std::str::from_utf8(&text).map(str::trim).unwrap_or_default();
    let is_token = |byte: u8| byte.is_ascii_graphic();
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(FetchError::Bearer { path: path.to_owned() });
    }
    Ok(Zeroizing::new(token.to_owned()))
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then(|| value.trim().trim_matches('"'))
    })?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_place_of_a_file_is_not_shown() {
        let path = PathBuf::from("/no/such/kV3p/Zq8/VqQYfR0s+x/a7Lw1T/9nDcU4eJ2bG6hM8o=");
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        for error in [FetchError::File { path: path.clone(), source }, FetchError::Bearer { path }]
        {
            assert!(error.to_string().starts_with("/(redacted): "), "{error}");
        }
    }

    /// An address is read as the URL Standard says: its case, and blanks around it, make no difference.
    #[test]
    fn a_document_leads_to_nothing_less_safe() {
        let [safe, here] = ["https://id.example.com/", "http://localhost:8080/"]
            .map(|url| Url::parse(url).unwrap());
        for url in
            ["https://id.example.com/keys", "HTTPS://id.example.com/keys", " \u{8} https://x/"]
        {
            assert_eq!(check_lead(&safe, url, false), Ok(()), "{url:?}");
            assert_eq!(check_lead(&here, url, false), Ok(()), "{url:?}");
        }
        for url in ["http://localhost:8080/keys", "HTTP://127.0.0.1/"] {
            assert_eq!(check_lead(&safe, url, false), Err(UrlError::Insecure), "{url:?}");
            assert_eq!(check_lead(&here, url, false), Ok(()), "{url:?}");
            assert_eq!(check_lead(&safe, url, true), Ok(()), "{url:?}");
        }
        let elsewhere = "http://id.example.com/";
        assert_eq!(check_lead(&here, elsewhere, false), Err(UrlError::Insecure));
        assert_eq!(check_lead(&here, elsewhere, true), Ok(()));
    }

    #[test]
    fn addresses() {
        for good in [
            "https://id.example.com/realms/x",
            "http://127.0.0.1:8080/x",
            "http://127.8.9.1",
            "http://[::1]:80/",
            "http://localhost:8080",
        ] {
            assert_eq!(check_url(good, false), Ok(()), "{good}");
        }
        for insecure in [
            "http://id.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://[::2]/",
            "http://0.0.0.0/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
        ] {
            assert_eq!(check_url(insecure, false), Err(UrlError::Insecure), "{insecure}");
        }
        assert_eq!(check_url("http://keycloak:8080/x", true), Ok(()));
        assert_eq!(check_url("ftp://keycloak/x", true), Err(UrlError::Insecure));
        assert_eq!(check_url("https://me:pw@x.org", false), Err(UrlError::Credentials));
        assert!(matches!(check_url("keys.json", true), Err(UrlError::Malformed(_))));
        assert_eq!(check_proxy("http://proxy.example.com:3128"), Ok(()));
        assert!(check_proxy("http://").is_err());
    }

    #[test]
    fn ages() {
        let age = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age("public, max-age=3600, must-revalidate"), Some(3_600));
        assert_eq!(age("MAX-AGE = \"60\""), Some(60));
        assert_eq!(age("no-store"), None);
        assert_eq!(age("max-age=soon"), None);
        assert_eq!(age("s-maxage=5"), None);
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
