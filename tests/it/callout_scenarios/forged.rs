//! Answers that no service may give. Ours never does, as its answers on the wire show; and where
//! another puts its real answers to a use that they were not made for, nobody gets in by them.
//!
//! What nats-server says to a service with all the keys that answers wrongly is its own affair. The
//! worst that is left to others is an answer of ours, word for word, at another time or for
//! another client.

use serde_json::Value;

use super::basics::REFUSED;
use super::tap::{Answered, Asked};
use super::wire::{Wire, verdict};
use super::{Row, Scene, tokens};
use crate::harness::client::Login;
use crate::harness::{eventually, eventually_async};

/// A grant and a refusal.
async fn two_answers(scene: &mut Scene) -> [(Asked, Answered); 2] {
    verdict(scene.port(), "granted", &scene.one.app.clone());
    let granted = scene.tap.exchange("granted").await;
    verdict(scene.port(), "refused", &Login::password("nobody", "wrong"));
    let refused = scene.tap.exchange("refused").await;
    assert!(granted.1.user().is_some() && refused.1.user().is_none());
    [granted, refused]
}

/// Answers a stranger's login with `payload` in the service's place; gives what the client is told,
/// and the last warning of the server.
async fn answered_with(scene: &mut Scene, payload: Vec<u8>) -> (String, String) {
    scene.deployment.service.freeze();
    let before = warnings(&scene.deployment.server.log()).len();
    let mut client = Wire::tcp(scene.port());
    client.offer("stranger", &Login::password("stranger", "unknown").connect_fields());
    let asked = scene.tap.asked("stranger").await;
    scene.tap.answer(&asked, payload).await;
    let verdict = client.verdict();
    let warning = eventually("the server's warning", || {
        warnings(&scene.deployment.server.log()).into_iter().nth(before)
    });
    scene.deployment.service.thaw();
    // What was asked meanwhile is answered to nobody; nothing is left to disturb what follows.
    let (port, app) = (scene.port(), scene.one.app.clone());
    eventually("a login", || (self::verdict(port, "thawed", &app) == "admitted").then_some(()));
    (verdict, warning)
}

/// What the server has warned of about answers.
fn warnings(log: &str) -> Vec<String> {
    log.lines()
        .filter(|line| line.contains("[WRN]") && line.to_lowercase().contains("auth callout"))
        .map(|line| line.split("[WRN] ").nth(1).unwrap_or_default().to_owned())
        .collect()
}

pub(super) async fn bad_server(scene: &mut Scene) -> Row {
    let mut row = Row::of("BadServer", scene.mode());
    let answers = two_answers(scene).await;
    for (asked, answered) in &answers {
        let server = &asked.claims["nats"]["server_id"]["id"];
        row.saw("answer names the server", true, &answered.claims["aud"] == server);
    }
    // The same server has other keys after a restart, as any other server has.
    let recorded = answers[0].1.payload.clone();
    scene.deployment.server.stop();
    scene.deployment.server.restart();
    let (port, app) = (scene.port(), scene.one.app.clone());
    eventually("a login", || (verdict(port, "again", &app) == "admitted").then_some(()));
    let (mode, url) = (scene.mode(), scene.deployment.url());
    scene.tap = super::Tap::on(&scene.deployment, mode, &url).await;
    let (said, warning) = answered_with(scene, recorded).await;
    row.saw("an answer to another server", REFUSED, said);
    let why = "Error decrypting auth callout response";
    row.saw("server says", why, &warning[..why.len().min(warning.len())]);
    row
}

pub(super) async fn bad_user(scene: &mut Scene) -> Row {
    let mut row = Row::of("BadUser", scene.mode());
    let answers = two_answers(scene).await;
    for (asked, answered) in &answers {
        let key = &asked.claims["nats"]["user_nkey"];
        row.saw("answer names the connection's key", true, &answered.claims["sub"] == key);
        if let Some(user) = answered.user() {
            row.saw("so does the user", true, &user["sub"] == key);
        }
    }
    let (said, warning) = answered_with(scene, answers[0].1.payload.clone()).await;
    row.saw("another's answer", REFUSED, said);
    let why = "Auth callout violation: auth callout response is not for expected user";
    row.saw("server says", why, warning);
    row
}

/// A user whose time is over is refused; one whose time ends soon gets a user that ends with it.
pub(super) async fn expired_user(scene: &mut Scene) -> Row {
    let mut row = Row::of("ExpiredUser", scene.mode());
    let scene = &mut *scene;
    let name = scene.two.name();
    let set = |when: &str| {
        scene
            .deployment
            .sql(&format!("UPDATE users SET expires_at = {when} WHERE name = '{name}';"));
    };
    let port = scene.port();
    set("'2020-01-01 00:00:00+00:00'");
    eventually("the end", || (verdict(port, "waits", &scene.two.app) == REFUSED).then_some(()));
    row.saw("expired", REFUSED, verdict(port, "expired", &scene.two.app));
    let (_, answered) = scene.tap.exchange("expired").await;
    row.saw("answer", "access denied", answered.error());

    let end = jiff::Timestamp::now().as_second() + 5;
    set(&format!("'{}'", jiff::Timestamp::from_second(end).expect("a time")));
    // Who comes before the change is carried out is closed by it without a word.
    let said = eventually("the new end", || {
        let mut client = Wire::tcp(port);
        let fields = scene.two.app.connect_fields();
        let is_in = client.login("soon", &fields) == "admitted";
        is_in.then(|| client.end()).filter(|said| !said.is_empty())
    });
    let tap = &mut scene.tap;
    let user = loop {
        let (_, answered) = tap.exchange("soon").await;
        if let Some(user) = answered.user() {
            break user;
        }
    };
    row.saw("user ends with its row", end, user["exp"].as_i64().unwrap_or_default());
    row.saw("then", "User Authentication Expired", said);
    set("NULL");
    eventually("no end", || (verdict(port, "waits", &scene.two.app) == "admitted").then_some(()));
    row
}

/// Our answers have no end of their own: they are bound to one connection's key, and an answer that
/// comes when its server has given up is to nobody.
pub(super) async fn expired_response(scene: &mut Scene) -> Row {
    let mut row = Row::of("ExpiredResponse", scene.mode());
    let [(_, granted), (_, refused)] = two_answers(scene).await;
    for answered in [&granted, &refused] {
        row.saw("answer ends", Value::Null, &answered.claims["exp"]);
    }
    let user = granted.user().expect("a user");
    row.saw("user ends", true, user["exp"].as_i64() > Some(jiff::Timestamp::now().as_second()));
    row.saw("user begins", Value::Null, &user["nbf"]);

    // The right answer, too late.
    scene.deployment.service.freeze();
    let mut client = Wire::tcp(scene.port());
    client.offer("late", &scene.one.app.connect_fields());
    let asked = scene.tap.asked("late").await;
    row.saw("no answer in time", REFUSED, client.verdict());
    scene.tap.answer(&asked, granted.payload.clone()).await;
    scene.deployment.service.thaw();
    let (port, app) = (scene.port(), scene.one.app.clone());
    let after = eventually_async("a login", || async {
        (verdict(port, "after", &app) == "admitted").then_some("admitted")
    })
    .await;
    row.saw("the next login", "admitted", after);
    row.saw("the late one", "not connected", scene.gone("late"));
    let own = tokens::claims(granted.claims["nats"]["jwt"].as_str().expect("a JWT"));
    row.saw("issued for", granted.claims["sub"].clone(), own["sub"].clone());
    row
}
