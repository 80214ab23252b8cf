//! Scenario A: a tenant's `Events` arrive as `user.<id>.Events`, BB's `user.<id>.Notifications`
//! arrive at that tenant alone, plain texts and CloudEvents alike; BB asks and is answered.

use std::collections::BTreeSet;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;

use super::{App, Backend, Isolation, answer, next, silent};
use crate::harness::PATIENCE;
use crate::harness::client::Connected;
use crate::harness::deployment::{Deployment, Mode};
use crate::intake::field::is_stored;

fn cloud_event(tenant: &str) -> String {
    json!({
        "specversion": "1.0",
        "id": "A234-1234-1234",
        "source": format!("/tenants/{tenant}"),
        "type": "com.example.object.created",
        "time": "2026-04-05T17:31:00Z",
        "datacontenttype": "application/json",
        "data": { "name": "Fünf \u{1f600}", "count": 5 },
    })
    .to_string()
}

/// Events of every tenant reach BB under the tenant's name, in the order of each.
async fn events_arrive(backend: &Backend, apps: &[App]) {
    for app in apps {
        for text in ["Hello there".to_owned(), cloud_event(&app.id)] {
            app.event(&text).await;
            assert_eq!(backend.next_event().await, (format!("user.{}.Events", app.id), text));
        }
    }
}

/// What BB says to one tenant is heard by it, once, and by nobody else.
async fn notifications_arrive(backend: &Backend, apps: &[App]) {
    let mut ears = Vec::new();
    for app in apps {
        ears.push(app.notifications().await);
    }
    for (at, app) in apps.iter().enumerate() {
        for text in ["Hello there".to_owned(), cloud_event(&app.id)] {
            backend.notify(&app.id, &text).await;
            assert_eq!(next(&mut ears[at]).await, (app.subject("Notifications"), text));
        }
    }
    // The last word to each has come after everything that was said to the others.
    for (at, app) in apps.iter().enumerate() {
        backend.notify(&app.id, "last").await;
        assert_eq!(next(&mut ears[at]).await.1, "last");
    }
    for ear in &mut ears {
        silent(ear);
    }
}

/// Nothing that was sent has been refused.
fn no_errors(connected: &Connected) {
    assert_eq!(connected.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_isolations_side_by_side_in_operator_mode() {
    let deployment = Deployment::start(Mode::Operator);
    let backend = Backend::connect(&deployment).await;
    let mut apps = Vec::new();
    for (id, isolation) in [
        ("own-1", Isolation::Own),
        ("own-2", Isolation::Own),
        ("shared-1", Isolation::Shared),
        ("shared-2", Isolation::Shared),
    ] {
        apps.push(App::add(&deployment, id, isolation, &[]).await);
    }
    events_arrive(&backend, &apps).await;
    notifications_arrive(&backend, &apps).await;

    // Everybody gets the stream's word for it.
    for app in &apps {
        let ack = app.asked("asked").await;
        is_stored(&ack);
        assert_eq!(backend.next_event().await.1, "asked");
    }
    // Both names of the event lead to BB from an own account.
    let client = &apps[0].connected.client;
    client.publish("user.own-1.Events", "long name".into()).await.expect("publishes");
    let event = backend.next_event().await;
    assert_eq!(event, ("user.own-1.Events".to_owned(), "long name".to_owned()));

    for app in &apps[2..] {
        let _answering = app.answering().await;
        assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
    }
    for app in &apps {
        app.settled().await;
        no_errors(&app.connected);
    }
    backend.settled().await;
    no_errors(&backend.connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_tenants_in_config_mode() {
    let deployment = Deployment::start(Mode::Config);
    let backend = Backend::connect(&deployment).await;
    let mut apps = Vec::new();
    for id in ["one", "two"] {
        apps.push(App::add(&deployment, id, Isolation::Shared, &[]).await);
    }
    events_arrive(&backend, &apps).await;
    notifications_arrive(&backend, &apps).await;
    for app in &apps {
        let _answering = app.answering().await;
        assert_eq!(answer(&backend, &app.id).await, format!("answer of {}", app.id));
        app.settled().await;
        no_errors(&app.connected);
    }
}

/// A shared tenant's event is acknowledged on a reply below its own inbox, and on no other: the reply is
/// the publisher's to choose.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_tenants_acknowledgement_goes_to_its_own_inbox_alone() {
    let deployment = Deployment::start(Mode::Config);
    let backend = Backend::connect(&deployment).await;
    let app = App::add(&deployment, "one", Isolation::Shared, &[]).await;
    let client = &app.connected.client;
    let mut elsewhere = client.subscribe("user.one.answers").await.expect("subscribes");
    for (at, reply) in ["user.one.answers", "_INBOX_two.x", "_INBOX_one.*"].into_iter().enumerate()
    {
        let subject = app.subject("Events");
        client.publish_with_reply(subject, reply, format!("{at}").into()).await.expect("publishes");
        assert_eq!(backend.next_event().await.1, at.to_string());
    }
    // The answers come in the order of the events.
    let answer = app.asked("asked").await;
    assert_eq!((&answer["stream"], &answer["seq"]), (&"ReceivedEvents".into(), &4.into()));
    assert_eq!(backend.next_event().await.1, "asked");
    app.connected.round_trip(&app.subject("echo")).await;
    silent(&mut elsewhere);
}

/// Of the reply subject of BB's request to another a shared tenant knows all but the last six characters, by
/// the requests that it gets itself. A guess that is wrong reaches nobody; one that is right is an answer,
/// which is why BB puts a random number into each request.
#[tokio::test(flavor = "multi_thread")]
async fn six_characters_of_a_pending_reply_are_unknown_to_a_shared_tenant() {
    let deployment = Deployment::start(Mode::Config);
    let backend = Backend::connect(&deployment).await;
    let client = &backend.connected.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribes");
    let (mut apps, mut replies) = (Vec::new(), Vec::new());
    for id in ["one", "two"] {
        let app = App::add(&deployment, id, Isolation::Shared, &[]).await;
        let mut questions = app.notifications().await;
        let mut seen = Vec::new();
        for _ in 0..10 {
            let subject = format!("user.{id}.Notifications");
            let asking = client.publish_with_reply(subject, inbox.clone(), "question".into());
            asking.await.expect("publishes");
            let question = tokio::time::timeout(PATIENCE, questions.next()).await;
            let question = question.expect("a question").expect("the connection is open");
            seen.push(question.reply.expect("where it is answered").to_string());
        }
        apps.push(app);
        replies.push(seen);
    }
    let known = replies[1][0].split_at(replies[1][0].len() - 6).0;
    assert!(known.starts_with("_R_."), "{replies:?}");
    let unknown: BTreeSet<&str> = replies
        .iter()
        .flatten()
        .map(|reply| reply.strip_prefix(known).unwrap_or_else(|| panic!("{reply}, not {known}")))
        .collect();
    assert!(unknown.len() == 20 && unknown.iter().all(|it| it.len() == 6), "{unknown:?}");
    let words = include_str!("../../../SECURITY.md").split_whitespace();
    let told = words.collect::<Vec<_>>().join(" ");
    for words in [
        "a shared tenant knows all but six characters",
        "BB puts a random number into each request",
    ] {
        assert!(told.contains(words), "no {words:?} in SECURITY.md");
    }

    let mut ears = vec![client.subscribe(">").await.expect("subscribes")];
    for app in &apps {
        let of_app = &app.connected.client;
        for own in [app.subject(">"), format!("_INBOX_{}.>", app.id)] {
            ears.push(of_app.subscribe(own).await.expect("subscribes"));
        }
        app.settled().await;
    }
    backend.settled().await;
    let guesser = &apps[1].connected;
    let guess = ["guess0", "guess1"].into_iter().find(|it| !unknown.contains(it)).expect("another");
    for (reply, text) in [(format!("{known}{guess}"), "wrong"), (replies[0][0].clone(), "right")] {
        guesser.client.publish(reply, text.into()).await.expect("is sent");
    }
    // By then the wrong one has been and gone.
    assert_eq!(next(&mut answers).await.1, "right");
    apps[0].settled().await;
    apps[1].settled().await;
    backend.settled().await;
    silent(&mut answers);
    no_errors(guesser);
    for ear in &mut ears {
        while let Some(Some(message)) = ear.next().now_or_never() {
            assert_ne!(message.payload, "wrong", "{message:?}");
        }
    }
}
