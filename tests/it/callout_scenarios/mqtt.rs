//! Logins over MQTT 3.1.1, which has a user and a password and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use nkeys::KeyPair;

use super::{Row, Scene, tokens, wire};
use crate::harness::client::Login;
use crate::harness::deployment::Mode;

/// Sends CONNECT with a user and a password; gives the words for what CONNACK returns.
fn verdict(port: u16, client: &str, user: &str, password: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("an MQTT port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    // Version 4; user, password, clean session; no keep-alive.
    body.extend([4, 0xc2, 0, 0]);
    for field in [client, user, password] {
        text(&mut body, field);
    }
    let mut packet = vec![0x10];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        packet.push(u8::try_from(length % 128).expect("seven bits") | if more { 0x80 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    packet.extend(body);
    stream.write_all(&packet).expect("is sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!(answer[..2], [0x20, 2], "{answer:?}");
    match answer[3] {
        0 => "accepted".to_owned(),
        5 => "not authorized".to_owned(),
        other => format!("return code {other}"),
    }
}

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
    packet.extend(text.as_bytes());
}

/// A JWT as the password is passed on as a JWT too, and is nobody's credential.
pub(super) async fn jwt(scene: &mut Scene, port: u16) -> Row {
    let mut row = Row::of("MQTTJwtPassedInConnectOptions", scene.mode());
    let (user, account) = (KeyPair::new_user(), KeyPair::new_account());
    let stranger =
        tokens::sign(tokens::user("stranger", &user, &account.public_key(), &account), &account);
    wire::verdict(scene.port(), "before-mqtt", &Login::Nothing);
    scene.tap.asked("before-mqtt").await;
    let jwt = match scene.mode() {
        // Of an account that no server knows: not even asked about.
        Mode::Operator => {
            let said = verdict(port, "mqtt-stranger", "one-app", &stranger);
            row.saw("stranger's JWT", "not authorized", said);
            tokens::configured(&scene.deployment, "default_sentinel")
        }
        Mode::Config => stranger,
    };
    row.saw("JWT as password", "not authorized", verdict(port, "mqtt-jwt", "one-app", &jwt));
    let (asked, before) = scene.tap.asked_after("mqtt-jwt").await;
    row.saw("requests before", 0, before);
    row.saw("passed on as a JWT", true, asked.sent("jwt") == jwt);
    row.saw("and as the password", true, asked.sent("pass") == jwt);
    row.saw("answer", "access denied", scene.tap.answered(&asked).await.error());
    row
}

/// Any other password is passed on as it is.
pub(super) async fn opaque_password(scene: &mut Scene, port: u16) -> Row {
    let (scenario, jwt) = match scene.mode() {
        Mode::Operator => (
            "OperatorModeMQTTOpaquePasswordUsesDefaultSentinel",
            tokens::configured(&scene.deployment, "default_sentinel"),
        ),
        Mode::Config => ("NonOperatorMQTTOpaquePassword", String::new()),
    };
    let mut row = Row::of(scenario, scene.mode());
    let (name, password, token) =
        (scene.one.name(), scene.one.password().to_owned(), scene.one.token.clone());
    for (what, expected, user, secret) in [
        ("password", "accepted", name.as_str(), password.as_str()),
        ("token", "accepted", &name, &token),
        ("token-of-another-user", "not authorized", "one", &token),
        ("wrong-password", "not authorized", &name, "external-jwt-or-token"),
    ] {
        row.saw(what, expected, verdict(port, what, user, secret));
        let asked = scene.tap.asked(what).await;
        row.saw("jwt in the request", true, asked.sent("jwt") == jwt);
        row.saw("password in it", true, asked.sent("pass") == secret);
    }
    if scene.mode() == Mode::Config {
        let shared = verdict(port, "mqtt-shared", &scene.two.name(), scene.two.password());
        row.saw("in the shared account", "not authorized", shared);
    }
    row
}
