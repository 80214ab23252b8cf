//! The ways in which JWTs are forged, each tried on a running service. Every one is refused by us,
//! and none makes the service ask anybody but the issuer.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{Bench, reasons};
use crate::harness::choice::either_mode;
use crate::harness::deployment::Mode;
use crate::harness::issuer::{Issuer, Signer, seconds_from_now, sign_with_secret, unsigned};
use crate::harness::raw::{self, Verdict};

/// The SubjectPublicKeyInfo of an RSA key, in PEM: what an attacker would take for the secret.
fn pem_of(jwk: &Value) -> String {
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let bytes = if bytes[0] >= 0x80 { [vec![0], bytes].concat() } else { bytes };
        element(0x02, &bytes)
    };
    let key = element(0x30, &[number("n"), number("e")].concat());
    let algorithm = element(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
    let bits = element(0x03, &[vec![0], key].concat());
    let der = element(0x30, &[algorithm, bits].concat());
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// A DER element of fewer than 65,536 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]], content].concat()
}

/// A JWT that admits nobody: what is wrong with it, itself, and the reason of its refusal.
pub(crate) type Forgery = (String, String, &'static str);

/// What can be made of a JWT of `shop` without its issuer's key.
pub(crate) fn forgeries(bench: &Bench) -> Vec<Forgery> {
    let (issuer, signer) = (&bench.issuer, &bench.signer);
    let mut all = Vec::new();
    let mut forge = |what: &str, token: String, reason| all.push((what.to_owned(), token, reason));
    let sound = bench.jwt("shop");
    let claims = issuer.claims("shop");
    let header = |changes: Value| {
        let mut header = signer.header();
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };

    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let message = unsigned(&header(json!({ "alg": alg })), &claims);
        forge(alg, format!("{message}."), "invalid_token");
        let signature = sound.rsplit('.').next().unwrap();
        forge(alg, format!("{message}.{signature}"), "invalid_token");
    }

    // The public key, in every form in which it might be taken for a secret.
    let jwk = signer.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let hs256 = header(json!({ "alg": "HS256" }));
    let pem = pem_of(&jwk);
    for secret in [
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        jwk.to_string().as_bytes(),
        jwk["n"].as_str().unwrap().as_bytes(),
        &modulus,
        b"",
    ] {
        let forged = sign_with_secret(secret, &hs256, &claims);
        forge("HS256 with the public key", forged, "invalid_token");
    }

    let parts: Vec<&str> = sound.split('.').collect();
    let admin = URL_SAFE_NO_PAD.encode(issuer.claims("admin").to_string());
    let swapped = format!("{}.{admin}.{}", parts[0], parts[2]);
    forge("a swapped payload", swapped, "invalid_token");
    let algorithm = URL_SAFE_NO_PAD.encode(header(json!({ "alg": "PS256" })).to_string());
    let confused = format!("{algorithm}.{}.{}", parts[1], parts[2]);
    forge("another algorithm of the same key", confused, "invalid_token");
    forge("no signature", format!("{}.{}.", parts[0], parts[1]), "invalid_token");

    let attacker = Signer::new("first", Algorithm::RS256);
    forge("another key of the same id", attacker.sign(&claims), "invalid_token");

    for (claim, value, reason) in [
        ("aud", json!("other"), "invalid_token"),
        ("aud", json!(["account"]), "invalid_token"),
        ("aud", Value::Null, "invalid_token"),
        ("exp", Value::Null, "invalid_token"),
        ("exp", json!("never"), "invalid_token"),
        ("exp", json!(seconds_from_now(-31)), "token_expired"),
        ("nbf", json!(seconds_from_now(120)), "invalid_token"),
        ("iat", json!(seconds_from_now(120)), "invalid_token"),
        ("sub", Value::Null, "invalid_token"),
        ("sub", json!(["shop", "shop"]), "invalid_token"),
        ("sub", json!({ "shop": true }), "invalid_token"),
        ("iss", json!(format!("{}/", issuer.url())), "unknown_issuer"),
        ("iss", Value::Null, "unknown_issuer"),
    ] {
        let forged = bench.jwt_with("shop", claim, value.clone());
        forge(&format!("{claim} = {value}"), forged, reason);
    }
    for changes in [
        json!({ "crit": ["exp"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "typ": "logout+jwt" }),
    ] {
        let forged = signer.sign_with(&header(changes.clone()), &claims);
        forge(&changes.to_string(), forged, "invalid_token");
    }
    all
}

/// JWTs that bring a key of their own along, or say that it is at `evil`.
pub(crate) fn with_keys_in_the_header(bench: &Bench, evil: &Issuer) -> Vec<Forgery> {
    let attacker = Signer::new("evil", Algorithm::RS256);
    evil.serve(&[&attacker]);
    let claims = bench.issuer.claims("shop");
    let mut all = Vec::new();
    for key_id in ["evil", "first"] {
        for changes in [
            json!({ "jku": evil.jwks_url() }),
            json!({ "x5u": evil.jwks_url() }),
            json!({ "jwk": attacker.jwk() }),
            json!({ "x5c": ["MIIB"] }),
            json!({ "jku": evil.jwks_url(), "x5u": evil.jwks_url(), "jwk": attacker.jwk() }),
        ] {
            let mut header = attacker.header();
            header["kid"] = json!(key_id);
            for (name, value) in changes.as_object().unwrap() {
                header[name] = value.clone();
            }
            let forged = attacker.sign_with(&header, &claims);
            all.push((header.to_string(), forged, "invalid_token"));
        }
    }
    all
}

/// JWTs that name keys that nobody knows.
pub(crate) fn of_unknown_keys(bench: &Bench, count: usize) -> Vec<String> {
    let attacker = Signer::new("unknown", Algorithm::RS256);
    let claims = bench.issuer.claims("shop");
    let forge = |number| {
        let mut header = attacker.header();
        header["kid"] = json!(format!("unknown-{number}"));
        attacker.sign_with(&header, &claims)
    };
    (0..count).map(forge).collect()
}

fn are_refused(bench: &Bench, all: Vec<Forgery>) {
    bench.admits(&bench.jwt("shop"));
    for (what, forged, reason) in all {
        bench.refuses(&what, &forged, reason);
    }
    bench.admits(&bench.jwt("shop"));
}

/// What a header says of its own key is not looked at, and nobody is asked.
fn keys_in_the_header_are_ignored(bench: &Bench) {
    let evil = Issuer::start(&[]);
    are_refused(bench, with_keys_in_the_header(bench, &evil));
    // A sound JWT with such a header is sound.
    let mut header = bench.signer.header();
    header["jku"] = json!(evil.jwks_url());
    bench.admits(&bench.signer.sign_with(&header, &bench.issuer.claims("shop")));
    assert_eq!(evil.asked(), [""; 0]);
}

/// However many JWTs name keys that nobody knows, the issuer is asked once in 30 s, and each of
/// them is refused: in the log is what we decided, in time.
fn a_flood_of_unknown_keys_reaches_no_issuer(bench: &Bench) {
    bench.admits(&bench.jwt("shop"));
    let flood = of_unknown_keys(bench, 80);
    let refused = || reasons(&bench.deployment, "invalid_token");
    let (fetched, refused_before) = (bench.issuer.fetches(), refused());
    let begun = std::time::Instant::now();
    let port = bench.deployment.server.port();
    std::thread::scope(|scope| {
        for some in flood.chunks(10) {
            scope.spawn(move || {
                for forged in some {
                    let (verdict, _) = raw::connect(port, &json!({ "auth_token": forged }));
                    assert_ne!(verdict, Verdict::Admitted);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs();
    let fetches = bench.issuer.fetches() - fetched;
    let most = 1 + usize::try_from(took / 30).unwrap();
    assert!((1..=most).contains(&fetches), "{fetches} in {took} s");
    assert_eq!(refused() - refused_before, 80, "{}", bench.deployment.service.log());
    bench.admits(&bench.jwt("shop"));
}

fn attacks(mode: Mode) {
    let known = [("kc", Algorithm::RS256, ""), ("flooded", Algorithm::RS256, "")];
    let [bench, flooded] = Bench::all(mode, known);
    bench.deployment.tenant_add("shop", &[]);
    are_refused(&bench, forgeries(&bench));
    keys_in_the_header_are_ignored(&bench);
    a_flood_of_unknown_keys_reaches_no_issuer(&flooded);
}

#[test]
fn forgeries_keys_in_headers_and_floods() {
    for mode in either_mode() {
        attacks(mode);
    }
}
