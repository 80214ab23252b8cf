//! Those who may do much where they are: the admin of an own account, and BB itself.

use std::time::Duration;

use serde_json::{Value, json};

use super::{App, Field, Isolation};
use crate::harness::client::{self, Connected};
use crate::harness::deployment::Mode;
use crate::harness::eventually_async;

/// The admin of an own account, who may do everything there, and does.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_made_in_an_own_account_leads_out_of_it() {
    let mut field = Field::start(Mode::Operator).await;
    let login = field.deployment.tenant_add("a-admin", &["--memory", "8MB", "--storage", "64MB"]);
    let admin = client::connect(&field.deployment.url(), &login, "_INBOX").await.expect("connects");
    let victim = field.victims[0].id.clone();

    let streams = [
        json!({ "subjects": ["r.>"], "republish": { "src": "r.>", "dest": format!("user.{victim}.Events") } }),
        json!({ "subjects": ["s.>"], "republish": { "src": ">", "dest": format!("user.{victim}.Notifications") } }),
        json!({ "subjects": ["t.>"], "subject_transform": { "src": "t.>", "dest": format!("user.{victim}.>") } }),
        json!({ "subjects": [format!("user.{victim}.>")] }),
        json!({ "subjects": ["own.>"] }),
        json!({ "subjects": ["bb.>"] }),
        json!({ "subjects": ["_R_.>"] }),
        json!({ "mirror": { "name": "ReceivedEvents" } }),
        json!({ "mirror": { "name": "ReceivedEvents",
            "external": { "api": "JS.bb.API", "deliver": "mirror.x" } } }),
        json!({ "sources": [{ "name": "ReceivedEvents",
            "external": { "api": "$JS.API", "deliver": "user.x" } }] }),
        json!({ "sources": [{ "name": "AUTH_EVENTS",
            "external": { "api": "JS.auth.API", "deliver": "mirror.auth" } }] }),
    ];
    for (at, config) in streams.iter().enumerate() {
        let name = format!("S{at}");
        let mut config = config.clone();
        config["name"] = json!(name);
        config["max_bytes"] = json!(1 << 20);
        // Some of them the server refuses, which is as well.
        ask(&admin, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
        for deliver in [
            format!("user.{victim}.Events"),
            format!("user.{victim}.Notifications"),
            format!("own.{victim}.Events"),
            // Where its own events go, which a consumer sends under the stored subject.
            "Events".to_owned(),
            "user.a-admin.Events".to_owned(),
        ] {
            let durable = format!("C{}", deliver.replace('.', "_"));
            let body = json!({ "stream_name": name, "config": {
                "durable_name": durable, "deliver_subject": deliver, "ack_policy": "none" } });
            let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.{durable}");
            ask(&admin, &subject, &body).await;
        }
    }
    let stored = [format!("user.{victim}.Events"), format!("user.{victim}.x")];
    let subjects = ["r.x", "s.x", "t.Events", "t.Notifications", "own.x", "bb.x", "Notifications"];
    for subject in subjects.map(str::to_owned).into_iter().chain(stored) {
        admin.client.publish(subject, "forged".into()).await.expect("is sent");
    }
    for target in field.targets() {
        admin.client.publish(target.clone(), "forged".into()).await.expect("is sent");
        let events = "Events".to_owned();
        admin.client.publish_with_reply(events, target, "own".into()).await.expect("is sent");
    }
    admin.round_trip("done").await;
    // A mirror of what is its own, made after all of those, has been given it: so would they have.
    let kept = json!({ "name": "KEPT", "subjects": ["kept"], "max_bytes": 1 << 20 });
    admin.jetstream("$JS.API.STREAM.CREATE.KEPT", &kept).await;
    admin.jetstream("kept", &json!("own")).await;
    let own = json!({ "name": "OWN", "mirror": { "name": "KEPT" }, "max_bytes": 1 << 20 });
    admin.jetstream("$JS.API.STREAM.CREATE.OWN", &own).await;
    let messages = async |name: &str| {
        let info = ask(&admin, &format!("$JS.API.STREAM.INFO.{name}"), &json!({})).await;
        (info["state"]["messages"].as_u64().unwrap_or_default(), info)
    };
    eventually_async("the own mirror's message", || async {
        (messages("OWN").await.0 > 0).then_some(())
    })
    .await;
    for at in 7..=10 {
        let (messages, info) = messages(&format!("S{at}")).await;
        assert_eq!(messages, 0, "S{at}: {info}");
    }
    // Its own events are its to forge; they come under its name.
    let attackers = field.attackers.len();
    field.attackers.push(App {
        id: "a-admin".to_owned(),
        isolation: Isolation::Own,
        connected: admin,
    });
    assert_eq!(field.attackers.len(), attackers + 1);
    field.unharmed().await;
}

/// A request to JetStream whose answer may be an error, or none.
async fn ask(connected: &Connected, subject: &str, body: &Value) -> Value {
    let request = async_nats::Request::new()
        .payload(body.to_string().into())
        .timeout(Some(Duration::from_secs(2)));
    match connected.client.send_request(subject.to_owned(), request).await {
        Ok(answer) => serde_json::from_slice(&answer.payload).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// BB reads the streams that the service keeps, and does nothing else to them.
pub(super) async fn bb_may_not_touch_the_streams(field: &mut Field) {
    let bb = field.backend.connected.clone();
    for action in ["CREATE", "UPDATE", "PURGE", "DELETE", "RESTORE", "MSG.DELETE"] {
        let subject = format!("$JS.API.STREAM.{action}.ReceivedEvents");
        bb.client.publish(subject.clone(), "{}".into()).await.expect("is sent");
        bb.violation(&["publish", &format!("\"{subject}\"")]).await;
    }
    // Another stream that takes the events before they are stored.
    for subject in ["user.*.Events", "user.>", ">"] {
        let config = json!({ "name": "OTHER", "subjects": [subject] });
        let answer = ask(&bb, "$JS.API.STREAM.CREATE.OTHER", &config).await;
        assert!(answer.get("error").is_some(), "{subject}: {answer}");
    }
    field.unharmed().await;
}
