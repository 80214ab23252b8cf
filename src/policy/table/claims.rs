//! The claims of a case, and what of them its policy sees.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::authn::{Claims, Denied, IssuerOf};

/// A claim's value, as a token has it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Values {
    One(String),
    Many(Vec<String>),
    /// An object, whose claims have its name and a dot before theirs, as `claims` of an issuer lists them.
    Within(BTreeMap<String, Values>),
}

impl Values {
    /// As the JWT has it.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::One(value) => value.as_str().into(),
            Self::Many(values) => values.as_slice().into(),
            Self::Within(inner) => {
                inner.iter().map(|(name, values)| (name.clone(), values.json())).collect()
            }
        }
    }

    pub(super) fn fill(&self, name: &str, claims: &mut Claims) {
        let values = match self {
            Self::One(value) => vec![value.clone()],
            Self::Many(values) => values.clone(),
            Self::Within(inner) => {
                return inner
                    .iter()
                    .for_each(|(key, it)| it.fill(&format!("{name}.{key}"), claims));
            }
        };
        claims.insert(name.to_owned(), values);
    }
}

/// What an issuer hands to a policy of a JWT's claims.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The issuer.
    pub(crate) who: IssuerOf,
    /// The claims, or why it refuses the JWT for them.
    pub(crate) claims: Result<Claims, Denied>,
}

/// What the issuer of a name hands of these claims; none where there is no such issuer.
pub(crate) type Issuers<'a> = &'a dyn Fn(&str, &Map<String, Value>) -> Option<Handed>;
