//! Who has no right to get in is told so by us, and always in the same words.

use serde_json::{Value, json};

use super::{Bench, admitted};
use crate::harness::choice::either_mode;
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::harness::raw::{self, Verdict};

fn refusals(bench: &Bench) {
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
    // What is decided is in the log before the server hears of it, and nothing is decided after the
    // time that a server waits.
    let decided = || deployment.service.log().matches(" refused reason=").count();
    let mut words = None;
    for (what, credentials) in cases {
        let before = decided();
        let Verdict::Refused(refusal) = verdict(&credentials) else {
            panic!("{what} was admitted")
        };
        let log = deployment.service.log();
        eventually(&format!("{what}: a decision in\n{log}"), || (decided() > before).then_some(()));
        let words = words.get_or_insert_with(|| refusal.clone());
        assert_eq!(&refusal, words, "{what}");
    }
    assert_eq!(words.as_deref(), Some("-ERR 'Authorization Violation'\r\n"));
    assert_eq!(verdict(&bench.one.user.connect_fields()), Verdict::Admitted);
}

async fn suspension_ends(bench: &Bench) {
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

async fn are_refused(mode: Mode) {
    let bench = Bench::start(mode);
    refusals(&bench);
    suspension_ends(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_the_same_and_a_tenants_ends_when_it_is_resumed() {
    for mode in either_mode() {
        are_refused(mode).await;
    }
}
