//! Who has the right password or token gets in, with every client library, and may do what the
//! policy says and nothing else.

use futures_util::StreamExt as _;

use super::{Bench, admitted, echo, scenario};
use crate::harness::choice::lacks;
use crate::harness::client::{self, Login};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::depth;

async fn async_nats(bench: &Bench) {
    let mode = bench.deployment.mode;
    for tenant in [&bench.one, &bench.two] {
        let Login::Password(name, _) = &tenant.user else { unreachable!("a password") };
        let echo = echo(mode, tenant.id);
        for login in [
            tenant.user.clone(),
            Login::Token(tenant.token.clone()),
            Login::password(name, &tenant.token),
        ] {
            let app = admitted(&bench.deployment, &login, tenant.id).await;
            app.round_trip(&echo).await;

            let mut requests = app.client.subscribe(echo.clone()).await.expect("subscribes");
            let answering = app.client.clone();
            tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    if let Some(reply) = request.reply {
                        let _ = answering.publish(reply, "pong".into()).await;
                    }
                }
            });
            let answer = app.client.request(echo.clone(), "ping".into()).await.expect("an answer");
            assert_eq!(answer.payload, "pong");
            assert_eq!(app.errors(), [""; 0], "nothing allowed is refused");

            app.client.publish("forbidden.subject", "x".into()).await.expect("is sent");
            app.violation(&["publish", "forbidden.subject"]).await;
            let _refused = app.client.subscribe("forbidden.>").await.expect("is sent");
            app.violation(&["subscription", "forbidden.>"]).await;
        }
        for login in [
            Login::password(name, "wrong"),
            Login::password("nobody", "wrong"),
            Login::Token("wrong".to_owned()),
            Login::Nothing,
        ] {
            client::refused(&bench.deployment.url(), &login).await;
        }
    }
}

/// With a password; a token is no other login to a library, and `jwt` sends one with each.
fn other_languages(bench: &Bench) {
    let mode = bench.deployment.mode;
    let tenant = &bench.one;
    let url = bench.deployment.url();
    let scenario = scenario(mode, tenant.id);
    for language in [Language::Python, Language::Node, Language::Go] {
        let logins = [tenant.user.clone(), Login::Token(tenant.token.clone())];
        for login in logins.into_iter().take(depth(1, 2)) {
            let Some(seen) = clients::login(language, &url, &login, &scenario) else { continue };
            let what = format!("{language:?} {login:?}: {seen:?}");
            assert!(seen.connected, "{what}\n{}", bench.deployment.service.log());
            assert_eq!(seen.error, None, "{what}");
            assert_eq!(seen.received, ["hello"], "{what}");
            assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{what}");
            assert_eq!(seen.violations.len(), 2, "{what}");
        }
        let wrong = Login::Token("wrong".to_owned());
        if depth(mode == Mode::Config, true)
            && let Some(seen) = clients::login(language, &url, &wrong, &scenario)
        {
            assert!(!seen.connected, "{language:?}: {seen:?}");
        }
    }
}

/// The license server's own statement, and a login a moment later, with no account known before.
async fn inserted_by_sql(deployment: &Deployment) {
    let hash = bcrypt::hash("s3cret", 5).expect("a hash");
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '{hash}');"
    ));
    let alice = admitted(deployment, &Login::password("alice", "s3cret"), "42").await;
    alice.client.publish("user.42.Events", "{}".into()).await.expect("is sent");
    let notifications = match deployment.mode {
        Mode::Operator => "Notifications",
        Mode::Config => "user.42.Notifications",
    };
    let _notifications = alice.client.subscribe(notifications).await.expect("is sent");
    alice.client.publish("forbidden.subject", "x".into()).await.expect("is sent");
    alice.violation(&["publish", "forbidden.subject"]).await;
    assert_eq!(alice.errors().len(), 1, "{:?}", alice.errors());
}

async fn get_in(mode: Mode) {
    if lacks(mode) {
        return;
    }
    let bench = Bench::start(mode);
    inserted_by_sql(&bench.deployment).await;
    other_languages(&bench);
    // Its clients go on answering.
    async_nats(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_library_and_at_once_a_tenant_inserted_by_sql_in_operator_mode() {
    get_in(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_library_and_at_once_a_tenant_inserted_by_sql_in_config_mode() {
    get_in(Mode::Config).await;
}
