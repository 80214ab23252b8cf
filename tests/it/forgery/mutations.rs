//! Requests made from good ones at random, in named classes, a million of them every night: none
//! gets a grant that its server did not ask for. The good request behind them is granted afterwards,
//! or another one like it: each was refused for what was changed.
//!
//! The seeds are fixed, so a failure comes again.

use std::collections::BTreeMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_callout::callout::{Outcome, Verdict};
use nats_callout::internals;
use nats_callout::keys::{KeyKind, SigningKey};

use super::claims::{BINDING, Flat, PROOF, REST, last};
use super::{Bench, HEADER, Message, NOW, is_grant, key, nkey, payload, signed};
use crate::harness::{depth, turn};

/// How many requests are made from one good one.
const BROOD: u64 = 32;

/// SplitMix64: numbers that look random and come again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }

    fn connection(&mut self) -> String {
        nkey(20, &self.bytes())
    }

    /// The JSON of a value that has no business where it is put.
    fn value(&mut self) -> String {
        let texts = [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "1e300",
            "[]",
            "{}",
            "[[]]",
            "\"\"",
            "\"alice\"",
            "\"secret\"",
            "\"*\"",
            "\">\"",
            "\"user.43.>\"",
            "\"\\u0000\"",
            "\"\\u202e\"",
            "\"none\"",
            "\"2\"",
            "\"nats-authorization-request\"",
            "\"authorization_request\"",
            "\"authorization_response\"",
            "[\"alice\"]",
            "1800000000",
            "1799999994",
        ];
        match self.below(5) {
            0 => (self.next() as i64).to_string(),
            1 => format!("\"{}\"", nkey(self.of(&[0, 13, 20, 23]), &self.bytes())),
            _ => self.of(&texts).to_owned(),
        }
    }
}

/// Changes one claim until it says something else, and gives its path.
fn change(claims: &mut Flat, paths: &[&'static str], random: &mut Random) -> &'static str {
    let before = claims.json();
    loop {
        let path = random.of(paths);
        match random.below(6) {
            0 => claims.remove(path),
            // Readers in Go take names in any letters.
            1 => claims.rename(path, last(path).to_uppercase()),
            2 => {
                let other = claims.get(random.of(&["iss", "sub", "aud"])).unwrap_or("0").to_owned();
                claims.set(path, other);
            }
            3 => {
                let Some(text) = claims.get(path).filter(|text| text.len() > 2) else { continue };
                let mut text = text.to_owned();
                let at = 1 + random.below(text.len() - 2);
                let new = random.of(&["A", "a", "0", "", "é", "*", "\\u0000", "."]);
                text.replace_range(at..=at, new);
                claims.set(path, text);
            }
            _ => claims.set(path, random.value()),
        }
        if claims.json() != before {
            return path;
        }
    }
}

/// A bench of each kind, and keys that are not the server's.
struct Field {
    plain: Bench,
    sealed: Bench,
    strangers: [SigningKey; 4],
    xkeys: [nkeys::XKey; 2],
}

/// A request with nothing wrong, and its token.
struct Good<'f> {
    field: &'f Field,
    claims: Flat,
    token: String,
}

impl<'f> Good<'f> {
    fn new(field: &'f Field, bench: &Bench, random: &mut Random) -> Self {
        let claims = Flat::new(bench, &random.connection());
        let token = signed(HEADER, &claims.json(), &bench.server);
        Self { field, claims, token }
    }

    fn under_the_servers_signature(&self, json: &str) -> Vec<u8> {
        signed(HEADER, json, &self.field.plain.server).into()
    }

    fn quoted(key: &SigningKey) -> String {
        format!("\"{}\"", key.public_key())
    }
}

/// What a request of a class may come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Allowed {
    /// No answer.
    Silence,
    /// No answer or a refusal.
    Refusal,
    /// Also a grant, of what its server asked for.
    WhatWasAsked,
}

struct Class {
    name: &'static str,
    /// Of a thousand.
    share: u64,
    allowed: Allowed,
    make: fn(&Good<'_>, &mut Random) -> Vec<u8>,
}

/// The class whose requests are sealed, which is not made by [`Class::make`].
const ENVELOPES: &str = "a byte of the envelope or its header changed";

const CLASSES: [Class; 13] = [
    Class {
        name: "claims changed under the old signature",
        share: 240,
        allowed: Allowed::Silence,
        make: |good, random| {
            let mut claims = good.claims.clone();
            let paths = random.of(&[&BINDING[..], &PROOF, &REST]);
            change(&mut claims, paths, random);
            let (body, signature) = good.token.rsplit_once('.').unwrap();
            let (header, _) = body.split_once('.').unwrap();
            let body = URL_SAFE_NO_PAD.encode(claims.json());
            format!("{header}.{body}.{signature}").into()
        },
    },
    Class {
        name: "no signature, or bytes that are none",
        share: 100,
        allowed: Allowed::Silence,
        make: |good, random| {
            let (body, _) = good.token.rsplit_once('.').unwrap();
            let bytes = [random.bytes(), random.bytes()].concat();
            let length = random.of(&[0, 0, 32, 63, 64, 64, 64]);
            format!("{body}.{}", URL_SAFE_NO_PAD.encode(&bytes[..length])).into()
        },
    },
    Class {
        name: "another algorithm, type or extension in the header",
        share: 60,
        allowed: Allowed::Silence,
        make: |good, random| {
            let (_, body) = good.token.split_once('.').unwrap();
            let alg =
                random.of(&["none", "HS256", "ed25519", "EdDSA", "RS256", "", "ED25519-NKEY"]);
            let header = match random.below(3) {
                0 => format!(r#"{{"typ":"{alg}","alg":"ed25519-nkey"}}"#),
                1 => format!(r#"{{"typ":"JWT","alg":"{alg}","n":{}}}"#, random.value()),
                _ => r#"{"typ":"JWT","alg":"ed25519-nkey","crit":["b64"],"b64":false}"#.to_owned(),
            };
            format!("{}.{body}", URL_SAFE_NO_PAD.encode(header)).into()
        },
    },
    Class {
        name: "signed by a stranger in the server's name",
        share: 100,
        allowed: Allowed::Silence,
        make: |good, random| {
            let mut claims = good.claims.clone();
            if random.below(2) == 0 {
                change(&mut claims, &REST, random);
            }
            let stranger = &good.field.strangers[random.below(4)];
            signed(HEADER, &claims.json(), stranger).into()
        },
    },
    Class {
        name: "signed by a stranger in its own name, for the server",
        share: 60,
        allowed: Allowed::Silence,
        make: |good, _| {
            let mut claims = good.claims.clone();
            let stranger = &good.field.strangers[0];
            claims.set("iss", Good::quoted(stranger));
            signed(HEADER, &claims.json(), stranger).into()
        },
    },
    Class {
        name: "signed by a key that is no server's, as the server",
        share: 60,
        allowed: Allowed::Silence,
        make: |good, random| {
            let mut claims = good.claims.clone();
            let stranger = &good.field.strangers[1 + random.below(3)];
            claims.set("iss", Good::quoted(stranger));
            claims.set("nats/server_id/id", Good::quoted(stranger));
            signed(HEADER, &claims.json(), stranger).into()
        },
    },
    Class {
        name: "the server's signature on claims that bind to nothing",
        share: 140,
        allowed: Allowed::Silence,
        make: |good, random| {
            loop {
                let mut claims = good.claims.clone();
                let path = change(&mut claims, &BINDING, random);
                if !claims.still_bind(path) {
                    return good.under_the_servers_signature(&claims.json());
                }
            }
        },
    },
    Class {
        name: "the server's signature, a claim twice",
        share: 60,
        allowed: Allowed::Silence,
        make: |good, random| {
            let mut claims = good.claims.clone();
            let paths = [&BINDING[..], &PROOF, &["sub", "nats/client_info", "nats/connect_opts"]];
            let text = random.value();
            claims.double(random.of(&paths.concat()), text);
            good.under_the_servers_signature(&claims.json())
        },
    },
    Class {
        name: "the server's signature, the client's proof changed",
        share: 50,
        allowed: Allowed::Refusal,
        make: |good, random| {
            let mut claims = good.claims.clone();
            change(&mut claims, &PROOF, random);
            good.under_the_servers_signature(&claims.json())
        },
    },
    Class {
        name: "the server's signature, the rest changed",
        share: 20,
        allowed: Allowed::WhatWasAsked,
        make: |good, random| {
            let mut claims = good.claims.clone();
            change(&mut claims, &REST, random);
            good.under_the_servers_signature(&claims.json())
        },
    },
    Class {
        name: "the server's signature on mutilated text",
        share: 20,
        allowed: Allowed::WhatWasAsked,
        make: |good, random| {
            let mut text = good.claims.json().into_bytes();
            for _ in 0..=random.below(3) {
                let at = random.below(text.len());
                match random.below(3) {
                    0 => drop(text.remove(at)),
                    1 => text[at] = random.of(b"{}[]\",:0x\\ "),
                    _ => text.insert(at, random.of(b"{}[]\",:0x\\ ")),
                }
            }
            good.under_the_servers_signature(std::str::from_utf8(&text).unwrap())
        },
    },
    Class {
        name: "a byte of the token changed",
        share: 80,
        allowed: Allowed::Silence,
        make: |good, random| {
            let mut payload = good.token.clone().into_bytes();
            let at = random.below(payload.len());
            match random.below(3) {
                0 => drop(payload.remove(at)),
                1 => payload[at] ^= 1 << random.below(8),
                _ => payload.insert(at, random.next() as u8),
            }
            payload
        },
    },
    Class { name: ENVELOPES, share: 10, allowed: Allowed::Silence, make: |_, _| Vec::new() },
];

fn envelope(field: &Field, whole: &Message, random: &mut Random) -> Message {
    let mut message = whole.clone();
    match random.below(4) {
        0 => message.header = Some(field.xkeys[random.below(2)].public_key()),
        1 => message.header = None,
        2 => message.payload.truncate(random.below(whole.payload.len())),
        _ => {
            let at = random.below(whole.payload.len());
            message.payload[at] ^= 1 << random.below(8);
        }
    }
    message
}

/// The grant is the one that the request asked for: alice's, for its own connection and server.
fn is_what_was_asked(message: &Message, outcome: &Outcome) -> bool {
    let Outcome::Reply(reply) = outcome else { return true };
    let Verdict::Granted { user, tenant, .. } = &reply.verdict else { return true };
    let asked = payload(std::str::from_utf8(&message.payload).unwrap());
    let said = payload(std::str::from_utf8(internals::payload(reply)).unwrap());
    let grant = payload(said["nats"]["jwt"].as_str().unwrap());
    let connection = &asked["nats"]["user_nkey"];
    user == "alice"
        && tenant == "42"
        && asked["nats"]["connect_opts"]["user"] == "alice"
        && asked["nats"]["connect_opts"]["pass"] == "secret"
        && connection.is_string()
        && said["sub"] == *connection
        && grant["sub"] == *connection
        && said["aud"] == asked["iss"]
        && asked["nats"]["server_id"]["id"] == asked["iss"]
        && asked["aud"] == "nats-authorization-request"
        && asked["exp"].as_i64().is_some_and(|exp| exp >= NOW - 5)
        && grant["exp"].as_i64().is_some_and(|exp| exp <= NOW + 900)
        && grant["aud"] == "USERS"
}

/// How requests ended: without an answer, with a refusal, with a grant.
#[derive(Default, Clone, Copy, Debug)]
struct Ends {
    silent: u64,
    refused: u64,
    granted: u64,
}

async fn run(field: &Field, class: &Class, count: u64, seed: u64) -> Ends {
    let mut random = Random(seed);
    let mut ends = Ends::default();
    let bench = if class.name == ENVELOPES { &field.sealed } else { &field.plain };
    // A request that is answered is spent, so that those behind it must not share its connection.
    let brood = if class.allowed == Allowed::Silence { BROOD } else { 1 };
    for _ in 0..count.div_ceil(brood) {
        let good = Good::new(field, bench, &mut random);
        let whole = bench.send(&good.token);
        for _ in 0..brood {
            let message = if class.name == ENVELOPES {
                envelope(field, &whole, &mut random)
            } else {
                Message { payload: (class.make)(&good, &mut random), header: None }
            };
            let outcome = bench.decide(&message).await;
            let (sum, allowed) = match &outcome {
                Outcome::NoReply(_) => (&mut ends.silent, true),
                granted if is_grant(granted) => {
                    let asked = is_what_was_asked(&message, granted);
                    (&mut ends.granted, class.allowed == Allowed::WhatWasAsked && asked)
                }
                Outcome::Reply(_) => (&mut ends.refused, class.allowed != Allowed::Silence),
            };
            *sum += 1;
            let text = || String::from_utf8_lossy(&message.payload).into_owned();
            assert!(allowed, "{}, seed {seed:#x}: answered {}", class.name, text());
        }
        if brood > 1 {
            let outcome = bench.decide(&whole).await;
            assert!(is_grant(&outcome), "{}: {outcome:?}", class.name);
        }
    }
    bench.grants().await;
    ends
}

#[test]
fn no_mutation_gets_a_grant() {
    turn::take();
    let wanted = depth(50_000, 1_000_000);
    assert_eq!(CLASSES.iter().map(|class| class.share).sum::<u64>(), 1_000);
    let field = Field {
        plain: Bench::plain(),
        sealed: Bench::sealed(),
        strangers: [KeyKind::Server, KeyKind::Account, KeyKind::User, KeyKind::Operator].map(key),
        xkeys: [nkeys::XKey::new(), nkeys::XKey::new()],
    };
    let mut work: Vec<(usize, u64, u64)> = Vec::new();
    for (index, class) in CLASSES.iter().enumerate() {
        let count = (wanted * class.share).div_ceil(4_000);
        work.extend((0..4).map(|part| (index, count, ((index as u64) << 32) | part)));
    }
    let begun = std::time::Instant::now();
    let (work, all) = (Mutex::new(work), Mutex::new(BTreeMap::<usize, Ends>::new()));
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while let Some((index, count, seed)) = { work.lock().unwrap().pop() } {
            let ends = runtime.block_on(run(&field, &CLASSES[index], count, seed));
            let mut all = all.lock().unwrap();
            let sum = all.entry(index).or_default();
            sum.silent += ends.silent;
            sum.refused += ends.refused;
            sum.granted += ends.granted;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(worker);
        }
    });
    let mut total = 0;
    for (index, Ends { silent, refused, granted }) in all.into_inner().unwrap() {
        let class = &CLASSES[index];
        println!("{silent:>7} silent {refused:>6} refused {granted:>6} granted: {}", class.name);
        total += silent + refused + granted;
        assert!((granted > 0) == (class.allowed == Allowed::WhatWasAsked), "{}", class.name);
    }
    println!("{total} mutations in {:?}", begun.elapsed());
    assert!(total >= wanted);
}
