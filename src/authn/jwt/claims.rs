//! What verified claims say: whom they are for, when they hold, and what of them a policy may see.

use serde_json::{Map, Value};

use super::token::Flaw;
pub(super) use crate::authn::entries;
use crate::clock::UnixSeconds;

/// The end of the year 9999, which libraries write for "never". What lies beyond was meant as milliseconds, or as
/// less than these, and would never come.
const LAST: UnixSeconds = 253_402_300_799;

/// The claim of this name. A dot in it belongs to a name or leads into an object, so that
/// `realm_access.roles` is Keycloak's list of roles and `kubernetes.io.namespace` the namespace of a pod: each
/// way to read it is tried, and two that lead to different values are none.
pub(super) fn find<'a>(
    claims: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Value>, Flaw> {
    let mut found = Vec::new();
    find_all(claims, name, &mut found);
    match found.split_first() {
        Some((first, others)) if others.iter().any(|other| other != first) => {
            Err(Flaw::ClaimTwice(name.to_owned()))
        }
        first => Ok(first.map(|(first, _)| *first)),
    }
}

fn find_all<'a>(claims: &'a Map<String, Value>, name: &str, found: &mut Vec<&'a Value>) {
    found.extend(claims.get(name));
    for (at, _) in name.match_indices('.') {
        let (first, rest) = (&name[..at], &name[at + 1..]);
        if let Some(inner) = claims.get(first).and_then(Value::as_object) {
            find_all(inner, rest, found);
        }
    }
}

/// What names somebody: a text or a whole number, or a list of one.
pub(super) fn name(value: &Value) -> Option<String> {
    match value {
        Value::Array(values) => match &values[..] {
            [Value::Array(_)] => None,
            [only] => name(only),
            _ => None,
        },
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// Checks that one of `accepted` is in `claim`, a text or a list of them: `aud`, if not another one is told to
/// say it.
pub(super) fn check_audience(
    claims: &Map<String, Value>,
    claim: &str,
    accepted: &[String],
) -> Result<(), Flaw> {
    let is_ours =
        |value: &Value| value.as_str().is_some_and(|it| accepted.iter().any(|our| our == it));
    let found = match find(claims, claim)? {
        Some(Value::Array(values)) => values.iter().any(is_ours),
        Some(value) => is_ours(value),
        None => false,
    };
    if found { Ok(()) } else { Err(Flaw::Audience) }
}

/// Checks that what an issuer says of a token is of its own and one that logs somebody in: it answers for those
/// that renew others and those that tell an app who its user is, too.
pub(super) fn check_said(claims: &Map<String, Value>, issuer: &str) -> Result<(), Flaw> {
    if claims.get("iss").is_some_and(|iss| iss != issuer) {
        return Err(Flaw::OtherIssuer);
    }
    let is_id = |(name, purpose): &(&str, String)| {
        *name != "type" && matches!(&**purpose, "id" | "id_token")
    };
    if let Some((name, _)) = purposes(claims).find(is_id) {
        return Err(Flaw::Purpose(name));
    }
    check_purpose(claims)
}

/// Checks that a token is none that renews others or ends sessions.
pub(super) fn check_purpose(claims: &Map<String, Value>) -> Result<(), Flaw> {
    // A `type` may be of anything.
    let is_other = |name: &str, purpose: &str| match name {
        "type" => matches!(purpose, "refresh" | "refresh_token"),
        _ => {
            purpose == "rt+jwt"
                || ["refresh", "offline", "logout"].iter().any(|other| purpose.contains(other))
        }
    };
    // OpenID Connect Back-Channel Logout 1.0, section 2.4.
    let events = claims.get("events").and_then(Value::as_object);
    let ends_session =
        events.is_some_and(|it| it.keys().any(|it| it.ends_with("backchannel-logout")));
    if ends_session {
        return Err(Flaw::Purpose("events"));
    }
    let other = purposes(claims).find(|(name, purpose)| is_other(name, purpose));
    other.map_or(Ok(()), |(name, _)| Err(Flaw::Purpose(name)))
}

/// What a token says that it is for, in small letters: Keycloak in `typ`, Cognito and Hydra in `token_use`, others in
/// `token_type`, Flask-JWT-Extended in `type`.
fn purposes(claims: &Map<String, Value>) -> impl Iterator<Item = (&'static str, String)> {
    let said = ["typ", "token_use", "token_type", "type"].into_iter();
    said.flat_map(|name| {
        let words = claims.get(name).and_then(entries).unwrap_or_default();
        words.into_iter().map(move |word| (name, word.to_ascii_lowercase()))
    })
}

/// When the JWT stops holding, if it holds now. With `leeway` seconds between the clocks, one that
/// has just ended holds until that time is over too; a grant never lasts longer.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    leeway: UnixSeconds,
    now: UnixSeconds,
) -> Result<UnixSeconds, Flaw> {
    check_end(claims, leeway, now)?.ok_or(Flaw::NoEnd)
}

/// [`check_times`] of what may have no end. A time that is `null` is none.
pub(super) fn check_end(
    claims: &Map<String, Value>,
    leeway: UnixSeconds,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, Flaw> {
    for begins in ["nbf", "iat"] {
        if let Some(value) = claims.get(begins).filter(|it| !it.is_null()) {
            let seconds = seconds(value).ok_or(Flaw::NotYet)?;
            if seconds > LAST {
                return Err(Flaw::NoSeconds(begins));
            }
            if seconds > now.saturating_add(leeway) {
                return Err(Flaw::NotYet);
            }
        }
    }
    let Some(end) = claims.get("exp").filter(|it| !it.is_null()) else { return Ok(None) };
    let end = seconds(end).ok_or(Flaw::NoEnd)?;
    if end > LAST {
        return Err(Flaw::NoSeconds("exp"));
    }
    let last = end.saturating_add(leeway);
    if end > now {
        Ok(Some(end))
    } else if last > now {
        Ok(Some(last))
    } else {
        Err(Flaw::Expired)
    }
}

/// A NumericDate, which may have a fraction.
#[allow(clippy::cast_possible_truncation, reason = "a float becomes the nearest whole number")]
fn seconds(value: &Value) -> Option<UnixSeconds> {
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as UnixSeconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn names_with_dots() {
        let claims = map(json!({
            "realm_access": { "roles": ["a", "b"] }, "https://x.org/t": "42", "a.b": 1,
            "a": { "b": 2, "c": { "d.e": 3 } },
        }));
        let found = |name| find(&claims, name).map(|it| it.cloned());
        assert_eq!(found("realm_access.roles"), Ok(Some(json!(["a", "b"]))));
        assert_eq!(found("https://x.org/t"), Ok(Some(json!("42"))));
        assert_eq!(found("a.b"), Err(Flaw::ClaimTwice("a.b".to_owned())));
        assert_eq!(found("a.c.d.e"), Ok(Some(json!(3))));
        for none in ["", ".", "a.", "a.b.c", "realm_access.roles.0", "b"] {
            assert_eq!(found(none), Ok(None), "{none}");
        }
        let claims = map(json!({
            "kubernetes.io": { "namespace": "shop", "pod": { "name": "api" } },
            "https://hasura.io/jwt/claims": { "x-tenant": "42" },
            "resource_access": { "my.client": { "roles": ["a"] } },
            "same": { "one": 1 }, "same.one": 1,
        }));
        let found = |name| find(&claims, name).map(|it| it.cloned());
        assert_eq!(found("kubernetes.io.namespace"), Ok(Some(json!("shop"))));
        assert_eq!(found("kubernetes.io.pod.name"), Ok(Some(json!("api"))));
        assert_eq!(found("https://hasura.io/jwt/claims.x-tenant"), Ok(Some(json!("42"))));
        assert_eq!(found("resource_access.my.client.roles"), Ok(Some(json!(["a"]))));
        assert_eq!(found("same.one"), Ok(Some(json!(1))), "the same value either way");
    }

    #[test]
    fn what_names_somebody() {
        for (value, named) in [
            (json!("a"), Some("a")),
            (json!(42), Some("42")),
            (json!(-1), Some("-1")),
            (json!(["a"]), Some("a")),
            (json!([42]), Some("42")),
            (json!([]), None),
            (json!(["a", "b"]), None),
            (json!([["a"]]), None),
            (json!([{ "a": 1 }]), None),
            (json!(1.5), None),
            (json!(1e30), None),
            (json!(true), None),
            (json!(null), None),
            (json!({ "acme": {} }), None),
        ] {
            assert_eq!(name(&value).as_deref(), named, "{value}");
        }
    }

    #[test]
    fn entries_of_a_claim() {
        let of = |value: Value| entries(&value);
        assert_eq!(of(json!("a")), Some(vec!["a".to_owned()]));
        assert_eq!(of(json!(5)), Some(vec!["5".to_owned()]));
        assert_eq!(
            of(json!([true, "b", { "c": 1 }, ["d"], null])),
            Some(vec!["true".to_owned(), "b".to_owned()])
        );
        assert_eq!(of(json!({ "a": 1 })), None);
        assert_eq!(of(Value::Null), None);
    }

    #[test]
    fn tokens_of_other_issuers_and_for_other_purposes() {
        let check = |value: Value| check_said(&map(value), "me");
        for good in [
            json!({}),
            json!({ "iss": "me", "typ": "Bearer" }),
            json!({ "token_use": "access_token", "typ": "at+jwt", "token_type": "Bearer" }),
            json!({ "type": "offline-sensor" }),
            json!({ "type": "id", "typ": 5, "token_use": ["access"] }),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for other in [json!({ "iss": "you" }), json!({ "iss": ["me"] }), json!({ "iss": null })] {
            assert_eq!(check(other.clone()), Err(Flaw::OtherIssuer), "{other}");
        }
        for other in [
            json!({ "typ": "Refresh" }),
            json!({ "typ": "ID" }),
            json!({ "typ": "Offline" }),
            json!({ "token_use": "refresh_token" }),
            json!({ "token_use": "id" }),
            json!({ "token_type": "refresh_token" }),
            json!({ "token_type": "id_token" }),
            json!({ "type": "refresh" }),
            json!({ "typ": "rt+jwt" }),
            json!({ "typ": ["Refresh"] }),
            json!({ "token_use": ["access", "refresh_token"] }),
            json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }),
        ] {
            let mut names = ["typ", "token_use", "token_type", "type", "events"].into_iter();
            let name = names.find(|it| other.get(it).is_some()).unwrap();
            assert_eq!(check(other.clone()), Err(Flaw::Purpose(name)), "{other}");
            let is_id = other.to_string().to_lowercase().contains(":\"id");
            let said = if is_id { Ok(()) } else { Err(Flaw::Purpose(name)) };
            assert_eq!(check_purpose(&map(other.clone())), said, "as a JWT: {other}");
        }
    }

    #[test]
    fn audiences() {
        let ours = ["nats".to_owned(), "other".to_owned()];
        let check = |value: Value| check_audience(&map(value), "aud", &ours);
        assert_eq!(check(json!({ "aud": "nats" })), Ok(()));
        assert_eq!(check(json!({ "aud": ["x", "other"] })), Ok(()));
        for wrong in [
            json!({}),
            json!({ "aud": "Nats" }),
            json!({ "aud": [] }),
            json!({ "aud": [["nats"]] }),
            json!({ "aud": { "nats": true } }),
            json!({ "aud": null }),
            json!({ "azp": "nats" }),
        ] {
            assert_eq!(check(wrong.clone()), Err(Flaw::Audience), "{wrong}");
        }
    }

    #[test]
    fn times() {
        let check = |value: Value| check_times(&map(value), 30, 1_000);
        assert_eq!(check(json!({ "exp": 1_001 })), Ok(1_001));
        assert_eq!(check(json!({ "exp": 1_060.9 })), Ok(1_060));
        assert_eq!(check(json!({ "exp": LAST })), Ok(LAST), "9999-12-31T23:59:59Z");
        for later in [
            json!(LAST + 1),
            json!(1_796_076_742_000_u64),
            json!(1_796_076_742_123.4),
            json!(1_796_076_742_000_000_000_u64),
            json!(u64::MAX),
            json!(1e300),
        ] {
            for name in ["exp", "nbf", "iat"] {
                let claims = json!({ "exp": 2_000, name: later });
                assert_eq!(check(claims.clone()), Err(Flaw::NoSeconds(name)), "{claims}");
            }
        }
        assert_eq!(check(json!({ "exp": 1_000 })), Ok(1_030), "within the leeway");
        assert_eq!(check(json!({ "exp": 971 })), Ok(1_001));
        assert_eq!(check(json!({ "exp": 970 })), Err(Flaw::Expired));
        assert_eq!(check(json!({ "exp": -1e300 })), Err(Flaw::Expired));
        assert_eq!(check(json!({ "exp": "1001" })), Err(Flaw::NoEnd));
        assert_eq!(check(json!({ "exp": null })), Err(Flaw::NoEnd));
        assert_eq!(check(json!({})), Err(Flaw::NoEnd));
        for begins in ["nbf", "iat"] {
            let from = |at: Value| check(json!({ "exp": 2_000, begins: at }));
            assert_eq!(from(json!(1_030)), Ok(2_000));
            assert_eq!(from(json!(1_031)), Err(Flaw::NotYet));
            assert_eq!(from(json!("1")), Err(Flaw::NotYet));
        }
    }
}
