//! `test` logs in for real, and names the reason that the server keeps to itself.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{document, with_stdin};
use crate::harness::choice::{either_mode, modes};
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{eventually, service};

fn run(init: &Initialised, status: i32, args: &[&str]) -> Value {
    stdin(init, status, args, "")
}

fn stdin(init: &Initialised, status: i32, args: &[&str], text: &str) -> Value {
    let mut all = vec!["--json", "test"];
    all.extend(args);
    let result = document(&with_stdin(init, &all, text), status);
    assert_eq!(init.sql("SELECT count(*) FROM tokens WHERE label = 'nats-callout test';"), "0");
    assert_eq!(result["admitted"], status == 0, "{result}");
    result
}

fn admits(mode: Mode) {
    let deployment = Deployment::start(mode);
    let own = mode == Mode::Operator;
    let Login::Password(_, password) =
        deployment.tenant_add("shop", &["--memory", "16MB", "--storage", "1GB"])
    else {
        panic!()
    };
    deployment.user_add("shop", "orders", &["-p", "orders.*", "-s", "payments.*"]);
    let token = deployment.token_add("shop", "orders");

    let admin = run(&deployment, 0, &["shop"]);
    assert_eq!(admin["user"]["name"], "shop");
    let allowed = if own { json!([">"]) } else { json!(["_INBOX_shop.>", "_R_.>", "user.shop.>"]) };
    assert_eq!(admin["permissions"]["publish"]["allow"], allowed, "{admin}");
    if own {
        assert_eq!(admin["source"], "server");
        assert!(admin["account"].as_str().unwrap().starts_with('A'), "{admin}");
        assert_eq!(admin["jetstream"]["storage"], 1 << 30);
        assert_eq!(admin["jetstream"]["memory"], 16 << 20);
    } else {
        assert_eq!((&admin["source"], &admin["account"]), (&json!("policy"), &json!("USERS")));
        assert_eq!(admin["probes"]["foreign_refused"], true);
    }
    assert_eq!(
        stdin(&deployment, 0, &["shop", "--password-stdin"], &password)["method"],
        "password"
    );

    let service = run(&deployment, 0, &["shop", "orders"]);
    let subject = if own { "orders.*" } else { "user.shop.orders.*" };
    let publish = service["permissions"]["publish"]["allow"].as_array().unwrap();
    assert!(publish.contains(&json!(subject)), "{service}");
    // In an own account everybody may ask the server.
    if own {
        assert_eq!(service["source"], "server");
    } else {
        assert_eq!(service["probes"]["surprises"], json!([]));
        assert_eq!(service["probes"]["foreign_refused"], true);
        let subscribe = service["permissions"]["subscribe"]["allow"].as_array().unwrap().len();
        assert_eq!(service["probes"]["subscriptions_admitted"], subscribe);
    }
    assert_eq!(service["permissions"]["responses"].is_object(), own, "{service}");

    // What the test makes for itself is no end of the user's; a token of its own that ends is.
    assert_eq!((&service["renewed"], &admin["renewed"]), (&json!(true), &json!(true)));
    let minute = deployment.cli(&["--json", "token", "add", "shop", "orders", "--expires", "1m"]);
    let minute = minute.success().json()["token"].as_str().unwrap().to_owned();
    let bounded = stdin(&deployment, 0, &["shop", "--token-stdin"], &minute);
    assert_eq!(bounded["renewed"], false, "{bounded}");

    // The token's owner is found out; a user that is named has to be its owner.
    let by_token = stdin(&deployment, 0, &["shop", "--token-stdin"], &token);
    assert_eq!(by_token["user"]["name"], "orders");
    stdin(&deployment, 0, &["shop", "orders", "--password-stdin"], &token);
    let other = with_stdin(&deployment, &["test", "shop", "shop", "--token-stdin"], &token);
    assert!(other.status == 1 && other.stderr.contains("another user's: orders"), "{other:?}");

    let text = deployment.cli(&["test", "shop", "orders"]).success().stdout;
    for word in ["orders of tenant shop may log in", "publish", subject, "ends", "source"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
}

#[test]
fn what_a_user_may_do() {
    for mode in modes() {
        admits(mode);
    }
}

/// In the middle of a login, of which a server that hangs makes a long one.
fn an_interrupted_test_leaves_no_token(deployment: &Deployment) {
    deployment.server.freeze();
    for signal in ["-INT", "-TERM"] {
        let mut child = service::program()
            .args(["--config", deployment.config().to_str().unwrap(), "test", "shop"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let tokens = || deployment.sql("SELECT count(*) FROM tokens;");
        eventually("the temporary token", || (tokens() == "1").then_some(()));
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{signal}");
        assert_eq!(tokens(), "0", "{signal}");
    }
    deployment.server.thaw();
}

fn refuses(mode: Mode) {
    let mut deployment = Deployment::start(mode);
    deployment.tenant_add("shop", &["--memory", "0", "--storage", "0"]);
    deployment.tenant_add("blog", &["--memory", "0", "--storage", "0"]);
    let Login::Password(_, password) = deployment.user_add("shop", "alice", &["--kind", "bb"])
    else {
        panic!()
    };
    let reason = |init: &Initialised, args: &[&str], text: &str| {
        let result = stdin(init, 1, args, text);
        assert!(result["message"].as_str().unwrap().len() > 10, "{result}");
        result["reason"].as_str().unwrap().to_owned()
    };
    let alice = ["shop", "alice"];
    let by_password = ["shop", "alice", "--password-stdin"];
    assert_eq!(reason(&deployment, &by_password, "wrong"), "wrong_password");
    assert_eq!(reason(&deployment, &["shop", "nobody"], ""), "unknown_user");
    assert_eq!(reason(&deployment, &["shop", "nobody", "--password-stdin"], "x"), "unknown_user");
    assert_eq!(
        reason(
            &deployment,
            &["shop", "--token-stdin"],
            "nct_0000000000000000000000000000000019Bvis"
        ),
        "unknown_token"
    );
    let message = |args: &[&str], text: &str| {
        stdin(&deployment, 1, args, text)["message"].as_str().unwrap().to_owned()
    };
    // A text that looks like a hash, in the place of its hash.
    let text = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
    assert!(message(&["shop", "--token-stdin"], text).contains("or token_hash holds its text"));
    deployment.sql(&format!(
        "INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{text}');
         INSERT INTO users (tenant_id, name) VALUES ('shop', 'bare');"
    ));
    assert_eq!(reason(&deployment, &["shop", "--token-stdin"], text), "unknown_token");
    let said = message(&["shop", "--token-stdin"], text);
    assert!(said.contains("token of alice holds the token's text, where its SHA-256"), "{said}");
    let bare = ["shop", "bare", "--password-stdin"];
    assert_eq!(reason(&deployment, &bare, "x"), "wrong_password");
    assert!(message(&bare, "x").starts_with("the user's row has no password; make"));
    deployment.sql("DELETE FROM tokens; DELETE FROM users WHERE name = 'bare';");
    for (broken, mended, expected) in [
        (
            "UPDATE users SET status = 'suspended'",
            "UPDATE users SET status = 'active'",
            "user_suspended",
        ),
        (
            "UPDATE tenants SET status = 'suspended'",
            "UPDATE tenants SET status = 'active'",
            "tenant_suspended",
        ),
        (
            "UPDATE users SET expires_at = '2020-01-01 00:00:00+00:00'",
            "UPDATE users SET expires_at = NULL",
            "user_expired",
        ),
        (
            "UPDATE tenants SET expires_at = '2020-01-01 00:00:00+00:00'",
            "UPDATE tenants SET expires_at = NULL",
            "tenant_expired",
        ),
        (
            "UPDATE tenants SET max_connections = 0",
            "UPDATE tenants SET max_connections = NULL",
            "connections",
        ),
        (
            "UPDATE users SET policy = 'none-such' WHERE name = 'alice'",
            "UPDATE users SET policy = NULL WHERE name = 'alice'",
            "policy",
        ),
    ] {
        deployment.sql(&format!("{broken};"));
        // Every instance follows within a second; until then the login is let in, which is said.
        eventually("the change", || {
            let output = deployment.cli(&["test", "shop", "alice"]);
            (output.status == 1 && !output.stderr.contains("was let in")).then_some(())
        });
        assert_eq!(reason(&deployment, &alice, ""), expected);
        assert_eq!(reason(&deployment, &by_password, &password), expected);
        deployment.sql(&format!("{mended};"));
    }
    eventually("the last change", || {
        (deployment.cli(&["test", "shop", "alice"]).status == 0).then_some(())
    });
    run(&deployment, 0, &alice);

    let missing = deployment.cli(&["test", "nobody"]);
    assert!(missing.status == 1 && missing.stderr.contains("no such tenant"), "{missing:?}");
    let foreign =
        with_stdin(&deployment, &["test", "blog", "alice", "--password-stdin"], &password);
    assert!(foreign.status == 1 && foreign.stderr.contains("tenant shop"), "{foreign:?}");

    deployment.service.stop();
    assert_eq!(reason(&deployment, &alice, ""), "no_service");
    an_interrupted_test_leaves_no_token(&deployment);
    deployment.server.stop();
    let down = deployment.cli(&["test", "shop", "alice"]);
    assert!(down.status == 1 && down.stderr.contains("cannot reach NATS"), "{down:?}");
    assert_eq!(deployment.sql("SELECT count(*) FROM tokens;"), "0");
}

#[test]
fn why_a_user_is_refused_and_no_token_is_left() {
    for mode in either_mode() {
        refuses(mode);
    }
}
