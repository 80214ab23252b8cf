//! The attacks by name: forged, altered, expired, replayed, misaddressed, downgraded, malformed and
//! oversized requests, each with the rule that stops it, in the words of the audit log.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use nats_callout::callout::{NoReply, Outcome};
use nats_callout::internals;
use nats_callout::keys::{KeyKind, XKey};
use serde_json::{Value, json};

use super::{Bench, HEADER, Message, NOW, is_grant, key, nkey, sign, signed};
use crate::harness::{depth, turn};

const SIGNATURE: &str = "signature does not match";
const SHAPE: &str = "not three base64url parts";
const HEAD: &str = "header is not that of";
const KIND: &str = "expected a version 2 token of the type authorization_request";
const CLAIMS: &str = "claims are malformed";
const SEALED: &str = "cannot be decrypted";

/// An attack, the rule that stops it, and its message.
type Attack = (String, &'static str, Message);

async fn none_granted(bench: &Bench, attacks: Vec<Attack>) {
    bench.grants().await;
    for (name, rule, message) in attacks {
        match bench.decide(&message).await {
            Outcome::NoReply(NoReply { fault, .. }) => {
                assert!(fault.is_bad_request(), "{name}: {fault}");
                let said = fault.to_string();
                assert!(said.contains(rule), "{name}: {said:?} instead of {rule:?}");
            }
            Outcome::Reply(reply) => panic!("{name}: answered, {:?}", reply.verdict),
        }
    }
    bench.grants().await;
}

/// A way to change claims, by name.
type Change = (&'static str, &'static str, fn(&mut Value));

/// Requests of the right server, with its signature, that say what must not be taken.
const SAYINGS: &[Change] = &[
    ("no expiry", "never expires", |c| drop(c.as_object_mut().unwrap().remove("exp"))),
    ("expiry of zero, which is none", "never expires", |c| c["exp"] = json!(0)),
    ("expiry of null", "never expires", |c| c["exp"] = json!(null)),
    ("expired", "expired at", |c| c["exp"] = json!(NOW - 6)),
    ("expired long ago", "expired at", |c| c["exp"] = json!(i64::MIN)),
    ("expiry as a text", CLAIMS, |c| c["exp"] = json!("4000000000")),
    ("expiry with a fraction", CLAIMS, |c| c["exp"] = json!(4e9)),
    ("expiry beyond 64 bits", CLAIMS, |c| c["exp"] = json!(u64::MAX)),
    ("not valid yet", "not valid before", |c| c["nbf"] = json!(NOW + 6)),
    ("no audience", "audience none", |c| drop(c.as_object_mut().unwrap().remove("aud"))),
    ("empty audience", "audience none", |c| c["aud"] = json!("")),
    ("audience of the answer", "audience `", |c| c["aud"] = json!("nats-authorization-response")),
    ("audience in capitals", "audience `", |c| c["aud"] = json!("NATS-AUTHORIZATION-REQUEST")),
    ("audience with a blank", "audience `", |c| c["aud"] = json!("nats-authorization-request ")),
    ("several audiences", CLAIMS, |c| c["aud"] = json!(["nats-authorization-request"])),
    ("another server's id", "but names the server", |c| {
        c["nats"]["server_id"]["id"] = json!(key(KeyKind::Server).public_key());
    }),
    ("no server id", "but names the server", |c| {
        drop(c["nats"]["server_id"].as_object_mut().unwrap().remove("id"));
    }),
    ("no server", CLAIMS, |c| drop(c["nats"].as_object_mut().unwrap().remove("server_id"))),
    ("no issuer", CLAIMS, |c| drop(c.as_object_mut().unwrap().remove("iss"))),
    ("issuer in small letters", "token issuer", |c| {
        c["iss"] = json!(c["iss"].as_str().unwrap().to_lowercase());
    }),
    ("no subject", CLAIMS, |c| drop(c.as_object_mut().unwrap().remove("sub"))),
    ("no connection key", CLAIMS, |c| drop(c["nats"].as_object_mut().unwrap().remove("user_nkey"))),
    ("empty connection key", "no user nkey", |c| c["nats"]["user_nkey"] = json!("")),
    ("a wildcard as connection key", "no user nkey", |c| c["nats"]["user_nkey"] = json!("*")),
    ("an account as connection key", "no user nkey", |c| {
        c["nats"]["user_nkey"] = json!(key(KeyKind::Account).public_key());
    }),
    ("a connection key that anybody can sign for", "no user nkey", |c| {
        c["nats"]["user_nkey"] = json!(nkey(20, &[0; 32]));
    }),
    ("a connection key with a wrong checksum", "no user nkey", |c| {
        let right = key(KeyKind::User).public_key().to_owned();
        let other = if right.ends_with('A') { 'B' } else { 'A' };
        c["nats"]["user_nkey"] = json!(format!("{}{other}", &right[..55]));
    }),
    ("no type", KIND, |c| drop(c["nats"].as_object_mut().unwrap().remove("type"))),
    ("the type of an answer", KIND, |c| c["nats"]["type"] = json!("authorization_response")),
    ("the type of a user", KIND, |c| c["nats"]["type"] = json!("user")),
    ("type as a list", CLAIMS, |c| c["nats"]["type"] = json!(["authorization_request"])),
    ("no version", KIND, |c| drop(c["nats"].as_object_mut().unwrap().remove("version"))),
    ("version 1", KIND, |c| c["nats"]["version"] = json!(1)),
    ("version 3", KIND, |c| c["nats"]["version"] = json!(3)),
    ("version -2", CLAIMS, |c| c["nats"]["version"] = json!(-2)),
    ("version 1 claims, with the type outside", CLAIMS, |c| {
        c["type"] = json!("authorization_request");
        drop(c.as_object_mut().unwrap().remove("nats"));
    }),
    ("no body", CLAIMS, |c| c["nats"] = json!(null)),
    ("body as a text", CLAIMS, |c| c["nats"] = json!(c["nats"].to_string())),
    ("user as a list", CLAIMS, |c| c["nats"]["connect_opts"]["user"] = json!(["alice"])),
    ("password as a number", CLAIMS, |c| c["nats"]["connect_opts"]["pass"] = json!(1)),
    ("claims as a list", KIND, |c| *c = json!([c.clone()])),
];

fn altered(claims: &Value, change: fn(&mut Value)) -> Value {
    let mut claims = claims.clone();
    change(&mut claims);
    claims
}

#[tokio::test]
async fn a_request_that_says_what_it_must_not_gets_no_answer() {
    for bench in [Bench::plain(), Bench::sealed()] {
        let attacks = SAYINGS.iter().map(|(name, rule, change)| {
            let token = sign(&altered(&bench.request(), *change), &bench.server);
            ((*name).to_owned(), *rule, bench.send(&token))
        });
        none_granted(&bench, attacks.collect()).await;
    }
}

/// Each key of each claims object twice, either value first: no reader may choose another one.
#[tokio::test]
async fn a_claim_that_is_there_twice_is_none() {
    let bench = Bench::plain();
    let mut attacks = Vec::new();
    for (name, value) in [
        ("aud", r#""nats-authorization-request""#),
        ("exp", "1800000002"),
        ("iss", r#""NX""#),
        ("sub", r#""AX""#),
        ("nats", "{}"),
        ("user_nkey", r#""UX""#),
        ("server_id", "{}"),
        ("connect_opts", r#"{"user":"alice","pass":"secret"}"#),
        ("client_info", "{}"),
        ("type", r#""authorization_request""#),
        ("version", "2"),
        ("xkey", r#""""#),
        ("user", r#""alice""#),
        ("pass", r#""secret""#),
    ] {
        let payload = bench.request().to_string();
        let quoted = format!("\"{name}\":");
        let (at, _) = payload.match_indices(&quoted).last().unwrap();
        let doubled = format!("{}{quoted}{value},{}", &payload[..at], &payload[at..]);
        let message = bench.send(&signed(HEADER, &doubled, &bench.server));
        attacks.push((format!("{name} twice"), CLAIMS, message));
        // The same name, spelt otherwise.
        let escaped = format!("\"\\u{:04x}{}\":", u32::from(name.as_bytes()[0]), &name[1..]);
        let doubled = format!("{}{escaped}{value},{}", &payload[..at], &payload[at..]);
        let message = bench.send(&signed(HEADER, &doubled, &bench.server));
        attacks.push((format!("{name} twice, once escaped"), CLAIMS, message));
    }
    none_granted(&bench, attacks).await;
}

#[tokio::test]
async fn a_request_that_its_server_did_not_sign_gets_no_answer() {
    for bench in [Bench::plain(), Bench::sealed()] {
        let mut attacks = Vec::new();
        let mut add = |name: &str, rule, token: &str| {
            attacks.push((name.to_owned(), rule, bench.send(token)));
        };
        let stranger = key(KeyKind::Server);
        add("a stranger's signature", SIGNATURE, &sign(&bench.request(), &stranger));
        let mut claims = bench.request();
        claims["iss"] = json!(stranger.public_key());
        add("a stranger as the issuer", "but names the server", &sign(&claims, &stranger));
        for kind in [KeyKind::Account, KeyKind::User, KeyKind::Operator] {
            let other = key(kind);
            let mut claims = bench.request();
            claims["iss"] = json!(other.public_key());
            claims["nats"]["server_id"]["id"] = json!(other.public_key());
            add(&format!("{kind:?} as the server"), "token issuer", &sign(&claims, &other));
        }
        // The point 1, for which (1, 0) is a signature of every message.
        let weak = nkey(13, &{
            let mut point = [0; 32];
            point[0] = 1;
            point
        });
        let mut claims = bench.request();
        claims["iss"] = json!(weak);
        claims["nats"]["server_id"]["id"] = json!(weak);
        let token = sign(&claims, &stranger);
        let (body, _) = token.rsplit_once('.').unwrap();
        let mut signature = [0; 64];
        signature[0] = 1;
        let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature));
        add("a server's key that anybody can sign for", "anybody can sign for", &token);

        let token = sign(&bench.request(), &bench.server);
        let (body, signature) = token.rsplit_once('.').unwrap();
        let (other, _) = sign(&bench.request(), &bench.server).rsplit_once('.').map(owned).unwrap();
        add("another request's signature", SIGNATURE, &format!("{other}.{signature}"));
        add("an empty signature", SIGNATURE, &format!("{body}."));
        add("a signature of zeros", SIGNATURE, &format!("{body}.{}", "A".repeat(86)));
        add("half a signature", SIGNATURE, &format!("{body}.{}", &signature[..44]));
        let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        plus_order(&mut raw[32..]);
        let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(&raw));
        add("the second form of a signature, S + L", SIGNATURE, &token);
        raw.push(0);
        let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(&raw));
        add("a byte behind the signature", SIGNATURE, &token);
        none_granted(&bench, attacks).await;
    }
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// Adds the order of the base point to a little-endian number: what makes an Ed25519 signature
/// malleable where nobody looks (RFC 8032, 5.1.7).
fn plus_order(scalar: &mut [u8]) {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (digit, add) in scalar.iter_mut().zip(order) {
        let sum = u16::from(*digit) + u16::from(add) + carry;
        *digit = sum as u8;
        carry = sum >> 8;
    }
}

#[tokio::test]
async fn a_token_of_another_form_gets_no_answer() {
    for bench in [Bench::plain(), Bench::sealed()] {
        let mut attacks = Vec::new();
        for (name, header) in [
            ("alg none", r#"{"typ":"JWT","alg":"none"}"#),
            ("alg None", r#"{"typ":"JWT","alg":"None"}"#),
            ("no alg", r#"{"typ":"JWT"}"#),
            ("alg HS256", r#"{"typ":"JWT","alg":"HS256"}"#),
            ("alg EdDSA", r#"{"typ":"JWT","alg":"EdDSA"}"#),
            ("alg of version 1", r#"{"typ":"jwt","alg":"ed25519"}"#),
            ("alg twice", r#"{"typ":"JWT","alg":"none","alg":"ed25519-nkey"}"#),
            ("alg in capitals", r#"{"typ":"JWT","alg":"ED25519-NKEY"}"#),
            ("alg as a list", r#"{"typ":"JWT","alg":["ed25519-nkey"]}"#),
            ("another typ", r#"{"typ":"JOSE","alg":"ed25519-nkey"}"#),
            (
                "an extension that must be understood",
                r#"{"typ":"JWT","alg":"ed25519-nkey","crit":["exp"]}"#,
            ),
            ("something behind the header", r#"{"typ":"JWT","alg":"ed25519-nkey"}{}"#),
            ("an empty header", ""),
        ] {
            let token = signed(header, &bench.request().to_string(), &bench.server);
            attacks.push((name.to_owned(), HEAD, bench.send(&token)));
        }
        let payload = bench.request().to_string();
        for (name, payload) in [
            ("something behind the claims", format!("{payload}{{}}")),
            ("a zero behind the claims", format!("{payload}\0")),
            ("a mark before the claims", format!("\u{feff}{payload}")),
            ("half the claims", payload[..payload.len() / 2].to_owned()),
            ("no claims", String::new()),
            ("nesting without end", format!("{{\"a\":{}", "[".repeat(200_000))),
        ] {
            let token = signed(HEADER, &payload, &bench.server);
            attacks.push((name.to_owned(), CLAIMS, bench.send(&token)));
        }
        let token = sign(&bench.request(), &bench.server);
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!("three parts") };
        let again = |engine: &base64::engine::GeneralPurpose, part: &str| {
            engine.encode(URL_SAFE_NO_PAD.decode(part).unwrap())
        };
        let mut shapes = vec![
            ("nothing", String::new()),
            ("two parts", format!("{header}.{payload}")),
            ("four parts", format!("{token}.{signature}")),
            ("a line's end behind", format!("{token}\n")),
            ("a blank before", format!(" {token}")),
            ("a zero behind", format!("{token}\0")),
            ("a line's end inside", format!("{header}.{payload}.\n{signature}")),
            ("a padded signature", format!("{header}.{payload}.{signature}==")),
            ("padded claims", format!("{header}.{payload}=.{signature}")),
            (
                "a JSON serialisation",
                json!({"payload": payload, "signature": signature}).to_string(),
            ),
            ("another script's digits", token.replacen('e', "е", 1)),
        ];
        let padded = again(&URL_SAFE, signature);
        shapes.push(("a signature as it is padded", format!("{header}.{payload}.{padded}")));
        // Of the last character of 64 bytes, four bits are of no use and must be zero.
        let last = signature.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let index = alphabet.find(last).unwrap();
        let stray = format!("{}{}", &signature[..85], &alphabet[index + 1..index + 2]);
        shapes.push(("a stray bit in the signature", format!("{header}.{payload}.{stray}")));
        let standard = again(&STANDARD_NO_PAD, signature);
        if standard != signature {
            shapes.push(("the other base64", format!("{header}.{payload}.{standard}")));
        }
        for (name, token) in shapes {
            attacks.push((name.to_owned(), SHAPE, bench.send(&token)));
        }
        none_granted(&bench, attacks).await;
    }
}

#[tokio::test]
async fn a_request_of_any_size_beyond_the_limit_is_not_read() {
    turn::take();
    const MEBI: usize = 1024 * 1024;
    for bench in [Bench::plain(), Bench::sealed()] {
        let mut attacks = Vec::new();
        let large = [
            ("nats/connect_opts/user", json!("x".repeat(MEBI))),
            ("nats/connect_opts/pass", json!("x".repeat(MEBI))),
            ("nats/connect_opts/jwt", json!("x".repeat(MEBI))),
            ("nats/server_id/name", json!("x".repeat(MEBI))),
            ("nats/client_info/tags", json!(vec!["x"; MEBI / 4])),
            ("nats/anything", json!(vec![0; MEBI / 2])),
            ("jti", json!("x".repeat(MEBI))),
        ];
        // Where it lies is the same behind an envelope, which takes long to seal.
        let enough = if bench.service_xkey.is_some() { depth(2, large.len()) } else { large.len() };
        for (path, value) in large.into_iter().take(enough) {
            let mut claims = bench.request();
            let mut place = &mut claims;
            for part in path.split('/') {
                place = &mut place[part];
            }
            *place = value;
            let token = sign(&claims, &bench.server);
            attacks.push((
                format!("a large {path}"),
                "longer than 1048576 bytes",
                bench.send(&token),
            ));
        }
        let junk = Message { payload: vec![b'x'; 8 * MEBI], header: None };
        attacks.push(("eight megabytes".to_owned(), "longer than 1048576 bytes", junk));
        none_granted(&bench, attacks).await;
    }
}

/// What is large and within the limit is read, and gets what it is worth.
#[tokio::test]
async fn large_credentials_are_wrong_credentials() {
    let bench = Bench::plain();
    for (field, value) in [
        ("user", "alice".repeat(100_000)),
        ("pass", "secret".repeat(100_000)),
        ("user", format!("alice{}", "\0".repeat(100_000))),
        ("pass", format!("secret{}", " ".repeat(500_000))),
        ("user", "".to_owned()),
        ("user", "ALICE".to_owned()),
        ("user", "alice\0".to_owned()),
        ("user", "alicе".to_owned()),
    ] {
        let mut claims = bench.request();
        claims["nats"]["connect_opts"][field] = json!(value);
        let outcome = bench.decide(&bench.send(&sign(&claims, &bench.server))).await;
        assert!(matches!(&outcome, Outcome::Reply(_)), "{field}: {outcome:?}");
        assert!(!is_grant(&outcome), "{field}");
    }
    bench.grants().await;
}

#[tokio::test]
async fn an_envelope_for_or_from_another_gets_no_answer() {
    let bench = Bench::sealed();
    let recipient = bench.service_xkey.as_ref().unwrap();
    let token = || sign(&bench.request(), &bench.server);
    let sealed = || bench.send(&token());
    let (stranger, other_service) = (nkeys::XKey::new(), nkeys::XKey::new());
    let to_other = nkeys::XKey::from_public_key(&other_service.public_key()).expect("a public key");
    let header = Some(bench.server_xkey.public_key());
    let mut attacks: Vec<(&str, &'static str, Message)> = vec![
        ("plain text", "not encrypted", Message { payload: token().into(), header: None }),
        (
            "plain text with the header",
            "not encrypted",
            Message { payload: token().into(), header: header.clone() },
        ),
        (
            "plain text that calls itself encrypted",
            SEALED,
            Message { payload: format!("xkv1{}", token()).into(), header: header.clone() },
        ),
        (
            "sealed for another service",
            SEALED,
            Message {
                payload: bench.server_xkey.seal(token().as_bytes(), &to_other).unwrap(),
                header: header.clone(),
            },
        ),
        (
            "sealed by a stranger, as itself",
            "another curve key",
            Message {
                payload: stranger.seal(token().as_bytes(), recipient).unwrap(),
                header: Some(stranger.public_key()),
            },
        ),
        (
            "sealed by a stranger, in the server's name",
            SEALED,
            Message {
                payload: stranger.seal(token().as_bytes(), recipient).unwrap(),
                header: header.clone(),
            },
        ),
        ("no header", "holds no public curve key", Message { header: None, ..sealed() }),
        (
            "an account in the header",
            "holds no public curve key",
            Message { header: Some(bench.caller.clone()), ..sealed() },
        ),
        (
            "a long header",
            "holds no public curve key",
            Message { header: Some("X".repeat(1_000_000)), ..sealed() },
        ),
        (
            "another server's key in the header",
            SEALED,
            Message { header: Some(stranger.public_key()), ..sealed() },
        ),
        ("nothing inside", SHAPE, bench.send("")),
        (
            "an envelope inside an envelope",
            "is not text",
            Message {
                payload: bench.server_xkey.seal(&sealed().payload, recipient).unwrap(),
                header: header.clone(),
            },
        ),
    ];
    let mut claims = bench.request();
    claims["nats"]["server_id"]["xkey"] = json!("");
    attacks.push((
        "no curve key in the claims",
        "another curve key",
        bench.send(&sign(&claims, &bench.server)),
    ));
    claims["nats"]["server_id"]["xkey"] = json!(stranger.public_key());
    attacks.push((
        "another in the claims",
        "another curve key",
        bench.send(&sign(&claims, &bench.server)),
    ));
    for (name, length) in [("an empty envelope", 4), ("a nonce alone", 28), ("half a box", 60)] {
        let mut message = sealed();
        message.payload.truncate(length);
        attacks.push((name, SEALED, message));
    }
    // Every byte: the nonce, the tag and the text are all under the tag.
    let whole = sealed();
    for at in 0..whole.payload.len() {
        let mut message = whole.clone();
        message.payload[at] ^= 1 << (at % 8);
        attacks.push(("a changed byte", if at < 4 { "not encrypted" } else { SEALED }, message));
    }
    let attacks = attacks.into_iter().map(|(name, rule, it)| (name.to_owned(), rule, it));
    none_granted(&bench, attacks.collect()).await;

    let plain = Bench::plain();
    let no_key = "the service has no curve key";
    let mut message = plain.send(&sign(&plain.request(), &plain.server));
    message.header = Some(XKey::generate().unwrap().0.public_key().to_string());
    none_granted(&plain, vec![("a header without a box".to_owned(), no_key, message)]).await;
    none_granted(&plain, vec![("a box without a key".to_owned(), no_key, whole)]).await;
}

/// Every byte of the token, changed in two ways, left out and doubled.
#[tokio::test]
async fn a_token_with_any_byte_changed_gets_no_answer() {
    let bench = Bench::plain();
    let token = sign(&bench.request(), &bench.server).into_bytes();
    for at in 0..token.len() {
        let (mut bit, mut cleared, mut shorter, mut longer) =
            (token.clone(), token.clone(), token.clone(), token.clone());
        bit[at] ^= 1;
        cleared[at] = if token[at] == b'A' { b'B' } else { b'A' };
        shorter.remove(at);
        longer.insert(at, token[at]);
        for payload in [bit, cleared, shorter, longer] {
            let outcome = bench.decide(&Message { payload, header: None }).await;
            assert!(matches!(outcome, Outcome::NoReply(_)), "byte {at}");
        }
    }
    let whole = Message { payload: token, header: None };
    assert!(is_grant(&bench.decide(&whole).await), "none of them has spent the connection's key");
}

/// Once by each instance: another one, or the same after a restart, has not seen it, and its answer is
/// good for the same server and the same connection.
#[tokio::test]
async fn the_same_request_is_answered_once() {
    let (_, seed) = XKey::generate().unwrap();
    let sealed = [Bench::sealed_by(&seed), Bench::sealed_by(&seed)];
    for [bench, another] in [[Bench::plain(), Bench::plain()], sealed] {
        let token = sign(&bench.request(), &bench.server);
        let first = bench.send(&token);
        let mut named = Vec::new();
        for instance in [&bench, &another] {
            let outcome = instance.decide(&first).await;
            assert!(is_grant(&outcome), "{outcome:?}");
            let answer = bench.opened(&outcome);
            named.push([answer["sub"].clone(), answer["aud"].clone()]);
        }
        let request = super::payload(&token);
        let expected = [request["nats"]["user_nkey"].clone(), request["iss"].clone()];
        assert_eq!(named, [expected.clone(), expected]);
        let copy = "one about the connection key";
        let mut attacks = vec![
            ("the same bytes".to_owned(), copy, first.clone()),
            ("the same token, sent anew".to_owned(), copy, bench.send(&token)),
        ];
        // Another request of the same server about the same connection.
        let connection = super::payload(&token)["nats"]["user_nkey"].as_str().unwrap().to_owned();
        let mut claims = bench.claims(&connection);
        claims["exp"] = json!(NOW + 60);
        let again = bench.send(&sign(&claims, &bench.server));
        attacks.push(("a later request about it".to_owned(), copy, again));
        none_granted(&bench, attacks).await;
    }
}

/// A response is no request, and one response fits one connection.
#[tokio::test]
async fn an_answer_is_no_request_and_is_bound_to_its_connection() {
    let bench = Bench::plain();
    let claims = bench.request();
    let Outcome::Reply(reply) = bench.decide(&bench.send(&sign(&claims, &bench.server))).await
    else {
        panic!("answered")
    };
    let answer = String::from_utf8(internals::payload(&reply).to_vec()).unwrap();
    let said = super::payload(&answer);
    assert_eq!(said["sub"], claims["nats"]["user_nkey"]);
    assert_eq!(said["aud"], claims["iss"]);
    let user = said["nats"]["jwt"].as_str().unwrap();
    assert_eq!(super::payload(user)["sub"], claims["nats"]["user_nkey"]);
    assert_eq!(super::payload(user)["nats"].get("bearer_token"), None);
    let attacks = vec![
        ("the answer".to_owned(), KIND, bench.send(&answer)),
        ("the user's JWT".to_owned(), KIND, bench.send(user)),
    ];
    none_granted(&bench, attacks).await;
}
