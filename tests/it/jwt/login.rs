//! Who logs in: users of the table, from clients of several languages, with a token or in the place
//! of a password, by every kind of key and every place of it.

use std::time::Instant;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{Bench, add_to_config, deployment, has_keys, reasons, test_command};
use crate::harness::choice::either_mode;
use crate::harness::client::{self, Login};
use crate::harness::clients::{self, Language, Scenario};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Answer, Issuer, Signer, seconds_from_now, sign_with_secret};
use crate::harness::raw::{self, Verdict};
use crate::harness::service::Service;
use crate::harness::{PATIENCE, depth, eventually, servers, write_private};
use crate::within::changes::crowd::Held;

fn scenario(mode: Mode) -> Scenario {
    let shared = mode == Mode::Config;
    let echo = if shared { "user.shop.echo" } else { "echo" }.to_owned();
    Scenario {
        subscribe: echo.clone(),
        publish: echo.clone(),
        request: echo,
        forbidden: Some("forbidden.subject".to_owned()),
        inbox_prefix: shared.then(|| "_INBOX_shop".to_owned()),
        jetstream: None,
    }
}

async fn languages(bench: &Bench) {
    let deployment = &bench.deployment;
    let mode = deployment.mode;
    let lists: &[&str] = match mode {
        Mode::Operator => &["--publish", "echo", "--subscribe", "echo"],
        Mode::Config => &["--kind", "bb"],
    };
    deployment.user_add("shop", "app", lists);
    let jwt = bench.jwt("app");
    // In a password's place it is a password like any other to a library.
    let logins =
        [(Login::Token(jwt.clone()), true), (Login::password("app", &jwt), depth(false, true))];
    for (login, of_every_language) in logins {
        for language in [Language::Python, Language::Node, Language::Go] {
            if !of_every_language {
                continue;
            }
            let url = deployment.url();
            let Some(seen) = clients::login(language, &url, &login, &scenario(mode)) else {
                continue;
            };
            let log = deployment.service.log();
            assert!(seen.connected && seen.error.is_none(), "{language:?}: {seen:?}\n{log}");
            assert_eq!(seen.received, ["hello"], "{language:?}");
            assert_eq!(seen.violations.len(), 2, "{language:?}: {seen:?}");
        }
        let connected = client::connect(&deployment.url(), &login, "_INBOX_shop").await.unwrap();
        connected.round_trip(&scenario(mode).subscribe).await;
    }

    let other = json!({ "user": "shop", "pass": jwt });
    bench.refuses_as("another's name beside it", &other, "invalid_token");
    bench.refuses("a user without a row", &bench.jwt("nobody"), "unknown_user");
    let foreign = bench.jwt_with("app", "iss", json!("http://127.0.0.1:1/x"));
    bench.refuses("another issuer", &foreign, "unknown_issuer");
    let fields = json!({ "user": "app", "pass": foreign });
    bench.refuses_as("another issuer's as a password", &fields, "unknown_issuer");
    let fields = json!({ "user": jwt, "pass": "x" });
    bench.refuses_as("in the place of the name", &fields, "unknown_user");
    deployment.cli(&["user", "suspend", "shop", "app"]).success();
    bench.refuses("a suspended user", &jwt, "user_suspended");

    let log = deployment.service.log();
    for part in jwt.split('.').chain(foreign.split('.')) {
        assert!(!log.contains(part), "a JWT is in the log:\n{log}");
    }
}

/// A client comes back with the same JWT until that ends, and its connection with it; `test`
/// decides as the service does.
async fn users_of_the_table(mode: Mode) {
    let known = [("kc", Algorithm::RS256, ""), ("brief", Algorithm::EdDSA, "leeway = \"0s\"")];
    let [bench, brief] = Bench::all(mode, known);
    bench.deployment.tenant_add("shop", &[]);
    bench.deployment.tenant_add("other", &[]);

    let begun = Instant::now();
    let ending = brief.jwt_with("shop", "exp", json!(seconds_from_now(8)));
    let mut held = Held::connect(bench.deployment.server.port(), &Login::Token(ending.clone()));
    let closed = std::thread::spawn(move || {
        held.wait_closed();
        begun.elapsed()
    });
    the_command_test(&bench);
    languages(&bench).await;
    // Well before the end of a grant that the JWT does not bound.
    let closed = closed.join().expect("it ends");
    assert!(closed < PATIENCE, "{closed:?}");
    brief.refuses("it has ended", &ending, "token_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_language_until_the_jwt_ends() {
    for mode in either_mode() {
        users_of_the_table(mode).await;
    }
}

#[test]
fn every_kind_of_key() {
    let algorithms =
        [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    let signers = algorithms.map(|algorithm| Signer::new(&format!("{algorithm:?}"), algorithm));
    let issuer = Issuer::start(&signers.each_ref());
    let deployment = deployment(Mode::Config, &issuer.table("kc", ""));
    has_keys(&deployment, "kc", signers.len());
    deployment.tenant_add("shop", &[]);
    let verdict =
        |jwt: &str| raw::connect(deployment.server.port(), &json!({ "auth_token": jwt })).0;
    for signer in &signers {
        let claims = issuer.claims("shop");
        let admitted = verdict(&signer.sign(&claims));
        assert_eq!(admitted, Verdict::Admitted, "{}\n{}", signer.id, deployment.service.log());
        // The key of another kind under its id.
        for other in signers.iter().filter(|other| other.id != signer.id) {
            let mut header = other.header();
            header["kid"] = json!(signer.id);
            let refused = verdict(&other.sign_with(&header, &claims));
            assert_ne!(refused, Verdict::Admitted, "{} as {}", other.id, signer.id);
        }
        // Without an id, what fits is tried.
        let header = without_id(signer.header());
        assert_eq!(
            verdict(&signer.sign_with(&header, &claims)),
            Verdict::Admitted,
            "{}",
            signer.id
        );
    }
    let second = Signer::new("another", Algorithm::ES256);
    issuer.serve(&[&signers[2], &second]);
    assert_eq!(verdict(&second.sign(&issuer.claims("shop"))), Verdict::Admitted, "found by its id");
    let header = without_id(second.header());
    // An issuer whose keys have no id adds one: neither locks the other's users out.
    for signer in [&signers[2], &second] {
        let admitted = verdict(&signer.sign_with(&header, &issuer.claims("shop")));
        assert_eq!(admitted, Verdict::Admitted, "{}", signer.id);
    }
    let stranger = Signer::new("another", Algorithm::ES256);
    for header in [header, stranger.header()] {
        let forged = verdict(&stranger.sign_with(&header, &issuer.claims("shop")));
        assert_ne!(forged, Verdict::Admitted);
    }
}

/// Keys without an id, or with one between them: some are tried, and of those that are too many `doctor` tells.
#[test]
fn keys_that_nothing_tells_apart() {
    let new = |_| Signer::new("one", Algorithm::ES256);
    let signers: Vec<Signer> = (0..9).map(new).collect();
    let nameless: Vec<Value> = signers.iter().map(Signer::jwk).map(without_id).collect();
    let named: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    let issuers = [
        ("one", vec![nameless[0].clone()]),
        ("two", nameless[..2].to_vec()),
        ("twins", named[..2].to_vec()),
        ("crowd", nameless),
        ("named", named),
    ]
    .map(|(name, keys)| {
        let issuer = Issuer::start(&[]);
        issuer.answer(Answer::Keys(keys));
        (name, issuer)
    });
    let tables: String = issuers.iter().map(|(name, issuer)| issuer.table(name, "")).collect();
    let deployment = deployment(Mode::Config, &tables);
    for (name, keys) in [("one", 1), ("two", 2), ("twins", 2), ("crowd", 9), ("named", 9)] {
        has_keys(&deployment, name, keys);
    }
    deployment.tenant_add("shop", &[]);
    let [one, two, twins, crowd, _] = &issuers;
    let lets_in = |(_, issuer): &(&str, Issuer), signer: &Signer, header: &Value| {
        let jwt = signer.sign_with(header, &issuer.claims("shop"));
        raw::connect(deployment.server.port(), &json!({ "auth_token": jwt })).0 == Verdict::Admitted
    };
    let (with, without) = (signers[0].header(), without_id(signers[0].header()));
    let log = || deployment.service.log();
    for header in [&with, &without] {
        assert!(lets_in(one, &signers[0], header), "{header}\n{}", log());
        assert!(!lets_in(one, &signers[1], header), "{header}: a key that it does not have");
        for issuer in [two, twins] {
            for signer in &signers[..2] {
                assert!(lets_in(issuer, signer, header), "{} {header}\n{}", issuer.0, log());
            }
            assert!(!lets_in(issuer, &signers[2], header), "{} {header}", issuer.0);
        }
        assert!(!lets_in(crowd, &signers[0], header), "{header}");
    }
    assert_eq!(reasons(&deployment, "invalid_token"), 8);

    let said = deployment.cli(&["--json", "doctor"]).json();
    let lines: Vec<&Value> =
        said["checks"].as_array().unwrap().iter().filter(|it| it["check"] == "issuer").collect();
    for (name, _) in &issuers {
        let is_of = |it: &&&Value| it["what"].as_str().unwrap().starts_with(&format!("{name}: "));
        let line = lines.iter().find(is_of).unwrap_or_else(|| panic!("no {name} in {lines:?}"));
        let (state, what) = (&line["state"], line["what"].as_str().unwrap());
        if *name != "crowd" {
            assert_eq!(state, "ok", "{line}");
            continue;
        }
        assert_eq!(state, "warn", "{line}");
        assert!(
            what.contains("9 keys") && what.contains("more than 8 without `kid` are for ES256")
        );
        assert!(line["remedy"].as_str().unwrap().contains("`kid`"), "{line}");
    }
}

/// A key or a header without the id.
fn without_id(mut of: Value) -> Value {
    of.as_object_mut().expect("an object").remove("kid");
    of
}

/// A JWKS URL, a JWKS file, and a secret shared with a licence server, side by side.
#[test]
fn every_place_of_keys() {
    let signer = Signer::new("one", Algorithm::ES256);
    let issuer = Issuer::start(&[&signer]);
    let secret = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";
    let url = issuer.jwks_url();
    let tables = format!(
        "{}[issuers.file]\nissuer = \"file\"\naudience = [\"nats\"]\njwks_file = \"keys.json\"\n\
         [issuers.license]\nissuer = \"license\"\naudience = [\"nats\"]\n\
         secret = [\"keys/license.secret\"]\nuser_claim = \"login\"\n",
        issuer.table("by_url", &format!("jwks_url = \"{url}\"")),
    );
    let deployment = Deployment::start_prepared(Mode::Operator, servers::version(), |init| {
        let keys = json!({ "keys": [signer.jwk()] });
        std::fs::write(init.dir().join("keys.json"), keys.to_string()).unwrap();
        write_private(&init.dir().join("keys/license.secret"), &format!("{secret}\n"));
        add_to_config(init, &tables);
    });
    let folder = deployment.dir();
    let secret_file = folder.join("keys/license.secret");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&secret_file, permissions).unwrap();
    };
    deployment.tenant_add("shop", &[]);
    let verdict =
        |jwt: &str| raw::connect(deployment.server.port(), &json!({ "auth_token": jwt })).0;
    let claims_of = |iss: &str, user: &str| {
        let exp = seconds_from_now(300);
        json!({ "iss": iss, "aud": "nats", "sub": user, "login": user, "exp": exp })
    };
    let log = || deployment.service.log();
    let admitted = verdict(&signer.sign(&claims_of(&issuer.url(), "shop")));
    assert_eq!(admitted, Verdict::Admitted, "{}", log());
    assert!(issuer.asked().iter().all(|path| path.ends_with("/certs")), "{:?}", issuer.asked());
    assert_eq!(verdict(&signer.sign(&claims_of("file", "shop"))), Verdict::Admitted, "{}", log());
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let license = sign_with_secret(secret.as_bytes(), &header, &claims_of("license", "shop"));
    assert_eq!(verdict(&license), Verdict::Admitted, "{}", log());
    let other = sign_with_secret(
        b"another secret, long enough too.",
        &header,
        &claims_of("license", "shop"),
    );
    assert_ne!(verdict(&other), Verdict::Admitted);
    // Nobody signs for an issuer with the keys of another.
    assert_ne!(verdict(&signer.sign(&claims_of("license", "shop"))), Verdict::Admitted);
    let by_secret = sign_with_secret(secret.as_bytes(), &header, &claims_of("file", "shop"));
    assert_ne!(verdict(&by_secret), Verdict::Admitted);

    // The file is read again when it changes.
    let next = Signer::new("two", Algorithm::ES256);
    std::fs::write(folder.join("keys.json"), json!({ "keys": [next.jwk()] }).to_string()).unwrap();
    eventually("the new key of the file", || {
        let taken = verdict(&next.sign(&claims_of("file", "shop"))) == Verdict::Admitted;
        taken.then_some(())
    });
    assert_ne!(verdict(&signer.sign(&claims_of("file", "shop"))), Verdict::Admitted);

    // What others can read is no secret.
    mode(0o604);
    let config = deployment.config();
    let mut refused = Service::launch(&config, &[]);
    let error = refused.wait_until_ready().unwrap_err();
    assert!(error.contains("license.secret") && error.contains("chmod 600"), "{error}");
    mode(0o600);
    std::fs::write(&secret_file, "too short").unwrap();
    let mut refused = Service::launch(&config, &[]);
    let error = refused.wait_until_ready().unwrap_err();
    assert!(error.contains("license.secret") && error.contains("at least 32"), "{error}");
}

fn the_command_test(bench: &Bench) {
    let test = |args: &[&str], jwt: &str| test_command(&bench.deployment, args, jwt);
    let seen = test(&["shop", "--token-stdin"], &bench.jwt("shop")).success().json();
    assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!("shop"), &json!("jwt")));
    let seen = test(&["shop", "shop", "--password-stdin"], &bench.jwt("shop"));
    assert_eq!(seen.status, 0, "{seen:?}");
    let refused = |jwt: &str| -> Value {
        let output = test(&["shop", "--token-stdin"], jwt);
        assert_eq!(output.status, 1, "{output:?}");
        output.json()["reason"].clone()
    };
    assert_eq!(refused(&bench.jwt_with("shop", "aud", json!("x"))), "invalid_token");
    assert_eq!(refused(&bench.jwt_with("shop", "iss", json!("x"))), "unknown_issuer");
    let ended = bench.jwt_with("shop", "exp", json!(seconds_from_now(-60)));
    assert_eq!(refused(&ended), "token_expired");
    let said = test(&["shop", "shop", "--password-stdin"], &ended).stderr;
    assert!(said.contains("`exp` is in the past") && !said.contains("password"), "{said}");
    for broken in [format!("Bearer {}", bench.jwt("shop")), format!("\"{}\"", bench.jwt("shop"))] {
        for args in [&["shop", "--token-stdin"][..], &["shop", "shop", "--password-stdin"]] {
            let said = test(args, &broken).stderr;
            assert!(said.contains("begins as a JWT does and is none"), "{said}");
        }
        bench.refuses("a JWT with something before it", &broken, "unknown_token");
        let log = bench.deployment.service.log();
        assert!(log.contains("detail=\"it begins as a JWT does and is none"), "{log}");
    }
    let long = bench.jwt_with("shop", "photo", json!("x".repeat(4_000)));
    let said = test(&["shop", "--token-stdin"], &long).stderr;
    assert!(said.contains("raise max_control_line in nats-server.conf"), "{said}");
    assert_eq!(refused(&bench.jwt("nobody")), "unknown_user");
    let other = test(&["shop", "--token-stdin"], &bench.jwt("other"));
    assert!(other.status == 1 && other.stderr.contains("tenant other"), "{other:?}");
    let named = test(&["other", "shop", "--token-stdin"], &bench.jwt("other"));
    assert!(named.status == 1 && named.stderr.contains("other is refused: "), "{named:?}");
    let beside = "the user name beside it is another than its own";
    assert!(named.stderr.contains(beside), "{named:?}");
}
