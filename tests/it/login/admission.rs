//! Who has the right password or token gets in, with every client library, and may do what the
//! policy says and nothing else.

use futures_util::StreamExt as _;

use super::{Bench, admitted, echo, scenario};
use crate::harness::client::Login;
use crate::harness::clients::{self, Language};
use crate::harness::deployment::{Deployment, Mode};

async fn async_nats(mode: Mode) {
    let bench = Bench::start(mode);
    let tenant = &bench.one;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn async_nats_in_operator_mode() {
    async_nats(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn async_nats_in_config_mode() {
    async_nats(Mode::Config).await;
}

fn other_languages(mode: Mode) {
    let bench = Bench::start(mode);
    let tenant = &bench.one;
    let url = bench.deployment.url();
    let scenario = scenario(mode, tenant.id);
    for language in [Language::Python, Language::Node, Language::Go] {
        for login in [tenant.user.clone(), Login::Token(tenant.token.clone())] {
            let Some(seen) = clients::login(language, &url, &login, &scenario) else { continue };
            let what = format!("{language:?} {login:?}: {seen:?}");
            assert!(seen.connected, "{what}\n{}", bench.deployment.service.log());
            assert_eq!(seen.error, None, "{what}");
            assert_eq!(seen.received, ["hello"], "{what}");
            assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{what}");
            assert_eq!(seen.violations.len(), 2, "{what}");
        }
        let wrong = Login::Token("wrong".to_owned());
        if let Some(seen) = clients::login(language, &url, &wrong, &scenario) {
            assert!(!seen.connected, "{language:?}: {seen:?}");
        }
    }
}

#[test]
fn python_node_and_go_in_operator_mode() {
    other_languages(Mode::Operator);
}

#[test]
fn python_node_and_go_in_config_mode() {
    other_languages(Mode::Config);
}

/// The license server's own statement, and a login a moment later, with no account known before.
async fn inserted_by_sql(mode: Mode) {
    let deployment = Deployment::start(mode);
    let hash = bcrypt::hash("s3cret", 5).expect("a hash");
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '{hash}');"
    ));
    let alice = admitted(&deployment, &Login::password("alice", "s3cret"), "42").await;
    alice.client.publish("user.42.Events", "{}".into()).await.expect("is sent");
    let notifications = match mode {
        Mode::Operator => "Notifications",
        Mode::Config => "user.42.Notifications",
    };
    let _notifications = alice.client.subscribe(notifications).await.expect("is sent");
    alice.client.publish("forbidden.subject", "x".into()).await.expect("is sent");
    alice.violation(&["publish", "forbidden.subject"]).await;
    assert_eq!(alice.errors().len(), 1, "{:?}", alice.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_inserted_by_sql_logs_in_at_once_in_operator_mode() {
    inserted_by_sql(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_inserted_by_sql_logs_in_at_once_in_config_mode() {
    inserted_by_sql(Mode::Config).await;
}
