//! What is done with a token of an issuer to be refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::cases::{Case, case, token};
use super::site::Site;
use crate::harness::issuer::{Signer, seconds_from_now, sign_with_secret, unsigned};

fn claim(what: &str, claim: &'static str, value: Value) -> Case {
    token("invalid_token", what, move |site| site.signer.sign(&site.claims(claim, value.clone())))
}

pub(super) fn all() -> Vec<Case> {
    let sign = |header: Value| {
        move |site: &Site| {
            let mut full = site.signer.header();
            full.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
            site.signer.sign_with(&full, &site.claims("sub", json!("gast")))
        }
    };
    let asked = |said: Value| {
        move |site: &Site| {
            let mut all = site.asked.claims("alice");
            all.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            let token = format!("ask_{}", URL_SAFE_NO_PAD.encode(said.to_string()));
            site.asked.says_of(&token, all);
            token
        }
    };
    vec![
        token("unknown_issuer", "a JWT of an issuer that is not configured", |site| {
            site.signer.sign(&site.claims("iss", json!("https://elsewhere.example.com")))
        }),
        token("unknown_issuer", "a JWT that names no issuer", |site| {
            site.signer.sign(&site.claims("iss", json!(null)))
        }),
        token("invalid_token", "a JWT of more than 8 KB", |site| {
            site.signer.sign(&site.claims("more", json!("x".repeat(8_000))))
        }),
        token("invalid_token", "a JWT whose claims are none", |_| {
            format!("{}.c2ln", unsigned(&json!({ "alg": "EdDSA" }), &json!([])))
        }),
        token("invalid_token", "an `alg` that the issuer may not use", |site| {
            let header = json!({ "alg": "HS256", "typ": "JWT" });
            sign_with_secret(
                b"0123456789abcdef0123456789abcdef",
                &header,
                &site.claims("a", json!(1)),
            )
        }),
        token("invalid_token", "a `typ` of something else", sign(json!({ "typ": "logout+jwt" }))),
        token("invalid_token", "a `crit` that is not known", sign(json!({ "crit": ["b64"] }))),
        token(
            "invalid_token",
            "a `kid` that the issuer does not have",
            sign(json!({ "kid": "second" })),
        ),
        token("invalid_token", "more keys than are tried", |site| {
            let mut header = site.signer.header();
            header.as_object_mut().unwrap().remove("kid");
            site.signer.sign_with(&header, &site.many.claims("alice"))
        }),
        token("invalid_token", "a signature of somebody else", |site| {
            let other = Signer::new("first", jsonwebtoken::Algorithm::EdDSA);
            other.sign(&site.claims("a", json!(1)))
        }),
        claim("a JWT for somebody else", "aud", json!("account")),
        claim("a JWT without an end", "exp", json!(null)),
        claim("a JWT that does not hold yet", "nbf", json!("soon")),
        token("token_expired", "a JWT that has ended", |site| {
            site.signer.sign(&site.claims("exp", json!(seconds_from_now(-60))))
        }),
        claim("a JWT without its user", "sub", json!(null)),
        claim("a JWT without its tenant", "org", json!("no tenant")),
        token("invalid_token", "a claim with dots in its name that is there twice", |site| {
            let mut claims = site.claims("team.name", json!("red"));
            claims["team"] = json!({ "name": "blue" });
            site.signer.sign(&claims)
        }),
        token("unknown_user", "a JWT of a user whom a row bars", |site| {
            site.signer.sign(&site.claims("sub", json!("barred")))
        }),
        token("policy", "a claim whose value is no subject token", |site| {
            let mut claims = site.claims("team.name", json!("no token"));
            claims["roles"] = json!(["team"]);
            site.signer.sign(&claims)
        }),
        token("policy", "a policy that wants a claim which is not handed to it", |site| {
            site.signer.sign(&site.claims("roles", json!(["group"])))
        }),
        token("unknown_user", "a JWT of a tenant that is not there", |site| {
            site.signer.sign(&site.claims("org", json!("nowhere")))
        }),
        claim("a JWT that chooses no policy", "roles", json!(["guest"])),
        case(
            "invalid_token",
            "a JWT beside another user's name",
            |site| json!({ "user": "alice", "auth_token": site.signer.sign(&site.claims("a", json!(1))) }),
        )
        .tested("one", "alice"),
        token(
            "unknown_token",
            "a token that its issuer says is not active",
            asked(json!({ "active": false })),
        ),
        token(
            "unknown_user",
            "a token of a user without a row, where one is needed",
            asked(json!({ "active": true, "sub": "nobody" })),
        ),
        token("invalid_token", "a token that its issuer says is another's", {
            asked(json!({ "active": true, "iss": "https://elsewhere.example.com" }))
        }),
        token(
            "invalid_token",
            "a token that renews others",
            asked(json!({ "active": true, "typ": "Refresh" })),
        ),
        token(
            "no reply",
            "a token that its issuer says nothing about",
            asked(json!({ "active": "perhaps" })),
        ),
        token("no reply", "a JWT of an issuer whose keys cannot be fetched", |site| {
            site.signer.sign(&site.claims("iss", json!("away")))
        }),
    ]
}
