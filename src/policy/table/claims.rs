//! The claims of a case, and what of them its policy sees.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::authn::{Claims, Denied, Handed, IssuerOf, entries};

/// What is wrong with a date, of which JSON has none.
pub(super) const A_DATE: &str = "a date, which no JWT has";

/// The key that a date of TOML is told by.
const DATE_KEY: &str = "$__toml_private_datetime";

/// The claims of a case, as the JWT has them.
#[derive(Debug, Default)]
pub(super) struct Said(pub(super) Map<String, Value>);

impl Said {
    /// All of them, as a policy sees them. Those within an object have its name and a dot before theirs, as `claims`
    /// of an issuer lists them.
    pub(super) fn all(&self) -> Claims {
        let mut claims = Claims::new();
        self.0.iter().for_each(|(name, value)| fill(name, value, &mut claims));
        claims
    }
}

fn fill(name: &str, value: &Value, claims: &mut Claims) {
    if let Value::Object(inner) = value {
        inner.iter().for_each(|(key, value)| fill(&format!("{name}.{key}"), value, claims));
    } else if let Some(entries) = entries(value) {
        claims.insert(name.to_owned(), entries);
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)?.0 {
            Value::Object(claims) => Ok(Self(claims)),
            _ => Err(D::Error::custom("`claims` is no table of claims")),
        }
    }
}

/// A value of TOML, as JSON has it.
struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsJson).map(Self)
    }
}

struct AsJson;

impl<'de> Visitor<'de> for AsJson {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that a JWT can have")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom(format!("{value} is no number of JSON")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == DATE_KEY {
                return Err(A::Error::custom(A_DATE));
            }
            let Json(value) = map.next_value()?;
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

/// An issuer, and what it makes of a JWT's claims, or why it refuses a JWT for them.
pub(crate) type ByIssuer = (IssuerOf, Result<Handed, Denied>);

/// What the issuer of a name makes of these claims; none where there is no such issuer.
pub(crate) type Issuers<'a> = &'a dyn Fn(&str, &Map<String, Value>) -> Option<ByIssuer>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Case {
        claims: Said,
    }

    #[test]
    fn a_value_is_seen_as_at_a_login() {
        for (written, value, seen) in [
            ("5", json!(5), &["5"][..]),
            ("-9223372036854775808", json!(i64::MIN), &["-9223372036854775808"]),
            ("1.5", json!(1.5), &["1.5"]),
            ("2.0", json!(2.0), &["2.0"]),
            ("true", json!(true), &["true"]),
            ("\"x\"", json!("x"), &["x"]),
            ("[true]", json!([true]), &["true"]),
            ("[\"x\", 5]", json!(["x", 5]), &["x", "5"]),
            ("[\"x\", [1], { a = 1 }]", json!(["x", [1], { "a": 1 }]), &["x"]),
            ("[]", json!([]), &[]),
        ] {
            let case: Case = toml::from_str(&format!("claims = {{ roles = {written} }}")).unwrap();
            assert_eq!(
                Value::Object(case.claims.0.clone()),
                json!({ "roles": value }),
                "{written}"
            );
            assert_eq!(case.claims.all()["roles"], seen, "{written}");
        }
    }

    #[test]
    fn claims_within_an_object() {
        for written in ["roles = { a = 1, b.c = [true] }", "roles.a = 1\nroles.b.c = [true]"] {
            let written = format!("[claims]\n{written}");
            let Said(claims) = toml::from_str::<Case>(&written).unwrap().claims;
            assert_eq!(
                Value::Object(claims.clone()),
                json!({ "roles": { "a": 1, "b": { "c": [true] } } })
            );
            let seen = Said(claims).all();
            assert_eq!(
                (&seen["roles.a"][..], &seen["roles.b.c"][..]),
                (&["1".to_owned()][..], &["true".to_owned()][..])
            );
            assert_eq!(seen.len(), 2);
        }
    }

    #[test]
    fn what_no_jwt_has() {
        for (written, words, line) in [
            ("claims = { a = 1979-05-27 }", A_DATE, 1),
            ("claims.a = 1\nclaims.b = [\n  \"x\",\n  07:32:00,\n]", A_DATE, 4),
            ("claims.a = { b = 1979-05-27T07:32:00Z }", A_DATE, 1),
            ("claims = 1979-05-27", A_DATE, 1),
            ("claims = [\"a\"]", "`claims` is no table of claims", 1),
            ("claims = { a = nan }", "NaN is no number of JSON", 1),
            ("claims = { a = -inf }", "-inf is no number of JSON", 1),
        ] {
            let error = toml::from_str::<Case>(written).unwrap_err();
            assert_eq!(error.message(), words, "{written}");
            let before = &written[..error.span().unwrap().start];
            assert_eq!(1 + before.matches('\n').count(), line, "{written}");
        }
    }
}
