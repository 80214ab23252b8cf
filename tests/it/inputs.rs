//! `docs/inputs.md`: what other programs send and write, and what happens. Most of it is shown beside what it is
//! about; here is what several parts have to agree on.

mod issuers;
pub(crate) mod page;

use jsonwebtoken::Algorithm;
use nats_callout::callout::hash_password;
use serde_json::{Value, json};

use crate::harness::choice::either_mode;
use crate::harness::client::{self, Login};
use crate::harness::clients::{self, Language, Scenario};
use crate::harness::deployment::Mode;
use crate::harness::issuer::{Issuer, Signer};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, http, loudly, servers};
use crate::http::value;
use crate::jwt::{add_to_config, has_keys, reasons, test_command};
use crate::transports::leaf::{Leaf, hears, remote};
use crate::transports::{Open, Tls, account_for_alice, wire};

/// A deployment with an issuer of each rule about user names.
struct Site {
    open: Open,
    signer: Signer,
    own: Issuer,
    any: Issuer,
    password: String,
}

impl Site {
    fn start(mode: Mode) -> Self {
        let signer = Signer::new("first", Algorithm::EdDSA);
        let (own, any) = (Issuer::start(&[&signer]), Issuer::start(&[&signer]));
        let tables = own.table("own", "") + &any.table("any", "user_name = \"any\"\n");
        let open = Open::start_with(mode, servers::version(), Tls::No, |init| {
            account_for_alice(init, mode);
            add_to_config(init, &tables);
            init.add_to_server_conf("max_control_line: 32KB");
        });
        has_keys(&open, "own", 1);
        has_keys(&open, "any", 1);
        let Login::Password(_, password) = open.roomy_tenant("alice") else { unreachable!() };
        Self { open, signer, own, any, password }
    }

    fn verdict(&self, fields: &Value) -> Verdict {
        raw::connect(self.open.server.port(), fields).0
    }

    #[track_caller]
    fn admits(&self, what: &str, fields: &Value) {
        assert_eq!(self.verdict(fields), Verdict::Admitted, "{what}\n{}", self.open.service.log());
    }

    #[track_caller]
    fn refuses(&self, what: &str, fields: &Value, reason: &str) {
        self.refusing(what, reason, || {
            let verdict = self.verdict(fields);
            assert!(matches!(verdict, Verdict::Refused(_)), "{what}: {verdict:?}");
        });
    }

    /// What is tried is refused for this reason, as the log has it.
    fn refusing<T>(&self, what: &str, reason: &str, tried: impl FnOnce() -> T) -> T {
        let before = reasons(&self.open, reason);
        let outcome = tried();
        eventually(what, || (reasons(&self.open, reason) > before).then_some(()));
        outcome
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = http::get(self.open.http(), "/metrics").expect("an answer").body;
        value(&metrics, &format!("nats_callout_{name}"))
    }

    fn hashes(&self) -> f64 {
        self.metric("hashing_done_total")
    }

    /// What `test` says of alice.
    fn test(&self, flag: &str, text: &str) -> (i32, String) {
        let args: &[&str] =
            if flag == "--password-stdin" { &["alice", "alice", flag] } else { &["alice", flag] };
        let seen = test_command(&self.open, args, text);
        (seen.status, seen.stdout + &seen.stderr)
    }
}

/// As files and shells leave it there: no part of a token or a JWT, and a part of a password.
fn white_space_at_the_end(site: &Site) {
    let token = site.open.token_add("alice", "alice");
    let jwt = site.signer.sign(&site.own.claims("alice"));
    let hashes = site.hashes();
    for end in ["\n", "\r\n", " "] {
        for text in [&token, &jwt] {
            let text = format!("{text}{end}");
            site.admits("as a token", &json!({ "auth_token": text }));
            site.admits("as a password", &json!({ "user": "alice", "pass": text }));
            for flag in ["--token-stdin", "--password-stdin"] {
                let (status, said) = site.test(flag, &text);
                assert_eq!(status, 0, "{flag}: {said}");
            }
        }
    }
    assert_eq!(site.hashes(), hashes, "nothing of it is hashed");

    let ended = format!("{}\n", site.password);
    site.refuses("with its end", &json!({ "user": "alice", "pass": ended }), "wrong_password");
    assert_eq!(site.test("--password-stdin", &ended).0, 0, "a line of stdin is without its end");
    let hash = hash_password(&ended).expect("a hash");
    site.open.sql(&format!("UPDATE users SET password_hash = '{}'", hash.expose()));
    eventually("the hash of both", || {
        (site.verdict(&json!({ "user": "alice", "pass": ended })) == Verdict::Admitted)
            .then_some(())
    });
    let without = json!({ "user": "alice", "pass": site.password });
    site.refuses("without its end", &without, "wrong_password");
    let (status, said) = site.test("--password-stdin", &ended);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("this password and the line break behind it"), "{said}");
    let (_, said) = site.test("--password-stdin", &site.password);
    assert!(said.contains("the password is not alice's") && !said.contains("line break"), "{said}");
}

/// It is judged as what it is, costs no hash and is no guess, and nobody is told to make another password.
fn a_jwt_in_the_place_of_a_password(site: &Site) {
    let sent = |claim: &str, value: Value| {
        let mut claims = site.own.claims("alice");
        claims[claim] = value;
        site.signer.sign(&claims)
    };
    let hashes = site.hashes();
    for (what, jwt, reason, words) in [
        (
            "another issuer's",
            sent("iss", json!("https://other.example.com")),
            "unknown_issuer",
            "no [issuers] table has exactly this `iss`: `https://other.example.com`",
        ),
        (
            "one with a slash more",
            sent("iss", json!(format!("{}/", site.own.url()))),
            "unknown_issuer",
            "no [issuers] table has exactly this `iss`",
        ),
        ("a long one", sent("pad", json!("x".repeat(9_000))), "invalid_token", "longer than 8192"),
    ] {
        // Of guesses ten would be free.
        for _ in 0..14 {
            site.refuses(what, &json!({ "user": "alice", "pass": jwt }), reason);
        }
        let (status, said) = site.test("--password-stdin", &jwt);
        assert_eq!(status, 1, "{what}: {said}");
        assert!(said.contains(words) && !said.contains("passwd"), "{what}: {said}");
    }
    assert_eq!(site.hashes(), hashes);
    site.admits("the right password", &json!({ "user": "alice", "pass": site.password }));
    assert_eq!(site.hashes(), hashes + 1.0, "it was not known");
    assert_eq!(site.metric("guesses_delayed_total"), 0.0);
    let log = site.open.service.log();
    assert!(!log.contains("guess"), "{log}");

    let bearer = format!("Bearer {}", site.signer.sign(&site.own.claims("alice")));
    site.refuses("with a word", &json!({ "user": "alice", "pass": bearer }), "wrong_password");
    let log = site.open.service.log();
    let is_told = |line: &str| line.contains("wrong_password") && line.contains("begins as a JWT");
    assert!(log.lines().any(is_told), "{log}");
}

/// MQTT and connectors have to write a user name, and some write the same one always.
async fn a_fixed_user_name_beside_a_jwt(site: &Site) {
    let Site { open, signer, own, any, .. } = site;
    let (jwt, other) = (signer.sign(&any.claims("alice")), signer.sign(&own.claims("alice")));
    site.admits("any name", &json!({ "user": "unused", "pass": jwt }));
    site.admits("any name, a token", &json!({ "user": "unused", "auth_token": jwt }));
    site.refuses("its own alone", &json!({ "user": "unused", "pass": other }), "invalid_token");
    site.admits("its own", &json!({ "user": "alice", "auth_token": other }));
    site.admits("no name", &json!({ "user": "", "pass": other }));
    if open.mode == Mode::Operator && servers::takes_mqtt_passwords_for_jwts(servers::version()) {
        loudly("SKIPPED: MQTT, whose passwords this server takes for JWTs in operator mode");
    } else {
        assert!(wire::mqtt(open.mqtt, "device-1", "unused", &jwt), "{}", open.service.log());
        site.refusing("MQTT, its own alone", "invalid_token", || {
            assert!(!wire::mqtt(open.mqtt, "device-1", "unused", &other));
        });
    }
    site.refusing("a leaf node, its own alone", "invalid_token", || {
        Leaf::start(&remote(open, &format!("unused:{other}@"))).refused();
    });
    let leaf = Leaf::start(&remote(open, &format!("unused:{jwt}@")));
    let login = Login::Token(other);
    let app = client::connect(&open.url(), &login, "_INBOX").await.expect("logs in");
    hears(&app, &leaf.client().await, "over.a.leaf").await;
}

/// As nats.go and nats.js send both, of which nats-py leaves the name out.
fn a_user_name_beside_a_token(site: &Site) {
    let token = site.open.token_add("alice", "alice");
    site.open.user_add("alice", "bob", &["--kind", "bb"]);
    let scenario = Scenario {
        subscribe: "echo".to_owned(),
        publish: "echo".to_owned(),
        request: "echo".to_owned(),
        forbidden: None,
        inbox_prefix: None,
        jetstream: None,
    };
    let hashes = site.hashes();
    for language in [Language::Go, Language::Node] {
        let seen = |user: &str| {
            let options = ["--user", user, "--token", &token];
            clients::login_by(language, &site.open.url(), &options, &scenario)
        };
        let Some(alices) = seen("alice") else { continue };
        assert!(alices.connected && alices.error.is_none(), "{language:?}: {alices:?}");
        assert_eq!(alices.received, ["hello"], "{language:?}");
        let bobs = site.refusing("another's token", "unknown_token", || seen("bob"));
        let bobs = bobs.expect("the toolchain");
        assert!(!bobs.connected, "{language:?}: {bobs:?}");
    }
    assert_eq!(site.hashes(), hashes, "nothing of it is hashed");
}

/// The column is for services; a policy of one's own may read it for others.
fn a_list_of_subjects_in_a_row_of_bb(site: &Site) {
    let open = &site.open;
    open.sql(
        "INSERT INTO users (tenant_id, name, publish) VALUES ('alice', 'listed', '[\"orders.*\"]')",
    );
    let explain = |user: &str| {
        let seen = open.cli(&["--json", "policy", "explain", user]).success().json();
        seen["permissions"].clone()
    };
    assert_eq!(explain("listed"), {
        open.sql("INSERT INTO users (tenant_id, name) VALUES ('alice', 'plain')");
        explain("plain")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_parts_agree_on() {
    for mode in either_mode() {
        let site = Site::start(mode);
        a_fixed_user_name_beside_a_jwt(&site).await;
        a_jwt_in_the_place_of_a_password(&site);
        a_user_name_beside_a_token(&site);
        a_list_of_subjects_in_a_row_of_bb(&site);
        white_space_at_the_end(&site);
    }
}
