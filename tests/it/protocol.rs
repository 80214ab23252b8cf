//! The NATS JWT codec against everything that also speaks it: golden tokens of the Go library,
//! two Rust libraries, random claims, and the Go library reading what is written here.

mod go_library;
mod golden;
mod properties;
mod samples;
mod wycheproof;

use nats_callout::internals::{
    AccountBody, AuthorizationRequestBody, AuthorizationResponseBody, Body, Claims, IssuerKey,
    JwtError, OperatorBody, OperatorId, Parsed, ServerId, UserBody,
};
use nats_callout::keys::{AccountId, KeyKind, SigningKey};
use serde_json::Value;

/// Reads a token as `kind` and signs what was read again.
fn reencode(kind: &str, token: &str, issuer_seed: &str) -> Result<String, JwtError> {
    fn each<B: Body, K: IssuerKey>(token: &str, key: &SigningKey) -> Result<String, JwtError> {
        let (claims, _): (Claims<B>, K) = Parsed::parse(token)?.verify()?;
        claims.encode_now(key)
    }
    let kind_of_key = match issuer_seed.get(..2) {
        Some("SO") => KeyKind::Operator,
        Some("SN") => KeyKind::Server,
        _ => KeyKind::Account,
    };
    let key = SigningKey::from_seed(issuer_seed, kind_of_key).expect("seed");
    match kind {
        "operator" => each::<OperatorBody, OperatorId>(token, &key),
        "account" => each::<AccountBody, OperatorId>(token, &key),
        "user" => each::<UserBody, AccountId>(token, &key),
        "authorization_request" => each::<AuthorizationRequestBody, ServerId>(token, &key),
        "authorization_response" => each::<AuthorizationResponseBody, AccountId>(token, &key),
        other => panic!("no such type: {other}"),
    }
}

/// The payload of a token, unverified.
fn payload(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("json")
}

/// Drops empty objects, lists and strings, zeros and `false`: to a reader they are the same as
/// a field that is not there, and the libraries differ in which they write.
fn without_empty(value: Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without_empty(value)))
            .filter(|(_, value)| !empty(value))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}
