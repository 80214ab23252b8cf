//! Who has no right to get in is told so at once, and always in the same words.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, admitted};
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::harness::raw::{self, Verdict};

/// Far below the two seconds that a server waits for an answer, with room for a password hash on a
/// busy machine.
const AT_ONCE: Duration = Duration::from_millis(1_500);

fn refusals(mode: Mode) {
    let bench = Bench::start(mode);
    let deployment = &bench.deployment;
    let port = deployment.server.port();
    let Login::Password(user, password) = &bench.one.user else { unreachable!("a password") };
    let Login::Password(other, _) = &bench.two.user else { unreachable!("a password") };

    let verdict = |credentials: &Value| raw::connect(port, credentials).0;
    assert_eq!(verdict(&bench.one.user.connect_fields()), Verdict::Admitted);
    assert_eq!(verdict(&bench.two.user.connect_fields()), Verdict::Admitted);

    deployment.sql(&format!("UPDATE users SET status = 'suspended' WHERE name = '{other}';"));
    eventually("the suspension", || {
        (verdict(&bench.two.user.connect_fields()) != Verdict::Admitted).then_some(())
    });

    let cases = [
        ("wrong password", json!({"user": user, "pass": "wrong"})),
        ("empty password", json!({"user": user, "pass": ""})),
        ("no password", json!({"user": user})),
        ("password of another user", json!({"user": other, "pass": password})),
        ("password in another case", json!({"user": user.to_uppercase(), "pass": password})),
        ("unknown user", json!({"user": "nobody", "pass": password})),
        ("user with a space", json!({"user": format!("{user} "), "pass": password})),
        ("wildcard user", json!({"user": ">", "pass": password})),
        ("long user", json!({"user": "u".repeat(2_000), "pass": password})),
        ("empty credentials", json!({"user": "", "pass": ""})),
        ("no credentials", json!({})),
        ("empty token", json!({"auth_token": ""})),
        ("unknown token", json!({"auth_token": "wrong"})),
        ("cut token", json!({"auth_token": bench.one.token[..bench.one.token.len() - 1]})),
        ("token of a suspended user", json!({"auth_token": bench.two.token})),
        ("suspended user", bench.two.user.connect_fields()),
        ("another's token as password", json!({"user": other, "pass": bench.one.token})),
    ];
    let mut words = None;
    for (what, credentials) in cases {
        let (verdict, took) = raw::connect(port, &credentials);
        let Verdict::Refused(refusal) = verdict else { panic!("{what} was admitted") };
        assert!(took < AT_ONCE, "{what} took {took:?}\n{}", deployment.service.log());
        let words = words.get_or_insert_with(|| refusal.clone());
        assert_eq!(&refusal, words, "{what}");
    }
    assert_eq!(words.as_deref(), Some("-ERR 'Authorization Violation'\r\n"));
    assert_eq!(verdict(&bench.one.user.connect_fields()), Verdict::Admitted);
}

#[test]
fn every_refusal_is_instant_and_the_same_in_operator_mode() {
    refusals(Mode::Operator);
}

#[test]
fn every_refusal_is_instant_and_the_same_in_config_mode() {
    refusals(Mode::Config);
}

async fn suspension_ends(mode: Mode) {
    let bench = Bench::start(mode);
    let deployment = &bench.deployment;
    let id = bench.one.id;
    let set = |status: &str| {
        deployment.sql(&format!("UPDATE tenants SET status = '{status}' WHERE id = '{id}';"));
    };
    let port = deployment.server.port();
    let is_admitted =
        || raw::connect(port, &bench.one.user.connect_fields()).0 == Verdict::Admitted;
    set("suspended");
    eventually("the suspension of the tenant", || (!is_admitted()).then_some(()));
    client::refused(&deployment.url(), &bench.one.admin).await;
    client::refused(&deployment.url(), &Login::Token(bench.one.token.clone())).await;
    client::refused(&deployment.url(), &Login::Nothing).await;
    set("active");
    eventually("the end of the suspension", || is_admitted().then_some(()));
    admitted(deployment, &bench.one.admin, id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_until_it_is_resumed_in_operator_mode() {
    suspension_ends(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_until_it_is_resumed_in_config_mode() {
    suspension_ends(Mode::Config).await;
}
