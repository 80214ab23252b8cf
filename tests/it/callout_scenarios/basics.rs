//! What every login comes to: who gets in, as whom, where, with what and for how long; and how the
//! others are told. Nothing of `init`'s files is changed for these.

use serde_json::{Value, json};

use super::wire::{Wire, verdict};
use super::{Row, Scene, attempts, events, forged, report, silence, tokens};
use crate::harness::choice::{either_mode, modes};
use crate::harness::client::Login;
use crate::harness::deployment::Mode;

/// What a client is told who is not let in.
pub(super) const REFUSED: &str = "Authorization Violation";

async fn unchanged(mode: Mode) {
    let mut scene = Scene::start(mode).await;
    let scene = &mut scene;
    let rows = [
        error_response(scene).await,
        events::auth_errors(scene).await,
        events::connects(scene).await,
        attempts::mixed_credentials(scene),
        attempts::speaks_first(scene).await,
        forged::bad_server(scene).await,
        forged::bad_user(scene).await,
        forged::expired_user(scene).await,
        forged::expired_response(scene).await,
        silence::closed_before_the_answer(scene).await,
        attempts::deleted_during_connect(scene).await,
    ];
    report(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_change_of_the_server() {
    for mode in either_mode() {
        unchanged(mode).await;
    }
}

/// What each mode does in its own way.
async fn different(mode: Mode) {
    let mut scene = Scene::start(mode).await;
    let scene = &mut scene;
    let rows = [
        basics(scene).await,
        encryption(scene).await,
        auth_user_fails(scene).await,
        client_auth_error(scene).await,
        attempts::own_jwt(scene).await,
        attempts::another_tenants_reach(scene).await,
    ];
    report(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_change_of_the_server_by_mode() {
    for mode in modes() {
        different(mode).await;
    }
}

/// The words for a life of at most a ttl, of which up to a fifth is taken off.
fn life(seconds: i64) -> String {
    match seconds {
        2_878..=3_601 => "48 to 60 min".to_owned(),
        other => format!("{other} s"),
    }
}

fn lists(user: &Value, of: &str) -> String {
    let mut allow: Vec<&str> = user["nats"][of]["allow"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    allow.sort_unstable();
    allow.join(" ")
}

async fn basics(scene: &mut Scene) -> Row {
    let mut row = Row::of("Basics", scene.mode());
    let wrong = Login::password(&scene.one.name(), "wrong");
    row.saw("wrong password", REFUSED, verdict(scene.port(), "wrong", &wrong));

    let mut app = Wire::tcp(scene.port());
    row.saw("password", "admitted", app.login("basics", &scene.one.app.connect_fields()));
    let (asked, answered) = scene.tap.exchange("basics").await;
    let account = scene.home(&scene.one);
    row.saw("is", format!("one-app in {account}"), scene.who("basics"));
    row.saw("server asks for", "127.0.0.1 nats-1", {
        let server = asked.claims["nats"]["server_id"]["name"].as_str().unwrap_or_default();
        format!("{} {server}", asked.client("host"))
    });
    let user = answered.user().expect("a user");
    let issued = user["iat"].as_i64().expect("a time");
    row.saw("lives", "48 to 60 min", life(user["exp"].as_i64().unwrap_or_default() - issued));
    let publish = match scene.mode() {
        Mode::Operator => {
            "$JS.ACK.> $JS.API.> $JS.FC.> $KV.> $O.> $SYS.REQ.USER.INFO Events user.one.Events"
        }
        Mode::Config => "_INBOX_one.> _R_.> user.one.>",
    };
    row.saw("may publish", publish, lists(&user, "pub"));
    let subscribe = match scene.mode() {
        Mode::Operator => "Notifications _INBOX.> _INBOX_one.> user.one.Notifications",
        Mode::Config => "_INBOX_one.> user.one.>",
    };
    row.saw("may subscribe", subscribe, lists(&user, "sub"));

    let mut by_token = Wire::tcp(scene.port());
    let fields = json!({"auth_token": scene.one.token});
    row.saw("token", "admitted", by_token.login("token", &fields));
    let asked = scene.tap.asked("token").await;
    let named = asked.client("user").contains(&scene.one.token);
    row.saw("token is the user's name in the request", false, named);
    row.saw("is", format!("one-app in {account}"), scene.who("token"));
    let reported = scene.connz().to_string().contains(&scene.one.token);
    row.saw("token is in the server's report", false, reported);
    row
}

async fn encryption(scene: &mut Scene) -> Row {
    let scenario = match scene.mode() {
        Mode::Operator => "OperatorModeEncryption",
        Mode::Config => "ServerConfigEncryption",
    };
    let mut row = Row::of(scenario, scene.mode());
    for (what, login) in
        [("grant", scene.one.app.clone()), ("refusal", Login::password("nobody", "wrong"))]
    {
        verdict(scene.port(), what, &login);
        let (asked, answered) = scene.tap.exchange(what).await;
        row.saw("request sealed", true, asked.sealed);
        let signed = asked.claims["nats"]["server_id"]["xkey"].as_str().unwrap_or_default();
        row.saw("header's curve key is the signed one", true, signed == asked.xkey);
        row.saw(what, "sealed", if answered.sealed { "sealed" } else { "open to read" });
    }
    row
}

async fn error_response(scene: &mut Scene) -> Row {
    let mut row = Row::of("ErrorResponse", scene.mode());
    for (what, login) in [
        ("unknown user", Login::password("dlc", "zzz")),
        ("wrong password", Login::password(&scene.one.name(), "zzz")),
        ("unknown token", Login::Token("zzz".to_owned())),
        ("nothing", Login::Nothing),
    ] {
        row.saw(what, REFUSED, verdict(scene.port(), what, &login));
        let (_, answered) = scene.tap.exchange(what).await;
        let answer = match answered.user() {
            Some(_) => "a user".to_owned(),
            None => format!("error {:?}", answered.error()),
        };
        row.saw("answer", "error \"access denied\"", answer);
    }
    row
}

/// The service's own login with a wrong proof never reaches the service, and its name with a
/// password is a stranger.
async fn auth_user_fails(scene: &mut Scene) -> Row {
    let mut row = Row::of("AuthUserFailDoesNotInvokeCallout", scene.mode());
    let other = nkeys::KeyPair::new_user();
    let mut client = Wire::tcp(scene.port());
    let (fields, user) = match scene.mode() {
        Mode::Operator => {
            let jwt = tokens::jwt_of(&scene.deployment, "auth.creds");
            let user = tokens::claims(&jwt)["sub"].as_str().expect("a user").to_owned();
            (tokens::signed(&jwt, &other, &client.info), user)
        }
        Mode::Config => {
            let user = tokens::key(&scene.deployment, "auth.nk").public_key();
            let mut fields = tokens::signed("", &other, &client.info);
            fields["nkey"] = json!(user);
            (fields, user)
        }
    };
    row.saw("signed by another key", REFUSED, client.login("forged", &fields));
    for password in ["", "wrong"] {
        let login = Login::password(&user, password);
        row.saw("its name and a password", REFUSED, verdict(scene.port(), "named", &login));
    }
    verdict(scene.port(), "after", &Login::Nothing);
    let (_, asked) = scene.tap.asked_after("after").await;
    row.saw(
        "requests about these three",
        // As a user name it is nobody's in particular.
        2,
        asked,
    );
    row
}

async fn client_auth_error(scene: &mut Scene) -> Row {
    let scenario = match scene.mode() {
        Mode::Operator => "ClientAuthErrorOperatorMode",
        Mode::Config => "ClientAuthErrorConf",
    };
    let mut row = Row::of(scenario, scene.mode());
    let login = Login::password("a", "x");
    row.saw("a refusal", REFUSED, verdict(scene.port(), "refused", &login));
    scene.deployment.service.freeze();
    row.saw("no answer", REFUSED, verdict(scene.port(), "unanswered", &login));
    scene.deployment.service.thaw();
    let asked = scene.tap.asked("unanswered").await;
    // As a service answers that a careless hand has written.
    scene.deployment.service.freeze();
    let mut client = Wire::tcp(scene.port());
    client.offer("empty", &login.connect_fields());
    let empty = scene.tap.asked("empty").await;
    assert_ne!(empty.reply, asked.reply);
    scene.tap.answer(&empty, Vec::new()).await;
    row.saw("an empty answer", REFUSED, client.verdict());
    scene.deployment.service.thaw();
    row
}
