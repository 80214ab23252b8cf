//! A tenant that floods loses its own oldest events; the others' stay.

use serde_json::Value;

use super::{App, Backend, Isolation};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::eventually_async;
use crate::harness::servers::{self, NatsServer};
use crate::harness::service::Service;

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
