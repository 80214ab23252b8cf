//! Ports beside that of clients: MQTT, WebSocket and leaf nodes, with the tenant `one` in an account
//! of its own.

use super::wire::Wire;
use super::{Row, Scene, dedicate, leafnodes, mqtt, place_one, report};
use crate::harness::choice::modes;
use crate::harness::deployment::Mode;
use crate::harness::ports;

async fn all(mode: Mode) {
    let [mqtt_port, websocket, hub] = [(); 3].map(|()| ports::free());
    let mut scene = Scene::edited(mode, |init| {
        dedicate(init, mode);
        init.add_to_server_conf(&format!("mqtt {{ listen: \"127.0.0.1:{mqtt_port}\" }}"));
        init.add_to_server_conf(&format!(
            "websocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}"
        ));
        init.add_to_server_conf(&format!("leafnodes {{ listen: \"127.0.0.1:{hub}\" }}"));
    })
    .await;
    place_one(&scene);
    let scene = &mut scene;
    let mut rows = vec![
        over_websocket(scene, websocket),
        mqtt::jwt(scene, mqtt_port).await,
        mqtt::opaque_password(scene, mqtt_port).await,
        leafnodes::logins(scene, hub).await,
    ];
    if mode == Mode::Operator {
        rows.push(leafnodes::mismatched(scene, hub));
    }
    report(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_other_ports() {
    for mode in modes() {
        all(mode).await;
    }
}

fn over_websocket(scene: &Scene, port: u16) -> Row {
    let mut row = Row::of("a login over WebSocket", scene.mode());
    let mut client = Wire::websocket(port, None).expect("a WebSocket");
    row.saw("password", "admitted", client.login("browser", &scene.one.app.connect_fields()));
    let account = match scene.mode() {
        Mode::Operator => scene.home(&scene.one),
        Mode::Config => "BAZ".to_owned(),
    };
    row.saw("is", format!("one-app in {account}"), scene.who("browser"));
    let mut other = Wire::websocket(port, None).expect("a WebSocket");
    let wrong = serde_json::json!({"user": "one-app", "pass": "wrong"});
    row.saw("wrong password", super::basics::REFUSED, other.login("other", &wrong));
    row
}
