//! Operator mode: the accounts AUTH and the tenants' as JWTs, which an operator's own tools may
//! change too, and clients that bring a sentinel of their own.

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::basics::REFUSED;
use super::tap::own_login;
use super::wire::{Wire, verdict};
use super::{Row, Scene, replace, report, tokens};
use crate::harness::client::Login;
use crate::harness::deployment::Mode;
use crate::harness::eventually;
use crate::harness::service::Service;

const MODE: Mode = Mode::Operator;

#[tokio::test(flavor = "multi_thread")]
async fn with_accounts_as_jwts() {
    let mut scene = Scene::start(MODE).await;
    let scene = &mut scene;
    let rows = [
        basics(scene).await,
        any_account(scene).await,
        mismatched_creds(scene),
        scoped(scene, "ScopedUserAssignedAccount").await,
        scoped(scene, "ScopedUserAllAccount").await,
        revocation(scene).await,
        cleared(scene).await,
    ];
    report(&rows);
}

/// A user of AUTH for all clients, to whom nothing is allowed, signed by AUTH's identity.
fn sentinel(scene: &Scene) -> (String, KeyPair) {
    let (auth, user) = (tokens::key(&scene.deployment, "offline/auth.nk"), KeyPair::new_user());
    let claims = tokens::user("auth-client", &user, &auth.public_key(), &auth);
    (tokens::sign(claims, &auth), user)
}

/// Logs in with a sentinel of the client's own and these credentials; gives who it has become.
fn with_sentinel(scene: &Scene, name: &str, sentinel: &(String, KeyPair), login: &Login) -> String {
    let mut client = Wire::tcp(scene.port());
    let mut fields = login.connect_fields();
    let signed = tokens::signed(&sentinel.0, &sentinel.1, &client.info);
    for (field, value) in signed.as_object().expect("an object") {
        fields[field] = value.clone();
    }
    match client.login(name, &fields).as_str() {
        "admitted" => scene.who(name),
        words => words.to_owned(),
    }
}

async fn basics(scene: &mut Scene) -> Row {
    let mut row = Row::of("OperatorModeBasics", MODE);
    let request = scene.tap.client.request("$SYS.REQ.USER.INFO", "".into()).await;
    let info: Value = serde_json::from_slice(&request.expect("an answer").payload).expect("JSON");
    let denied = &info["data"]["permissions"]["publish"]["deny"];
    row.saw("service may not publish", "[\"$SYS.REQ.USER.AUTH\"]", denied);

    let own = sentinel(scene);
    row.saw("creds alone", REFUSED, with_sentinel(scene, "alone", &own, &Login::Nothing));
    verdict(scene.port(), "early", &scene.one.app);
    let placed = format!("one-app in {}", scene.home(&scene.one));
    let token = Login::Token(scene.one.token.clone());
    row.saw("creds and token", &placed, with_sentinel(scene, "token", &own, &token));
    let (_, answered) = scene.tap.exchange("token").await;
    let user = answered.user().expect("a user");
    let users = tokens::key(&scene.deployment, "offline/users.nk").public_key();
    row.saw("creds and password", &placed, with_sentinel(scene, "pass", &own, &scene.one.app));
    let wrong = Login::Token("wrong".to_owned());
    row.saw("creds and a wrong token", REFUSED, with_sentinel(scene, "wrong", &own, &wrong));
    let in_users = user["iss"] == users || user["nats"]["issuer_account"] == users;
    row.saw("signed for the pool", false, in_users);

    // Signed by a signing key of the account that tenants share.
    let pooled = scene.deployment.tenant_add("pooled", &["--isolation", "shared"]);
    let mut client = Wire::tcp(scene.port());
    client.login("shared", &pooled.connect_fields());
    row.saw("sentinel of the server", "pooled in USERS", scene.who("shared"));
    let (_, answered) = scene.tap.exchange("shared").await;
    let user = answered.user().expect("a user");
    let issuer = user["nats"]["issuer_account"].as_str().unwrap_or("none");
    row.saw("issuer account", "USERS", scene.named(issuer));
    row.saw("by its signing key", true, user["iss"] != users.as_str());
    row
}

async fn any_account(scene: &mut Scene) -> Row {
    let mut row = Row::of("Operator_AnyAccount", MODE);
    let own = sentinel(scene);
    verdict(scene.port(), "early", &scene.two.app);
    row.saw("creds alone", REFUSED, with_sentinel(scene, "alone", &own, &Login::Nothing));
    for (name, tenant) in [("a", &scene.one), ("b", &scene.two)] {
        let expected = format!("{} in {}", tenant.name(), scene.home(tenant));
        row.saw(name, expected, with_sentinel(scene, name, &own, &tenant.app));
    }
    row.saw("accounts differ", true, scene.account(&scene.one) != scene.account(&scene.two));
    row
}

/// The service's user with another's seed: nobody gets in, a service that has it says so, and
/// nothing else suffers.
fn mismatched_creds(scene: &Scene) -> Row {
    let mut row = Row::of("OperatorModeMismatchedCalloutCreds", MODE);
    let jwt = tokens::jwt_of(&scene.deployment, "auth.creds");
    let other = KeyPair::new_user();
    let mut client = Wire::tcp(scene.port());
    let fields = tokens::signed(&jwt, &other, &client.info);
    row.saw("JWT and another seed", REFUSED, client.login("mismatched", &fields));
    let file = scene.deployment.dir().join("keys/mismatched.creds");
    std::fs::copy(scene.deployment.dir().join("keys/auth.creds"), &file).expect("a copy");
    std::fs::write(&file, tokens::creds(&jwt, &other)).expect("is written");
    let settings = [
        ("NATS_CALLOUT_NATS_CREDENTIALS", file.to_str().expect("utf-8")),
        ("NATS_CALLOUT_HTTP_LISTEN", ""),
    ];
    let service = Service::launch(&scene.deployment.config(), &settings);
    let line = eventually("a line about it", || {
        let log = service.log();
        log.lines().find(|line| line.contains("cannot connect to NATS yet")).map(str::to_owned)
    });
    row.saw("service says", true, line.contains("authorization violation"));
    row.saw("is ready", false, service.log().contains("nats-callout: ready"));
    drop(service);
    std::fs::remove_file(file).expect("is removed");
    row.saw("logins go on", "admitted", verdict(scene.port(), "after", &scene.one.app));
    row
}

/// Has the servers take an account's JWT, as `nsc push` would.
async fn push(scene: &Scene, jwt: String) {
    let system = own_login(&scene.deployment, MODE, &scene.deployment.url(), "sys").await;
    let answer = system.request("$SYS.REQ.CLAIMS.UPDATE", jwt.into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer["data"]["code"], 200, "{answer}");
}

/// The JWT of an account as the server keeps it, changed and signed again.
fn changed(scene: &Scene, account: &str, change: impl FnOnce(&mut Value)) -> String {
    let kept = scene.deployment.dir().join("accounts").join(format!("{account}.jwt"));
    let mut claims = tokens::claims(&std::fs::read_to_string(kept).expect("an account's JWT"));
    change(&mut claims);
    // Later than the one that the server has.
    claims["iat"] = json!(jiff::Timestamp::now().as_second());
    tokens::sign(claims, &tokens::key(&scene.deployment, "operator-signing.nk"))
}

async fn revocation(scene: &mut Scene) -> Row {
    let mut row = Row::of("OperatorModeUserRevocation", MODE);
    let port = scene.port();
    let open = |name: &str, login: &Login| {
        let mut client = Wire::tcp(port);
        assert_eq!(client.login(name, &login.connect_fields()), "admitted");
        client
    };
    let mut first = open("first", &scene.two.app);
    let mut others = [open("second", &scene.two.admin), open("third", &scene.two.admin)];
    let kicked = |args: &[&str]| {
        let mut all = vec!["--json"];
        all.extend(args);
        scene.deployment.cli(&all).success().json()["kicked"].clone()
    };
    row.saw("user suspended", 1, kicked(&["user", "suspend", "two", "two-app"]));
    first.end();
    row.saw("first", "not connected", scene.gone("first"));
    row.saw("again", REFUSED, verdict(port, "again", &scene.two.app));
    row.saw(
        "second and third",
        "true true",
        others.each_mut().map(Wire::is_open).map(|o| o.to_string()).join(" "),
    );
    row.saw("tenant suspended", 2, kicked(&["tenant", "suspend", "two"]));
    for other in &mut others {
        other.end();
    }
    row.saw("second", "not connected", scene.gone("second"));
    scene.deployment.cli(&["tenant", "resume", "two"]).success();
    scene.deployment.cli(&["user", "resume", "two", "two-app"]).success();

    // By a tool of the operator's that knows nothing of the service.
    let mut client = open("revoked", &scene.one.app);
    let (_, answered) = scene.tap.exchange("revoked").await;
    let user = answered.claims["sub"].as_str().expect("a key").to_owned();
    let account = scene.account(&scene.one);
    let in_a_minute = jiff::Timestamp::now().as_second() + 60;
    let mut bystander = open("bystander", &scene.one.admin);
    let jwt = changed(scene, &account, |claims| {
        claims["nats"]["revocations"] = json!({ user: in_a_minute });
    });
    push(scene, jwt).await;
    row.saw("key revoked by another", "User Authentication Revoked", client.end());
    row.saw("the others", true, bystander.is_open());
    let jwt = changed(scene, &account, |claims| {
        claims["nats"]["revocations"] = json!({ "*": in_a_minute });
    });
    push(scene, jwt).await;
    row.saw("all revoked by another", "User Authentication Revoked", bystander.end());
    // The server looks at revocations no more once the service has decided.
    row.saw("next login", "admitted", verdict(port, "next", &scene.one.app));
    let jwt = changed(scene, &account, |claims| claims["nats"]["revocations"] = json!({}));
    push(scene, jwt).await;
    row
}

async fn scoped(scene: &mut Scene, scenario: &'static str) -> Row {
    let mut row = Row::of(scenario, MODE);
    let only_one = scenario == "ScopedUserAssignedAccount";
    let auth = tokens::key(&scene.deployment, "offline/auth.nk").public_key();
    let before = changed(scene, &auth, |_| ());
    let allowed = if only_one { scene.account(&scene.one) } else { "*".to_owned() };
    let scope = KeyPair::new_account();
    let nothing = json!({"deny": [">"]});
    let jwt = changed(scene, &auth, |claims| {
        claims["nats"]["authorization"]["allowed_accounts"] = json!([allowed]);
        claims["nats"]["signing_keys"].as_array_mut().expect("a list").push(json!({
            "kind": "user_scope", "key": scope.public_key(), "role": "sentinel",
            "template": {"pub": nothing, "sub": nothing, "subs": -1, "data": -1, "payload": -1},
        }));
    });
    push(scene, jwt).await;
    let user = KeyPair::new_user();
    let claims = json!({
        "iat": 1_700_000_000, "name": "scoped-user", "sub": user.public_key(),
        "nats": {"issuer_account": auth, "type": "user", "version": 2},
    });
    let own = (tokens::sign(claims, &scope), user);
    row.saw("creds alone", REFUSED, with_sentinel(scene, "alone", &own, &Login::Nothing));
    let one = format!("one-app in {}", scene.home(&scene.one));
    row.saw("assigned", one, with_sentinel(scene, "assigned", &own, &scene.one.app));
    let two = match only_one {
        true => REFUSED.to_owned(),
        false => format!("two-app in {}", scene.home(&scene.two)),
    };
    row.saw("another", two, with_sentinel(scene, "another", &own, &scene.two.app));
    let (_, answered) = scene.tap.exchange("another").await;
    row.saw("service grants", true, answered.user().is_some());
    push(scene, before).await;
    row
}

/// Without its settings in AUTH's JWT the callout is off, and the sentinel gets in, who may do
/// nothing: nobody reaches a tenant, and `doctor` names it.
async fn cleared(scene: &mut Scene) -> Row {
    let mut row = Row::of("UpdateAccountClaimsClearsExternalAuthorization", MODE);
    let auth = tokens::key(&scene.deployment, "offline/auth.nk").public_key();
    let before = changed(scene, &auth, |_| ());
    let doctor = |scene: &Scene| {
        let report = scene.deployment.cli(&["doctor"]);
        (report.status, report.stdout)
    };
    let port = scene.port();
    row.saw("doctor before", 0, doctor(scene).0);
    let jwt = changed(scene, &auth, |claims| {
        claims["nats"].as_object_mut().expect("an object").remove("authorization");
    });
    push(scene, jwt).await;
    let mut client = Wire::tcp(port);
    let said = client.login("cleared", &scene.one.app.connect_fields());
    row.saw("login", "admitted", said);
    let account = scene.who("cleared");
    row.saw("in", "AUTH", account.rsplit(' ').next().unwrap_or_default());
    client.send("SUB > 1\r\nPUB Events 1\r\nx\r\nPING\r\n");
    let mut denied = 0;
    loop {
        match client.line() {
            Some(line) if line.contains("Permissions Violation") => denied += 1,
            Some(line) if line == "PONG" => break,
            other => panic!("{other:?}"),
        }
    }
    row.saw("may do nothing", 2, denied);
    let (status, said) = doctor(scene);
    row.saw("doctor", 1, status);
    for line in ["its auth_users do not list the service's own user", "one-app (`cleared`"] {
        row.saw("doctor names it", true, said.contains(line));
    }
    drop(client);
    push(scene, before).await;
    eventually("a login", || {
        let mut client = Wire::tcp(port);
        client.login("restored", &scene.one.app.connect_fields());
        scene.who("restored").starts_with("one-app").then_some(())
    });
    row.saw("restored", 0, doctor(scene).0);
    row
}

/// A server that has no `default_sentinel`: clients bring one of their own.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_default_sentinel() {
    let mut scene = Scene::edited(MODE, |init| {
        replace(&init.server_conf(), "\ndefault_sentinel: ", "\n# default_sentinel: ");
    })
    .await;
    let mut row = Row::of("a server without a default sentinel", MODE);
    row.saw("password alone", REFUSED, verdict(scene.port(), "plain", &scene.one.app));
    let own = sentinel(&scene);
    let seen = with_sentinel(&scene, "creds", &own, &scene.one.app);
    row.saw("creds and password", format!("one-app in {}", scene.home(&scene.one)), seen);
    let (_, before) = scene.tap.asked_after("creds").await;
    row.saw("requests before", 0, before);
    row.saw("creds alone", REFUSED, with_sentinel(&scene, "alone", &own, &Login::Nothing));
    report(&[row]);
}
