//! The same with claims: whatever an issuer says of a user of one tenant, the user reaches no other.

use serde_json::{Value, json};

use super::rows::{ATTEMPTS, Attacker, LIKE, ODD, Victims, attack};
use super::session::Session;
use crate::harness::deployment::Mode;
use crate::jwt::Bench;

/// What a policy makes of a claim.
const RULE: &str = "publish = [\"user.{{tenant.id}}.{{claims.role}}\"]\n\
                    subscribe = [\"user.{{tenant.id}}.{{claims.role}}.>\", \"_INBOX_{{tenant.id}}.>\"]\n";

fn claims_reach_nobody(mode: Mode) {
    let lines =
        "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"role\"]\npolicy = \"guest\"";
    let bench = Bench::start_with_policy(mode, lines, "guest", RULE);
    let deployment = &bench.deployment;
    // Where there is something to reach.
    let shared: &[&str] = if mode == Mode::Operator { &["--isolation", "shared"] } else { &[] };
    deployment.tenant_add("n", shared);
    let mut victims = Victims::new(deployment);
    let open = |claim: &str, value: Value| {
        let mut claims = bench.issuer.claims("gast");
        (claims["org"], claims["role"]) = (json!("n"), json!("orders"));
        claims[claim] = value;
        let fields = json!({"auth_token": bench.signer.sign(&claims)});
        Session::open(deployment.server.port(), &fields, ATTEMPTS)
    };

    let mut sound = open("role", json!(["orders", "sales"])).expect("a sound claim");
    let said = sound.say(
        "SUB user.n.orders.> 1\r\nPUB user.n.orders 1\r\nx\r\nPUB user.n.sales 1\r\nx\r\n\
         PUB user.n.other 1\r\nx\r\nPUB user.v.orders 1\r\nx\r\n",
    );
    assert_eq!(said.len(), 2, "what no claim names is refused, and nothing else: {said:?}");
    assert!(said[0].contains("user.n.other") && said[1].contains("user.v.orders"), "{said:?}");

    let long = "x".repeat(2_000);
    let (mut refused, mut admitted) = (0, 0);
    for text in ODD.iter().chain(&LIKE).chain(&[long.as_str()]) {
        for (claim, value) in [
            ("role", json!(text)),
            ("role", json!(["orders", text])),
            ("org", json!(text)),
            ("sub", json!(text)),
        ] {
            let by = Attacker { label: format!("{claim} {value}"), tenant: "n".to_owned() };
            match open(claim, value) {
                None => refused += 1,
                Some(mut session) => {
                    attack(&by, &mut session, &mut victims);
                    admitted += 1;
                }
            }
        }
    }
    println!("{mode:?}: {refused} claims refused, {admitted} admitted");
    assert!(refused > 60 && admitted > 10, "{refused} {admitted}");
}

#[test]
fn claims_in_operator_mode_reach_nobody() {
    claims_reach_nobody(Mode::Operator);
}

#[test]
fn claims_in_config_mode_reach_nobody() {
    claims_reach_nobody(Mode::Config);
}
