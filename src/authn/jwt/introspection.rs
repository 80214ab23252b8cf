//! Tokens that only their issuer can read: it is asked about each
//! ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)), and its answer holds for a short while.
//!
//! An answer is kept by the SHA-256 of its token, whether it is good or bad, and who asks about a token that is
//! being asked about waits for the same answer. A question goes on when the login that put it has no more time,
//! so that the next attempt finds the answer. No answer is no verdict: nobody is refused for it. Who may ask when
//! the [`queue`](super::queue) says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::future::Cache;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Url};
use serde_json::{Map, Value};

use super::fetch::{FetchError, Way, bearer, no_object, parse_url, read, shown_address, shown_url};
use super::queue::{Logins, Network, Places};
use super::token::is_nearly_jwt;
use crate::authn::random;
use crate::clock::UnixSeconds;
use crate::protocol::credentials::{Secret, TOKEN_PREFIX};
use crate::redact::holds_secret;
use crate::store::TokenHash;

/// So many questions are under way at once: who sends made-up tokens must not flood the issuer. Others wait.
const QUESTIONS: usize = 16;

/// So many tokens wait for that at most, and each for so long: that is longer than a login, whose next attempt finds
/// the answer.
const WAITING: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(10);

/// From how many networks it is known that the issuer has called a token active, and for how long since the last.
const KNOWN: u64 = 10_000;
const KNOWN_FOR: Duration = Duration::from_secs(12 * 3_600);

/// How long an answer holds, unless its token ends before: so long is a token good that was taken back.
const LIFE: Duration = Duration::from_secs(30);

/// How long an answer holds that a token is no good.
const BAD_LIFE: Duration = Duration::from_secs(5);

/// How many bytes of answers are kept.
const KEPT: u64 = 16 << 20;

/// The longest answer.
const MAX_BYTES: usize = 64 << 10;

/// How many characters a token has that is asked about.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=4_096;

/// A client is used for so long: certificates may have been replaced then.
const CLIENT_LIFE: Duration = Duration::from_secs(60);

/// How an issuer is asked about tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntrospectionSettings {
    /// Where.
    pub url: String,
    /// What the tokens begin with that it is asked about; empty for all that nobody else has.
    pub prefix: String,
    /// The id and the secret that are shown to it; without them, [`Way::bearer_file`].
    pub client: Option<(String, Secret)>,
    /// How it is reached.
    pub way: Way,
}

/// What an issuer says of a token.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// The claims of one that is active.
    claims: Option<Arc<Map<String, Value>>>,
    bytes: u32,
    life: Duration,
}

/// Why an answer cannot be had.
type Unanswered = Arc<str>;

/// A question that many may wait for.
type Asking = Shared<BoxFuture<'static, Result<Said, Unanswered>>>;
type UnderWay = Arc<Mutex<HashMap<TokenHash, Asking>>>;

/// Takes a question off the list, however it ends.
struct Ends {
    hash: TokenHash,
    under_way: UnderWay,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.hash);
    }
}

/// Asks an issuer about tokens.
#[derive(Debug)]
pub(super) struct Introspection {
    settings: IntrospectionSettings,
    url: Arc<str>,
    answers: Cache<TokenHash, Said>,
    known: Cache<Network, ()>,
    under_way: UnderWay,
    places: Places,
    counts: Arc<Mutex<Counts>>,
    client: Arc<Mutex<Option<(Instant, Client)>>>,
}

/// How it stands with the questions.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) failed: u64,
    /// Why the last one got no answer.
    pub(super) fault: Option<Unanswered>,
}

struct ByAnswer;

impl Expiry<TokenHash, Said> for ByAnswer {
    fn expire_after_create(&self, _: &TokenHash, said: &Said, _: Instant) -> Option<Duration> {
        Some(said.life)
    }
}

impl Introspection {
    pub(super) fn new(settings: IntrospectionSettings) -> Self {
        let answers = Cache::builder()
            .max_capacity(KEPT)
            .weigher(|_, said: &Said| said.bytes)
            .expire_after(ByAnswer)
            .build();
        let known = Cache::builder().max_capacity(KNOWN).time_to_idle(KNOWN_FOR).build();
        let (url, places) = (settings.url.as_str().into(), Places::new(QUESTIONS, WAITING));
        let (under_way, counts, client) = (Arc::default(), Arc::default(), Arc::default());
        Self { settings, url, answers, known, under_way, places, counts, client }
    }

    /// How many characters tell that it is asked about this text. In the place of a password, only a beginning
    /// does: the password of somebody who mistypes it is not shown to others.
    pub(super) fn takes(&self, text: &str, is_password: bool) -> Option<usize> {
        let prefix = &self.settings.prefix;
        // Without one, it may be somebody else's credential, and a little wrong: of another issuer or of the
        // table, an nkey's seed, a user with a password, a stored hash.
        let is_others = || is_nearly_jwt(text) || (!text.starts_with("eyJ") && holds_secret(text));
        let is_odd = || text.contains(['"', '\'', '`', ':', '$']);
        let is_token = LENGTHS.contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && !text.starts_with(TOKEN_PREFIX)
            && !(prefix.is_empty() && (is_others() || is_odd()));
        let takes = is_token && text.starts_with(prefix) && !(is_password && prefix.is_empty());
        takes.then_some(prefix.len())
    }

    /// What the issuer says of the token of a login from there: its claims, or `None` where it is not active.
    pub(super) async fn ask(
        &self,
        token: &str,
        (source, logins): (Network, &Logins),
        now: UnixSeconds,
    ) -> Result<Option<Arc<Map<String, Value>>>, Unanswered> {
        let hash = TokenHash::of(token);
        if let Some(said) = self.answers.get(&hash).await {
            return Ok(said.claims);
        }
        let is_known = self.known.contains_key(&source);
        let mut waits = logins.enter((Arc::clone(&self.url), source), is_known);
        let said = tokio::select! {
            biased;
            () = waits.gives_way() => return Err("too many logins wait to ask issuers".into()),
            said = self.asking(hash, token, (source, is_known), now) => said?,
        };
        if said.claims.is_some() {
            self.known.insert(source, ()).await;
        }
        Ok(said.claims)
    }

    /// The question about a token that is under way, or a new one.
    fn asking(
        &self,
        hash: TokenHash,
        token: &str,
        (source, is_known): (Network, bool),
        now: UnixSeconds,
    ) -> Asking {
        let mut under_way = self.under_way.lock();
        if let Some(asking) = under_way.get(&hash) {
            return asking.clone();
        }
        let (question, answers) = (self.question(token), self.answers.clone());
        let (places, counts) = (self.places.clone(), Arc::clone(&self.counts));
        let listed = Arc::clone(&self.under_way);
        let asking = tokio::spawn(async move {
            let _ends = Ends { hash, under_way: listed };
            let said = match tokio::time::timeout(PATIENCE, places.take(source, is_known)).await {
                Ok(Some(_place)) => question.put(now).await.map_err(|it| it.to_string().into()),
                _ => Err("too many logins wait to ask it".into()),
            };
            counts.lock().note(&said);
            if let Ok(said) = &said {
                answers.insert(hash, said.clone()).await;
            }
            said
        });
        let asking = asking.map(|said| said.unwrap_or_else(|it| Err(it.to_string().into())));
        let asking = asking.boxed().shared();
        under_way.insert(hash, asking.clone());
        asking
    }

    /// Whether a question can be put at all, with the files that it needs.
    pub(super) async fn check(&self) -> Result<(), FetchError> {
        let IntrospectionSettings { url, client, way, .. } = &self.settings;
        let url = parse_url(url, way.insecure_http)
            .map_err(|source| FetchError::Url { url: shown_address(url).to_owned(), source })?;
        way.client(&url).await?;
        match (client, &way.bearer_file) {
            (None, Some(path)) => bearer(path).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Asks about a token that nobody has; says what is wrong with the answer.
    pub(super) async fn probe(&self) -> Result<(), String> {
        let made_up = random::text(random::BASE62, 32).map_err(|error| error.to_string())?;
        let token = format!("{}{}", self.settings.prefix, &*made_up);
        match self.question(&token).put(0).await {
            Ok(Said { claims: None, .. }) => Ok(()),
            Ok(_) => Err(format!(
                "{}: says that a token is active which was made up just now",
                shown_address(&self.settings.url)
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    fn question(&self, token: &str) -> Question {
        let (settings, client) = (self.settings.clone(), Arc::clone(&self.client));
        Question { settings, client, token: Secret::new(token.to_owned()) }
    }
}

impl Counts {
    fn note(&mut self, said: &Result<Said, Unanswered>) {
        self.asked += 1;
        self.failed += u64::from(said.is_err());
        self.fault = said.as_ref().err().cloned();
    }
}

/// A question about one token.
struct Question {
    settings: IntrospectionSettings,
    client: Arc<Mutex<Option<(Instant, Client)>>>,
    token: Secret,
}

impl Question {
    async fn put(&self, now: UnixSeconds) -> Result<Said, FetchError> {
        let IntrospectionSettings { url, client, way, .. } = &self.settings;
        let url = parse_url(url, way.insecure_http)
            .map_err(|source| FetchError::Url { url: shown_address(url).to_owned(), source })?;
        let token = form_encoded(self.token.expose());
        let request = self
            .client(&url)
            .await?
            .post(url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("token={token}&token_type_hint=access_token"));
        let request = match (client, &way.bearer_file) {
            // RFC 6749, section 2.3.1.
            (Some((id, secret)), _) => {
                request.basic_auth(form_encoded(id), Some(form_encoded(secret.expose())))
            }
            (None, Some(path)) => request.bearer_auth(bearer(path).await?.as_str()),
            (None, None) => request,
        };
        let (headers, text) = read(way, &url, request, MAX_BYTES).await?;
        said(&text, &headers, now)
            .map_err(|reason| FetchError::Introspection { url: shown_url(&url), reason })
    }

    async fn client(&self, url: &Url) -> Result<Client, FetchError> {
        if let Some((since, client)) = &*self.client.lock()
            && since.elapsed() < CLIENT_LIFE
        {
            return Ok(client.clone());
        }
        let client = self.settings.way.client(url).await?;
        *self.client.lock() = Some((Instant::now(), client.clone()));
        Ok(client)
    }
}

/// Reads an answer.
fn said(text: &[u8], headers: &HeaderMap, now: UnixSeconds) -> Result<Said, String> {
    let answer: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| no_object(text, headers, &error))?;
    let is_active = answer.get("active").and_then(Value::as_bool);
    let is_active = is_active.ok_or("`active` is missing, or neither true nor false")?;
    let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX).max(64);
    if !is_active {
        return Ok(Said { claims: None, bytes, life: BAD_LIFE });
    }
    let end = answer.get("exp").and_then(Value::as_f64);
    // Nothing is lost of a time that is near.
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds is well below 2^52")]
    let left = end.map_or(LIFE.as_secs_f64(), |end| end - now as f64);
    let life = LIFE.min(Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(LIFE));
    Ok(Said { claims: Some(Arc::new(answer)), bytes, life })
}

/// As a form has it (`application/x-www-form-urlencoded`).
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = 1_000;

    #[test]
    fn what_an_answer_says() {
        let read = |text: &str| said(text.as_bytes(), &HeaderMap::new(), NOW);
        let good = read(r#"{"active":true,"sub":"a","exp":5000}"#).unwrap();
        assert_eq!(good.claims.unwrap()["sub"], "a");
        for (text, life) in [
            (r#"{"active":true}"#, LIFE),
            (r#"{"active":true,"exp":5000}"#, LIFE),
            (r#"{"active":true,"exp":1007}"#, Duration::from_secs(7)),
            (r#"{"active":true,"exp":1e300}"#, LIFE),
            (r#"{"active":true,"exp":10}"#, Duration::ZERO),
            (r#"{"active":false,"exp":5000}"#, BAD_LIFE),
        ] {
            assert_eq!(read(text).unwrap().life, life, "{text}");
        }
        assert!(read(r#"{"active":false,"sub":"a"}"#).unwrap().claims.is_none());
        for text in ["", "<html>", "[]", "{}", "true", r#"{"active":"true"}"#, r#"{"active":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_asked_about() {
        let asks = |prefix: &str| {
            Introspection::new(IntrospectionSettings {
                url: String::new(),
                prefix: prefix.to_owned(),
                client: None,
                way: Way::default(),
            })
        };
        let (all, some) = (asks(""), asks("ory_at_"));
        let token = "ory_at_0123456789";
        assert_eq!((all.takes(token, false), some.takes(token, false)), (Some(0), Some(7)));
        assert_eq!((all.takes(token, true), some.takes(token, true)), (None, Some(7)));
        assert_eq!(some.takes("another 0123456789", false), None);
        let broken = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl=";
        for other in
            ["short", "with a blank in it", "nct_0123456789012345", "ümlaut0123456789", broken]
        {
            assert_eq!(all.takes(other, false), None, "{other}");
        }
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        for others in [
            "\"nct_0123456789012345\"",
            "Bearer:nct_0123456789012345",
            "x=nct_0123456789012345",
            &seed,
            "alice:correct-horse-battery",
            "nats://alice:secret@127.0.0.1:4222",
            "$2b$10$x21GXvqAGMPZDp1M.447zOe",
        ] {
            assert_eq!(all.takes(others, false), None, "{others}");
        }
        for sound in [
            "00Dxx0000001gPL!AR8AQJXg5oj8jXSgxJfA0lBog.",
            "v2.local-abc_123/~+==",
            "ya29.a0AfH6SMA0123",
        ] {
            assert_eq!(all.takes(sound, false), Some(0), "{sound}");
        }
        assert_eq!(all.takes("eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn", false), Some(0), "encrypted");
        assert!(all.takes(&"a".repeat(4_096), false).is_some());
        assert!(all.takes(&"a".repeat(4_097), false).is_none());
    }

    #[test]
    fn forms() {
        assert_eq!(form_encoded("aZ9-._"), "aZ9-._");
        assert_eq!(form_encoded("a+b/c=&~ é"), "a%2Bb%2Fc%3D%26%7E%20%C3%A9");
    }
}
