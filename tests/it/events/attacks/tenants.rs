//! Tenants have no way to AUTH's events.

use futures_util::StreamExt as _;
use serde_json::json;

use super::{STREAMS, SUBJECTS};
use crate::events::{holds, login, published, stored};
use crate::harness::PATIENCE;
use crate::harness::choice::lacks;
use crate::harness::client::{self, Connected};
use crate::harness::deployment::{Deployment, Mode};

/// Returns once the server has seen everything that was sent.
async fn settled(connected: &Connected, tenant: &str, own: bool) {
    match own {
        true => drop(connected.jetstream("$JS.API.INFO", &json!({})).await),
        false => connected.round_trip(&format!("user.{tenant}.settled")).await,
    }
}

/// Tenants have no way to either: not by publishing, nor by the reply subject of an event, of a
/// question to JetStream, or of a question of BB's that they answer.
async fn tenants_forge_nothing(mode: Mode) {
    if lacks(mode) {
        return;
    }
    let deployment = Deployment::start(mode);
    let (auth, bb) = (login(&deployment, mode, "auth").await, login(&deployment, mode, "bb").await);
    let mut kinds = vec!["shared"];
    if mode == Mode::Operator {
        kinds.push("account");
    }
    let mut logins = Vec::new();
    for kind in kinds {
        let tenant = format!("t-{kind}");
        let extra: &[&str] = match mode {
            Mode::Operator => &["--isolation", kind],
            Mode::Config => &[],
        };
        logins.push((tenant.clone(), kind, deployment.tenant_add(&tenant, extra)));
        let app = deployment.user_add(&tenant, &format!("{tenant}-app"), &["--kind", "bb"]);
        logins.push((tenant, kind, app));
    }
    published(&deployment).await;
    let before = stored(&auth, "AUTH_EVENTS").await.len();
    let mut connections = Vec::new();
    for (tenant, kind, login) in &logins {
        let prefix = format!("_INBOX_{tenant}");
        let own = *kind == "account";
        let connected = client::connect(&deployment.url(), login, &prefix).await.expect("connects");
        let events = if own { "Events".to_owned() } else { format!("user.{tenant}.Events") };
        for subject in SUBJECTS {
            let client = &connected.client;
            client.publish(subject, "{}".into()).await.expect("is sent");
            for question in [events.as_str(), "$JS.API.INFO", "$JS.API.STREAM.INFO.AUTH_EVENTS"] {
                let (question, reply) = (question.to_owned(), subject.to_owned());
                client.publish_with_reply(question, reply, "{}".into()).await.expect("is sent");
            }
        }
        for stream in STREAMS {
            for subject in [
                format!("JS.auth.API.CONSUMER.CREATE.{stream}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.evil"),
                format!("$JS.API.STREAM.DELETE.{stream}"),
            ] {
                connected.client.publish(subject, "{}".into()).await.expect("is sent");
            }
        }
        let notifications =
            if own { "Notifications".to_owned() } else { format!("user.{tenant}.Notifications") };
        let mut questions = connected.client.subscribe(notifications).await.expect("subscribes");
        let client = connected.client.clone();
        let answering = tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                if question.payload == "last" {
                    return;
                }
                if let Some(reply) = question.reply {
                    let _ = client.publish(reply, "{\"forged\":true}".into()).await;
                }
            }
        });
        settled(&connected, tenant, own).await;
        connections.push((connected, tenant, own, answering));
    }
    for (tenant, _, _) in &logins {
        for subject in SUBJECTS {
            let question = format!("user.{tenant}.Notifications");
            let reply = subject.to_owned();
            let client = &bb.client;
            client.publish_with_reply(question, reply, "{}".into()).await.expect("is sent");
        }
    }
    // Until each has answered all of that, and the server has seen it.
    for (tenant, _, _) in &logins {
        let subject = format!("user.{tenant}.Notifications");
        bb.client.publish(subject, "last".into()).await.expect("is sent");
    }
    for (connected, tenant, own, answering) in connections {
        tokio::time::timeout(PATIENCE, answering)
            .await
            .expect("a last question")
            .expect("no panic");
        settled(&connected, tenant, own).await;
    }
    holds(&auth, "AUTH_EVENTS", before).await;
    let decisions = holds(&auth, "AUTH_DECISIONS", logins.len()).await;
    for decision in decisions {
        assert_eq!(decision.subject, "auth.decision.granted", "{}", decision.line());
    }
    // Nothing is suppressed either.
    deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 't-shared'");
    let events = holds(&auth, "AUTH_EVENTS", before + 1).await;
    assert_eq!(events[before].event["data"]["status"], "suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_forge_nothing_in_operator_mode() {
    tenants_forge_nothing(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_forge_nothing_in_config_mode() {
    tenants_forge_nothing(Mode::Config).await;
}
