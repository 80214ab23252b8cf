//! What the servers tell their operators about logins through the service.

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::basics::REFUSED;
use super::tap::own_login;
use super::wire::{Wire, verdict};
use super::{Row, Scene};
use crate::harness::PATIENCE;
use crate::harness::client::{Login, settled};

/// The next event about a client of this name.
async fn next(events: &mut Subscriber, client: &str) -> Value {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("no event about {client}"));
        let event = event.expect("the connection is open");
        let event: Value = serde_json::from_slice(&event.payload).expect("JSON");
        if event["client"]["name"] == client {
            return event;
        }
    }
}

pub(super) async fn auth_errors(scene: &mut Scene) -> Row {
    let mut row = Row::of("AuthErrEvents", scene.mode());
    let (mode, url) = (scene.mode(), scene.deployment.url());
    let system = own_login(&scene.deployment, mode, &url, "sys").await;
    let mut of_account =
        scene.tap.client.subscribe("$SYS.ACCOUNT.CLIENT.AUTH.ERR").await.expect("subscribes");
    let mut of_server =
        system.subscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR").await.expect("subscribes");
    settled(&scene.tap.client).await;
    settled(&system).await;

    row.saw("password", "admitted", verdict(scene.port(), "granted", &scene.one.app));
    for (what, login) in [
        ("wrong password", Login::password(&scene.one.name(), "a-wrong-secret")),
        ("unknown user", Login::password("rip", "a-wrong-secret")),
        ("unknown token", Login::Token("a-wrong-secret".to_owned())),
    ] {
        row.saw(what, REFUSED, verdict(scene.port(), what, &login));
        let event = next(&mut of_account, what).await;
        let reason = event["reason"].as_str().unwrap_or_default().to_lowercase();
        let said = "auth callout service returned an error: access denied";
        row.saw("reason in AUTH", said, reason);
        let other = next(&mut of_server, what).await;
        let reason = other["reason"].as_str().unwrap_or_default();
        row.saw("reason in SYS", "Authentication Failure", reason);
        let told = format!("{event}{other}").contains("a-wrong-secret");
        row.saw("secret told", false, told);
    }
    row
}

pub(super) async fn connects(scene: &mut Scene) -> Row {
    let mut row = Row::of("ConnectEvents", scene.mode());
    let (mode, url) = (scene.mode(), scene.deployment.url());
    let system = own_login(&scene.deployment, mode, &url, "sys").await;
    let mut begun = system.subscribe("$SYS.ACCOUNT.*.CONNECT").await.expect("subscribes");
    let mut ended = system.subscribe("$SYS.ACCOUNT.*.DISCONNECT").await.expect("subscribes");
    settled(&system).await;
    for (name, tenant) in [("first", &scene.one), ("second", &scene.two)] {
        let mut client = Wire::tcp(scene.port());
        row.saw(name, "admitted", client.login(name, &tenant.app.connect_fields()));
        let account = scene.home(tenant);
        let who = |event: &Value| {
            let text = |field: &str| event["client"][field].as_str().unwrap_or("?").to_owned();
            format!("{} in {}", text("user"), scene.named(&text("acc")))
        };
        let expected = format!("{} in {account}", tenant.name());
        row.saw("CONNECT of", &expected, who(&next(&mut begun, name).await));
        drop(client);
        let event = next(&mut ended, name).await;
        row.saw("DISCONNECT of", &expected, who(&event));
        let told = event.to_string().contains(tenant.password());
        row.saw("password told", false, told);
    }
    // None about them is left over: each was said once.
    let mut last = Wire::tcp(scene.port());
    last.login("last", &scene.one.app.connect_fields());
    let mut more = 0;
    loop {
        let event = tokio::time::timeout(PATIENCE, begun.next()).await.expect("an event");
        let event = event.expect("the connection is open");
        let event: Value = serde_json::from_slice(&event.payload).expect("JSON");
        match event["client"]["name"].as_str() {
            Some("last") => break,
            Some("first" | "second") => more += 1,
            _ => {}
        }
    }
    row.saw("further CONNECT events", 0, more);
    row
}
