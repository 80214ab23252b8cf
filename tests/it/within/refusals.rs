//! A refusal is instant, whatever its reason, and also while many are refused at once.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::Issuer;
use crate::harness::raw::{self, Verdict};
use crate::harness::turn::measured_under_load;
use crate::jwt::{Bench, attacks};
use crate::login::states::{self, States};

/// Far below the two seconds after which a server refuses by itself, with room for a password's hash.
const INSTANT: Duration = Duration::from_millis(1_500);

#[track_caller]
fn refused_instantly(deployment: &Deployment, what: &str, credentials: &Value) {
    let (verdict, took) = raw::connect(deployment.server.port(), credentials);
    assert_ne!(verdict, Verdict::Admitted, "{what}");
    assert!(took < INSTANT, "{what}: {took:?}\n{}", deployment.service.log());
}

fn passwords_and_tokens(mode: Mode) {
    let states = States::new(mode, "0");
    let cases = states::passwords().into_iter().chain(states::tokens(&states));
    let mut cases: Vec<_> = cases.map(|(what, _, credentials)| (what, credentials)).collect();
    let suspended = states.tokens[1].expose();
    cases.extend([
        ("token of a suspended user alone", json!({ "auth_token": suspended })),
        ("what is no token", json!({ "auth_token": "wrong" })),
        ("no credentials", json!({})),
    ]);
    // Once as a stranger, and once more when the row may be cached.
    for _ in 0..2 {
        for (what, credentials) in &cases {
            refused_instantly(&states.deployment, what, credentials);
        }
    }
}

fn forged_jwts(mode: Mode) {
    let known = [("kc", Algorithm::RS256, ""), ("flooded", Algorithm::RS256, "")];
    let [bench, flooded] = Bench::all(mode, known);
    bench.deployment.tenant_add("shop", &[]);
    let evil = Issuer::start(&[]);
    let mut all = attacks::forgeries(&bench);
    all.extend(attacks::with_keys_in_the_header(&bench, &evil));
    for (what, forged, _) in all {
        refused_instantly(&bench.deployment, &what, &json!({ "auth_token": forged }));
    }
    let flood = attacks::of_unknown_keys(&flooded, 80);
    std::thread::scope(|scope| {
        for some in flood.chunks(10) {
            let deployment = &flooded.deployment;
            scope.spawn(move || {
                for forged in some {
                    let credentials = json!({ "auth_token": forged });
                    refused_instantly(deployment, "one of a flood", &credentials);
                }
            });
        }
    });
}

#[test]
fn a_refusal_is_instant() {
    measured_under_load();
    for mode in either_mode() {
        passwords_and_tokens(mode);
        forged_jwts(mode);
    }
}
