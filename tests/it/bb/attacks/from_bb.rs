//! BB against tenants: whatever its streams and consumers are told to do, a tenant hears what was
//! addressed to it as a notification, and nothing else; what it keeps stays, and no event is its that
//! it has not sent.
//!
//! What BB itself publishes as `user.<id>.Events` in its own account is its own affair.

use async_nats::Subscriber;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::features::{Keeper, with_alice};
use super::powers::ask;
use super::{App, Field, Isolation, next};
use crate::bb::answer;
use crate::harness::PATIENCE;
use crate::harness::client::Connected;
use crate::harness::deployment::Mode;

/// The tenant whose answers are BB's to ask for.
const WITH_ANSWERS: &str = "v-answers";

/// A victim, what it hears as notifications, and what it hears of everything it may.
struct Victim {
    id: String,
    notifications: Subscriber,
    all: Vec<Subscriber>,
    keeper: Option<Keeper>,
    answers: bool,
    /// What is addressed to it, and has to come.
    expected: Vec<String>,
    /// The same that newer servers keep back.
    possible: Vec<String>,
}

impl Victim {
    async fn start(field: &Field, app: &App) -> Self {
        let id = app.id.clone();
        let answers = id == WITH_ANSWERS;
        let notifications = app.notifications().await;
        let (keeper, all) = match app.isolation {
            Isolation::Own => {
                let keeper = Keeper::beside(field, &id).await;
                // It keeps its notifications. Where they come with BB's replies, it acknowledges none.
                let notes = json!({ "name": "NOTES", "subjects": ["Notifications"],
                    "no_ack": !answers, "max_bytes": 1 << 18 });
                keeper.connected.jetstream("$JS.API.STREAM.CREATE.NOTES", &notes).await;
                let all = hears(&keeper.connected, &[">".to_owned()]).await;
                keeper.connected.settled().await;
                (Some(keeper), all)
            }
            Isolation::Shared => {
                let subjects = [format!("user.{id}.>"), format!("_INBOX_{id}.x")];
                let all = hears(&app.connected, &subjects).await;
                app.settled().await;
                (None, all)
            }
        };
        let (expected, possible) = (Vec::new(), Vec::new());
        Self { id, notifications, all, keeper, answers, expected, possible }
    }

    /// Panics unless it has heard what was addressed to it, each once, and that alone.
    async fn judge(&mut self, field: &Field) {
        let mut heard = Vec::new();
        let mut missing = self.expected.clone();
        while !missing.is_empty() {
            let heard_next = tokio::time::timeout(PATIENCE, self.notifications.next()).await;
            let Ok(Some(message)) = heard_next else { panic!("{} misses {missing:#?}", self.id) };
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            missing.retain(|other| *other != text);
            heard.push(text);
        }
        field.backend.notify(&self.id, "end").await;
        loop {
            match next(&mut self.notifications).await.1 {
                text if text == "end" => break,
                text => heard.push(text),
            }
        }
        self.expected.extend(self.possible.iter().filter(|it| heard.contains(it)).cloned());
        heard.sort();
        self.expected.sort();
        assert_eq!(heard, self.expected, "{}", self.id);
        let mut everywhere = Vec::new();
        // The first of them hears notifications too, and so the last.
        loop {
            match next(&mut self.all[0]).await.1 {
                text if text == "end" => break,
                text => everywhere.extend(text.contains("forged").then_some(text)),
            }
        }
        for ear in &mut self.all {
            while let Some(Some(message)) = ear.next().now_or_never() {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                everywhere.extend(text.contains("forged").then_some(text));
            }
        }
        everywhere.sort();
        assert_eq!(everywhere, heard, "{}", self.id);
        if let Some(keeper) = &self.keeper {
            keeper.unharmed().await;
        }
    }
}

async fn hears(by: &Connected, subjects: &[String]) -> Vec<Subscriber> {
    let mut ears = Vec::new();
    for subject in subjects {
        ears.push(by.client.subscribe(subject.clone()).await.expect("subscribes"));
    }
    ears
}

/// What BB has no business with.
fn elsewhere(victims: &[Victim]) -> Vec<String> {
    let mut all: Vec<String> = [
        "Events",
        "Notifications",
        "kept",
        "_R_.x",
        "$KV.KEPT.key",
        "$JS.API.STREAM.DELETE.KEPT",
        "$JS.API.STREAM.PURGE.KEPT",
        "$JS.FC.KEPT.x",
    ]
    .map(str::to_owned)
    .to_vec();
    for Victim { id, .. } in victims {
        all.extend([
            format!("own.{id}.Events"),
            format!("bb.{id}.Events"),
            format!("_INBOX_{id}.x"),
            format!("user.{id}.x"),
            format!("JS.{id}.API.STREAM.DELETE.KEPT"),
        ]);
    }
    all
}

/// Makes a stream; whether the server has taken it.
async fn stream(bb: &Connected, name: &str, mut config: Value) -> bool {
    config["name"] = json!(name);
    config["storage"] = json!("memory");
    let made = ask(bb, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
    made["config"]["name"] == *name
}

/// What newer servers keep from replies, and refuse to streams.
fn is_reserved(subject: &str) -> bool {
    subject.starts_with("$JS.") || subject.starts_with("_R_.")
}

/// Published by itself, by streams of these subjects, and by streams that publish again.
async fn to_elsewhere(bb: &Connected, victims: &[Victim]) {
    for (at, subject) in elsewhere(victims).into_iter().enumerate() {
        let source = format!("again.{at}");
        let again = json!({ "src": source, "dest": subject });
        for (kind, config) in [
            ("S", json!({ "subjects": [subject] })),
            ("R", json!({ "subjects": [source], "republish": again })),
        ] {
            let known = stream(bb, &format!("{kind}{at}"), config).await;
            assert!(known || is_reserved(&subject), "{kind}: {subject}");
        }
        for to in [subject, source] {
            bb.client.publish(to, "forged to nobody".into()).await.expect("is sent");
        }
    }
}

/// To each victim, under every other name: by push consumers, by streams that publish again, and as
/// requests to be answered to others. Gives what has to stay while that goes on.
async fn to_each(bb: &Connected, victims: &mut [Victim]) -> Vec<Subscriber> {
    let mut names = elsewhere(victims);
    for Victim { id, .. } in &*victims {
        names.extend(["Notifications", "Events"].map(|name| format!("user.{id}.{name}")));
    }
    let mut ears = Vec::new();
    for (to, victim) in victims.iter_mut().enumerate() {
        let notifications = format!("user.{}.Notifications", victim.id);
        // A consumer sees nobody behind BB's import, but would BB itself.
        ears.extend(hears(bb, std::slice::from_ref(&notifications)).await);
        for (at, name) in names.iter().enumerate() {
            let (pushed, source) = (format!("P{to}-{at}"), format!("push.{to}.{at}"));
            let transform = json!({ "src": source, "dest": name });
            let config = json!({ "subjects": [source], "subject_transform": transform });
            let mut known = stream(bb, &pushed, config).await;
            let consumer = json!({ "stream_name": pushed, "config": { "durable_name": "push",
                "deliver_subject": notifications, "ack_policy": "none" } });
            let create = format!("$JS.API.CONSUMER.DURABLE.CREATE.{pushed}.push");
            known &= ask(bb, &create, &consumer).await["config"]["durable_name"] == "push";
            assert!(known || is_reserved(name), "{name}");
            let text = format!("forged to {} as {name}", victim.id);
            bb.client.publish(source, text.clone().into()).await.expect("is sent");
            victim.expected.extend(known.then_some(text));

            // What it answers is BB's, also where BB would have it sent on to a victim.
            if victim.answers && name.starts_with("user.") {
                continue;
            }
            let text = format!("forged to {}, answers to {name}", victim.id);
            let (subject, reply) = (notifications.clone(), name.clone());
            let asked = bb.client.publish_with_reply(subject, reply, text.clone().into());
            asked.await.expect("is sent");
            // With these replies nats-server 2.15.3 and later let nothing through.
            match is_reserved(name) {
                true => victim.possible.push(text),
                false => victim.expected.push(text),
            }
        }
        if victim.answers {
            let text = format!("forged to {}, asked", victim.id);
            let asked = bb.client.request(notifications.clone(), text.clone().into());
            let ack = asked.await.expect("an answer").payload;
            assert!(ack.starts_with(br#"{"stream":"NOTES""#), "{ack:?}");
            victim.expected.push(text);
        }
        let (source, text) = (format!("note.{to}"), format!("forged to {} again", victim.id));
        let again = json!({ "src": source, "dest": notifications });
        let config = json!({ "subjects": [source], "republish": again });
        assert!(stream(bb, &format!("N{to}"), config).await);
        bb.client.publish(source, text.clone().into()).await.expect("is sent");
        victim.expected.push(text);
    }
    ears
}

async fn bb_reaches_tenants_by_notifications_alone(mode: Mode) {
    let Some((mut field, login, _)) = with_alice(mode).await else { return };
    if mode == Mode::Operator {
        let app = App::add(&field.deployment, WITH_ANSWERS, Isolation::Own, &["--answers"]).await;
        app.event("kept").await;
        let answering = app.answering().await;
        answer(&field.backend, &app.id).await;
        answering.abort();
        field.ears.push(app.notifications().await);
        field.victims.push(app);
        field.backend.holds("ReceivedEvents", field.victims.len() as u64).await;
    }
    let bb = field.backend.connected.clone();
    let mut victims = Vec::new();
    for app in &field.victims {
        victims.push(Victim::start(&field, app).await);
    }
    // She listens to no notifications, and keeps what she has.
    let alice = Keeper::start(&field, &login).await;
    let mut heard = hears(&alice.connected, &["kept".to_owned(), "Events".to_owned()]).await;
    alice.connected.settled().await;

    to_elsewhere(&bb, &victims).await;
    let _ears = to_each(&bb, &mut victims).await;
    for victim in &mut victims {
        victim.judge(&field).await;
    }
    alice.unharmed().await;
    alice.connected.settled().await;
    heard.iter_mut().for_each(super::silent);
    // What they have heard there they have heard here too.
    for ear in &mut field.ears {
        while next(ear).await.1 != "end" {}
    }
    field.unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_reaches_tenants_by_notifications_alone_in_operator_mode() {
    bb_reaches_tenants_by_notifications_alone(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_reaches_tenants_by_notifications_alone_in_config_mode() {
    bb_reaches_tenants_by_notifications_alone(Mode::Config).await;
}
