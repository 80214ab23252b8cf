//! What is done to be refused, and what is seen of it.

use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};

use super::settled::{settled, without_time};
use super::site::{EXPIRED, OF_ANOTHER, PASSWORD, Site};
use super::tokens;
use crate::callout_scenarios::wire::Wire;
use crate::events::stored;
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, eventually_async};
use crate::jwt::test_command;

/// What the log says of a grant that its server does not take.
const NOT_LET_IN: &str = "granted, and not let in by its server";

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

pub(super) fn case(
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
pub(super) fn token(
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

impl Case {
    pub(super) fn tested(self, tenant: &'static str, user: &'static str) -> Self {
        Self { test: Some((tenant, Some(user))), ..self }
    }

    fn explained(self, user: &'static str) -> Self {
        Self { explain: Some(user), ..self }
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = of_the_table();
    all.extend(tokens::all());
    all
}

fn of_the_table() -> Vec<Case> {
    vec![
        case("no_credentials", "nothing", |_| json!({})),
        password("no_credentials", "a user name alone", "alice", "").tested("one", "alice"),
        password("unknown_user", "a user who is not there", "nobody", "wrong")
            .tested("one", "nobody"),
        password("wrong_password", "another password", "alice", "wrong").tested("one", "alice"),
        password("wrong_password", "a user whose row has no password", "first", PASSWORD)
            .tested("one", "first"),
        password(
            "unusable_hash",
            "a hash in the row that cannot be verified",
            "unusable",
            PASSWORD,
        )
        .tested("one", "unusable"),
        token("unknown_token", "a token of nobody", |_| "a-token-of-nobody-at-all".to_owned()),
        token("unknown_token", "a token of fewer than 16 characters", |_| "short".to_owned()),
        case(
            "unknown_token",
            "a token beside another user's name",
            |_| json!({ "user": "alice", "auth_token": OF_ANOTHER }),
        )
        .tested("one", "alice"),
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
        password("policy", "a policy that wants a claim of a JWT", "teamless", PASSWORD)
            .tested("one", "teamless")
            .explained("teamless"),
        password(
            "policy",
            "a policy with a user name that is no subject token",
            "with.dots",
            PASSWORD,
        )
        .tested("one", "with.dots")
        .explained("with.dots"),
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
        password("granted", "an account that its server does not have", "of-six", PASSWORD),
        password("connections", "as many connections as the tenant may have", "of-five", PASSWORD)
            .tested("five", "of-five"),
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
        let is_answered = !line.contains("no reply");
        let reason = field(&line, "reason").unwrap_or_default();
        let is_granted = line.contains(NOT_LET_IN);
        assert_eq!(is_granted, self.reason == "granted", "{}: {line}", self.what);
        if !["no reply", "granted"].contains(&self.reason) {
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
            reason: match (is_granted, is_answered) {
                (true, _) => "granted, and not let in".to_owned(),
                (_, true) => reason,
                (_, false) => format!("no reply: {reason}"),
            },
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
            let is_last = |it: &Value| {
                let is_rejected = it["type"] == "auth.decision.rejected";
                it["data"]["cid"] == number && (is_rejected || self.reason != "granted")
            };
            all.into_iter().map(|it| it.event).find(is_last)
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
    ["refused", "no reply", NOT_LET_IN].iter().any(|words| line.contains(words))
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
