//! Keys that come and go, and issuers that fail: who was admitted stays so, who has to be refused is
//! refused, and nobody is refused for a fault that is not his.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{Bench, add_to_config};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Answer, Issuer, Signer};
use crate::harness::{eventually, http, service};

/// A new key is found by the first JWT that names it, and the one that is gone is no longer taken.
#[test]
fn keys_are_rotated() {
    for mode in [Mode::Operator, Mode::Config] {
        let bench = Bench::start(mode, "");
        bench.deployment.tenant_add("shop", &[]);
        bench.admits(&bench.jwt("shop"));
        let next = Signer::new("second", Algorithm::ES256);
        bench.issuer.serve(&[&bench.signer, &next]);
        bench.admits(&next.sign(&bench.issuer.claims("shop")));
        bench.admits(&bench.jwt("shop"));
    }
}

#[test]
fn a_key_that_is_taken_back_is_refused_after_the_next_fetch() {
    let bench = Bench::start(Mode::Config, "");
    bench.deployment.tenant_add("shop", &[]);
    bench.admits(&bench.jwt("shop"));
    let next = Signer::new("second", Algorithm::EdDSA);
    bench.issuer.serve(&[&next]);
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    bench.refuses("the key that is gone", &bench.jwt("shop"), "invalid_token");
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
}

/// An issuer that gives its keys no ids, or one id after the other to several.
#[test]
fn a_key_in_the_place_of_another_is_found() {
    let bench = Bench::start(Mode::Config, "");
    bench.deployment.tenant_add("shop", &[]);
    bench.admits(&bench.jwt("shop"));
    let next = Signer::new("first", Algorithm::RS256);
    assert_eq!(next.jwk()["kid"], bench.signer.jwk()["kid"]);
    bench.issuer.serve(&[&next]);
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    bench.refuses("the key that is gone", &bench.jwt("shop"), "invalid_token");
}

fn metric(bench: &Bench, name: &str) -> String {
    let series = format!("nats_callout_issuer_{name}{{issuer=\"kc\"}} ");
    let metrics = http::get(bench.deployment.http(), "/metrics").expect("metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).to_owned()
}

/// Everything that an issuer can do wrong leaves the keys as they are, and a key that is not known
/// then gets no answer.
#[test]
fn an_issuer_that_fails_or_lies_changes_nothing() {
    let small = {
        // 1,024 bits, by the size of its modulus.
        let mut jwk = Signer::new("second", Algorithm::RS256).jwk();
        let modulus = jwk["n"].as_str().unwrap()[..171].to_owned();
        jwk["n"] = json!(modulus);
        jwk
    };
    let next = Signer::new("second", Algorithm::ES256);
    let elsewhere = Issuer::start(&[&next]);
    let secret = json!({ "kty": "oct", "kid": "second", "alg": "HS256", "k": "A".repeat(64) });
    let answers = [
        Answer::Status(500, b"{}".to_vec()),
        Answer::Status(404, json!({ "keys": [next.jwk()] }).to_string().into_bytes()),
        Answer::Status(200, b"<html>maintenance</html>".to_vec()),
        Answer::Status(200, vec![b' '; 10 << 20]),
        Answer::Endless,
        Answer::Redirect(elsewhere.jwks_url()),
        Answer::Keys(vec![]),
        Answer::Keys(vec![secret]),
        Answer::Keys(vec![small]),
    ];
    for answer in answers {
        let bench = Bench::start(Mode::Config, "");
        bench.deployment.tenant_add("shop", &[]);
        bench.admits(&bench.jwt("shop"));
        bench.issuer.answer(answer.clone());
        bench.gives_no_answer(&next.sign(&bench.issuer.claims("shop")));
        bench.admits(&bench.jwt("shop"));
        assert_eq!(metric(&bench, "up"), "0", "{answer:?}");
        assert_eq!(metric(&bench, "keys"), "1", "{answer:?}");
        let log = bench.deployment.service.log();
        assert!(log.contains("its keys cannot be fetched"), "{answer:?}\n{log}");
        // It is tried again by itself, and nobody has to ask.
        bench.issuer.serve(&[&bench.signer, &next]);
        eventually("the issuer is well again", || (metric(&bench, "up") == "1").then_some(()));
        bench.admits(&next.sign(&bench.issuer.claims("shop")));
    }
    assert_eq!(elsewhere.asked(), [""; 0], "a redirect is not followed");
}

/// An issuer that is away, for as long as it likes; `doctor` says so.
#[test]
fn who_is_known_is_admitted_while_the_issuer_is_down() {
    for mode in [Mode::Operator, Mode::Config] {
        let mut bench = Bench::start(mode, "");
        bench.deployment.tenant_add("shop", &[]);
        bench.admits(&bench.jwt("shop"));
        let doctor = |bench: &Bench| {
            let mut doctor = service::program();
            doctor.arg("--config").arg(bench.deployment.config()).arg("doctor");
            let output = doctor.env("NATS_CALLOUT_HTTP_LISTEN", bench.deployment.http()).output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            let line = text.lines().find(|line| line.contains(" issuer "));
            line.unwrap_or_else(|| panic!("no issuer in\n{text}")).to_owned()
        };
        let line = doctor(&bench);
        assert!(line.starts_with("ok ") && line.contains("kc: 1 key, by discovery"), "{line}");
        bench.issuer.go_down();
        let next = Signer::new("second", Algorithm::ES256);
        bench.gives_no_answer(&next.sign(&bench.issuer.claims("shop")));
        bench.admits(&bench.jwt("shop"));
        let line = doctor(&bench);
        assert!(line.starts_with("warn ") && line.contains("the 1 keys that it has"), "{line}");
        bench.issuer.listen();
        bench.issuer.serve(&[&next]);
        eventually("the issuer is back", || (metric(&bench, "up") == "1").then_some(()));
        bench.admits(&next.sign(&bench.issuer.claims("shop")));
        bench.deployment.service.kill9();
        bench.issuer.go_down();
        let line = doctor(&bench);
        assert!(line.starts_with("FAIL ") && line.contains("nobody logs in"), "{line}");
    }
}

/// The service is ready and decides about everyone else, whatever the issuer does.
#[test]
fn a_dead_issuer_keeps_nobody_waiting_but_its_own() {
    let signer = Signer::new("first", Algorithm::RS256);
    let mut issuer = Issuer::start(&[&signer]);
    issuer.answer(Answer::Silence);
    let mut deployment = Deployment::start(Mode::Config);
    add_to_config(&deployment, &issuer.table("kc", ""));
    let begun = std::time::Instant::now();
    deployment.service.restart();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let admin = deployment.tenant_add("shop", &[]);
    let mut bench = Bench { deployment, issuer, signer };
    bench.admits_as(&admin.connect_fields());
    bench.gives_no_answer(&bench.jwt("shop"));
    bench.admits_as(&admin.connect_fields());
    assert_eq!(metric(&bench, "keys"), "0");

    // It answers at last, but not at once: a login waits for it as long as there is time.
    bench.issuer.go_down();
    let keys = vec![bench.signer.jwk()];
    bench.issuer.answer(Answer::Slow(Duration::from_millis(600), keys));
    bench.issuer.listen();
    eventually("the slow keys", || (metric(&bench, "keys") == "1").then_some(()));
    bench.admits(&bench.jwt("shop"));
    issuer = bench.issuer;
    let mut deployment = bench.deployment;
    deployment.service.restart();
    let bench = Bench { deployment, issuer, signer: bench.signer };
    bench.admits(&bench.jwt("shop"));
}

#[test]
fn a_discovery_document_that_lies_is_not_believed() {
    let attacker = Signer::new("first", Algorithm::RS256);
    let evil = Issuer::start(&[&attacker]);
    let signer = Signer::new("first", Algorithm::RS256);
    let issuer = Issuer::start(&[&signer]);
    for (document, words) in [
        (json!({ "issuer": evil.url(), "jwks_uri": evil.jwks_url() }), "is of the issuer"),
        (
            json!({ "issuer": issuer.url(), "jwks_uri": "http://keys.example.com/certs" }),
            "not https",
        ),
        (json!({ "issuer": issuer.url(), "jwks_uri": "file:///etc/passwd" }), "not https"),
        (json!({ "issuer": issuer.url() }), "no discovery document"),
    ] {
        issuer.lie(document.clone());
        let deployment = super::deployment(Mode::Config, &issuer.table("kc", ""));
        deployment.tenant_add("shop", &[]);
        eventually("the complaint", || deployment.service.log().contains(words).then_some(()));
        let forged = attacker.sign(&issuer.claims("shop"));
        let fields = json!({ "auth_token": forged });
        let (verdict, _) = crate::harness::raw::connect(deployment.server.port(), &fields);
        assert_ne!(verdict, crate::harness::raw::Verdict::Admitted, "{document}");
    }
    assert_eq!(evil.asked(), [""; 0]);
    assert_eq!(issuer.fetches(), 0);
}
