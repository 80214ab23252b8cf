//! JWTs as an operator's own tools make them: read, changed and signed again with the keys that
//! `init` wrote. Nothing of the library is used, so that the tests do not share its errors.

use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::harness::deployment::Initialised;

/// What a JWT says, unverified.
pub(super) fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT: {token}"));
    let body = BASE64URL_NOPAD.decode(body.as_bytes()).expect("base64url");
    serde_json::from_slice(&body).expect("claims")
}

/// Signs claims as `signer`.
pub(super) fn sign(mut claims: Value, signer: &KeyPair) -> String {
    claims["iss"] = json!(signer.public_key());
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"}).to_string();
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let signed = format!("{}.{}", encode(head.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = signer.sign(signed.as_bytes()).expect("a private key");
    format!("{signed}.{}", encode(&signature))
}

/// The creds file of a user.
pub(super) fn creds(token: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().expect("a private key")
    )
}

/// The CONNECT fields of a user that signs the server's nonce.
pub(super) fn signed(token: &str, user: &KeyPair, info: &Value) -> Value {
    let nonce = info["nonce"].as_str().expect("a nonce");
    let signature = user.sign(nonce.as_bytes()).expect("a private key");
    json!({"jwt": token, "sig": BASE64URL_NOPAD.encode(&signature)})
}

/// A user of an account, whom nothing is allowed; `signer` is the account's identity or one of its
/// signing keys.
pub(super) fn user(name: &str, user: &KeyPair, account: &str, signer: &KeyPair) -> Value {
    let nothing = json!({"deny": [">"]});
    let mut claims = json!({
        "iat": 1_700_000_000, "name": name, "sub": user.public_key(),
        "nats": {
            "pub": nothing, "sub": nothing, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        },
    });
    if signer.public_key() != account {
        claims["nats"]["issuer_account"] = json!(account);
    }
    claims
}

/// A key below `keys/`.
pub(super) fn key(init: &Initialised, name: &str) -> KeyPair {
    let seed = text(&init.dir().join("keys").join(name));
    KeyPair::from_seed(seed.trim()).expect("a seed")
}

/// The user JWT in a creds file below `keys/`.
pub(super) fn jwt_of(init: &Initialised, name: &str) -> String {
    let creds = text(&init.dir().join("keys").join(name));
    creds.lines().find(|line| line.starts_with("eyJ")).expect("a JWT").to_owned()
}

/// What comes after `key:` in the server's configuration.
pub(super) fn configured(init: &Initialised, key: &str) -> String {
    let conf = text(&init.server_conf());
    let mut lines = conf.lines().filter_map(|line| line.trim().strip_prefix(key));
    let found = lines.find_map(|rest| rest.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {key} in {conf}")).to_owned()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
