//! Where an issuer's keys come from: its discovery document
//! ([OpenID Connect Discovery](https://openid.net/specs/openid-connect-discovery-1_0.html)), a URL,
//! or a file.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use reqwest::Url;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use serde::Deserialize;

use super::fetch::{
    FetchError, MAX_BYTES, Way, bearer, check_lead, no_object, parse_url, read, read_file,
    shown_address, shown_url,
};
use super::keys::{KeySet, KeySetError, instead_of_set};

/// How often a file is looked at for a change.
const LOOK: Duration = Duration::from_secs(1);

const DISCOVERY: &str = "/.well-known/openid-configuration";

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
                let read = self.keys(&path.display().to_string(), &text, None);
                read.map_err(|error| match error {
                    FetchError::Keys { source: KeySetError::Malformed, .. } => {
                        FetchError::NoSet { path: path.clone(), what: instead_of_set(&text) }
                    }
                    error => error,
                })
            }
            Source::Url(url) => self.download(url).await,
            Source::Discovery { issuer } => {
                let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
                let (at, text, headers) = self.get(&url).await?;
                let document: DiscoveryDocument =
                    serde_json::from_slice(&text).map_err(|error| {
                        let reason = no_object(&text, &headers, &error);
                        FetchError::Discovery { url: shown_url(&at), reason }
                    })?;
                if document.issuer != *issuer {
                    let (said, issuer) = (document.issuer, issuer.clone());
                    return Err(FetchError::OtherIssuer { url, said, issuer });
                }
                let url = document.jwks_uri;
                match check_lead(&at, &url, self.way.insecure_http) {
                    Ok(()) => self.download(&url).await,
                    Err(source) => {
                        Err(FetchError::Url { url: shown_address(&url).to_owned(), source })
                    }
                }
            }
        }
    }

    /// Whether the keys are in a file, which nobody has to answer for.
    fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// What is wrong where the keys cannot be had, for the log.
    pub(super) fn complaint(&self) -> &'static str {
        match self.is_file() {
            true => "its keys cannot be read; mend the file",
            false => "its keys cannot be fetched",
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
        if !self.is_file() {
            return std::future::pending().await;
        }
        while self.stamp().await == before {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn download(&self, url: &str) -> Result<Fetched, FetchError> {
        let (url, text, headers) = self.get(url).await?;
        self.keys(&shown_url(&url), &text, max_age(&headers))
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

    async fn get(&self, url: &str) -> Result<(Url, Vec<u8>, HeaderMap), FetchError> {
        let url = parse_url(url, self.way.insecure_http)
            .map_err(|source| FetchError::Url { url: shown_address(url).to_owned(), source })?;
        let client = self.way.client(&url).await?;
        let mut request = client.get(url.clone()).header(ACCEPT, "application/json");
        if let Some(path) = &self.way.bearer_file {
            request = request.bearer_auth(bearer(path).await?.as_str());
        }
        let (headers, text) = read(&self.way, &url, request, MAX_BYTES).await?;
        Ok((url, text, headers))
    }
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
