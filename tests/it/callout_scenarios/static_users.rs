//! Config mode with users that are written into the server's configuration: those whom the server
//! hands to the service too, those whom it keeps, and the one who stands in for clients without
//! credentials.

use serde_json::json;

use super::basics::REFUSED;
use super::wire::{Wire, verdict};
use super::{Row, Scene, replace, report};
use crate::harness::client::{Login, settled};
use crate::harness::deployment::{Initialised, Mode};
use crate::harness::eventually;

const MODE: Mode = Mode::Config;

/// Adds an account with the users of `users`.
fn account(init: &Initialised, name: &str, users: &str) {
    let with = format!("accounts {{\n    {name} {{ users: [ {users} ] }}\n");
    replace(&init.server_conf(), "accounts {\n", &with);
}

/// A row for a user of this name, with a password of the test's own.
fn row_for(scene: &Scene, name: &str, password: &str) {
    let hash = bcrypt::hash(password, 5).expect("a hash");
    scene.deployment.sql(&format!(
        "INSERT INTO users (tenant_id, name, password_hash) VALUES ('one', '{name}', '{hash}');"
    ));
}

/// Delegated are the accounts that are listed, and everyone whom the server does not know.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_not_delegated() {
    let mut scene = Scene::edited(MODE, |init| {
        account(init, "FOO", "{ user: foo, password: pwd }");
        account(init, "BAR", "{ user: bar, password: pwd }");
        init.add_to_server_conf("no_auth_user: foo");
        let listed = "account: AUTH\n        allowed_accounts: [ AUTH, USERS, BAR ]";
        replace(&init.server_conf(), "account: AUTH\n", &format!("{listed}\n"));
    })
    .await;
    let mut row = Row::of("AllowedAccounts", MODE);
    for (what, who, fields, asked) in [
        ("tenant's user", "one-app in USERS", scene.one.app.connect_fields(), 1),
        ("no credentials", "foo in FOO", json!({}), 0),
        ("foo with its password", "foo in FOO", json!({"user": "foo", "pass": "pwd"}), 0),
        // What fails by the server's own word is delegated: accounts are known after it.
        ("foo with another", REFUSED, json!({"user": "foo", "pass": "x"}), 1),
        ("bar, delegated, unknown to us", REFUSED, json!({"user": "bar", "pass": "pwd"}), 1),
        ("unknown", REFUSED, json!({"user": "nobody", "pass": "x"}), 1),
    ] {
        let mut client = Wire::tcp(scene.port());
        let said = client.login(what, &fields);
        let seen = if said == "admitted" { scene.who(what) } else { said };
        row.saw(what, who, seen);
        verdict(scene.port(), "mark", &Login::password("mark", "x"));
        let (_, before) = scene.tap.asked_after("mark").await;
        row.saw("requests", asked, before);
    }
    report(&[row]);
}

/// A client that says something before CONNECT is the `no_auth_user`, if the service lets it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_before_connect_is_asked_about() {
    let mut scene = Scene::edited(MODE, |init| {
        account(init, "FOO", "{ user: foo, password: pwd }");
        init.add_to_server_conf("no_auth_user: foo");
    })
    .await;
    let port = scene.port();
    let ping_first = || {
        let mut client = Wire::tcp(port);
        client.send("PING\r\n");
        (client.verdict(), client)
    };
    let requests = async |scene: &mut Scene| {
        verdict(port, "mark", &Login::password("mark", "x"));
        scene.tap.asked_after("mark").await.1
    };

    let mut refused = Row::of("NoAuthUserPreConnectInvokesCallout", MODE);
    refused.saw("PING first", REFUSED, ping_first().0);
    refused.saw("requests", 1, requests(&mut scene).await);
    refused.saw("no credentials", REFUSED, verdict(port, "nothing", &Login::Nothing));
    refused.saw("requests", 1, requests(&mut scene).await);

    // With a row for `foo` and the password that the server fills in, it is let in.
    let mut expires = Row::of("NoAuthUserPreConnectHonorsExpiration", MODE);
    row_for(&scene, "foo", "pwd");
    let mut before = eventually("the row", || {
        let (said, client) = ping_first();
        (said == "admitted").then_some(client)
    });
    let end = jiff::Timestamp::now().as_second() + 10;
    let end = jiff::Timestamp::from_second(end).expect("a time");
    scene.deployment.sql(&format!("UPDATE users SET expires_at = '{end}' WHERE name = 'foo';"));
    // Who came before the change is closed once it is known; who comes after it knows its end.
    before.end();
    let (said, mut client) = ping_first();
    expires.saw("PING first", "admitted", said);
    expires.saw("then", "User Authentication Expired", client.end());
    expires.saw("again", REFUSED, ping_first().0);
    report(&[refused, expires]);
}

/// The server's own demand for a proxy stands, whatever the service grants.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_has_to_come_through_a_proxy() {
    let mut scene = Scene::edited(MODE, |init| {
        let users = "{ user: user, password: pwd }, \
                     { user: proxied, password: pwd, proxy_required: true }";
        account(init, "APP", users);
    })
    .await;
    let mut row = Row::of("ProxyRequiredInUserNotInAuthJWT", MODE);
    for name in ["user", "proxied"] {
        row_for(&scene, name, "pwd");
    }
    let port = scene.port();
    let mut client = eventually("the row", || {
        let mut client = Wire::tcp(port);
        let fields = Login::password("user", "pwd").connect_fields();
        (client.login("user", &fields) == "admitted").then_some(client)
    });
    row.saw("static user with a row", "user in USERS", scene.who("user"));
    row.saw("open", true, client.is_open());
    let mut errors =
        scene.tap.client.subscribe("$SYS.ACCOUNT.CLIENT.AUTH.ERR").await.expect("subscribes");
    settled(&scene.tap.client).await;
    let proxied = Login::password("proxied", "pwd");
    row.saw("without its proxy", REFUSED, verdict(port, "proxied", &proxied));
    let (_, answered) = scene.tap.exchange("proxied").await;
    row.saw("service grants", true, answered.user().is_some());
    use futures_util::StreamExt as _;
    let event = tokio::time::timeout(crate::harness::PATIENCE, errors.next()).await;
    let event = event.expect("an event").expect("the connection is open");
    let event: serde_json::Value = serde_json::from_slice(&event.payload).expect("JSON");
    let reason = event["reason"].as_str().unwrap_or_default().to_lowercase();
    row.saw("reason", "proxy connection required", reason);
    report(&[row]);
}
