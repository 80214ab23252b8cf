//! Clients that are gone before the service has answered: nothing of them is left on the server,
//! and no limit counts them.

use super::basics::REFUSED;
use super::wire::{Wire, verdict};
use super::{Row, Scene, dedicate, place_one, report};
use crate::harness::choice::either_mode;
use crate::harness::deployment::Mode;
use crate::harness::eventually;

pub(super) async fn closed_before_the_answer(scene: &mut Scene) -> Row {
    let mut row = Row::of("RegisterWithAccountAfterClose", scene.mode());
    let (port, account) = (scene.port(), scene.account(&scene.one));
    // In USERS is the service's own login, which takes events.
    let own = usize::from(scene.mode() == Mode::Config);
    let count = |scene: &Scene| scene.deployment.server.connections(&account) - own;
    eventually("an empty account", || (count(scene) == 0).then_some(()));
    scene.deployment.service.freeze();
    row.saw("no answer", REFUSED, verdict(port, "zombie", &scene.one.app));
    let mut gone = Wire::tcp(port);
    gone.offer("gone", &scene.one.app.connect_fields());
    let asked = scene.tap.asked("gone").await;
    drop(gone);
    scene.deployment.service.thaw();
    // It is answered although nobody waits: the service cannot know.
    scene.tap.answered(&asked).await;
    row.saw("next", "admitted", verdict(port, "next", &scene.one.app));
    eventually("an empty account", || (count(scene) == 0).then_some(()));
    row.saw("connections left", 0, count(scene));
    for name in ["zombie", "gone"] {
        row.saw(name, "not connected", scene.gone(name));
    }
    row
}

async fn zombies(mode: Mode) {
    let scene = Scene::edited(mode, |init| dedicate(init, mode)).await;
    let mut row = Row::of("ZombieInflatesAccountConnections", mode);
    place_one(&scene);
    if mode == Mode::Operator {
        scene.deployment.sql("UPDATE tenants SET max_connections = 5 WHERE id = 'one';");
    }
    let mut scene = scene;
    let port = scene.port();
    let login = scene.one.app.clone();
    row.saw("login", "admitted", verdict(port, "placed", &login));
    let account = match mode {
        Mode::Operator => scene.account(&scene.one),
        Mode::Config => "BAZ".to_owned(),
    };
    if mode == Mode::Operator {
        eventually("the limit on the server", || {
            let report = scene.monitor(&format!("/accountz?acc={account}"));
            let claims = &report["account_detail"]["decoded_jwt"];
            (claims["nats"]["limits"]["conn"] == 5).then_some(())
        });
    }
    eventually("an empty account", || {
        (scene.deployment.server.connections(&account) == 0).then_some(())
    });
    scene.deployment.service.freeze();
    for _ in 0..3 {
        let mut client = Wire::tcp(port);
        client.offer("zombie", &login.connect_fields());
        scene.tap.asked("zombie").await;
    }
    scene.deployment.service.thaw();
    // For a moment the server may take one for somebody who stays.
    scene.gone("zombie");
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut client = Wire::tcp(port);
        row.saw("login", "admitted", client.login("legit", &login.connect_fields()));
        open.push(client);
    }
    row.saw("connections", 5, scene.deployment.server.connections(&account));
    let sixth = verdict(port, "sixth", &login);
    row.saw("sixth", "maximum account active connections exceeded", sixth);
    drop(open.pop());
    let mut last = eventually("a place", || {
        let mut client = Wire::tcp(port);
        (client.login("legit", &login.connect_fields()) == "admitted").then_some(client)
    });
    row.saw("after one has left", true, last.is_open());
    // Whoever leaves while the answer is on its way takes no place either.
    drop((open, last));
    for _ in 0..20 {
        let mut client = Wire::tcp(port);
        client.offer("hasty", &login.connect_fields());
    }
    for _ in 0..20 {
        scene.tap.asked("hasty").await;
    }
    scene.gone("hasty");
    eventually("an empty account", || {
        (scene.deployment.server.connections(&account) == 0).then_some(())
    });
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut client = Wire::tcp(port);
        let admitted = client.login("again", &login.connect_fields());
        row.saw("after twenty hasty ones", "admitted", admitted);
        open.push(client);
    }
    report(&[row]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_gone_count_nowhere() {
    for mode in either_mode() {
        zombies(mode).await;
    }
}
