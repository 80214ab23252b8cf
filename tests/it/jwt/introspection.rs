//! Tokens that their issuer is asked about: whom they admit, what is refused, and what becomes of logins while it
//! does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{Bench, add_to_config, test_command};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Issuer, Signer, seconds_from_now};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, guesses, http, servers, service};

/// `nats` and `s3:cret`, as RFC 6749 has them in HTTP basic authentication.
const LOGIN: &str = "Basic bmF0czpzMyUzQWNyZXQ=";

/// An issuer without keys, and the beginning of its tokens.
fn asked(name: &str, prefix: Option<&str>, lines: &str) -> (Issuer, String) {
    let issuer = Issuer::start(&[]);
    issuer.answers_only(LOGIN);
    let prefix = prefix.map(|it| format!("token_prefix = \"{it}\"\n")).unwrap_or_default();
    let table = issuer.table(
        name,
        &format!(
            "introspection_url = \"{}\"\nclient_id = \"nats\"\nclient_secret = \"s3:cret\"\n\
             {prefix}{lines}",
            issuer.introspection_url()
        ),
    );
    (issuer, table)
}

impl Bench {
    /// A deployment with these issuers, from the side of each.
    fn asking<const N: usize>(
        mode: Mode,
        known: [(&'static str, Option<&str>, &str); N],
    ) -> [Self; N] {
        let mut tables = String::new();
        let known = known.map(|(name, prefix, lines)| {
            let (issuer, table) = asked(name, prefix, lines);
            tables.push_str(&table);
            (name, issuer)
        });
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            add_to_config(init, &tables);
        });
        let deployment = Arc::new(deployment);
        known.map(|(name, issuer)| {
            let signer = Signer::new("none", Algorithm::EdDSA);
            Self { deployment: Arc::clone(&deployment), issuer, signer, name }
        })
    }

    /// What the issuer says of a good token of a user.
    fn good(&self, user: &str) -> Value {
        let mut said = self.issuer.claims(user);
        said["active"] = json!(true);
        said
    }

    /// A token of which it says this.
    fn token(&self, token: &str, said: Value) -> String {
        self.issuer.says_of(token, said);
        token.to_owned()
    }

    fn token_with(&self, token: &str, user: &str, claim: &str, value: Value) -> String {
        let mut said = self.good(user);
        said[claim] = value;
        if said[claim].is_null() {
            said.as_object_mut().unwrap().remove(claim);
        }
        self.token(token, said)
    }

    #[track_caller]
    fn is_unanswered(&self, token: &str, reason: &str) {
        let told = format!("the issuer {} cannot be asked about a token: {reason}", self.name);
        self.gives_no_answer_since(token, &told);
    }
}

fn who_logs_in(bench: &Bench) {
    let token = bench.token("opaque-token-of-shop", bench.good("shop"));
    bench.admits(&token);
    bench.admits(&format!("{token}\n"));
    bench.admits_as(&json!({ "user": "shop", "auth_token": token }));
    assert_eq!(bench.issuer.questions(&token), 1, "its answer is kept for a while");
    let beside = json!({ "user": "other", "auth_token": token });
    bench.refuses_as("beside another user's name", &beside, "invalid_token");
    // What a password may be is shown to nobody.
    let in_place = json!({ "user": "shop", "pass": token });
    bench.refuses_as("in the place of a password", &in_place, "wrong_password");
    let secret = "secret-of-somebody-else";
    bench.refuses_as("a password", &json!({ "user": "shop", "pass": secret }), "wrong_password");
    assert_eq!(bench.issuer.questions(secret), 0);
    // The table comes first.
    let own = bench.deployment.token_add("shop", "shop");
    bench.admits(&own);
    assert_eq!(bench.issuer.questions(&own), 0);
    let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], &token);
    let seen = seen.success().json();
    assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!("shop"), &json!("introspection")));
}

/// The table first: its row may hold something else in the place of the hash.
fn flaws_of_rows(bench: &Bench) {
    let (text, line) = (
        "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
        "a-token-of-a-whole-line",
    );
    // `printf '%s\n' a-token-of-a-whole-line | sha256sum`.
    let of_line = "9dbaf5889dd177fb5daac155e830c46125189c6d7236d20877511ec01c7eec4d";
    bench.deployment.sql(&format!(
        "INSERT INTO tokens (user_name, token_hash) VALUES ('shop', '{text}'), ('shop', '{of_line}')"
    ));
    for (token, flaw) in [
        (text, "token_hash of a token of shop holds the token's text, where its SHA-256"),
        (line, "token_hash of a token of shop was made of the token and the line break behind it"),
    ] {
        let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], token);
        let said = seen.json();
        assert_eq!((seen.status, &said["reason"]), (1, &json!("unknown_token")), "{said}");
        assert!(said["message"].as_str().unwrap().starts_with(flaw), "{said}");
    }
    bench.deployment.sql("DELETE FROM tokens WHERE label IS NULL");
}

fn what_is_refused(bench: &Bench) {
    let cases = [
        ("active", json!(false), "unknown_token"),
        ("exp", json!(seconds_from_now(-60)), "token_expired"),
        ("exp", json!("soon"), "invalid_token"),
        ("nbf", json!(seconds_from_now(600)), "invalid_token"),
        ("aud", json!("account"), "invalid_token"),
        ("aud", json!(null), "invalid_token"),
        ("iss", json!("https://id.example.com/elsewhere"), "invalid_token"),
        ("sub", json!(null), "invalid_token"),
        ("sub", json!("nobody"), "unknown_user"),
        ("typ", json!("Refresh"), "invalid_token"),
        ("token_use", json!("refresh_token"), "invalid_token"),
    ];
    for (number, (claim, value, reason)) in cases.into_iter().enumerate() {
        let what = format!("{claim} {value}");
        let token = bench.token_with(&format!("wrong-token-{number:04}"), "shop", claim, value);
        bench.refuses(&what, &token, reason);
        let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], &token);
        assert_eq!((seen.status, &seen.json()["reason"]), (1, &json!(reason)), "{what}");
    }
    let unknown = "a-token-of-nobody";
    for _ in 0..3 {
        bench.refuses("a token that it does not know", unknown, "unknown_token");
    }
    assert_eq!(bench.issuer.questions(unknown), 1, "that it is none is kept too");
    let log = bench.deployment.service.log();
    assert!(log.contains("issuer asked: it says that the token is not active"), "{log}");
    bench.issuer.says_of(unknown, bench.good("shop"));
    eventually("it is active now", || {
        (bench.verdict(&json!({ "auth_token": unknown })) == Verdict::Admitted).then_some(())
    });
    let jwt = Signer::new("first", Algorithm::EdDSA).sign(&json!({ "iss": "elsewhere" }));
    let nearly = ["\"JWT\"", "token=JWT", "Bearer:JWT", "JWT,"].map(|it| it.replace("JWT", &jwt));
    let cut = [&jwt[1..], jwt.rsplit_once('.').unwrap().0];
    let others = ["short", "with blanks in a token", "nct_0000000000000000000000000000000019Bvis"];
    for known in others.into_iter().chain(cut).chain(nearly.iter().map(String::as_str)) {
        bench.refuses("nothing to ask about", known, "unknown_token");
        assert_eq!(bench.issuer.questions(known), 0, "{known}");
    }
}

/// A grant ends with what the issuer says, and is asked about anew then.
fn how_long(bench: &Bench) {
    let token = bench.token_with("ends-soon-0123456789", "shop", "exp", json!(seconds_from_now(4)));
    let begun = Instant::now();
    bench.admits(&token);
    bench.issuer.says_of(&token, json!({ "active": false }));
    let reason = || super::reasons(&bench.deployment, "unknown_token");
    let before = reason();
    eventually("its end", || {
        bench.verdict(&json!({ "auth_token": token }));
        (reason() > before).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "an answer is not kept beyond `exp`");
    assert!(bench.issuer.questions(&token) > 1, "it is asked anew");
    let endless = bench.token_with("ends-never-0123456789", "shop", "exp", json!(null));
    bench.admits(&endless);
}

/// Many at once with one token, and many with tokens that nobody knows.
fn at_once(bench: &Bench) {
    let token = bench.token("token-of-a-whole-fleet", bench.good("shop"));
    bench.issuer.takes(Duration::from_millis(300));
    let port = bench.deployment.server.port();
    let logins = |tokens: Vec<String>| {
        let threads = tokens.into_iter().map(|token| {
            std::thread::spawn(move || raw::connect(port, &json!({ "auth_token": token })).0)
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
    };
    let verdicts = logins(vec![token.clone(); 12]);
    assert_eq!(verdicts, vec![Verdict::Admitted; 12], "{}", bench.deployment.service.log());
    assert_eq!(bench.issuer.questions(&token), 1, "one question for all");
    bench.issuer.takes(Duration::from_millis(700));
    let made_up = (0..60).map(|number| format!("made-up-token-{number:04}")).collect();
    assert!(!logins(made_up).contains(&Verdict::Admitted));
    assert!(bench.issuer.most_questions() <= 16, "{}", bench.issuer.most_questions());
    bench.issuer.takes(Duration::ZERO);
    eventually("the endpoint is free again", || {
        (bench.verdict(&json!({ "auth_token": token })) == Verdict::Admitted).then_some(())
    });
}

fn what_is_said_of_an_outage(bench: &mut Bench) {
    let mut number = 0;
    let mut fresh = |bench: &Bench| {
        number += 1;
        bench.token(&format!("token-of-an-outage-{number}"), bench.good("shop"))
    };
    let known = fresh(bench);
    bench.admits(&known);
    for (status, body, reason) in [
        (401, "{\"error\":\"invalid_client\"}", "does not accept what is shown to it, client_id"),
        (500, "", "status 500"),
        (302, "", "status 302"),
        (200, "<html>maintenance</html>", "no answer about a token"),
        (200, "{}", "`active` is missing"),
        (200, "{\"active\":\"true\"}", "`active` is missing, or neither"),
    ] {
        bench.issuer.says_instead(Some((status, body)));
        let token = fresh(bench);
        let told = format!("{}: ", bench.issuer.introspection_url());
        bench.is_unanswered(&token, &told);
        let log = bench.deployment.service.log();
        assert!(log.contains(reason), "{reason} in\n{log}");
        bench.admits(&known);
    }
    let doctor = doctor(bench);
    assert!(doctor.starts_with("FAIL ") && doctor.contains("`active` is missing"), "{doctor}");
    let long = format!("{{\"active\":true,\"a\":\"{}\"}}", "x".repeat(70_000));
    bench.issuer.says_instead(Some((200, &long)));
    let token = fresh(bench);
    bench.is_unanswered(&token, &bench.issuer.introspection_url());
    bench.issuer.says_instead(None);
    bench.issuer.takes(Duration::from_secs(4));
    let token = fresh(bench);
    bench.is_unanswered(&token, "it has not answered in the time that a login has");
    // What it says afterwards is there for the next attempt.
    bench.issuer.takes(Duration::ZERO);
    eventually("the answer", || {
        (bench.verdict(&json!({ "auth_token": token })) == Verdict::Admitted).then_some(())
    });
    assert_eq!(bench.issuer.questions(&token), 1, "the question went on");
    bench.issuer.go_down();
    let token = fresh(bench);
    bench.is_unanswered(&token, &bench.issuer.introspection_url());
    eventually("the metric", || (bench.metric("up") == "0").then_some(()));
    bench.issuer.listen();
    bench.admits(&token);
    eventually("the metric again", || (bench.metric("up") == "1").then_some(()));
    assert_ne!(bench.metric("questions_unanswered_total"), "0");
}

fn doctor(bench: &Bench) -> String {
    let mut doctor = service::program();
    doctor.arg("--config").arg(bench.deployment.config()).arg("doctor");
    let output = doctor.env("NATS_CALLOUT_HTTP_LISTEN", bench.deployment.http()).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let said = format!("{}: ", bench.name);
    let line = text.lines().find(|line| line.contains(" issuer ") && line.contains(&said));
    line.unwrap_or_else(|| panic!("no issuer in\n{text}")).to_owned()
}

/// Users without a row, of the tenant that the issuer names; and a beginning that tells its tokens.
fn by_policy(bench: &Bench, other: &Bench) {
    let of = |token: &str, tenant: &str| {
        let mut said = bench.good("gast");
        said["org"] = json!(tenant);
        bench.token(token, said)
    };
    bench.admits(&of("org_token-of-shop-1", "shop"));
    bench.refuses("no such tenant", &of("org_token-of-nowhere", "nowhere"), "unknown_user");
    bench.refuses("no tenant's id", &of("org_token-of-dots-1", "sh.op"), "invalid_token");
    let place = of("org_token-of-shop-2", "shop");
    bench.admits_as(&json!({ "user": "gast", "pass": place }));
    bench.refuses_as("another's", &json!({ "user": "shop", "pass": place }), "invalid_token");
    assert_eq!(other.issuer.questions(&place), 0, "it is shown to its own issuer alone");
    let fixed = |token: &str, user: &str| other.token(token, other.good(user));
    // `fixed` names users of the tenant `shop` alone.
    other.refuses("another tenant's user", &fixed("fix_token-of-other", "other"), "unknown_user");
    other.admits(&fixed("fix_token-of-shop", "shop"));
    assert_eq!(bench.issuer.questions("fix_token-of-shop"), 0);
}

/// A password may begin as an issuer's tokens do, and is one all the same: whatever that issuer says of it, and while
/// it says nothing.
fn passwords_that_look_like_tokens(bench: &mut Bench) {
    let add = |password: &str| {
        let user = format!("user-{}", password.len());
        let args = ["user", "add", "shop", &user, "--kind", "bb", "--password-stdin"];
        let config = bench.deployment.config();
        let args = [&["--config", config.to_str().unwrap()][..], &args].concat();
        service::cli_with_stdin(&bench.deployment.dir(), &args, password).success();
        json!({ "user": user, "pass": password })
    };
    let [known, fresh] = ["fix_correct horse", "fix_correct-horse-battery"].map(add);
    let later = add("fix_correct-horse-battery-staple");
    bench.admits_as(&known);
    bench.admits_as(&fresh);
    let mut wrong = fresh.clone();
    wrong["pass"] = json!("fix_another-password");
    bench.refuses_as("another password", &wrong, "unknown_token");
    let log = bench.deployment.service.log();
    assert!(log.contains("reason=\"unknown_token\" user=\"user-25\" tenant=\"shop\""), "{log}");
    assert!(log.contains("have it make another; as a password it is refused, too: wrong_password"));
    // Whether there is such a user shows in nothing.
    let hashes = || {
        let metrics = http::get(bench.deployment.http(), "/metrics").expect("metrics").body;
        let line = metrics.lines().find(|it| it.starts_with("nats_callout_hashing_done_total"));
        line.expect("a count").rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let before = hashes();
    let nobody = json!({ "user": "nobody-at-all", "pass": "fix_another-password" });
    bench.refuses_as("nobody's password", &nobody, "unknown_token");
    assert!(hashes() > before, "it costs a hash as any");
    bench.issuer.go_down();
    bench.admits_as(&later);
    bench.issuer.listen();
}

/// Nobody has verified what such a JWT says of itself, but it can speak against it.
fn jwts_that_their_issuer_is_asked_about(bench: &Bench) {
    let signer = Signer::new("first", Algorithm::EdDSA);
    let of = |claim: &str, value: Value| {
        let mut claims = bench.issuer.claims("shop");
        claims[claim] = value;
        signer.sign(&claims)
    };
    let active = |jwt: String| bench.token(&jwt, bench.good("shop"));
    bench.admits(&active(of("any", json!(1))));
    bench.admits(&active(of("exp", json!(null))));
    for (claim, value, reason) in [
        ("typ", json!("Refresh"), "invalid_token"),
        ("typ", json!("ID"), "invalid_token"),
        ("token_use", json!("refresh"), "invalid_token"),
        ("exp", json!(seconds_from_now(-3_600)), "token_expired"),
        ("nbf", json!(seconds_from_now(3_600)), "invalid_token"),
        ("aud", json!("evil"), "invalid_token"),
    ] {
        let jwt = active(of(claim, value));
        bench.refuses(claim, &jwt, reason);
        assert_eq!(bench.issuer.questions(&jwt), 0, "{claim}");
    }
    let mut header = signer.header();
    for (name, value) in [("typ", json!("logout+jwt")), ("crit", json!(["x"]))] {
        header[name] = value;
        let jwt = active(signer.sign_with(&header, &bench.issuer.claims("shop")));
        bench.refuses(name, &jwt, "invalid_token");
    }
}

#[test]
fn tokens_that_their_issuer_is_asked_about() {
    for mode in either_mode() {
        let org = "users = \"policy\"\ntenant_claim = \"org\"\n";
        let [mut bench, org, mut fixed] = Bench::asking(
            mode,
            [
                ("asked", None, ""),
                ("org", Some("org_"), org),
                ("fixed", Some("fix_"), "tenant = \"shop\"\n"),
            ],
        );
        bench.deployment.tenant_add("shop", &[]);
        bench.deployment.tenant_add("other", &[]);
        flaws_of_rows(&bench);
        let line = doctor(&bench);
        assert!(
            line.starts_with("ok ") && line.contains("answers questions about tokens"),
            "{line}"
        );
        who_logs_in(&bench);
        what_is_refused(&bench);
        jwts_that_their_issuer_is_asked_about(&bench);
        by_policy(&org, &fixed);
        passwords_that_look_like_tokens(&mut fixed);
        how_long(&bench);
        at_once(&bench);
        what_is_said_of_an_outage(&mut bench);
        let metrics = http::get(bench.deployment.http(), "/metrics").expect("metrics").body;
        assert!(!metrics.contains("s3:cret"));
        let log = bench.deployment.service.log();
        for secret in ["s3:cret", "opaque-token-of-shop", "made-up-token-0001"] {
            assert!(!log.contains(secret), "{secret} in\n{log}");
        }
    }
}

/// One address sends more made-up tokens than the issuer has answers for. Those of others wait for a turn or two.
#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_of_one_address_hold_up_nobody_else() {
    let mode = either_mode().next().expect("a mode");
    let [bench] = Bench::asking(mode, [("asked", None, "")]);
    bench.deployment.tenant_add("shop", &[]);
    bench.issuer.takes(Duration::from_millis(250));
    let port = bench.deployment.server.port();
    let flood = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(8));
        for number in 0.. {
            ticks.tick().await;
            let token = json!({ "auth_token": format!("made-up-token-{number:06}") });
            tokio::spawn(async move { guesses::login(guesses::source(61, 0), port, &token).await });
        }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut ended = Vec::new();
    for number in 0..12 {
        let token = bench.token(&format!("good-token-{number:06}"), bench.good("shop"));
        let token = json!({ "auth_token": token });
        ended.push(guesses::login(guesses::source(61, 9), port, &token).await.0);
    }
    flood.abort();
    assert_eq!(ended, [guesses::Ended::Admitted; 12], "{}", bench.deployment.service.log());
}
