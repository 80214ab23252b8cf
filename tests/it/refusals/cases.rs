//! What is done to be refused, and what is seen of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::settled::{settled, without_time};
use super::site::{EXPIRED, PASSWORD, Site};
use crate::callout_scenarios::wire::Wire;
use crate::events::stored;
use crate::harness::issuer::{seconds_from_now, sign_with_secret, unsigned};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, eventually_async};
use crate::jwt::test_command;

/// What a client sends.
type Send = Box<dyn Fn(&Site) -> Value + std::marker::Send + Sync>;

/// One way to be refused.
pub(super) struct Case {
    pub(super) what: String,
    reason: &'static str,
    send: Send,
    /// Whether the server's nonce has to be answered.
    is_signed: bool,
    /// The certificate that is shown.
    certificate: Option<fn(&Site) -> &Arc<ClientConfig>>,
    /// The tenant and the user to be tested, by what is sent; and the user for `policy explain`.
    test: Option<(&'static str, Option<&'static str>)>,
    explain: Option<&'static str>,
}

/// What was seen of it.
pub(super) struct Row {
    pub(super) reason: String,
    pub(super) client: String,
    pub(super) line: String,
    pub(super) json: String,
    pub(super) event: Option<String>,
    pub(super) test: Option<String>,
    pub(super) explain: Option<String>,
}

fn case(
    reason: &'static str,
    what: &str,
    send: impl Fn(&Site) -> Value + std::marker::Send + Sync + 'static,
) -> Case {
    let (what, send) = (what.to_owned(), Box::new(send));
    Case { what, reason, send, is_signed: false, certificate: None, test: None, explain: None }
}

fn password(reason: &'static str, what: &str, user: &'static str, password: &'static str) -> Case {
    let sent = json!({ "user": user, "pass": password });
    case(reason, what, move |_| sent.clone())
}

/// A token of an issuer.
fn token(
    reason: &'static str,
    what: &str,
    text: impl Fn(&Site) -> String + std::marker::Send + Sync + 'static,
) -> Case {
    let sends = case(reason, what, move |site| json!({ "auth_token": text(site) }));
    Case { test: Some(("one", None)), ..sends }
}

fn certificate(reason: &'static str, what: &str, of: fn(&Site) -> &Arc<ClientConfig>) -> Case {
    Case { certificate: Some(of), ..case(reason, what, |_| json!({})) }
}

fn claim(what: &str, claim: &'static str, value: Value) -> Case {
    token("invalid_token", what, move |site| site.signer.sign(&site.claims(claim, value.clone())))
}

impl Case {
    fn tested(self, tenant: &'static str, user: &'static str) -> Self {
        Self { test: Some((tenant, Some(user))), ..self }
    }

    fn explained(self, user: &'static str) -> Self {
        Self { explain: Some(user), ..self }
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = of_the_table();
    all.extend(of_tokens());
    all
}

fn of_the_table() -> Vec<Case> {
    vec![
        case("no_credentials", "nothing", |_| json!({})),
        password("no_credentials", "a user name alone", "alice", "").tested("one", "alice"),
        password("unknown_user", "a user who is not there", "nobody", "wrong")
            .tested("one", "nobody"),
        password("wrong_password", "another password", "alice", "wrong").tested("one", "alice"),
        password(
            "unusable_hash",
            "a hash in the row that cannot be verified",
            "unusable",
            PASSWORD,
        )
        .tested("one", "unusable"),
        token("unknown_token", "a token of nobody", |_| "a-token-of-nobody-at-all".to_owned()),
        token("token_expired", "a token that has ended", |_| EXPIRED.to_owned()),
        case("unknown_nkey", "an nkey of nobody", |_| Value::Null),
        Case { is_signed: true, ..case("wrong_signature", "another signature", |_| Value::Null) },
        certificate("unknown_certificate", "a certificate of nobody", |site| &site.stranger),
        certificate("ambiguous_certificate", "a certificate with names of two users", |site| {
            &site.both
        }),
        password("user_suspended", "a suspended user", "suspended", PASSWORD)
            .tested("one", "suspended")
            .explained("suspended"),
        password("user_expired", "a user who has ended", "ended", PASSWORD)
            .tested("one", "ended")
            .explained("ended"),
        password("tenant_suspended", "a suspended tenant", "of-two", PASSWORD)
            .tested("two", "of-two")
            .explained("of-two"),
        password("tenant_expired", "a tenant that has ended", "of-three", PASSWORD)
            .tested("three", "of-three")
            .explained("of-three"),
        password("policy", "a policy that is not there", "astray", PASSWORD)
            .tested("one", "astray")
            .explained("astray"),
        password(
            "connection_type",
            "another type of connection than its policy lets in",
            "mqtt",
            PASSWORD,
        )
        .tested("one", "mqtt")
        .explained("mqtt"),
        password("address", "another address than its policy lets in", "elsewhere", PASSWORD)
            .tested("one", "elsewhere")
            .explained("elsewhere"),
        password("time", "another time than its policy lets in", "never", PASSWORD)
            .tested("one", "never")
            .explained("never"),
        password("placement", "an account that is not given to the tenant", "of-four", PASSWORD)
            .tested("four", "of-four")
            .explained("of-four"),
        password("too_large", "more permissions than a message holds", "large", PASSWORD)
            .tested("one", "large"),
        password("connections", "as many connections as the tenant may have", "of-five", PASSWORD)
            .tested("five", "of-five"),
    ]
}

fn of_tokens() -> Vec<Case> {
    let sign = |header: Value| {
        move |site: &Site| {
            let mut full = site.signer.header();
            full.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
            site.signer.sign_with(&full, &site.claims("sub", json!("gast")))
        }
    };
    let asked = |said: Value| {
        move |site: &Site| {
            let mut all = site.asked.claims("alice");
            all.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            let token = format!("ask_{}", URL_SAFE_NO_PAD.encode(said.to_string()));
            site.asked.says_of(&token, all);
            token
        }
    };
    vec![
        token("unknown_issuer", "a JWT of an issuer that is not configured", |site| {
            site.signer.sign(&site.claims("iss", json!("https://elsewhere.example.com")))
        }),
        token("invalid_token", "a JWT of more than 8 KB", |site| {
            site.signer.sign(&site.claims("more", json!("x".repeat(8_000))))
        }),
        token("invalid_token", "a JWT whose claims are none", |_| {
            format!("{}.c2ln", unsigned(&json!({ "alg": "EdDSA" }), &json!([])))
        }),
        token("invalid_token", "an `alg` that the issuer may not use", |site| {
            let header = json!({ "alg": "HS256", "typ": "JWT" });
            sign_with_secret(
                b"0123456789abcdef0123456789abcdef",
                &header,
                &site.claims("a", json!(1)),
            )
        }),
        token("invalid_token", "a `typ` of something else", sign(json!({ "typ": "logout+jwt" }))),
        token("invalid_token", "a `crit` that is not known", sign(json!({ "crit": ["b64"] }))),
        token(
            "invalid_token",
            "a `kid` that the issuer does not have",
            sign(json!({ "kid": "second" })),
        ),
        token("invalid_token", "more keys than are tried", |site| {
            let mut header = site.signer.header();
            header.as_object_mut().unwrap().remove("kid");
            site.signer.sign_with(&header, &site.many.claims("alice"))
        }),
        token("invalid_token", "a signature of somebody else", |site| {
            let other =
                crate::harness::issuer::Signer::new("first", jsonwebtoken::Algorithm::EdDSA);
            other.sign(&site.claims("a", json!(1)))
        }),
        claim("a JWT for somebody else", "aud", json!("account")),
        claim("a JWT without an end", "exp", json!(null)),
        claim("a JWT that does not hold yet", "nbf", json!("soon")),
        token("token_expired", "a JWT that has ended", |site| {
            site.signer.sign(&site.claims("exp", json!(seconds_from_now(-60))))
        }),
        claim("a JWT without its user", "sub", json!(null)),
        claim("a JWT without its tenant", "org", json!("no tenant")),
        token("unknown_user", "a JWT of a tenant that is not there", |site| {
            site.signer.sign(&site.claims("org", json!("nowhere")))
        }),
        claim("a JWT that chooses no policy", "roles", json!(["guest"])),
        case(
            "invalid_token",
            "a JWT beside another user's name",
            |site| json!({ "user": "alice", "auth_token": site.signer.sign(&site.claims("a", json!(1))) }),
        ),
        token(
            "unknown_token",
            "a token that its issuer says is not active",
            asked(json!({ "active": false })),
        ),
        token("invalid_token", "a token that its issuer says is another's", {
            asked(json!({ "active": true, "iss": "https://elsewhere.example.com" }))
        }),
        token(
            "invalid_token",
            "a token that renews others",
            asked(json!({ "active": true, "typ": "Refresh" })),
        ),
        token(
            "no reply",
            "a token that its issuer says nothing about",
            asked(json!({ "active": "perhaps" })),
        ),
        token("no reply", "a JWT of an issuer whose keys cannot be fetched", |site| {
            site.signer.sign(&site.claims("iss", json!("away")))
        }),
    ]
}

impl Case {
    /// Brings it about on both sites.
    pub(super) async fn row(&self, text: &Site, json: &Site) -> Row {
        let (client, number) = self.connect(text);
        let about = format!(" cid={number} ");
        let line = eventually(&self.what, || {
            let log = text.deployment.service.log();
            let line = log.lines().find(|it| it.contains(&about) && is_last_word(it));
            line.map(str::to_owned)
        });
        let (_, other) = self.connect(json);
        let as_json = eventually(&self.what, || {
            let log = json.deployment.service.log();
            let lines = log.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
            lines
                .filter(|it| it["cid"] == other)
                .find(|it| is_last_word(&it["message"].to_string()))
        });
        let is_answered = line.contains(" refused reason=");
        let reason = field(&line, "reason").unwrap_or_default();
        if self.reason != "no reply" {
            assert_eq!(
                (self.reason, is_answered),
                (reason.as_str(), true),
                "{}: {line}",
                self.what
            );
        }
        assert_eq!(as_json["reason"], reason.as_str(), "{}", self.what);
        let event = if is_answered { Some(self.event(text, number).await) } else { None };
        let (test, explain) = (self.test(text), self.explain(text));
        let put = |what: String| put(&what, text, number);
        let as_json = put_json(as_json, json, other);
        let row = Row {
            reason: if is_answered { reason } else { format!("no reply: {reason}") },
            client,
            line: put(line.split_once("Z ").map_or("", |(_, rest)| rest.trim_start()).to_owned()),
            json: as_json,
            event: event.map(put),
            test: test.map(put),
            explain: explain.map(put),
        };
        self.says_the_same(&row);
        row
    }

    /// What exactly is wrong, in the event and by the commands as in the log.
    fn says_the_same(&self, row: &Row) {
        let Some(detail) = field(&row.line, "detail").filter(|_| self.reason != "no_credentials")
        else {
            return;
        };
        for told in [&row.event, &row.test, &row.explain].into_iter().flatten() {
            // How long an answer would be is not measured without one.
            let told = told.replace("takes about ", "takes ");
            assert!(told.contains(&detail), "{}: not {detail} but {told}", self.what);
        }
    }

    fn connect(&self, site: &Site) -> (String, u64) {
        let port = site.deployment.server.port();
        let mut number = 0;
        if let Some(config) = self.certificate {
            let mut wire = Wire::tls(port, config(site));
            let number = wire.info["client_id"].as_u64().expect("a number");
            return (format!("-ERR '{}'", wire.login("", &(self.send)(site))), number);
        }
        let verdict = if self.reason.contains("nkey") || self.is_signed {
            let stranger = crate::nkey::Key::new();
            raw::connect_info(port, |info| {
                number = info["client_id"].as_u64().expect("a number");
                let nonce = info["nonce"].as_str().expect("a nonce");
                if self.is_signed {
                    site.key.fields("another nonce")
                } else {
                    stranger.fields(nonce)
                }
            })
        } else {
            let (verdict, at) = raw::connect_numbered(port, &(self.send)(site));
            number = at;
            verdict
        };
        let Verdict::Refused(words) = verdict else { panic!("{}: {verdict:?}", self.what) };
        (words.trim().to_owned(), number)
    }

    async fn event(&self, site: &Site, number: u64) -> String {
        let auth = site.events().await;
        let found = eventually_async(&self.what, || async {
            let all = stored(&auth, "AUTH_DECISIONS").await;
            all.into_iter().map(|it| it.event).find(|it| it["data"]["cid"] == number)
        });
        let event = found.await;
        let mut shown = event["data"].as_object().unwrap().clone();
        for name in ["organizationid", "subject"] {
            if let Some(value) = event.get(name) {
                shown.insert(name.to_owned(), value.clone());
            }
        }
        Value::Object(shown).to_string()
    }

    fn test(&self, site: &Site) -> Option<String> {
        let (tenant, user) = self.test?;
        let sent = (self.send)(site);
        let text = |name: &str| sent[name].as_str();
        let seen = match (text("pass"), text("auth_token")) {
            (Some(password), _) => {
                let args = [&[tenant][..], user.as_slice(), &["--password-stdin"]].concat();
                test_command(&site.deployment, &args, password)
            }
            (_, Some(token)) => {
                let args = [&[tenant][..], user.as_slice(), &["--token-stdin"]].concat();
                test_command(&site.deployment, &args, token)
            }
            _ => return None,
        };
        Some(match serde_json::from_str::<Value>(&seen.stdout) {
            Ok(said) => format!("{}: {}", said["reason"].as_str()?, said["message"].as_str()?),
            Err(_) => seen.stderr.trim().to_owned(),
        })
    }

    fn explain(&self, site: &Site) -> Option<String> {
        let explain = ["--json", "policy", "explain", "--address", "127.0.0.1", self.explain?];
        let seen = site.deployment.cli(&explain);
        let said: Value = serde_json::from_str(&seen.stdout).ok()?;
        let Some(reason) = said["reason"].as_str() else { return Some("admits".to_owned()) };
        let from = said["from"].as_str().map(|from| format!("{from}: ")).unwrap_or_default();
        Some(format!("{reason}: {from}{}", said["message"].as_str()?))
    }
}

fn is_last_word(line: &str) -> bool {
    line.contains("refused") || line.contains("no reply")
}

/// A text field of a line.
fn field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn put_json(line: Value, site: &Site, number: u64) -> String {
    put(&without_time(line), site, number)
}

fn put(text: &str, site: &Site, number: u64) -> String {
    let mut text = text.to_owned();
    for issuer in [&site.issuer, &site.asked, &site.many] {
        text = text.replace(&issuer.as_proxy(), "http://127.0.0.1:...");
    }
    let text = settled(&text, &site.deployment.dir());
    assert!(!text.contains(&format!("cid={number} ")), "{text}");
    text
}
