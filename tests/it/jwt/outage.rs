//! Keys that come and go, and issuers that fail: who was admitted stays so, who has to be refused is
//! refused, and nobody is refused for a fault that is not his. What is asked once in 30 s is each
//! issuer's own, so that several of them can be seen to do wrong in one deployment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{Bench, add_to_config, has_keys, test_command};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Answer, Issuer, Signer};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, servers, service};

/// Many times what a service takes to be ready.
const START: Duration = Duration::from_secs(15);

/// A new key is found by the first JWT that names it, beside the one that was there.
fn a_key_is_added(bench: &Bench) {
    bench.admits(&bench.jwt("shop"));
    let next = Signer::new("second", Algorithm::ES256);
    bench.issuer.serve(&[&bench.signer, &next]);
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    bench.admits(&bench.jwt("shop"));
}

fn a_key_that_is_taken_back_is_refused_after_the_next_fetch(bench: &Bench) {
    bench.admits(&bench.jwt("shop"));
    let next = Signer::new("second", Algorithm::EdDSA);
    bench.issuer.serve(&[&next]);
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    bench.refuses("the key that is gone", &bench.jwt("shop"), "invalid_token");
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
}

/// An issuer that gives its keys no ids, or one id after the other to several.
fn a_key_in_the_place_of_another_is_found(bench: &Bench) {
    bench.admits(&bench.jwt("shop"));
    let next = Signer::new("first", Algorithm::RS256);
    assert_eq!(next.jwk()["kid"], bench.signer.jwk()["kid"]);
    bench.issuer.serve(&[&next]);
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    bench.refuses("the key that is gone", &bench.jwt("shop"), "invalid_token");
}

/// What `doctor` says of an issuer.
fn doctor(deployment: &Deployment, issuer: &str) -> String {
    let mut doctor = service::program();
    doctor.arg("--config").arg(deployment.config()).arg("doctor");
    let output = doctor.env("NATS_CALLOUT_HTTP_LISTEN", deployment.http()).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.contains("so that JWTs of about 3500 log in"), "max_control_line in\n{text}");
    let said = format!("{issuer}: ");
    let line = text.lines().find(|line| line.contains(" issuer ") && line.contains(&said));
    line.unwrap_or_else(|| panic!("no issuer in\n{text}")).to_owned()
}

/// An issuer that is away, for as long as it likes; `doctor` says so. Ends with the service killed.
fn who_is_known_is_admitted_while_the_issuer_is_down(mut bench: Bench) {
    bench.admits(&bench.jwt("shop"));
    let line = doctor(&bench.deployment, bench.name);
    assert!(line.starts_with("ok ") && line.contains(": 1 key, by discovery"), "{line}");
    bench.issuer.go_down();
    let next = Signer::new("second", Algorithm::ES256);
    bench.gives_no_answer(&next.sign(&bench.issuer.claims("shop")));
    bench.admits(&bench.jwt("shop"));
    let line = doctor(&bench.deployment, bench.name);
    assert!(line.starts_with("warn ") && line.contains("the 1 keys that it has"), "{line}");
    let said = test_command(&bench.deployment, &["shop", "--token-stdin"], &bench.jwt("shop"));
    let is_told = |words| said.stderr.contains(words);
    assert!(said.status == 1 && is_told("which asks for itself, lets the token in"), "{said:?}");
    assert!(
        is_told("could not be worked out on this machine") && !is_told("is refused"),
        "{said:?}"
    );
    bench.issuer.listen();
    bench.issuer.serve(&[&next]);
    eventually("the issuer is back", || (bench.metric("up") == "1").then_some(()));
    bench.admits(&next.sign(&bench.issuer.claims("shop")));
    Arc::get_mut(&mut bench.deployment).expect("the last issuer").service.kill9();
    bench.issuer.go_down();
    let line = doctor(&bench.deployment, bench.name);
    assert!(line.starts_with("FAIL ") && line.contains("nobody logs in"), "{line}");
}

fn keys_that_come_and_go(mode: Mode) {
    let known = [
        ("adds", Algorithm::RS256, ""),
        ("takes_back", Algorithm::RS256, ""),
        ("replaces", Algorithm::RS256, ""),
        ("goes_down", Algorithm::RS256, ""),
    ];
    let [adds, takes_back, replaces, goes_down] = Bench::all(mode, known);
    goes_down.deployment.tenant_add("shop", &[]);
    a_key_is_added(&adds);
    a_key_that_is_taken_back_is_refused_after_the_next_fetch(&takes_back);
    a_key_in_the_place_of_another_is_found(&replaces);
    drop((adds, takes_back, replaces));
    who_is_known_is_admitted_while_the_issuer_is_down(goes_down);
}

#[test]
fn keys_are_rotated_and_known_while_the_issuer_is_down() {
    for mode in either_mode() {
        keys_that_come_and_go(mode);
    }
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
        ("fails", Answer::Status(500, b"{}".to_vec())),
        ("has_none", Answer::Status(404, json!({ "keys": [next.jwk()] }).to_string().into_bytes())),
        ("is_maintained", Answer::Status(200, b"<html>maintenance</html>".to_vec())),
        ("says_nothing", Answer::Status(200, vec![b' '; 10 << 20])),
        ("never_ends", Answer::Endless),
        ("points_elsewhere", Answer::Redirect(elsewhere.jwks_url())),
        ("is_empty", Answer::Keys(vec![])),
        ("shows_a_secret", Answer::Keys(vec![secret])),
        ("is_weak", Answer::Keys(vec![small])),
    ];
    let names = answers.each_ref().map(|(name, _)| (*name, Algorithm::ES256, ""));
    let benches = Bench::all(Mode::Config, names);
    benches[0].deployment.tenant_add("shop", &[]);
    // At the same time, since each of them waits for the server to give up.
    std::thread::scope(|scope| {
        for (bench, (_, answer)) in benches.iter().zip(&answers) {
            let next = &next;
            scope.spawn(move || {
                bench.admits(&bench.jwt("shop"));
                bench.issuer.answer(answer.clone());
                bench.gives_no_answer(&next.sign(&bench.issuer.claims("shop")));
                bench.admits(&bench.jwt("shop"));
                assert_eq!(bench.metric("up"), "0", "{answer:?}");
                assert_eq!(bench.metric("keys"), "1", "{answer:?}");
                let log = bench.deployment.service.log();
                let own = format!("issuer=\"{}\"", bench.name);
                let mut own = log.lines().filter(|line| line.contains(&own));
                let complains = own.any(|line| line.contains("its keys cannot be fetched"));
                assert!(complains, "{answer:?}\n{log}");
                // It is tried again by itself, and nobody has to ask.
                bench.issuer.serve(&[&bench.signer, next]);
                eventually("the issuer is well again", || {
                    (bench.metric("up") == "1").then_some(())
                });
                bench.admits(&next.sign(&bench.issuer.claims("shop")));
            });
        }
    });
    assert_eq!(elsewhere.asked(), [""; 0], "a redirect is not followed");
}

/// A file is here, and nobody answers for it: what it is and what mends it is said wherever keys are missed.
#[test]
fn a_file_that_is_no_set_is_to_be_mended() {
    let signer = Signer::new("one", Algorithm::ES256);
    let table =
        "[issuers.file]\nissuer = \"file\"\naudience = [\"nats\"]\njwks_file = \"keys.json\"\n";
    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let pem = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";
        std::fs::write(init.dir().join("keys.json"), pem).unwrap();
        add_to_config(init, table);
    });
    deployment.tenant_add("shop", &[]);
    let log = deployment.service.log();
    let line = log.lines().find(|line| line.contains("its keys cannot be read; mend the file"));
    let line = line.unwrap_or_else(|| panic!("no word of the file in\n{log}"));
    let of_pem = "keys.json: it is no JWK set but a key or certificate in PEM: make a JWK of";
    assert!(line.contains("issuer=\"file\"") && line.contains(of_pem), "{line}");
    let line = doctor(&deployment, "file");
    assert!(line.starts_with("FAIL ") && line.contains(of_pem), "{line}");

    let exp = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 300;
    let claims = json!({ "iss": "file", "aud": "nats", "sub": "shop", "exp": exp });
    let said = test_command(&deployment, &["shop", "--token-stdin"], &signer.sign(&claims));
    assert!(said.status == 1 && said.stderr.contains(of_pem), "{said:?}");
    assert!(said.stderr.trim_end().ends_with("its log says why; mend the file"), "{said:?}");

    let keys = deployment.dir().join("keys.json");
    std::fs::write(&keys, json!({ "keys": [signer.jwk()] }).to_string()).unwrap();
    has_keys(&deployment, "file", 1);
    test_command(&deployment, &["shop", "--token-stdin"], &signer.sign(&claims)).success();
    std::fs::write(&keys, signer.jwk().to_string()).unwrap();
    let line = doctor(&deployment, "file");
    assert!(line.starts_with("warn ") && line.contains("but a single JWK: put it into"), "{line}");
    assert!(line.contains("the 1 keys that it has"), "{line}");
}

/// The service is ready and decides about everyone else, whatever the issuer does.
#[test]
fn a_dead_issuer_keeps_nobody_waiting_but_its_own() {
    let signer = Signer::new("first", Algorithm::RS256);
    let issuer = Issuer::start(&[&signer]);
    issuer.answer(Answer::Silence);
    // It is ready although no answer has ever come.
    let mut deployment = super::deployment(Mode::Config, &issuer.table("kc", ""));
    let begun = Instant::now();
    deployment.service.restart();
    assert!(begun.elapsed() < START, "{:?}", begun.elapsed());
    let mut bench = Bench { deployment: Arc::new(deployment), issuer, signer, name: "kc" };
    let admin = bench.deployment.tenant_add("shop", &[]);
    bench.admits_as(&admin.connect_fields());
    // Nobody else logs in here.
    bench.gives_no_answer_since(&bench.jwt("shop"), "no decision before the deadline");
    bench.admits_as(&admin.connect_fields());
    assert_eq!(bench.metric("keys"), "0");

    // It answers at last, but not at once: a login waits for it as long as there is time.
    bench.issuer.go_down();
    let keys = vec![bench.signer.jwk()];
    bench.issuer.answer(Answer::Slow(Duration::from_millis(600), keys));
    bench.issuer.listen();
    has_keys(&bench.deployment, "kc", 1);
    bench.admits(&bench.jwt("shop"));
    Arc::get_mut(&mut bench.deployment).expect("one issuer").service.restart();
    bench.admits(&bench.jwt("shop"));
}

#[test]
fn a_discovery_document_that_lies_is_not_believed() {
    let attacker = Signer::new("first", Algorithm::RS256);
    let evil = Issuer::start(&[&attacker]);
    let signer = Signer::new("first", Algorithm::RS256);
    let [other, plain, local, empty] = [(); 4].map(|()| Issuer::start(&[&signer]));
    let strange = "http://keys.example.com/certs";
    let lies = [
        (
            "other",
            &other,
            json!({ "issuer": evil.url(), "jwks_uri": evil.jwks_url() }),
            "is of the issuer",
        ),
        ("plain", &plain, json!({ "issuer": plain.url(), "jwks_uri": strange }), "not https"),
        (
            "local",
            &local,
            json!({ "issuer": local.url(), "jwks_uri": "file:///etc/passwd" }),
            "not https",
        ),
        ("empty", &empty, json!({ "issuer": empty.url() }), "no discovery document"),
    ];
    let mut tables = String::new();
    for (name, issuer, document, _) in &lies {
        issuer.lie(document.clone());
        tables.push_str(&issuer.table(name, ""));
    }
    let deployment = super::deployment(Mode::Config, &tables);
    deployment.tenant_add("shop", &[]);
    for (name, issuer, document, words) in lies {
        let own = format!("issuer=\"{name}\"");
        eventually("the complaint", || {
            let log = deployment.service.log();
            let mut lines = log.lines();
            lines.any(|line| line.contains(&own) && line.contains(words)).then_some(())
        });
        let forged = attacker.sign(&issuer.claims("shop"));
        let fields = json!({ "auth_token": forged });
        let (verdict, _) = raw::connect(deployment.server.port(), &fields);
        assert_ne!(verdict, Verdict::Admitted, "{document}");
        assert_eq!(issuer.fetches(), 0, "{document}");
    }
    assert_eq!(evil.asked(), [""; 0]);
}

/// Before anybody logs in.
#[test]
fn what_cannot_be_shown_to_an_issuer_is_said_at_the_start() {
    let mode = either_mode().next().expect("a mode");
    let [two_lines, bare] = [Issuer::start(&[]), Issuer::start(&[])];
    let asked =
        |issuer: &Issuer| format!("introspection_url = \"{}\"\n", issuer.introspection_url());
    let bearer = asked(&two_lines) + "bearer_file = \"bearer\"\n";
    let client = "client_id = \"a\"\nclient_secret = \"b\"\nca_file = \"ca.pem\"\n";
    let client = asked(&bare) + client + "token_prefix = \"bare_\"\n";
    let tables = two_lines.table("two_lines", &bearer) + &bare.table("bare", &client);
    let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
        for (name, text) in [("bearer", "one\ntwo\n"), ("ca.pem", "none\n")] {
            let path = init.dir().join(name);
            std::fs::write(&path, text).unwrap();
            let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, only_ours).unwrap();
        }
        add_to_config(init, &tables);
    });
    for (issuer, flaw) in [
        ("two_lines", "as bearer_file has to: it has several lines"),
        ("bare", "as ca_file has to have: it holds none"),
    ] {
        let is_told =
            |line: &str| line.contains(&format!("issuer=\"{issuer}\"")) && line.contains(flaw);
        let told = eventually(flaw, || {
            let log = deployment.service.log();
            log.lines().find(|line| is_told(line)).map(str::to_owned)
        });
        assert!(told.contains(" WARN ") && told.contains("cannot be asked"), "{told}");
    }
}
