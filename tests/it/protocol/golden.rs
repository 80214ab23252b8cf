//! The golden vectors: what the Go library wrote is read, verified and written again without loss;
//! what is broken is refused by the check that is meant for it.

use nats_callout::internals::JwtError;
use serde::Deserialize;
use serde_json::Value;

use super::{payload, reencode, without_empty};

#[derive(Deserialize)]
struct Vector {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    issuer_seed: String,
    token: String,
    #[serde(default)]
    claims: Value,
    #[serde(default)]
    fails: String,
}

/// Claims that the Go library knows and that nothing here reads or writes, by vector. A field
/// that becomes modelled must leave this list: the test fails for one that survives.
const UNMODELLED: &[(&str, &[&str])] = &[
    (
        "operator_unmodelled",
        &[
            "/nats/account_server_url",
            "/nats/operator_service_urls",
            "/nats/assert_server_version",
            "/nats/tags",
        ],
    ),
    (
        "account_unmodelled",
        &[
            "/nats/description",
            "/nats/info_url",
            "/nats/tags",
            "/nats/mappings",
            "/nats/trace",
            "/nats/cluster_traffic",
            "/nats/limits/disallow_bearer",
            "/nats/limits/tiered_limits",
            "/nats/imports/0/share",
            "/nats/exports/0/service_latency",
            "/nats/exports/0/account_token_position",
            "/nats/exports/0/advertise",
            "/nats/exports/0/description",
        ],
    ),
    (
        "user_unmodelled",
        &[
            "/nbf",
            "/nats/tags",
            "/nats/src",
            "/nats/times",
            "/nats/times_location",
            "/nats/proxy_required",
        ],
    ),
];

fn read(file: &str) -> Vec<Vector> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = std::fs::read_to_string(&path).expect("vectors");
    serde_json::from_str(&text).expect("vectors")
}

fn remove(value: &mut Value, pointer: &str) -> bool {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    value
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .is_some_and(|fields| fields.remove(field).is_some())
}

fn round_trip(file: &str) {
    let vectors = read(file);
    assert!(!vectors.is_empty());
    for vector in vectors {
        let name = &vector.name;
        assert_eq!(payload(&vector.token), vector.claims, "{name}: file and token differ");
        let again = reencode(&vector.kind, &vector.token, &vector.issuer_seed)
            .unwrap_or_else(|error| panic!("{name}: {error}"));

        let mut expected = vector.claims;
        let mut found = payload(&again);
        for (_, fields) in UNMODELLED.iter().filter(|(vector, _)| vector == name) {
            for field in *fields {
                assert!(remove(&mut expected, field), "{name}: {field} is not in the vector");
                assert!(found.pointer(field).is_none(), "{name}: {field} is modelled");
            }
        }
        for claims in [&mut expected, &mut found] {
            assert!(remove(claims, "/jti"), "{name}: no jti");
        }
        assert_eq!(without_empty(expected), without_empty(found), "{name}");
        let third = reencode(&vector.kind, &again, &vector.issuer_seed).expect("our own token");
        assert_eq!(again, third, "{name}: the same claims and key give the same token");
    }
}

#[test]
fn operators_survive() {
    round_trip("operator.json");
}

#[test]
fn accounts_survive() {
    round_trip("account.json");
}

#[test]
fn users_survive() {
    round_trip("user.json");
}

#[test]
fn authorization_requests_survive() {
    round_trip("authorization_request.json");
}

#[test]
fn authorization_responses_survive() {
    round_trip("authorization_response.json");
}

#[test]
fn broken_tokens_are_refused_by_the_check_meant_for_them() {
    for Vector { name, kind, issuer_seed, token, fails, .. } in read("fail.json") {
        let error = match reencode(&kind, &token, &issuer_seed) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => error,
        };
        let by = match error {
            JwtError::TooLong => "length",
            JwtError::Shape => "shape",
            JwtError::Header => "header",
            JwtError::Claims(_) => "claims",
            JwtError::Type { .. } => "type",
            JwtError::Issuer(_) => "issuer",
            JwtError::Signature => "signature",
            JwtError::Sign(_) => "sign",
        };
        assert_eq!(by, fails, "{name}: {error}");
    }
}

#[test]
fn a_token_of_two_megabytes_is_not_parsed() {
    let vector = read("user.json").swap_remove(0);
    for token in ["A".repeat(2 << 20), format!("{}{}", vector.token, "A".repeat(2 << 20))] {
        let error = reencode("user", &token, &vector.issuer_seed).expect_err("too long");
        assert!(matches!(error, JwtError::TooLong), "{error}");
    }
}

#[test]
fn errors_show_no_part_of_the_token() {
    for Vector { name, kind, issuer_seed, token, .. } in read("fail.json") {
        let Err(error) = reencode(&kind, &token, &issuer_seed) else { continue };
        let text = format!("{error} {error:?}");
        for part in token.split('.').filter(|part| part.len() > 40) {
            assert!(!text.contains(&part[..40]), "{name}: {text}");
        }
    }
}
