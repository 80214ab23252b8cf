//! JWTs of accounts and of the operator as servers hold them: whatever their claims are, what is not
//! changed stays.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{KeysError, Result};
use crate::clock::UnixSeconds;
use crate::keys::{OperatorId, SigningKey};
use crate::protocol::jwt::{Body, Claims, JwtError, Parsed};

/// The claims of an account JWT, or of an operator's.
pub(super) type AnyClaims = Map<String, Value>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct AnyAccount(pub(super) AnyClaims);

impl Body for AnyAccount {
    const TYPE: &'static str = "account";
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct AnyOperator(AnyClaims);

impl Body for AnyOperator {
    const TYPE: &'static str = "operator";
}

/// An account as one server holds it, and who signed it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeldAccount {
    pub(super) claims: Claims<AnyAccount>,
    pub(super) issuer: OperatorId,
}

impl HeldAccount {
    pub(super) fn read(token: &str) -> Result<Self, JwtError> {
        let (mut claims, issuer) = Parsed::<AnyAccount>::parse(token)?.verify::<OperatorId>()?;
        strip(&mut claims.body.0);
        Ok(Self { claims, issuer })
    }

    /// Its signing keys.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        listed(&self.claims.body.0)
    }

    /// The curve key that requests are sealed for.
    pub(super) fn xkey(&self) -> Option<&str> {
        xkey(&self.claims.body.0)
    }
}

/// What is written anew with every token.
fn strip(body: &mut AnyClaims) {
    body.remove("type");
    body.remove("version");
}

fn xkey(body: &AnyClaims) -> Option<&str> {
    body.get("authorization")?.get("xkey")?.as_str()
}

/// Has requests sealed for another curve key. Says whether that changed anything.
pub(super) fn seal_for(body: &mut AnyClaims, new: &str) -> bool {
    if xkey(body) == Some(new) {
        return false;
    }
    let settings = body.get_mut("authorization").and_then(Value::as_object_mut);
    settings.map(|it| it.insert("xkey".to_owned(), new.into())).is_some()
}

/// A public key of a list; a scoped signing key is an object that names it.
fn public(key: &Value) -> Option<String> {
    key.as_str().or_else(|| key.get("key")?.as_str()).map(str::to_owned)
}

fn listed(body: &AnyClaims) -> BTreeSet<String> {
    let keys = body.get("signing_keys").and_then(Value::as_array);
    keys.into_iter().flatten().filter_map(public).collect()
}

/// Takes a key off the list of those that sign, and puts others on it. Says whether that changed
/// anything.
pub(super) fn relist(body: &mut AnyClaims, without: Option<&str>, with: &[&str]) -> bool {
    let before = listed(body);
    let mut after = before.clone();
    if let Some(without) = without {
        after.remove(without);
    }
    after.extend(with.iter().map(|&key| key.to_owned()));
    if after == before {
        return false;
    }
    let keys = body.entry("signing_keys").or_insert_with(|| json!([]));
    if let Some(keys) = keys.as_array_mut() {
        keys.retain(|key| public(key).is_some_and(|key| after.contains(&key)));
        let new = after.difference(&before).map(|key| Value::String(key.clone()));
        keys.extend(new);
        if keys.iter().all(Value::is_string) {
            keys.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    true
}

/// Keeps of a list what passes. Says whether that changed anything.
pub(super) fn keep(body: &mut AnyClaims, key: &str, passes: impl Fn(&Value) -> bool) -> bool {
    let Some(list) = body.get_mut(key).and_then(Value::as_array_mut) else { return false };
    let before = list.len();
    list.retain(passes);
    list.len() != before
}

/// The operator's JWT with other signing keys, where these are others.
pub(super) fn operator_with(
    token: &str,
    identity: &SigningKey,
    without: Option<&str>,
    with: &[&str],
    now: UnixSeconds,
) -> Result<Option<String>> {
    let (mut claims, issuer) = Parsed::<AnyOperator>::parse(token)?.verify::<OperatorId>()?;
    if issuer.as_str() != identity.public_key() {
        return Err(KeysError::Unfit(format!(
            "operator.nk is not the identity of the servers' operator, {issuer}"
        )));
    }
    strip(&mut claims.body.0);
    if !relist(&mut claims.body.0, without, with) {
        return Ok(None);
    }
    claims.issued_at = claims.issued_at.saturating_add(1).max(now);
    Ok(Some(claims.encode_now(identity)?))
}

/// The signing keys of an operator's JWT.
pub(super) fn operator_keys(token: &str) -> BTreeSet<String> {
    let parsed = Parsed::<AnyOperator>::parse(token);
    let verified = parsed.and_then(Parsed::verify::<OperatorId>);
    verified.map(|(claims, _)| listed(&claims.body.0)).unwrap_or_default()
}
