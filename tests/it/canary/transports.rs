//! Secrets that come over WebSocket (cookies too), MQTT and leaf nodes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use nats_callout::callout::Token;
use serde_json::{Value, json};

use super::{Watch, canary};
use crate::harness::choice::modes;
use crate::harness::client::Login;
use crate::harness::deployment::Mode;
use crate::harness::{PATIENCE, eventually, http, servers};
use crate::transports::leaf::{self, Leaf};
use crate::transports::{Open, Tls};

/// MQTT keeps its sessions in JetStream.
const ROOM: &[&str] = &["--memory", "16MB", "--storage", "64MB"];

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Logs in over WebSocket with these fields of CONNECT and these cookies; whether the server
/// answers a PING.
fn by_websocket(port: u16, fields: &Value, cookies: &[&str]) -> bool {
    let stream = connect(port);
    let mut head = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_owned();
    if !cookies.is_empty() {
        head.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
    }
    (&stream).write_all(format!("{head}\r\n").as_bytes()).expect("is sent");
    // What the server says stands in its frames as it is.
    let mut said = String::new();
    let mut hears = |words: &str| {
        let mut buffer = [0; 4096];
        while !said.contains(words) {
            match (&stream).read(&mut buffer) {
                Ok(count @ 1..) => said.push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => return false,
            }
        }
        true
    };
    assert!(hears("\r\n\r\n"), "an answer to the upgrade");
    let mut options = json!({
        "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
    });
    for (name, value) in fields.as_object().expect("an object") {
        options[name] = value.clone();
    }
    let lines = format!("CONNECT {options}\r\nPING\r\n");
    // One binary frame. A client has to mask; a mask of zeros is one.
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend(u16::try_from(lines.len()).expect("a short frame").to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(lines.as_bytes());
    (&stream).write_all(&frame).expect("is sent");
    hears("PONG\r\n")
}

/// Logs in over MQTT 3.1.1; whether the server accepts it.
fn by_mqtt(port: u16, user: &str, password: &str) -> bool {
    // Version 4; user, password, clean session; no keep-alive.
    let mut body = b"\0\x04MQTT\x04\xc2\0\0".to_vec();
    for field in ["device", user, password] {
        body.extend(u16::try_from(field.len()).expect("a short text").to_be_bytes());
        body.extend(field.as_bytes());
    }
    let length = u8::try_from(body.len()).expect("a short packet");
    assert!(length < 128, "more would take another byte");
    let mut stream = connect(port);
    stream.write_all(&[&[0x10, length], body.as_slice()].concat()).expect("is sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!(answer[..2], [0x20, 2], "{answer:?}");
    answer[3] == 0
}

async fn shown_nowhere(mode: Mode) {
    let open = Open::start_with(mode, servers::version(), Tls::No, |init| {
        init.set("level", "\"trace\"");
    });
    let watch = Watch::default();
    let Login::Password(user, password) = open.tenant_add("one", ROOM) else {
        unreachable!("a password")
    };
    watch.secret("the password", &password);
    let token = watch.secret("a token", &open.token_add("one", &user));
    let wrong = watch.secret("a wrong password", &canary("wrong"));
    let unknown = watch.secret("an unknown token", Token::generate().expect("a token").expose());

    for (secret, is_password, is_token) in [
        (&password, true, false),
        (&token, true, true),
        (&wrong, false, false),
        (&unknown, false, false),
    ] {
        // In config mode tenants share an account, which MQTT may not enter.
        let is_device = is_password && mode == Mode::Operator;
        assert_eq!(by_mqtt(open.mqtt, &user, secret), is_device, "{}", open.service.log());
        let cookies = [("user", &user), ("pass", secret), ("token", secret)]
            .map(|(name, value)| format!("nats_{name}={value}"));
        let [user_cookie, pass_cookie, token_cookie] = cookies.each_ref().map(String::as_str);
        let ways: [(Value, &[&str], bool); 4] = [
            (json!({ "auth_token": secret }), &[], is_token),
            (json!({ "user": user, "pass": secret }), &[], is_password),
            (json!({}), &[user_cookie, pass_cookie], is_password),
            (json!({}), &[token_cookie], is_token),
        ];
        for (fields, cookies, is_right) in ways {
            let connected = by_websocket(open.websocket, &fields, cookies);
            assert_eq!(connected, is_right, "{fields} {cookies:?}\n{}", open.service.log());
        }
    }
    watch.see("nats-server's log", open.server.log());
    // A server takes the user part of a leaf node's URL for its token, hands it on as a name, and
    // logs it as one.
    for login in [format!("{user}:{unknown}@"), format!("{unknown}@")] {
        Leaf::start(&leaf::remote(&open, &login)).refused();
    }

    eventually("the refusals in the log", || {
        (open.service.log().matches("refused").count() > 10).then_some(())
    });
    watch.see("metrics", http::get(open.http(), "/metrics").expect("an answer").body);
    watch.see_events(&open, mode).await;
    watch.see("the service's log", open.service.log());
    watch.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_other_transports_is_seen_anywhere() {
    for mode in modes() {
        shown_nowhere(mode).await;
    }
}
