//! Questions over HTTP. What comes from the network is small, soon there, and from that host itself: a
//! redirect is followed nowhere, and no proxy is used but one that is configured.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Certificate, Client, Proxy, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

use super::keys::KeySetError;
use crate::causes::{chain, quoted, with_tls_remedy};
use crate::protocol::credentials::Secret;
use crate::redact::shown_path;

/// The longest answer or file that is read.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Where other programs look for a proxy.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Of a server that wants another secret.
const NOT_LET_IN: &str =
    ": it does not accept what is shown to it, client_id and client_secret or bearer_file";

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url}: {source}")]
    Url { url: String, source: UrlError },
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url}: answers with the status {status}, and has to with 200{why}")]
    Status { url: String, status: StatusCode, why: String },
    #[error("{from}: longer than {most} bytes")]
    TooLong { from: String, most: usize },
    #[error("{url}: no discovery document: {reason}")]
    Discovery { url: String, reason: String },
    #[error("{url}: is of the issuer {}, and has to be of {}", quoted(said), quoted(issuer))]
    OtherIssuer { url: String, said: String, issuer: String },
    #[error("{url}: no answer about a token: {reason}")]
    Introspection { url: String, reason: String },
    #[error("{from}: {source}")]
    Keys { from: String, source: KeySetError },
    #[error("{}: it is no JWK set {what}", shown_path(path).display())]
    NoSet { path: PathBuf, what: &'static str },
    #[error("{}: {source}", shown_path(path).display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: no certificates in PEM form that TLS can use, as ca_file has to have: {reason}", shown_path(path).display())]
    Certificates { path: PathBuf, reason: String },
    #[error("{}: holds no token for `Authorization: Bearer`, as bearer_file has to: {flaw}", shown_path(path).display())]
    Bearer { path: PathBuf, flaw: &'static str },
    #[error("the proxy cannot be used: {reason}")]
    Proxy { reason: String },
}

/// Why an address is not one to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// It is no address.
    #[error("no URL: {0}")]
    Malformed(String),
    /// Anybody on the way could answer.
    #[error(
        "not https, which is needed but for hosts such as localhost and 127.0.0.1, or with \
         insecure_http = true"
    )]
    Insecure,
    /// A user or password would be in logs and messages.
    #[error("it must not hold credentials")]
    Credentials,
}

/// Checks an address to ask: https, or http to this machine itself or where that is wanted.
pub(crate) fn check_url(text: &str, insecure_http: bool) -> Result<(), UrlError> {
    parse_url(text, insecure_http).map(drop)
}

/// Checks the address of a proxy.
pub(crate) fn check_proxy(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("no proxy that is spoken to by http or https".to_owned());
    }
    Proxy::all(text).map(drop).map_err(|error| chain(&error.without_url()))
}

/// An address as it may be shown: what stands behind its path may be a secret.
pub(super) fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// [`shown_url`] of what may be no URL.
pub(crate) fn shown_address(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

pub(super) fn parse_url(text: &str, insecure_http: bool) -> Result<Url, UrlError> {
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
pub(super) fn check_lead(at: &Url, to: &str, insecure_http: bool) -> Result<(), UrlError> {
    match parse_url(to, insecure_http)?.scheme() {
        "https" => Ok(()),
        _ if at.scheme() == "https" && !insecure_http => Err(UrlError::Insecure),
        _ => Ok(()),
    }
}

/// How an issuer is asked.
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

impl Way {
    /// The proxy without who asks it.
    fn shown_proxy(&self) -> Option<String> {
        let url = Url::parse(self.proxy.as_ref()?.expose()).ok()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
    }

    /// A client for the questions of now: certificates may be others later.
    pub(super) async fn client(&self, url: &Url) -> Result<Client, FetchError> {
        let builder = Client::builder()
            .user_agent(concat!("nats-callout/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(TIMEOUT);
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(
                Proxy::all(proxy.expose())
                    .map_err(|error| FetchError::Proxy { reason: chain(&error.without_url()) })?,
            ),
            None => builder,
        };
        let builder = match &self.ca_file {
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
        builder
            .build()
            .map_err(|error| FetchError::Unreachable { url: shown_url(url), reason: chain(&error) })
    }
}

/// What is wrong with an answer that has to be a JSON object, and what it is instead by its own word.
pub(super) fn no_object(text: &[u8], headers: &HeaderMap, flaw: &serde_json::Error) -> String {
    if text.trim_ascii_start().starts_with(b"{") {
        return flaw.to_string();
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.map(|it| format!(", but {}", quoted(it))).unwrap_or_default();
    format!("no JSON object{kind}: is it this address that is meant?")
}

/// Asks, and reads a whole answer of at most so many bytes.
pub(super) async fn read(
    way: &Way,
    url: &Url,
    request: RequestBuilder,
    most: usize,
) -> Result<(HeaderMap, Vec<u8>), FetchError> {
    let unreachable = |error: reqwest::Error| {
        let is_connect = error.is_connect();
        let mut reason = with_tls_remedy(chain(&error.without_url()), "ca_file of the issuer");
        if is_connect && let Some(proxy) = way.shown_proxy() {
            reason.insert_str(0, &format!("by the proxy {proxy}: "));
        } else if is_connect
            && let Some(name) = PROXIES.iter().find(|it| std::env::var_os(it).is_some())
        {
            let _ = write!(
                reason,
                "; {name} of the environment is not used: write it as `proxy` of the issuer"
            );
        }
        FetchError::Unreachable { url: shown_url(url), reason }
    };
    let mut response = request.send().await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let why = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NOT_LET_IN.to_owned(),
            _ => lead(url, response.headers()),
        };
        return Err(FetchError::Status { status, why, url: shown_url(url) });
    }
    let headers = response.headers().clone();
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if text.len() + chunk.len() > most {
            return Err(FetchError::TooLong { from: shown_url(url), most });
        }
        text.extend_from_slice(&chunk);
    }
    Ok((headers, text))
}

/// Where an answer leads instead, which nobody follows.
fn lead(at: &Url, headers: &HeaderMap) -> String {
    let to = headers.get(LOCATION).and_then(|it| at.join(it.to_str().ok()?).ok());
    let Some(to) = to else { return String::new() };
    // Who asks may be a secret, too.
    if !to.username().is_empty() || to.password().is_some() {
        return String::new();
    }
    let to = shown_url(&to);
    format!(": it leads to {to}, which is not followed; name that address itself")
}

pub(super) async fn read_file(path: &Path) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::File { path: path.to_owned(), source };
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&file)?.len();
        if length > MAX_BYTES as u64 { Ok(None) } else { std::fs::read(file).map(Some) }
    });
    let read = read.await.map_err(|error| failed(std::io::Error::other(error)))?;
    match read.map_err(failed)? {
        Some(bytes) => Ok(bytes),
        None => Err(FetchError::TooLong {
            from: shown_path(path).display().to_string(),
            most: MAX_BYTES,
        }),
    }
}

/// A token that a file holds, which is replaced now and then.
pub(super) async fn bearer(path: &Path) -> Result<Zeroizing<String>, FetchError> {
    let text = Zeroizing::new(read_file(path).await?);
    let token = std::str::from_utf8(&text).map(str::trim).unwrap_or_default();
    let flaw = match token {
        "" if text.trim_ascii().is_empty() => "it is empty",
        _ if token.contains('\n') => "it has several lines",
        _ if token.is_empty() || !token.bytes().all(|it| it.is_ascii_graphic()) => {
            "a character in it is no token's"
        }
        _ => return Ok(Zeroizing::new(token.to_owned())),
    };
    Err(FetchError::Bearer { path: path.to_owned(), flaw })
}

#[cfg(test)]
mod tests;
