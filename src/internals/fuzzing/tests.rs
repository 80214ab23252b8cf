use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;

/// How many mutations of its seeds each target gets, the same ones each time. `fuzz/run` makes
/// others, for as long as one likes.
const INPUTS: u32 = 500;

fn corpus() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The seeds of a target by name.
fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(corpus().join(target)).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn the_seeds_of_every_target_pass() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        for (path, input) in seeds {
            let passed = std::panic::catch_unwind(|| target(&input));
            assert!(passed.is_ok(), "{path}");
        }
    }
    let folders = std::fs::read_dir(corpus()).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "a folder for each target");
}

/// One thing that is done to an input, somewhere in it.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Repeat(Index, usize),
    /// From there on, the rest of another seed.
    Splice(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    // What means something to one of the formats.
    let words = select(vec![
        "\n",
        "\0",
        "\"",
        "\\u0000",
        "{{",
        "}}",
        "$",
        "=",
        ".",
        "*",
        ">",
        "-",
        "_",
        "null",
        "[]",
        "{}",
        "-1",
        "1e999",
        "18446744073709551616",
        "user.victim.>",
        "\u{202e}",
        "\u{fffd}",
    ]);
    let words = words.prop_map(|word| word.as_bytes().to_vec());
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        (any::<Index>(), prop_oneof![words, vec(any::<u8>(), 1..5)])
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        any::<(Index, Index)>().prop_map(|(at, other)| Edit::Splice(at, other)),
    ]
}

fn edited(mut input: Vec<u8>, edits: &[Edit], seeds: &[Vec<u8>]) -> Vec<u8> {
    for edit in edits {
        let position = |at: &Index| at.index(input.len() + 1);
        let end = |from: usize, length: usize| (from + length).min(input.len());
        match edit {
            Edit::Flip(at, bits) => {
                let position = position(at);
                input.iter_mut().skip(position).take(1).for_each(|byte| *byte ^= bits);
            }
            Edit::Insert(at, bytes) => {
                let position = position(at);
                input.splice(position..position, bytes.iter().copied());
            }
            Edit::Cut(at, length) => {
                let from = position(at);
                let to = end(from, *length);
                input.drain(from..to);
            }
            Edit::Repeat(at, length) => {
                let from = position(at);
                input.extend_from_within(from..end(from, *length));
            }
            Edit::Splice(at, other) => {
                let other = other.get(seeds);
                input.truncate(position(at));
                input.extend(other.iter().skip(at.index(other.len() + 1)));
            }
        }
    }
    input
}

#[test]
fn mutations_of_the_seeds_pass() {
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = seeds(name).into_values().collect();
        let inputs = (select(seeds.clone()), vec(edit(), 1..6));
        let ran = TestRunner::new(Config {
            cases: INPUTS,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(0),
            ..Config::default()
        })
        .run(&inputs, |(seed, edits)| {
            target(&edited(seed, &edits, &seeds));
            Ok(())
        });
        ran.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The seeds get to where there is something to check.
#[test]
fn a_request_of_the_seeds_is_verified() {
    let claims = std::fs::read_to_string(corpus().join("request/password")).unwrap();
    let server = &parties().unwrap().server;
    let claims = claims.replace("@SERVER", server.public_key());
    let token = signed(&claims, server);
    let opened = Envelope::new(Vec::new()).open(token.as_bytes(), None).unwrap();
    let verified = VerifiedRequest::verify(opened, &SpentKeys::default(), NOW);
    assert!(matches!(verified.unwrap().0.credentials(), Credentials::Password { .. }));
}
