//! MQTT 3.1.1: in an account of the tenant's own, with the JetStream that sessions are kept in;
//! refused where tenants share an account, since MQTT knows clients by their ids account by account.

use futures_util::StreamExt as _;
use serde::Deserialize;

use super::{Open, Tls, account_for_alice, wire};
use crate::harness::choice::{either_mode, lacks};
use crate::harness::client::Login;
use crate::harness::clients::{self, Language};
use crate::harness::deployment::Mode;
use crate::harness::tls::nameless;
use crate::harness::{PATIENCE, client, depth, loudly, servers};

/// What `mqtt.py` saw.
#[derive(Debug, Deserialize)]
struct Seen {
    connected: bool,
    error: Option<String>,
    received: Vec<String>,
    /// The QoS of each subscription, or [`REFUSED`].
    granted: Vec<u8>,
    /// Whether the server has known its session from before.
    session: bool,
}

const REFUSED: u8 = 128;

fn mqtt(open: &Open, options: &[&str]) -> Seen {
    let mut program = clients::program(Language::Python, "mqtt").expect("python3");
    program.args([&open.mqtt.to_string(), "--client-id", "device-1"]).args(options);
    clients::report(&mut program)
}

fn with(user: &str, password: &str) -> [String; 4] {
    ["--user", user, "--password", password].map(str::to_owned)
}

fn texts(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// Each with a bare connection; a device's own password with a library, which tries the grant.
pub(super) async fn a_device_publishes_and_subscribes_in_its_tenants_own_account(
    open: &Open,
    admin: &Login,
) {
    let Login::Password(user, password) = admin else { unreachable!("a password") };
    // `sensors/#` is `sensors` as well.
    let lists = ["--publish", "sensors.>", "--subscribe", "sensors,sensors.>"];
    let device = open.user_add("alice", "device", &lists);
    let Login::Password(device, secret) = &device else { unreachable!("a password") };
    let token = open.token_add("alice", "device");
    let app = client::connect(&open.url(), admin, "_INBOX").await.expect("logs in");
    let mut heard = app.client.subscribe("sensors.>").await.expect("subscribes");
    app.settled().await;

    let right = [(device, secret), (user, password), (device, &token)];
    for (user, password) in right {
        let admitted = wire::mqtt(open.mqtt, "device-2", user, password);
        assert!(admitted, "{user}\n{}", open.service.log());
    }
    let topics = ["--subscribe", "sensors/#", "--publish", "sensors/heat"];
    for (user, password) in right.into_iter().take(depth(1, 3)) {
        let login = with(user, password);
        let seen = mqtt(open, &[texts(&login), topics.to_vec()].concat());
        assert!(seen.connected, "{user}: {seen:?}\n{}", open.service.log());
        assert_eq!(seen.granted, [1], "{user}: {seen:?}\n{}", open.server.log());
        assert_eq!(seen.received, ["sensors/heat hello 1"], "{user}: {}", open.server.log());
        let message = tokio::time::timeout(PATIENCE, heard.next()).await.expect("a message");
        let message = message.expect("the connection is open");
        assert_eq!(
            (message.subject.as_str(), &message.payload[..]),
            ("sensors.heat", &b"hello"[..])
        );
    }
    let login = with(device, secret);
    let other = ["--subscribe", "orders/#", "--publish", "orders/x"];
    let seen = mqtt(open, &[texts(&login), other.to_vec()].concat());
    assert_eq!((seen.connected, &seen.granted[..]), (true, &[REFUSED][..]), "{seen:?}");
    assert_eq!(seen.received, [""; 0], "{seen:?}");

    for (user, password) in [(device.as_str(), "wrong"), ("nobody", secret), (&token, "")] {
        assert!(!wire::mqtt(open.mqtt, "device-2", user, password), "{user} was admitted");
        if depth(false, true) {
            let seen = mqtt(open, &texts(&with(user, password)));
            assert!(!seen.connected && seen.error.is_some(), "{user}: {seen:?}");
        }
    }
}

/// README says which works where. The oldest and the newest of each row are run in the night.
#[test]
fn qualities_of_service() {
    let version = servers::version();
    if servers::is(version, "2.10") {
        loudly("SKIPPED: MQTT, for which no tenant has JetStream on nats-server 2.10");
        return;
    }
    for mode in either_mode() {
        let open = Open::start_with(mode, version, Tls::No, |init| account_for_alice(init, mode));
        open.roomy_tenant("alice");
        let lists = ["--publish", "sensors.>", "--subscribe", "sensors,sensors.>"];
        let device = open.user_add("alice", "device", &lists);
        let Login::Password(user, password) = &device else { unreachable!("a password") };
        let refuses = mode == Mode::Operator && servers::takes_mqtt_passwords_for_jwts(version);
        for (level, away) in [(0, None), (1, None), (2, None), (1, Some("--away"))] {
            let (login, qos) = (with(user, password), level.to_string());
            let topics = ["--subscribe", "sensors/#", "--publish", "sensors/heat", "--qos", &qos];
            let options = [texts(&login), topics.to_vec(), away.into_iter().collect()].concat();
            let seen = mqtt(&open, &options);
            let what =
                format!("{version} {mode:?} {level} {away:?}: {seen:?}\n{}", open.server.log());
            assert_eq!(seen.connected, !refuses, "{what}");
            if !refuses {
                assert_eq!(seen.granted, [level], "{what}");
                assert_eq!(seen.received, [format!("sensors/heat hello {level}")], "{what}");
                assert_eq!(seen.session, away.is_some(), "{what}");
            }
        }
        // What is to be done about it is said where people look.
        let test: serde_json::Value = serde_json::from_str(
            &open.cli(&["--json", "test", "alice", "device"]).success().stdout,
        )
        .expect("JSON");
        assert_eq!(test["mqtt"].is_string(), refuses, "{test}");
        let doctor = open.cli(&["doctor"]).stdout;
        assert_eq!(doctor.contains("refuses MQTT clients with a password"), refuses, "{doctor}");
    }
}

pub(super) fn a_device_is_refused_where_tenants_share_an_account(open: &Open, login: &Login) {
    let Login::Password(user, password) = login else { unreachable!("a password") };
    let seen = mqtt(open, &texts(&with(user, password)));
    assert!(!seen.connected, "{seen:?}");
    assert!(seen.error.expect("an error").to_lowercase().contains("authorized"));
    let log = open.service.log();
    let last = log.lines().rev().find(|line| line.contains("refused")).expect("a refusal");
    assert!(!last.contains(password.as_str()), "{last}");
}

#[test]
fn a_device_shows_a_certificate() {
    let mode = Mode::Operator;
    if lacks(mode) {
        return;
    }
    let open = Open::start_with(mode, servers::version(), Tls::Verified, |_| {});
    open.roomy_tenant("alice");
    let name = "device-1.example.com";
    let lists = ["--publish", "sensors.>", "--subscribe", "sensors,sensors.>"];
    let add = ["user", "add", "alice", "device", "--certificate", name];
    open.cli(&[&add[..], &lists].concat()).success();
    let certified = |name: &str| {
        let mut params = nameless();
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().expect("ascii"))];
        open.tls_options(&open.authority.client(name, params))
    };
    let topics = ["--subscribe", "sensors/#", "--publish", "sensors/heat"];
    for qos in ["0", "1", "2"] {
        let certified = certified(name);
        let options = [texts(&certified), topics.to_vec(), vec!["--qos", qos]].concat();
        let seen = mqtt(&open, &options);
        let what = format!("{qos}: {seen:?}\n{}", open.service.log());
        assert_eq!(seen.granted, [qos.parse::<u8>().expect("a number")], "{what}");
        assert_eq!(seen.received, [format!("sensors/heat hello {qos}")], "{what}");
    }
    let seen = mqtt(&open, &texts(&certified("device-2.example.com")));
    assert!(!seen.connected, "{seen:?}");
}
