//! Those who may do much where they are: the admin of an own account, and BB itself.

use std::time::Duration;

use serde_json::{Value, json};

use super::{App, Field};
use crate::harness::client::{self, Connected};
use crate::harness::deployment::Mode;
use crate::harness::eventually_async;

/// The admin of an own account, who may do everything there, and does.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_made_in_an_own_account_leads_out_of_it() {
    let mut field = Field::start(Mode::Operator).await;
    let login = field.deployment.tenant_add("a-admin", &["--memory", "8MB", "--storage", "64MB"]);
    let admin = client::connect(&field.deployment.url(), &login, "_INBOX").await.expect("connects");
    let streams = streams(&field.victims);
    let mut names = Vec::new();
    for (at, config) in streams.iter().enumerate() {
        // Those that copy are told apart by their names.
        let kind = if config.get("subjects").is_some() { "S" } else { "COPY" };
        let name = format!("{kind}{at}");
        let mut config = config.clone();
        config["name"] = json!(name);
        config["max_bytes"] = json!(1 << 20);
        // Of copies the server refuses some, which is as well.
        let made = ask(&admin, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
        assert!(kind == "COPY" || made["config"]["name"] == name, "{config}: {made}");
        // Where its own events go too, which a consumer sends under the stored subject.
        let own = ["Events", "user.a-admin.Events"].map(str::to_owned);
        for deliver in field.victims.iter().flat_map(subjects).chain(own) {
            let durable = format!("C{}", deliver.replace('.', "_"));
            let body = json!({ "stream_name": name, "config": {
                "durable_name": durable, "deliver_subject": deliver, "ack_policy": "none" } });
            let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.{durable}");
            ask(&admin, &subject, &body).await;
        }
        names.push(name);
    }
    let mut stored = ["own.x", "bb.x", "Notifications"].map(str::to_owned).to_vec();
    for (at, victim) in field.victims.iter().enumerate() {
        stored.extend(["r", "s"].map(|kind| format!("{kind}{at}.x")));
        stored.extend(["Events", "Notifications"].map(|name| format!("t{at}.{name}")));
        stored.extend(["Events", "x"].map(|name| format!("user.{}.{name}", victim.id)));
    }
    for subject in stored {
        admin.client.publish(subject, "forged".into()).await.expect("is sent");
    }
    for target in field.targets() {
        admin.client.publish(target.clone(), "forged".into()).await.expect("is sent");
        let events = "Events".to_owned();
        admin.client.publish_with_reply(events, target, "own".into()).await.expect("is sent");
    }
    admin.round_trip("done").await;
    names.retain(|name| name.starts_with("COPY"));
    hold_nothing(&admin, &names).await;
    field.unharmed_by("a-admin", admin).await;
}

/// What might lead to these, and copy what is theirs, AUTH's or BB's.
fn streams(victims: &[App]) -> Vec<Value> {
    let mut streams = vec![
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
    for (at, App { id, .. }) in victims.iter().enumerate() {
        let [r, s, t] = [format!("r{at}.x"), format!("s{at}.*"), format!("t{at}.>")];
        streams.extend([
            json!({ "subjects": [r], "republish": { "src": r, "dest": format!("user.{id}.Events") } }),
            json!({ "subjects": [s],
                "republish": { "src": s, "dest": format!("user.{id}.Notifications") } }),
            json!({ "subjects": [t],
                "subject_transform": { "src": t, "dest": format!("user.{id}.>") } }),
            json!({ "subjects": [format!("user.{id}.>")] }),
        ]);
    }
    streams
}

/// The subjects of a victim that something might be sent to.
pub(super) fn subjects(victim: &App) -> [String; 4] {
    let id = &victim.id;
    [
        format!("user.{id}.Events"),
        format!("user.{id}.Notifications"),
        format!("own.{id}.Events"),
        format!("bb.{id}.Events"),
    ]
}

/// None of these streams has got anything, when one that copies what is its own has: that is made after
/// all of those.
pub(super) async fn hold_nothing(admin: &Connected, names: &[String]) {
    let mine = json!({ "name": "MINE", "subjects": ["mine"], "max_bytes": 1 << 20 });
    admin.jetstream("$JS.API.STREAM.CREATE.MINE", &mine).await;
    admin.jetstream("mine", &json!("own")).await;
    let own = json!({ "name": "OWN", "mirror": { "name": "MINE" }, "max_bytes": 1 << 20 });
    admin.jetstream("$JS.API.STREAM.CREATE.OWN", &own).await;
    let messages = async |name: &str| {
        let info = ask(admin, &format!("$JS.API.STREAM.INFO.{name}"), &json!({})).await;
        (info["state"]["messages"].as_u64().unwrap_or_default(), info)
    };
    eventually_async("the own mirror's message", || async {
        (messages("OWN").await.0 > 0).then_some(())
    })
    .await;
    assert!(!names.is_empty());
    for name in names {
        let (messages, info) = messages(name).await;
        assert_eq!(messages, 0, "{name}: {info}");
    }
}

/// A request to JetStream whose answer may be an error, or none.
pub(super) async fn ask(connected: &Connected, subject: &str, body: &Value) -> Value {
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
