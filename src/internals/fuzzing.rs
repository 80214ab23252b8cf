//! What the fuzz targets in `fuzz/` call: one function for each kind of input that comes from
//! outside, which reads it as the program does and checks what must hold of the outcome. The tests
//! run the same functions over the seeds in `tests/corpus/` and over mutations of them, so an input
//! that once broke something goes there.
//!
//! A new kind of input is a function here, a line in [`TARGETS`], a folder of seeds, and a file in
//! `fuzz/targets/`.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authn::Principal;
use crate::authn::hashing;
use crate::authn::token::Token;
use crate::clock::UnixSeconds;
use crate::keys::{
    AccountId, KeyKind, OperatorId, ServerId, SigningKey, UserNkey, XKey, XPublicKey,
};
use crate::policy::rules::{PolicySet, Source};
use crate::policy::subject::Pattern;
use crate::policy::{ConnectionContext, Decision, Grant, Policy as _};
use crate::protocol::claims::{
    AccountBody, AuthorizationRequestBody, AuthorizationResponseBody, ClientInfo, OperatorBody,
    UserBody,
};
use crate::protocol::credentials::Credentials;
use crate::protocol::envelope::Envelope;
use crate::protocol::jwt::{Body, IssuerKey, Parsed};
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::VerifiedRequest;
use crate::store::{Isolation, LoginRecord, PasswordHash, TenantRecord, UserKind, UserRecord};

/// A target: reads the input and panics where something does not hold.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer),
    ("certificate", certificate),
    ("envelope", envelope),
    ("frame", frame),
    ("nkey", nkey),
    ("password_hash", password_hash),
    ("policy", policy),
    ("request", request),
    ("subject", subject),
    ("token", token),
    ("credential", credential),
    #[cfg(feature = "jwt")]
    ("jwks", jwks),
    #[cfg(feature = "jwt")]
    ("jwt", jwt),
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    ("row", row),
    #[cfg(feature = "daemon")]
    ("config", config),
];

const NOW: UnixSeconds = 1_800_000_000;

/// Another tenant, whom nobody reaches.
const VICTIM: &str = "victim";

/// Keys that live as long as the process.
struct Parties {
    server: SigningKey,
    service: XPublicKey,
    sealed: Envelope,
    policies: PolicySet,
}

fn parties() -> Option<&'static Parties> {
    static PARTIES: OnceLock<Option<Parties>> = OnceLock::new();
    let made = || {
        let xkey = XKey::generate().ok()?.0;
        let service = *xkey.public_key();
        let sealed = Envelope::new(vec![xkey]);
        Some(Parties {
            server: SigningKey::generate(KeyKind::Server).ok()?.0,
            service,
            sealed,
            policies: PolicySet::shipped().ok()?,
        })
    };
    PARTIES.get_or_init(made).as_ref()
}

/// Text, or nothing to do.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// A NATS JWT of any type, of nobody's making.
pub fn token(input: &[u8]) {
    fn read<B: Body, K: IssuerKey>(token: &str) {
        if let Ok(parsed) = Parsed::<B>::parse(token) {
            let _ = parsed.verify::<K>();
        }
    }
    let Some(token) = text(input) else { return };
    read::<AccountBody, OperatorId>(token);
    read::<AuthorizationRequestBody, ServerId>(token);
    read::<AuthorizationResponseBody, AccountId>(token);
    read::<OperatorBody, OperatorId>(token);
    read::<UserBody, AccountId>(token);
}

/// The claims of a request, whose server signs whatever they are: `@SERVER` is its key. What is
/// verified is sorted out into credentials and decided about for a user.
pub fn request(input: &[u8]) {
    let (Some(claims), Some(parties)) = (text(input), parties()) else { return };
    let claims = claims.replace("@SERVER", parties.server.public_key());
    let token = signed(&claims, &parties.server);
    let opened = Envelope::new(Vec::new()).open(token.as_bytes(), None);
    let Ok(opened) = opened else { return };
    let Ok((request, _)) = VerifiedRequest::verify(opened, &SpentKeys::default(), NOW) else {
        return;
    };
    assert_eq!(request.server().as_str(), parties.server.public_key());
    if let Credentials::Password { user, .. } = request.credentials() {
        assert!(!user.is_empty(), "a user without a name is none");
        let user = UserRecord::new(user.clone(), UserKind::Bb);
        decide(&parties.policies, user, request.client());
    }
}

fn signed(claims: &str, key: &SigningKey) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign_now(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A header line, where `@KEY` is a curve key, and a payload: to a service with a curve key, and to
/// one without.
pub fn envelope(input: &[u8]) {
    let Some(parties) = parties() else { return };
    let line = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (header, payload) = input.split_at(line);
    let payload = payload.strip_prefix(b"\n").unwrap_or(payload);
    let header = text(header).map(|header| header.replace("@KEY", parties.service.as_str()));
    for header in [header.as_deref(), None] {
        let _ = Envelope::new(Vec::new()).open(payload, header);
        assert!(parties.sealed.open(payload, header).is_err(), "nobody has sealed it");
    }
}

/// An nkey or a seed of any kind.
pub fn nkey(input: &[u8]) {
    let Some(key) = text(input) else { return };
    assert!(key.parse::<AccountId>().map_or(true, |it| it.as_str() == key));
    assert!(key.parse::<OperatorId>().map_or(true, |it| it.as_str() == key));
    assert!(key.parse::<ServerId>().map_or(true, |it| it.as_str() == key));
    assert!(key.parse::<UserNkey>().map_or(true, |it| it.as_str() == key));
    assert!(key.parse::<XPublicKey>().map_or(true, |it| it.as_str() == key));
    for kind in [KeyKind::Account, KeyKind::Operator, KeyKind::Server, KeyKind::User] {
        let _ = SigningKey::from_seed(key, kind);
    }
    let _ = XKey::from_seed(key);
}

/// An opaque token.
pub fn credential(input: &[u8]) {
    let Some(sent) = text(input) else { return };
    if let Some(token) = Token::parse(sent) {
        assert_eq!(token.expose(), sent);
        assert!(sent.is_ascii() && sent.starts_with("nct_"));
    }
}

/// A stored password hash. Nothing is hashed: that is slow on purpose.
pub fn password_hash(input: &[u8]) {
    let Some(stored) = text(input) else { return };
    let _ = hashing::is_outdated(&PasswordHash::new(stored));
}

/// A policy file, and what it grants.
pub fn policy(input: &[u8]) {
    let (Some(text), Some(parties)) = (text(input), parties()) else { return };
    if let Ok(policies) = PolicySet::read(vec![Source {
        name: "bb".to_owned(),
        path: "bb.toml".into(),
        text: text.to_owned(),
    }]) {
        for isolation in [Isolation::Account, Isolation::Shared] {
            let record = record(UserRecord::new("alice", UserKind::Bb));
            let Some(grant) = grant(&policies, record, isolation, &ClientInfo::default()) else {
                continue;
            };
            assert!(isolation == Isolation::Account || grant.responses.is_none());
            sound(&grant);
        }
    }
    // As an entry of a list, which the shipped policy puts below the tenant's own subjects.
    let service = |entry: &str| UserRecord {
        publish: vec![entry.to_owned()],
        subscribe: vec![entry.to_owned()],
        ..UserRecord::new("app", UserKind::Service)
    };
    decide(&parties.policies, service(text), &ClientInfo::default());
}

/// A subject pattern; two of them, one a line, for what they have in common.
pub fn subject(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let (one, two) = text.split_once('\n').unwrap_or((text, ">"));
    let Ok(one) = one.parse::<Pattern>() else { return };
    assert!(!one.as_str().contains(|c: char| c.is_whitespace() || c.is_control()));
    assert!(one.overlaps(&one) && one.overlaps(&Pattern::everything()));
    if let Ok(two) = two.parse::<Pattern>() {
        assert_eq!(one.overlaps(&two), two.overlaps(&one));
        assert!(!one.matches(two.as_str()) || one.overlaps(&two));
    }
}

/// A row of the tenant table, as a JSON object of its columns.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub fn row(input: &[u8]) {
    let (Some(record), Some(parties)) = (crate::store::read_row(input), parties()) else { return };
    for isolation in [Isolation::Account, Isolation::Shared] {
        let grant = grant(&parties.policies, record.clone(), isolation, &ClientInfo::default());
        if let Some(grant) = grant.filter(|_| isolation == Isolation::Shared) {
            assert!(record.tenant.id.as_str() == VICTIM || !reaches_the_victim(&grant));
        }
    }
}

/// A configuration file, and behind a line of `---` variables on top of it.
#[cfg(feature = "daemon")]
pub fn config(input: &[u8]) {
    use std::path::{Path, PathBuf};

    let Some(text) = text(input) else { return };
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let env = variables.lines().filter_map(|line| line.split_once('='));
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let path = Path::new("/config/nats-callout.toml");
    let unchecked = crate::config::Files::Unchecked;
    let _ = crate::config::Config::read(file, path, PathBuf::from(path), unchecked, env);
}

/// What an issuer of JWTs answered: a key set or a discovery document.
#[cfg(feature = "jwt")]
pub fn jwks(input: &[u8]) {
    crate::authn::jwt::fuzzing::read_keys(input);
}

/// A JWT; and a header in a line of its own with claims behind it, which an issuer signs.
#[cfg(feature = "jwt")]
pub fn jwt(input: &[u8]) {
    let Some(text) = text(input) else { return };
    crate::authn::jwt::fuzzing::read_token(text);
    if let Some((header, claims)) = text.split_once('\n') {
        crate::authn::jwt::fuzzing::read_signed(header, claims, NOW);
    }
}

/// A client's certificate, in PEM or DER: a name that it is looked up by is one that a row may have.
pub fn certificate(input: &[u8]) {
    let pem = match text(input) {
        Some(text) if text.starts_with("-----") => text.to_owned(),
        _ => format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            data_encoding::BASE64.encode(input)
        ),
    };
    for name in crate::authn::certificate::names(&pem).unwrap_or_default() {
        assert_eq!(crate::authn::certificate::name::check(&name), Ok(()), "{name:?}");
    }
}

/// What a server answered.
pub fn answer(input: &[u8]) {
    crate::servers::read_answer(input);
    crate::connections::read_answer(input);
    crate::accounts::answers::read_answer(input);
}

/// What a server sends to the intake of events.
pub fn frame(input: &[u8]) {
    crate::intake::fuzzing::read(input);
}

fn record(user: UserRecord) -> Option<LoginRecord> {
    Some(LoginRecord { tenant: TenantRecord::new("42".parse().ok()?), user })
}

fn grant(
    policies: &PolicySet,
    record: impl Into<Option<LoginRecord>>,
    isolation: Isolation,
    client: &ClientInfo,
) -> Option<Grant> {
    let principal = Principal::new(Arc::new(record.into()?), "fuzzing", None, 0).ok()?;
    match policies.decide(&principal, &ConnectionContext { isolation, client, now: NOW }) {
        Decision::Permit(grant) => Some(grant),
        Decision::Deny(_) => None,
    }
}

/// Decides about a user of tenant 42 under shipped policies, in both forms.
fn decide(policies: &PolicySet, user: UserRecord, client: &ClientInfo) {
    for isolation in [Isolation::Account, Isolation::Shared] {
        let Some(grant) = grant(policies, record(user.clone()), isolation, client) else {
            continue;
        };
        sound(&grant);
        assert!(isolation == Isolation::Account || !reaches_the_victim(&grant), "{grant:?}");
    }
}

fn patterns(grant: &Grant) -> impl Iterator<Item = &Pattern> {
    grant.publish.iter().chain(&grant.subscribe)
}

fn sound(grant: &Grant) {
    for pattern in patterns(grant).chain(&grant.deny_publish).chain(&grant.deny_subscribe) {
        assert_eq!(pattern.as_str().parse().as_ref(), Ok(pattern));
    }
}

fn reaches_the_victim(grant: &Grant) -> bool {
    let theirs = [format!("user.{VICTIM}.>"), format!("_INBOX_{VICTIM}.>")];
    let theirs = theirs.iter().filter_map(|text| text.parse::<Pattern>().ok());
    theirs.into_iter().any(|their| patterns(grant).any(|ours| ours.overlaps(&their)))
}

#[cfg(test)]
mod tests;
