//! What nats-server ignores in the JWTs of an auth callout and the service enforces: addresses and
//! times; and how long a grant lives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{user, with_files};
use crate::harness::choice::either_mode;
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{eventually, http};

/// Both sections alike.
pub(super) fn policy(limits: &str) -> String {
    format!(
        "[account]\npublish = [\"$SYS.REQ.USER.INFO\"]\nsubscribe = [\"_INBOX.>\"]\n{limits}\n\n[shared]\n{limits}\n"
    )
}

/// A window from some minutes before or after now to others, in UTC.
fn window(from: i64, to: i64) -> String {
    #[allow(clippy::disallowed_methods, reason = "the service's own clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let minute = i64::try_from(now / 60).unwrap();
    let time = |minute: i64| format!("{:02}:{:02}", minute.rem_euclid(1440) / 60, minute % 60);
    format!("times = [\"{}-{}\"]", time(minute + from), time(minute + to))
}

/// Whether a login was refused for this reason.
pub(crate) fn reasons(deployment: &Deployment, reason: &str) -> bool {
    let metrics = http::get(deployment.http(), "/metrics").unwrap().body;
    let label = format!("reason=\"{reason}\"");
    metrics.lines().any(|line| line.contains(&label) && !line.ends_with(" 0"))
}

async fn limits(mode: Mode) {
    let (closed, open) = (window(-120, -60), window(-60, 3));
    let deployment = with_files(
        mode,
        &[
            ("here.toml", &policy("allow_from = [\"127.0.0.0/8\", \"::1\"]")),
            ("elsewhere.toml", &policy("allow_from = [\"192.0.2.0/24\", \"2001:db8::/32\"]")),
            ("mqtt.toml", &policy("connections = [\"mqtt\"]")),
            ("closed.toml", &policy(&closed)),
            ("open.toml", &policy(&open)),
            ("short.toml", &policy("ttl = 120")),
        ],
    );
    deployment.tenant_add("shop", &[]);
    let url = deployment.url();
    for (name, refused) in [
        ("here", None),
        ("elsewhere", Some(("address", "allow_from"))),
        ("mqtt", Some(("connection_type", "connections"))),
        ("closed", Some(("time", "times"))),
        ("open", None),
        ("short", None),
    ] {
        let login = user(&deployment, name, name);
        let explained =
            deployment.cli(&["--json", "policy", "explain", name, "--address", "127.0.0.1"]);
        let found: Value = explained.json();
        assert_eq!(found["admitted"], refused.is_none(), "{name}: {found}");
        let tested = deployment.cli(&["--json", "test", "shop", name]);
        assert_eq!(tested.json()["admitted"], refused.is_none(), "{tested:?}");
        let Some((reason, key)) = refused else {
            client::connect(&url, &login, "_INBOX").await.unwrap();
            continue;
        };
        client::refused(&url, &login).await;
        assert_eq!((explained.status, &found["reason"]), (1, &Value::from(reason)));
        assert_eq!(tested.json()["reason"], reason);
        let message = found["message"].as_str().unwrap();
        assert!(message.contains(key), "{found}");
        let line = if mode == Mode::Operator { 4 } else { 7 };
        let from = found["from"].as_str().unwrap();
        assert!(from.ends_with(&format!("policies/{name}.toml:{line}")), "{from}");
        eventually("the reason in the metrics", || reasons(&deployment, reason).then_some(()));
    }

    if mode == Mode::Operator {
        // The server itself says how long it lets them stay.
        for (name, at_least, at_most) in
            [("open", 60, 180), ("short", 90, 120), ("here", 2_800, 3_600)]
        {
            let Login::Password(_, password) = passwd(&deployment, name) else { panic!() };
            let login = Login::password(name, &password);
            let connected = client::connect(&url, &login, "_INBOX").await.unwrap();
            let answer = connected.client.request("$SYS.REQ.USER.INFO", "".into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            let left = Duration::from_nanos(answer["data"]["expires"].as_u64().unwrap()).as_secs();
            assert!((at_least..=at_most).contains(&left), "{name}: {left} s, {answer}");
        }
    }
}

fn passwd(deployment: &Deployment, name: &str) -> Login {
    let made = deployment.cli(&["--json", "user", "passwd", "shop", name]).success().json();
    Login::password(name, made["password"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_policy_lets_in() {
    for mode in either_mode() {
        limits(mode).await;
    }
}

/// Who is not to be renewed is not kept in mind, nor found again by an instance that begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_leaves_connections_alone_until_their_grants_end() {
    for mode in either_mode() {
        let files =
            [("stays.toml", policy("renew = false")), ("goes.toml", policy("renew = true"))];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let mut deployment = with_files(mode, &files);
        deployment.tenant_add("shop", &[]);
        let mut clients = Vec::new();
        for name in ["stays", "goes"] {
            let login = user(&deployment, name, name);
            clients.push(client::connect(&deployment.url(), &login, "_INBOX").await.unwrap());
        }
        // A grant is shown, and kept in mind, once its server is known to have read it.
        eventually("one of two that is kept in mind", || {
            let metrics = http::get(deployment.http(), "/metrics").unwrap().body;
            let granted = "nats_callout_decisions_total{outcome=\"granted\",reason=\"\"} 2\n";
            let held = "nats_callout_renewals_held 1\n";
            (metrics.contains(granted) && metrics.contains(held)).then_some(())
        });
        deployment.service.kill9();
        deployment.service = deployment.init.serve().unwrap();
        let adopted = || deployment.service.log().contains("adopted=1").then_some(());
        eventually("the one that is to be renewed", adopted);
    }
}
