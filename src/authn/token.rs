//! Opaque tokens: how one is made, and the one path on which it is verified, whether the client sends it
//! alone, beside a user name, or as a password.
//!
//! Any text of 16 to 512 characters without white space may be a token: the table keeps its SHA-256, and
//! other programs make their own. One that is made here is `nct_`, 32 random base62 characters (190 bits)
//! and 6 base62 characters of checksum: the CRC-32 (ISO-HDLC, as in zlib) of all that precedes, big-endian,
//! digits in the order 0-9, A-Z, a-z. The prefix and the checksum let a scanner recognise a leaked token.
//!
//! One that nobody has costs a question to the database. Where many of them come from a source, its tokens are
//! looked up a few at a time; [passwords](super::guessing) are not held up by that.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::guessing::Guessing;
use super::random::{self, BASE62, NoRandomness};
use super::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Principal, Proof,
    Rejected, confirmed,
};
use crate::clock::Clock;
use crate::protocol::credentials::{Credentials, TOKEN_PREFIX};
use crate::redact::shown;
use crate::store::{CredentialStore, Freshness, TokenHash, TokenRecord};

const RANDOM_LEN: usize = 32;
const CHECKSUM_LEN: usize = 6;
const BODY_LEN: usize = TOKEN_PREFIX.len() + RANDOM_LEN;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// How many characters a token has. A shorter one could be guessed.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

/// What is said of a text of another length.
pub(crate) const NO_TOKEN: &str =
    "a token of the table has 16 to 512 characters and no white space";

/// What is said of a token beside another user's name, before its own user's.
pub(crate) const OF_ANOTHER: &str = "the token is another user's: ";

/// The word for the log.
const METHOD: &str = "token";

/// A token as it is made here; whether it is anybody's, only the store knows.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Makes a new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let random = random::text(BASE62, RANDOM_LEN)?;
        let mut text = Zeroizing::new(String::with_capacity(BODY_LEN + CHECKSUM_LEN));
        text.push_str(TOKEN_PREFIX);
        text.push_str(&random);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Ok(Self(text))
    }

    /// The token, if the text is one: prefix, length, alphabet and checksum are right.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (body, given) = text.split_at_checked(BODY_LEN)?;
        let random = body.strip_prefix(TOKEN_PREFIX)?;
        let well_formed = random.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && given.as_bytes() == checksum(body);
        well_formed.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// What the table keeps of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    /// The text, which is shown to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

fn checksum(body: &str) -> [u8; CHECKSUM_LEN] {
    let mut rest = CRC.checksum(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(rest % 62).unwrap_or_default();
        *digit = BASE62.get(value).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// What the table has of a text, if the text may be a token.
pub(crate) fn hash_of(text: &str) -> Option<TokenHash> {
    let is_short = text.len() <= LENGTHS.end() * size_of::<char>();
    let may_be =
        is_short && LENGTHS.contains(&text.chars().count()) && !text.contains(char::is_whitespace);
    may_be.then(|| TokenHash::of(text))
}

/// Verifies a token that a client sends as one.
#[derive(Debug)]
pub(crate) struct TokenAuthenticator {
    tokens: TokenCheck,
}

impl TokenAuthenticator {
    /// Verifies by this.
    #[must_use]
    pub(super) fn new(tokens: TokenCheck) -> Self {
        Self { tokens }
    }
}

#[async_trait]
impl Authenticator for TokenAuthenticator {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let Credentials::Token { user, token, .. } = attempt.credentials else {
            return Ok(Authentication::NotMine);
        };
        let Some(hash) = hash_of(token.expose()) else {
            let denied = Denied::from(DenyReason::UnknownToken).with_detail(NO_TOKEN);
            return Ok(Authentication::Refused(denied));
        };
        Authentication::of(self.tokens.authenticate(&hash, user.as_deref(), attempt).await)
    }
}

/// The one path from a token to its user.
#[derive(Debug, Clone)]
pub(super) struct TokenCheck {
    pub(super) store: Arc<dyn CredentialStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) guessing: Arc<Guessing>,
}

impl TokenCheck {
    /// Accepts the token's user, who must be `owner` where one is named.
    pub(super) async fn authenticate(
        &self,
        hash: &TokenHash,
        owner: Option<&str>,
        Attempt { client, deadline, .. }: Attempt<'_>,
    ) -> Result<Principal, Rejected> {
        let attempt = self.guessing.token(*hash, &client.host, deadline).await?;
        let decided = self.look_up(hash, owner).await;
        match &decided {
            Ok(_) => attempt.known().await,
            Err(Rejected::Denied(denied)) if denied.reason == DenyReason::UnknownToken => {
                attempt.unknown().await;
            }
            Err(_) => {}
        }
        decided
    }

    async fn look_up(&self, hash: &TokenHash, owner: Option<&str>) -> Result<Principal, Rejected> {
        // That there is none has been read.
        let token = self.store.token(hash, Freshness::Cached).await?;
        let token = token.ok_or(DenyReason::UnknownToken)?;
        let cached = self.user_of(&token, owner, Freshness::Cached);
        let principal = confirmed(cached, self.decide(hash, owner)).await?;
        let (hash, owner) = (*hash, owner.map(Box::from));
        Ok(principal.with_proof(Arc::new(Proved { check: self.clone(), hash, owner })))
    }

    /// Whether a text is a token of this user.
    pub(super) async fn is_of(&self, hash: &TokenHash, user: &str) -> Result<bool, AuthnError> {
        let token = self.store.token(hash, Freshness::Cached).await?;
        Ok(token.is_some_and(|token| token.user_name == user))
    }

    /// By the rows as they are now.
    async fn decide(&self, hash: &TokenHash, owner: Option<&str>) -> Result<Principal, Rejected> {
        let token = self.store.token(hash, Freshness::Fresh).await?;
        let token = token.ok_or(DenyReason::UnknownToken)?;
        self.user_of(&token, owner, Freshness::Fresh).await
    }

    async fn user_of(
        &self,
        token: &TokenRecord,
        owner: Option<&str>,
        freshness: Freshness,
    ) -> Result<Principal, Rejected> {
        if owner.is_some_and(|owner| owner != token.user_name) {
            let denied = Denied::from(DenyReason::UnknownToken);
            let owner = shown(&token.user_name);
            return Err(denied.with_detail(format!("{OF_ANOTHER}{owner}")).into());
        }
        let user = self.store.user(&token.user_name, freshness).await?;
        let user = user.ok_or(DenyReason::UnknownUser)?;
        Ok(Principal::new(user, METHOD, token.expires_at, self.clock.now())?)
    }
}

/// Somebody has shown the token with this hash.
#[derive(Debug)]
struct Proved {
    check: TokenCheck,
    hash: TokenHash,
    owner: Option<Box<str>>,
}

#[async_trait]
impl Proof for Proved {
    async fn again(&self) -> Result<Principal, Rejected> {
        self.check.decide(&self.hash, self.owner.as_deref()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use proptest::prelude::*;

    use super::super::fakes::{FakeStore, NOW, SetClock, accepted, attempt, far, record, refused};
    use super::super::guessing::GuessingLimits;
    use super::*;
    use crate::protocol::credentials::Secret;
    use crate::store::{Status, StoreError};

    /// Text and SHA-256, both computed with Python's zlib and hashlib.
    const VECTORS: [(&str, &str); 3] = [
        (
            "nct_0000000000000000000000000000000019Bvis",
            "1010e7d065733f525a7dcd1ae859d7a71835e54756c2b29076b05acc15b72c4e",
        ),
        (
            "nct_0123456789ABCDEFGHIJKLMNOPQRSTUV3YmFeT",
            "d85ea86ae542dab08f1b11a5b144ad8d5ebf123946d4627090feb49eb147abb1",
        ),
        (
            "nct_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1vBU6y",
            "573b09230dba973122c4d81338106b2f0a6c2a682376de014eb74b40fdbbc697",
        ),
    ];

    struct Case {
        store: Arc<FakeStore>,
        token: Token,
        authenticator: TokenAuthenticator,
    }

    fn case() -> Case {
        let store = Arc::new(FakeStore::default());
        let authenticator = TokenAuthenticator::new(TokenCheck {
            store: Arc::clone(&store) as Arc<dyn CredentialStore>,
            clock: Arc::new(SetClock::default()),
            guessing: Arc::new(Guessing::new(GuessingLimits::default(), 1)),
        });
        Case { store, token: Token::generate().unwrap(), authenticator }
    }

    impl Case {
        async fn send(&self, text: &str) -> Result<Authentication, AuthnError> {
            self.send_beside(None, text).await
        }

        async fn send_beside(
            &self,
            user: Option<&str>,
            text: &str,
        ) -> Result<Authentication, AuthnError> {
            let token = Secret::new(text.to_owned());
            let credentials = Credentials::token(user.map(str::to_owned), token);
            self.authenticator.authenticate(attempt(&credentials, far())).await
        }

        async fn login(&self) -> Result<Authentication, AuthnError> {
            self.send(self.token.expose()).await
        }
    }

    #[test]
    fn checksum_and_hash_are_those_that_others_compute() {
        for (text, sha256) in VECTORS {
            let token = Token::parse(text).unwrap();
            assert_eq!(token.expose(), text);
            assert_eq!(token.hash().to_hex(), sha256);
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let [(token, _), ..] = VECTORS;
        for text in [
            "",
            "nct_",
            "nct_00000000000000000000000000000000",
            &token.replace("nct_", "NCT_"),
            &token.replace("nct_", "nat_"),
            &format!("{token}0"),
            &format!(" {token}"),
            &token.replace("9Bvis", "9Bvit"),
            &format!("nct_é{}", "0".repeat(36)),
            &format!("nct_{}é", "0".repeat(31)),
        ] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn no_token_is_shown_by_debug() {
        let token = Token::generate().unwrap();
        assert_eq!(format!("{token:?}"), "Token(redacted)");
    }

    proptest! {
        #[test]
        fn a_generated_token_is_parsed_back(_ in 0..64_u8) {
            let token = Token::generate().unwrap();
            let parsed = Token::parse(token.expose()).unwrap();
            prop_assert_eq!(parsed.hash(), token.hash());
            prop_assert_eq!(token.expose().len(), 42);
            prop_assert!(Token::generate().unwrap().hash() != token.hash());
        }

        #[test]
        fn one_changed_character_is_noticed(
            place in 4..42_usize,
            other in proptest::sample::select(BASE62.to_vec()),
        ) {
            let token = Token::generate().unwrap();
            let mut bytes = token.expose().as_bytes().to_vec();
            prop_assume!(bytes[place] != other);
            bytes[place] = other;
            prop_assert!(Token::parse(std::str::from_utf8(&bytes).unwrap()).is_none());
        }

        #[test]
        fn parsing_never_panics(text in "(nct_)?\\PC{0,50}") {
            prop_assert!(Token::parse(&text).is_none());
        }
    }

    #[tokio::test]
    async fn a_known_token_is_its_user() {
        let case = case();
        case.store.put(record("alice", None));
        case.store.put_token(case.token.hash(), "alice", Some(NOW + 60));
        let principal = accepted(case.login().await);
        assert_eq!(principal.record().user.name, "alice");
        assert_eq!(principal.method(), "token");
        assert_eq!(principal.expires_at(), Some(NOW + 60));
        assert_eq!(case.store.reads(), (2, 0));
    }

    /// Other programs make their own, and write the SHA-256 of each into the table.
    #[tokio::test]
    async fn any_text_may_be_a_token_if_it_is_long_enough() {
        let case = case();
        case.store.put(record("alice", None));
        let (least, most, wide) = ("x".repeat(16), "x".repeat(512), "€".repeat(512));
        for text in [&least, &most, &wide, "3f2504e0-4f89-11d3-9a0c-0305e82c3301"] {
            case.store.put_token(TokenHash::of(text), "alice", None);
            accepted(case.send(text).await);
            accepted(case.send(&format!("{text}\r\n")).await);
        }
        let (short, long) = ("x".repeat(15), "x".repeat(513));
        let before = case.store.reads();
        for text in [&short, &long, "", "3f2504e0 4f89 11d3 9a0c 0305e82c3301"] {
            case.store.put_token(TokenHash::of(text), "alice", None);
            assert_eq!(refused(case.send(text).await), DenyReason::UnknownToken, "{text}");
        }
        assert_eq!(case.store.reads(), before, "nothing is looked up");
        let other = Credentials::None;
        let answer = case.authenticator.authenticate(attempt(&other, far())).await;
        assert!(matches!(answer, Ok(Authentication::NotMine)));
    }

    #[tokio::test]
    async fn beside_a_user_name_it_has_to_be_that_users() {
        let case = case();
        case.store.put(record("alice", None));
        case.store.put(record("bob", None));
        case.store.put_token(case.token.hash(), "alice", None);
        accepted(case.send_beside(Some("alice"), case.token.expose()).await);
        let bobs = case.send_beside(Some("bob"), case.token.expose()).await;
        assert_eq!(refused(bobs), DenyReason::UnknownToken);
    }

    #[tokio::test]
    async fn every_refusal_reads_the_database() {
        let case = case();
        assert_eq!(refused(case.login().await), DenyReason::UnknownToken);
        assert_eq!(case.store.reads(), (1, 0), "that there is none has been read");

        case.store.put_token(case.token.hash(), "alice", None);
        assert_eq!(refused(case.login().await), DenyReason::UnknownUser);

        let mut suspended = record("alice", None);
        suspended.user.status = Status::Suspended;
        case.store.put(suspended);
        assert_eq!(refused(case.login().await), DenyReason::UserSuspended);

        case.store.put(record("alice", None));
        case.store.put_token(case.token.hash(), "alice", Some(NOW));
        assert_eq!(refused(case.login().await), DenyReason::TokenExpired);
    }

    #[tokio::test]
    async fn a_stale_row_never_refuses() {
        let case = case();
        case.store.put_database(record("alice", None));
        case.store.put_token_database(case.token.hash(), "alice", None);
        accepted(case.login().await);

        case.store.put_token_cached(case.token.hash(), "alice", Some(NOW - 1));
        accepted(case.login().await);

        case.store.put_token_cached(case.token.hash(), "alice", None);
        accepted(case.login().await);

        let mut suspended = record("alice", None);
        suspended.tenant.status = Status::Suspended;
        case.store.put_cached(suspended);
        accepted(case.login().await);
    }

    #[tokio::test]
    async fn an_outage_is_no_refusal() {
        let case = case();
        case.store.outage.store(true, SeqCst);
        let answer = case.login().await;
        assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))));
    }
}
