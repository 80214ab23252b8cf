//! Connections begin anew before their grants end, as long as whoever is on them would be let in again:
//! clients at their defaults stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_nats::{Client, ConnectOptions, Event};

use crate::harness::choice::modes;
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::staying::Python;
use crate::harness::{eventually, eventually_async, http};
use crate::http::value;

/// The shortest life of a grant that may be configured: it is renewed after 5 to 7.5 s and ends after 8
/// to 10.
const SETTINGS: [(&str, &str); 1] = [("NATS_CALLOUT_CALLOUT_TTL", "10s")];

fn renewals(deployment: &Deployment, outcome: &str) -> f64 {
    let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
    let name = format!("nats_callout_renewals_total{{outcome=\"{outcome}\"}}");
    value(&metrics, &name)
}

async fn connect(deployment: &Deployment, login: &Login, id: &str) -> Connected {
    let prefix = match deployment.mode {
        Mode::Config => format!("_INBOX_{id}"),
        Mode::Operator => "_INBOX".to_owned(),
    };
    client::connect(&deployment.url(), login, &prefix).await.expect("it may log in")
}

/// Counts how often it is told that its server would have it go.
async fn listener(deployment: &Deployment, login: &Login, told: Arc<AtomicU64>) -> Client {
    let Login::Password(user, password) = login.clone() else { unreachable!("a password") };
    let options = ConnectOptions::with_user_and_password(user, password);
    let options = options.event_callback(move |event| {
        let told = Arc::clone(&told);
        async move {
            if matches!(event, Event::LameDuckMode) {
                told.fetch_add(1, Relaxed);
            }
        }
    });
    options.connect(deployment.url()).await.expect("it may log in")
}

fn connects(of: &Connected) -> u64 {
    of.client.statistics().connects.load(Relaxed)
}

/// nats-py closes for good at the end of a grant; here it never comes to one.
#[tokio::test(flavor = "multi_thread")]
async fn clients_at_their_defaults_outlive_their_grants() {
    for mode in modes() {
        let deployment = Deployment::start_set(mode, &SETTINGS);
        let admin = deployment.tenant_add("one", &[]);
        let user = deployment.user_add("one", "app", &["--kind", "bb"]);
        let token = Login::Token(deployment.token_add("one", "app"));
        let by_password = connect(&deployment, &user, "one").await;
        let by_token = connect(&deployment, &token, "one").await;
        let python = Python::connect(&deployment.url(), &admin);
        let told = Arc::new(AtomicU64::new(0));
        let listener = listener(&deployment, &user, Arc::clone(&told)).await;
        for renewals in 2..=3 {
            eventually_async("a renewal", || async {
                let all = [&by_password, &by_token];
                all.iter().all(|it| connects(it) >= renewals).then_some(())
            })
            .await;
        }
        if let Some(mut python) = python {
            for _ in 0..2 {
                python.says("disconnected");
                python.says("reconnected");
            }
        }
        // Whoever listens hears of it a second before.
        eventually("lame duck mode", || (told.load(Relaxed) > 0).then_some(()));
        drop(listener);
        for client in [&by_password, &by_token] {
            assert_eq!(client.errors(), Vec::<String>::new(), "{mode:?}");
        }
        let server = deployment.server.log();
        assert!(!server.contains("User Authentication Expired"), "{mode:?}\n{server}");
        assert!(renewals(&deployment, "renewed") >= 4.0, "{mode:?}");
        let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
        let closed = value(&metrics, "nats_callout_connections_closed_total");
        assert!(closed < 1.0, "{mode:?}: {closed}");
    }
}

/// Who would not be let in again, or ends with something of his own, is not broken off.
#[tokio::test(flavor = "multi_thread")]
async fn who_would_be_refused_is_left_to_the_end_of_his_grant() {
    let deployment = Deployment::start_set(Mode::Config, &SETTINGS);
    deployment.tenant_add("one", &[]);
    let _user = deployment.user_add("one", "app", &["--kind", "bb"]);
    let removed = Login::Token(deployment.token_add("one", "app"));
    let held = connect(&deployment, &removed, "one").await;
    let stays = Login::Token(deployment.token_add("one", "app"));
    let stays = connect(&deployment, &stays, "one").await;
    let Login::Token(token) = &removed else { unreachable!("a token") };
    let hash = nats_callout::callout::Token::parse(token).expect("a token").hash().to_hex();
    deployment.sql(&format!("DELETE FROM tokens WHERE token_hash = '{hash}'"));
    eventually_async("the renewal of the other", || async {
        (connects(&stays) >= 2).then_some(())
    })
    .await;
    eventually("the look at the one", || (renewals(&deployment, "refused") > 0.0).then_some(()));
    eventually_async("the end of its grant", || async {
        held.errors().iter().any(|it| it.to_lowercase().contains("expired")).then_some(())
    })
    .await;
    assert!(renewals(&deployment, "refused") < 2.0);
}
