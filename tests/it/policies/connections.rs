//! Types of connections, each by a real one: NATS' own protocol, WebSocket, MQTT and leaf nodes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::limits::{policy, reasons};
use super::user;
use crate::harness::choice::{either_mode, lacks};
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually, http, ports};

#[derive(Debug, Clone, Copy)]
struct Ports {
    websocket: u16,
    mqtt: u16,
    leafnode: u16,
}

/// A deployment that listens for everything, with policies for one type each.
fn listening(mode: Mode) -> (Deployment, Ports) {
    let ports = Ports { websocket: ports::free(), mqtt: ports::free(), leafnode: ports::free() };
    let deployment = super::deployment(mode, |init| {
        let mut conf = std::fs::read_to_string(init.server_conf()).unwrap();
        conf.push_str(&format!(
            "\nwebsocket {{ listen: \"127.0.0.1:{}\", no_tls: true }}\nmqtt {{ listen: \"127.0.0.1:{}\" }}\n\
             leafnodes {{ listen: \"127.0.0.1:{}\" }}\n",
            ports.websocket, ports.mqtt, ports.leafnode
        ));
        std::fs::write(init.server_conf(), conf).unwrap();
        let folder = init.dir().join("policies");
        std::fs::create_dir_all(&folder).unwrap();
        for kind in ["nats", "websocket", "mqtt", "leafnode"] {
            let mut text = policy(&format!("connections = [\"{kind}\"]"));
            if kind == "leafnode" {
                // For leaf nodes there is no line in the accounts that tenants share.
                let (own, _) = text.split_once("[shared]").unwrap();
                text = format!("{own}[shared]\nconnections = [\"mqtt\"]\n");
            }
            std::fs::write(folder.join(format!("{kind}.toml")), text).unwrap();
        }
    });
    (deployment, ports)
}

fn words(login: &Login) -> (&str, &str) {
    let Login::Password(user, password) = login else { panic!("{login:?}") };
    (user, password)
}

fn stream(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Whether MQTT's CONNACK has the return code 0 (MQTT 3.1.1, 3.2.2.3).
fn mqtt(port: u16, login: &Login) -> bool {
    let text = |text: &str| {
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    // A clean session, with a user name and a password.
    let mut body = [text("MQTT"), vec![4, 0b1100_0010, 0, 60]].concat();
    let (user, password) = words(login);
    for part in ["mqtt-client", user, password] {
        body.extend(text(part));
    }
    let packet = [&[0x10, u8::try_from(body.len()).unwrap()], body.as_slice()].concat();
    let mut stream = stream(port);
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).is_ok() && answer[3] == 0
}

/// Whether a PING behind a CONNECT is answered, in frames of RFC 6455.
fn websocket(port: u16, login: &Login) -> bool {
    let mut stream = stream(port);
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).unwrap();
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    // The server takes no frame before its own answer.
    while !String::from_utf8_lossy(&seen).contains("\r\n\r\n") {
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend(&chunk[..read]);
    }
    let fields = login.connect_fields();
    let mut options = serde_json::json!({ "verbose": false, "protocol": 1, "headers": true });
    for (name, value) in fields.as_object().unwrap() {
        options[name] = value.clone();
    }
    let payload = format!("CONNECT {options}\r\nPING\r\n");
    // A whole binary message, its length in two bytes, under a mask of zeros.
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let frame = [&[0x82, 0x80 | 126][..], &length, &[0; 4], payload.as_bytes()].concat();
    stream.write_all(&frame).unwrap();
    loop {
        let text = String::from_utf8_lossy(&seen);
        if text.contains("PONG") {
            return true;
        }
        if text.contains("-ERR") {
            return false;
        }
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => seen.extend(&chunk[..read]),
            end => panic!("{end:?} after {text}"),
        }
    }
}

fn nats(deployment: &Deployment, login: &Login) -> bool {
    raw::connect(deployment.init.port, &login.connect_fields()).0 == Verdict::Admitted
}

fn types(mode: Mode) {
    let (deployment, ports) = listening(mode);
    deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "64MB"]);
    let by_default = deployment.user_add("shop", "alice", &["--kind", "bb"]);
    assert!(nats(&deployment, &by_default) && websocket(ports.websocket, &by_default));
    // Where permissions are the boundary, it has subjects of its own that they do not keep apart.
    assert_eq!(mqtt(ports.mqtt, &by_default), mode == Mode::Operator);
    for kind in ["nats", "websocket", "mqtt", "leafnode"] {
        let login = user(&deployment, &format!("by-{kind}"), kind);
        assert_eq!(nats(&deployment, &login), kind == "nats", "{kind}");
        assert_eq!(websocket(ports.websocket, &login), kind == "websocket", "{kind}");
        if kind != "mqtt" {
            assert!(!mqtt(ports.mqtt, &login), "{kind}");
        }
    }
    eventually("the reason in the metrics", || {
        reasons(&deployment, "connection_type").then_some(())
    });
}

#[test]
fn types_of_connections() {
    for mode in either_mode() {
        types(mode);
    }
}

/// Operator mode: the account that tenants share in the other has no JetStream, without which the
/// server has no MQTT.
#[test]
fn mqtt_by_default_and_by_a_policy() {
    let (deployment, ports) = listening(Mode::Operator);
    deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "64MB"]);
    let by_default = deployment.user_add("shop", "alice", &["--kind", "bb"]);
    assert!(nats(&deployment, &by_default));
    assert!(mqtt(ports.mqtt, &by_default));
    assert!(mqtt(ports.mqtt, &user(&deployment, "by-mqtt", "mqtt")));
}

#[test]
fn leaf_nodes() {
    if lacks(Mode::Operator) {
        return;
    }
    let (deployment, ports) = listening(Mode::Operator);
    deployment.tenant_add("shop", &[]);
    let leafs = || {
        let leafz = http::get(&format!("127.0.0.1:{}", deployment.init.monitor), "/leafz").unwrap();
        let leafz: Value = serde_json::from_str(&leafz.body).unwrap();
        leafz["leafnodes"].as_u64().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let node = |login: &Login| {
        let port = ports::free();
        let (user, password) = words(login);
        let conf = folder.path().join(format!("{user}.conf"));
        let text = format!(
            "listen: 127.0.0.1:{port}\nserver_name: \"{user}\"\nleafnodes {{ remotes: [ {{ url: \
             \"nats-leaf://{user}:{password}@127.0.0.1:{}\" }} ] }}\n",
            ports.leafnode
        );
        std::fs::write(&conf, text).unwrap();
        NatsServer::start(servers::version(), &conf, port, None).unwrap()
    };
    let _refused = node(&user(&deployment, "client", "nats"));
    eventually("the refusal", || reasons(&deployment, "connection_type").then_some(()));
    assert_eq!(leafs(), 0);
    let _admitted = node(&user(&deployment, "leaf", "leafnode"));
    eventually("the leaf node", || (leafs() == 1).then_some(()));
}
