//! A tenant that floods loses its own oldest events; the others' stay. A connection that the server
//! closes is counted, and made again.

use serde_json::{Value, json};

use super::{App, Backend, Isolation};
use crate::events;
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;
use crate::harness::{eventually, eventually_async};
use crate::intake::field::is_stored;
use crate::policies::edits::metric;

/// Waits until the last event of a subject is `text`: they come by way of the intake.
async fn arrived(backend: &Backend, subject: &str, text: &str) {
    let request = serde_json::json!({ "last_by_subj": subject });
    eventually_async(&format!("{text} on {subject}"), || async {
        let api = "$JS.API.STREAM.MSG.GET.ReceivedEvents";
        let request = backend.connected.client.request(api, request.to_string().into());
        let last: Value = serde_json::from_slice(&request.await.ok()?.payload).ok()?;
        let data = last["message"]["data"].as_str()?;
        (data == data_encoding::BASE64.encode(text.as_bytes())).then_some(())
    })
    .await;
}

async fn flood(mode: Mode) {
    let init = Initialised::new(mode);
    let server =
        NatsServer::start(servers::version(), &init.server_conf(), init.port, Some(init.monitor))
            .unwrap_or_else(|log| panic!("{log}"));
    let http = format!("127.0.0.1:{}", crate::harness::ports::free());
    let environment = [
        ("NATS_CALLOUT_HTTP_LISTEN", http.as_str()),
        ("NATS_CALLOUT_BB_MESSAGES_PER_TENANT", "50"),
        ("NATS_CALLOUT_BB_MESSAGE_SIZE", "1KB"),
    ];
    let service =
        Service::serve(&init.config(), &environment).unwrap_or_else(|log| panic!("{log}"));
    let deployment = Deployment { service, server, init };
    let backend = Backend::connect(&deployment).await;
    let kinds: &[Isolation] = match mode {
        Mode::Operator => &[Isolation::Own, Isolation::Shared],
        Mode::Config => &[Isolation::Shared],
    };
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    for isolation in kinds {
        quiet.push(App::add(&deployment, &format!("quiet-{isolation:?}"), *isolation, &[]).await);
        loud.push(App::add(&deployment, &format!("loud-{isolation:?}"), *isolation, &[]).await);
    }
    for app in &quiet {
        for at in 0..10 {
            app.event(&format!("{at}")).await;
        }
    }
    for app in &loud {
        for at in 0..3_000 {
            let subject = app.subject("Events");
            app.connected.client.publish(subject, format!("{at}").into()).await.expect("is sent");
        }
        // Longer than an event may be: refused, and nobody's place is taken.
        let long = "x".repeat(2_000);
        app.event(&long).await;
        app.event("end").await;
    }
    for app in &loud {
        arrived(&backend, &format!("user.{}.Events", app.id), "end").await;
    }
    let expected = 10 * quiet.len() as u64 + 50 * loud.len() as u64;
    backend.holds("ReceivedEvents", expected).await;
    let mut heard = std::collections::BTreeMap::<String, Vec<String>>::new();
    for _ in 0..expected {
        let (subject, text) = backend.next_event().await;
        heard.entry(subject).or_default().push(text);
    }
    for app in &quiet {
        let texts = &heard[&format!("user.{}.Events", app.id)];
        assert_eq!(*texts, (0..10).map(|at| at.to_string()).collect::<Vec<_>>());
    }
    for app in &loud {
        let texts = &heard[&format!("user.{}.Events", app.id)];
        assert_eq!(texts.len(), 50);
        assert_eq!(texts.last().map(String::as_str), Some("end"), "{texts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_pushes_out_no_one_elses_events_in_operator_mode() {
    flood(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_pushes_out_no_one_elses_events_in_config_mode() {
    flood(Mode::Config).await;
}

/// Closes the intake's connection that takes events of this mode's tenants, as a server does with one that
/// does not read fast enough.
async fn close_intake(deployment: &Deployment) {
    let system = events::login(deployment, deployment.mode, "sys").await;
    let server = format!("$SYS.REQ.SERVER.{}", system.client.server_info().server_id);
    let found = system.jetstream(&format!("{server}.CONNZ"), &json!({})).await;
    let takes_events = |it: &&Value| {
        let name = it["name"].as_str().unwrap_or_default();
        let is_of_shared = name.starts_with("nats-callout intake of shared tenants ");
        name.starts_with("nats-callout intake ")
            && is_of_shared == (deployment.mode == Mode::Config)
    };
    let connections = found["data"]["connections"].as_array().expect("a list");
    let intake = connections.iter().find(takes_events).unwrap_or_else(|| panic!("{found}"));
    system.jetstream(&format!("{server}.KICK"), &json!({ "cid": intake["cid"] })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_is_counted_and_the_next_event_is_stored() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        let backend = Backend::connect(&deployment).await;
        let isolation = match mode {
            Mode::Operator => Isolation::Own,
            Mode::Config => Isolation::Shared,
        };
        let app = App::add(&deployment, "one", isolation, &[]).await;
        is_stored(&app.asked("before").await);
        let lost = || metric(&deployment, "nats_callout_intake_connections_lost_total");
        let before = lost();
        close_intake(&deployment).await;
        eventually("the count of it", || (lost() > before).then_some(()));
        eventually_async("an event that is stored", || async {
            let client = &app.connected.client;
            let answer = client.request(app.subject("Events"), "after".into()).await.ok()?;
            let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
            answer["error"].is_null().then_some(())
        })
        .await;
        for text in ["before", "after"] {
            assert_eq!(backend.next_event().await.1, text);
        }
        assert_eq!(lost(), before + 1, "one was closed");
    }
}
