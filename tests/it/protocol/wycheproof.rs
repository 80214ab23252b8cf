//! Vectors of [Wycheproof](https://github.com/C2SP/wycheproof): Ed25519 as NATS JWTs and nkeys use
//! it. Those of JSON Web Signatures are beside the reader of key sets, `src/authn/jwt/keys.rs`.

use data_encoding::HEXLOWER;
use nats_callout::internals::verify;
use serde::Deserialize;

#[derive(Deserialize)]
struct Ed25519 {
    id: u32,
    key: String,
    message: String,
    signature: String,
    valid: bool,
    comment: String,
}

#[derive(Deserialize)]
struct Ed25519File {
    vectors: Vec<Ed25519>,
}

#[test]
fn ed25519_takes_the_valid_and_nothing_else() {
    let text = include_str!("../../vectors/wycheproof/ed25519.json");
    let file: Ed25519File = serde_json::from_str(text).expect("what extract.py writes");
    let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hex");
    let mut valid = 0;
    for vector in &file.vectors {
        let key: [u8; 32] = bytes(&vector.key).try_into().expect("32 bytes");
        let verified = verify(&key, &bytes(&vector.message), &bytes(&vector.signature));
        assert_eq!(verified, vector.valid, "{}: {}", vector.id, vector.comment);
        valid += u32::from(vector.valid);
    }
    assert_eq!((file.vectors.len(), valid), (151, 88));
}
