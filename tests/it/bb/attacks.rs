//! What a tenant can choose reaches no other tenant's subjects, and no stream but as its own
//! event: reply subjects, headers, queues, and in an account of its own everything that JetStream
//! and MQTT can be told to do there. BB reaches a tenant by notifications alone.

mod features;
mod from_bb;
mod mqtt;
mod powers;

use std::collections::BTreeMap;

use async_nats::{HeaderMap, Request, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::{App, Backend, Isolation, next, silent};
use crate::harness::PATIENCE;
use crate::harness::client::Connected;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::servers;
use crate::intake::field::is_stored;

/// Attackers and victims of every kind the mode has, and one event of each victim.
struct Field {
    deployment: Deployment,
    backend: Backend,
    attackers: Vec<App>,
    victims: Vec<App>,
    ears: Vec<Subscriber>,
}

impl Field {
    async fn start(mode: Mode) -> Self {
        Self::on(Deployment::start(mode)).await
    }

    async fn on(deployment: Deployment) -> Self {
        let backend = Backend::connect(&deployment).await;
        let kinds: &[(&str, Isolation)] = match deployment.mode {
            Mode::Operator => &[("own", Isolation::Own), ("shared", Isolation::Shared)],
            Mode::Config => &[("shared", Isolation::Shared)],
        };
        let (mut attackers, mut victims, mut ears) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, isolation) in kinds {
            let victim = App::add(&deployment, &format!("v-{kind}"), *isolation, &[]).await;
            victim.event("kept").await;
            ears.push(victim.notifications().await);
            victims.push(victim);
            attackers.push(App::add(&deployment, &format!("a-{kind}"), *isolation, &[]).await);
            if *isolation == Isolation::Own {
                let with_answers = format!("a-{kind}-answers");
                attackers
                    .push(App::add(&deployment, &with_answers, *isolation, &["--answers"]).await);
            }
        }
        let field = Self { deployment, backend, attackers, victims, ears };
        field.backend.holds("ReceivedEvents", field.victims.len() as u64).await;
        field
    }

    /// The subjects and streams of a victim, and what else a reply might be made to reach.
    fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = [
            "$JS.API.STREAM.PURGE.ReceivedEvents",
            "$JS.API.STREAM.DELETE.ReceivedEvents",
            "JS.bb.API.STREAM.INFO.ReceivedEvents",
            "$JS.API.CONSUMER.DELETE.ReceivedEvents.ProcessEvents",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.USER.AUTH",
            "auth.user.updated",
            "_R_.x",
            "_R_.AAAAAA.BBBBBB",
        ]
        .map(str::to_owned)
        .to_vec();
        for victim in &self.victims {
            let id = &victim.id;
            targets.extend([
                format!("user.{id}.Notifications"),
                format!("user.{id}.Events"),
                format!("own.{id}.Events"),
                format!("bb.{id}.Events"),
                format!("_INBOX_{id}.x"),
            ]);
        }
        targets
    }

    /// How many events BB holds, by subject.
    async fn events(&self, stream: &str) -> BTreeMap<String, u64> {
        let request = json!({ "subjects_filter": ">" });
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let info = self.backend.connected.jetstream(&subject, &request).await;
        serde_json::from_value(info["state"]["subjects"].clone()).unwrap_or_default()
    }

    /// [`Self::unharmed`], with one more attacker, the admin of an own account: its own events are its to
    /// forge, and come under its name.
    async fn unharmed_by(&mut self, id: &str, admin: Connected) {
        let (id, isolation) = (id.to_owned(), Isolation::Own);
        self.attackers.push(App { id, isolation, connected: admin });
        self.unharmed().await;
    }

    /// Every victim has heard nothing, and has in BB just the event it published.
    async fn unharmed(&mut self) {
        for attacker in &self.attackers {
            attacker.settled().await;
        }
        for (victim, ear) in self.victims.iter().zip(&mut self.ears) {
            self.backend.notify(&victim.id, "last").await;
            assert_eq!(next(ear).await.1, "last", "{}", victim.id);
            victim.settled().await;
            silent(ear);
        }
        let events = self.events("ReceivedEvents").await;
        let own: Vec<String> = self
            .victims
            .iter()
            .chain(&self.attackers)
            .map(|app| format!("user.{}.Events", app.id))
            .collect();
        for victim in &self.victims {
            assert_eq!(events[&format!("user.{}.Events", victim.id)], 1, "{events:?}");
        }
        assert!(events.keys().all(|subject| own.contains(subject)), "{events:?}");
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, *value);
    }
    headers
}

/// Reply subjects, and what is published straight at others.
async fn no_reply_subject_reaches_another_tenant(field: &mut Field) {
    for attacker in &field.attackers {
        let client = &attacker.connected.client;
        let subjects = [attacker.subject("Events"), format!("user.{}.Events", attacker.id)];
        for target in field.targets() {
            for subject in &subjects {
                let (subject, target) = (subject.clone(), target.clone());
                client.publish_with_reply(subject, target, "forged".into()).await.expect("is sent");
            }
            // Straight at it, and at itself with a reply that it would then be let to answer.
            client.publish(target.clone(), "forged".into()).await.expect("is sent");
            let notifications = attacker.subject("Notifications");
            client
                .publish_with_reply(notifications, target, "forged".into())
                .await
                .expect("is sent");
        }
    }
    field.unharmed().await;
}

/// From USERS notifications lead on to own accounts, whose answers go where the publisher says: a
/// tenant that was moved from one isolation to the other must not publish any in the meantime.
async fn a_shared_tenant_publishes_no_notifications_not_even_its_own(field: &mut Field) {
    let attacker = field.attackers.last().expect("a shared one");
    let subject = attacker.subject("Notifications");
    let reply = field.victims[1].subject("Notifications");
    let client = &attacker.connected.client;
    client.publish_with_reply(subject.clone(), reply, "forged".into()).await.expect("is sent");
    attacker.connected.violation(&["publish", &format!("\"{subject}\"")]).await;
    field.unharmed().await;
}

/// BB asks an attacker, who answers it with replies of its choice, and more than once: each question
/// first with another reply, since only the first answer is let through.
async fn an_answer_reaches_bb_alone_and_once(field: &mut Field) {
    let targets = field.targets();
    let mut tasks = Vec::new();
    for attacker in &field.attackers {
        // What an account without `answers` hears can be answered by nobody.
        if attacker.id == "a-own" {
            continue;
        }
        let (done, mut answered) = tokio::sync::mpsc::unbounded_channel();
        tasks.push(tokio::spawn(answer_with(
            attacker.notifications().await,
            attacker.connected.client.clone(),
            targets.clone(),
            done,
        )));
        assert_eq!(super::answer(&field.backend, &attacker.id).await, "plain");
        let client = &field.backend.connected.client;
        let subject = format!("user.{}.Notifications", attacker.id);
        for (at, target) in targets.iter().enumerate() {
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.expect("subscribes");
            let question = at.to_string();
            client
                .publish_with_reply(subject.clone(), inbox, question.into())
                .await
                .expect("publishes");
            tokio::time::timeout(PATIENCE, answered.recv()).await.expect("an answer").expect("one");
            attacker.settled().await;
            field.backend.settled().await;
            // With these replies nats-server 2.15.3 and later let nothing through.
            let is_reserved = target.starts_with("$JS.") || target.starts_with("_R_.");
            match answers.next().now_or_never() {
                Some(answer) => assert_eq!(answer.expect("a message").payload, "forged"),
                None => assert!(is_reserved, "no answer with the reply {target}"),
            }
            silent(&mut answers);
        }
    }
    field.unharmed().await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Answers a question by a number with all these replies, that one first, and says so; any other
/// plainly.
async fn answer_with(
    mut questions: Subscriber,
    client: async_nats::Client,
    mut targets: Vec<String>,
    done: tokio::sync::mpsc::UnboundedSender<()>,
) {
    while let Some(question) = questions.next().await {
        let Some(reply) = question.reply else { continue };
        let number = std::str::from_utf8(&question.payload).ok().and_then(|it| it.parse().ok());
        let Some(number) = number else {
            client.publish(reply, "plain".into()).await.expect("is sent");
            continue;
        };
        let sorted = targets.clone();
        targets.rotate_left(number);
        for target in &targets {
            let (reply, target) = (reply.clone(), target.clone());
            client.publish_with_reply(reply, target, "forged".into()).await.expect("is sent");
        }
        targets = sorted;
        done.send(()).expect("somebody waits");
    }
}

/// Whoever hears an event may answer it: BB's login must not, in its stream's place.
async fn bb_hears_no_event_beside_its_stream(field: &Field) {
    let bb = &field.backend.connected;
    let mut ears = Vec::new();
    for subject in [">", "*.>", "user.>", "*.*.Events"] {
        ears.push(bb.client.subscribe(subject).await.expect("is sent"));
    }
    ears.push(bb.client.queue_subscribe(">", "q".to_owned()).await.expect("is sent"));
    for subject in ["user.*.Events", "user.v-shared.Events"] {
        ears.push(bb.client.subscribe(subject).await.expect("is sent"));
        bb.violation(&["subscription", &format!("\"{subject}\"")]).await;
    }
    field.backend.settled().await;
    for attacker in &field.attackers {
        let before = field.backend.messages("ReceivedEvents").await;
        attacker.event("see me").await;
        field.backend.holds("ReceivedEvents", before + 1).await;
    }
    field.backend.settled().await;
    for ear in &mut ears {
        while let Some(Some(message)) = ear.next().now_or_never() {
            let mode = field.deployment.mode;
            assert!(!message.subject.ends_with(".Events"), "{mode:?}: {message:?}");
        }
    }
}

/// On one field, since each leaves the victims as they were.
async fn what_leaves_a_victim_unharmed(mode: Mode) {
    let mut field = Field::start(mode).await;
    bb_hears_no_event_beside_its_stream(&field).await;
    no_reply_subject_reaches_another_tenant(&mut field).await;
    if mode == Mode::Operator {
        a_shared_tenant_publishes_no_notifications_not_even_its_own(&mut field).await;
        an_answer_reaches_bb_alone_and_once(&mut field).await;
    }
    powers::bb_may_not_touch_the_streams(&mut field).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_no_answer_and_no_power_of_bb_reaches_another_tenant_in_operator_mode() {
    what_leaves_a_victim_unharmed(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_no_answer_and_no_power_of_bb_reaches_another_tenant_in_config_mode() {
    what_leaves_a_victim_unharmed(Mode::Config).await;
}

/// The same id from several tenants: each has its own, and the second event with it is no other one.
#[tokio::test(flavor = "multi_thread")]
async fn message_ids_of_others_suppress_nothing() {
    let field = Field::start(Mode::Operator).await;
    for app in field.attackers.iter().chain(&field.victims) {
        for again in [false, true] {
            let id = headers(&[("Nats-Msg-Id", "order-1")]);
            let event = Request::new().headers(id).payload(app.id.clone().into());
            let client = &app.connected.client;
            let answer =
                client.send_request(app.subject("Events"), event).await.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
            is_stored(&answer);
            assert_eq!(answer["duplicate"].as_bool().unwrap_or(false), again, "{answer}");
        }
    }
    let events = field.events("ReceivedEvents").await;
    for victim in &field.victims {
        assert_eq!(events[&format!("user.{}.Events", victim.id)], 2, "{events:?}");
    }
    for attacker in &field.attackers {
        assert_eq!(events[&format!("user.{}.Events", attacker.id)], 1, "{events:?}");
    }
}

/// Returns once a message is gone that was sent after all others and lived for two seconds: one with a
/// life of one second would be gone by then, and a schedule would have run.
async fn two_seconds_pass(backend: &Backend) {
    if servers::is(servers::version(), "2.10") {
        // No message has a life there, nor a schedule: nothing is still to come.
        return;
    }
    let bb = &backend.connected;
    let stream = json!({ "name": "CLOCK", "subjects": ["clock"], "storage": "file",
        "allow_msg_ttl": true });
    bb.jetstream("$JS.API.STREAM.CREATE.CLOCK", &stream).await;
    let message = Request::new().headers(headers(&[("Nats-TTL", "2s")])).payload("tick".into());
    let kept = bb.client.send_request("clock", message).await.expect("an answer").payload;
    let kept: Value = serde_json::from_slice(&kept).expect("json");
    assert_eq!(kept["stream"], "CLOCK", "{kept}");
    backend.holds("CLOCK", 0).await;
}

/// Headers of every kind that a server or JetStream acts upon.
async fn headers_reach_no_other_tenant(field: &mut Field) {
    let victim = format!("user.{}.Events", field.victims[0].id);
    let notifications = format!("user.{}.Notifications", field.victims[0].id);
    let tricks: Vec<Vec<(&str, &str)>> = vec![
        vec![("Nats-Rollup", "all")],
        vec![("Nats-Rollup", "sub")],
        vec![("Nats-TTL", "1s")],
        vec![("Nats-TTL", "1s"), ("Nats-Marker-Reason", "Purge")],
        vec![("Nats-Schedule", "@every 1s"), ("Nats-Schedule-Target", &victim)],
        vec![("Nats-Schedule", "@at 2020-01-01T00:00:00Z"), ("Nats-Schedule-Target", &victim)],
        vec![("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1"), ("Nats-Batch-Commit", "1")],
        vec![("Nats-Expected-Stream", "ReceivedEvents")],
        vec![("Nats-Expected-Last-Sequence", "0")],
        vec![("Nats-Expected-Last-Subject-Sequence", "1")],
        vec![("Nats-Expected-Last-Subject-Sequence-Subject", &victim)],
        vec![("Nats-Stream-Source", "PooledEvents 1 > > >")],
        vec![("Nats-Stream", "ReceivedEvents"), ("Nats-Subject", &victim)],
        vec![("Nats-Trace-Dest", &notifications)],
        vec![("Nats-Trace-Dest", &notifications), ("Nats-Trace-Only", "true")],
        vec![("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        vec![("Nats-Request-Info", r#"{"acc":"BB","svc":"BB"}"#)],
        vec![("Nats-Incr", "5")],
        vec![("Status", "503")],
    ];
    for attacker in &field.attackers {
        let client = &attacker.connected.client;
        for trick in &tricks {
            for subject in [attacker.subject("Events"), attacker.subject("Notifications")] {
                let trick = headers(trick);
                let sent = client.publish_with_headers(subject, trick, "x".into()).await;
                sent.expect("is sent");
            }
        }
    }
    two_seconds_pass(&field.backend).await;
    field.unharmed().await;
    // Everyone's next event comes as if nothing had been.
    for app in field.attackers.iter().chain(&field.victims) {
        app.event("afterwards").await;
    }
    let mut missing: Vec<String> = field
        .attackers
        .iter()
        .chain(&field.victims)
        .map(|app| format!("user.{}.Events", app.id))
        .collect();
    while !missing.is_empty() {
        let (subject, text) = field.backend.next_event().await;
        if text == "afterwards" {
            missing.retain(|other| *other != subject);
        }
    }
}

/// Queues and long subjects.
async fn queues_take_nothing_away_and_long_subjects_break_nothing(field: &mut Field) {
    let mut ears = Vec::new();
    for attacker in &field.attackers {
        let client = &attacker.connected.client;
        for victim in &field.victims {
            for subject in [
                format!("user.{}.Notifications", victim.id),
                format!("user.{}.>", victim.id),
                "user.*.Notifications".to_owned(),
                "_R_.>".to_owned(),
                ">".to_owned(),
            ] {
                let ear = client.queue_subscribe(subject, "q".to_owned()).await;
                ears.push((attacker, ear.expect("is sent")));
            }
        }
        let long = format!("user.{}{}", attacker.id, ".x".repeat(1_500));
        client.publish(long.clone(), "x".into()).await.expect("is sent");
        let _ear = client.subscribe(format!("{long}.>")).await.expect("is sent");
        let reply = format!("user.{}{}", field.victims[0].id, ".x".repeat(1_500));
        let events = attacker.subject("Events");
        client.publish_with_reply(events, reply, "x".into()).await.expect("is sent");
        attacker.settled().await;
    }
    for victim in &field.victims {
        victim.event("not for you").await;
        field.backend.notify(&victim.id, "not for you").await;
    }
    for (attacker, ear) in &mut ears {
        attacker.settled().await;
        while let Some(Some(message)) = ear.next().now_or_never() {
            assert_ne!(message.payload, "not for you", "{}: {message:?}", attacker.id);
        }
    }
    for (victim, ear) in field.victims.iter().zip(&mut field.ears) {
        assert_eq!(next(ear).await.1, "not for you", "{}", victim.id);
    }
}

/// On one field, whose events BB reads between the two.
async fn headers_and_queues(mode: Mode) {
    let mut field = Field::start(mode).await;
    headers_reach_no_other_tenant(&mut field).await;
    queues_take_nothing_away_and_long_subjects_break_nothing(&mut field).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_queues_and_long_subjects_reach_no_other_tenant_in_operator_mode() {
    headers_and_queues(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_queues_and_long_subjects_reach_no_other_tenant_in_config_mode() {
    headers_and_queues(Mode::Config).await;
}
