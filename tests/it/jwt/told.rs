//! Whom `test` names of a token, and that it sends what the user of the command would send.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{Bench, test_command};
use crate::harness::choice::either_mode;
use crate::harness::deployment::Mode;
use crate::harness::service::Output;

const TOKEN: &str = "--token-stdin";
const PASSWORD: &str = "--password-stdin";

fn test(bench: &Bench, args: &[&str], token: &str) -> Output {
    test_command(&bench.deployment, args, token)
}

/// The tenant, the user and the reason of a refusal.
fn refused(seen: &Output) -> (Value, Value, Value) {
    assert_eq!(seen.status, 1, "{seen:?}");
    let said = seen.json();
    (said["tenant"]["id"].clone(), said["user"]["name"].clone(), said["reason"].clone())
}

/// The tenant is that of the token, and the user that of its row.
fn who_is_refused(bench: &Bench) {
    let of = |user: &str, tenant: &str| bench.jwt_with(user, "org", json!(tenant));
    let (tenant, user, reason) = refused(&test(bench, &["shop", TOKEN], &of("gast", "nowhere")));
    assert_eq!((tenant, user, reason), (json!("nowhere"), json!("gast"), json!("unknown_user")));
    let other = of("gast", "other");
    let elsewhere = "the token is of other/gast, who belongs to the tenant other; test it with \
                     `nats-callout test other --token-stdin`";
    let said = test(bench, &["shop", TOKEN], &other).stderr;
    assert!(said.contains(elsewhere), "{said}");
    // One that is refused is told so, too.
    bench.deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'other'");
    let said = test(bench, &["shop", TOKEN], &other).stderr;
    assert!(said.contains(elsewhere), "{said}");
    let barred = of("barred", "shop");
    let (_, user, reason) = refused(&test(bench, &["shop", TOKEN], &barred));
    assert_eq!((user, reason), (json!("barred"), json!("user_suspended")));

    let said = test(bench, &["shop", TOKEN], &of("", "shop"));
    let (tenant, user, reason) = refused(&said);
    assert_eq!((tenant, user, reason), (json!("shop"), json!(null), json!("invalid_token")));
    assert!(said.stderr.contains("nats-callout: the login is refused: "), "{said:?}");

    let blank = bench.deployment.cli(&["test", "shop", "alice "]);
    assert!(blank.stdout.starts_with("`alice ` of tenant shop may not"), "{blank:?}");
    assert!(blank.stderr.contains("there is no user `alice `; see"), "{blank:?}");
    let without_row = "`nats-callout test shop --token-stdin` tells what a JWT without a row gets";
    assert!(blank.stderr.contains(without_row), "{blank:?}");
    let shown = bench.deployment.cli(&["show", "shop", "nobody"]);
    assert!(shown.status == 1 && shown.stderr.contains("no such user: nobody; see"), "{shown:?}");
    assert!(shown.stderr.contains(without_row), "{shown:?}");
    let explained = bench.deployment.cli(&["policy", "explain", "nobody"]);
    let of_any = without_row.replace("test shop", "test TENANT");
    assert!(explained.stderr.contains(&of_any), "{explained:?}");
    let blank = bench.deployment.cli(&["user", "suspend", "shop", "alice "]);
    assert!(blank.stderr.contains("no such user: `alice `; see"), "{blank:?}");
    let config = bench.deployment.config();
    let text = ["--config", config.to_str().unwrap(), "test", "shop", TOKEN];
    let no_user = crate::harness::service::cli_with_stdin(
        &bench.deployment.dir(),
        &text,
        "nct_0000000000000000000000000000000019Bvis",
    );
    assert!(no_user.stdout.starts_with("no user of tenant shop logs in with it"), "{no_user:?}");
}

/// A policy looks at claims, and so has to whoever looks closer.
fn where_to_look_closer(bench: &Bench) {
    let mut claims = bench.claims_with("known", "org", json!("shop"));
    claims["teams"] = json!(["red", "a b"]);
    let said = test(bench, &["shop", TOKEN], &bench.signer.sign(&claims)).json();
    let said = said["message"].as_str().unwrap();
    let (_, rest) = said.split_once("see `nats-callout ").expect(said);
    assert_eq!(rest, "policy explain known --claim teams=red --claim 'teams=a b'`");
    let explain = ["policy", "explain", "known", "--claim", "teams=red", "--claim", "teams=a b"];
    let explained = bench.deployment.cli(&explain);
    let (what, _) = said.split_once("; see").unwrap();
    assert!(explained.stdout.contains(what), "{explained:?} instead of {what}");
}

/// What stands beside a token is for its issuer to take.
fn a_name_beside_it(bench: &Bench, any: &Bench) {
    let gast = bench.jwt_with("gast", "org", json!("shop"));
    // As the log has it, too.
    for args in
        [&["shop", "gast", TOKEN][..], &["shop", "gast", PASSWORD], &["shop", "shop/gast", TOKEN]]
    {
        let seen = test(bench, args, &gast).success().json();
        assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!("shop/gast"), &json!("jwt")));
    }
    for args in [&["shop", "other/gast", TOKEN][..], &["shop", "alice", PASSWORD]] {
        let (_, user, reason) = refused(&test(bench, args, &gast));
        assert_eq!((user, reason), (json!("gast"), json!("invalid_token")));
    }
    let frank = any.jwt("frank");
    for args in [&["shop", "alice", TOKEN][..], &["shop", "alice", PASSWORD]] {
        let seen = test(any, args, &frank).success().json();
        assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!("frank"), &json!("jwt")));
    }
    let own = any.deployment.token_add("shop", "frank");
    let seen = test(any, &["shop", "alice", TOKEN], &own);
    assert_eq!(refused(&seen), (json!("shop"), json!("alice"), json!("unknown_token")));
    let said = "the token is another user's: frank; leave the user out, or name that one";
    assert_eq!(seen.json()["message"], said);
}

fn told(mode: Mode) {
    let org = "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"teams\"]";
    let rule = "publish = [\"user.{{tenant.id}}.{{claims.teams}}\"]\nsubscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
    let known = [("org", Algorithm::EdDSA, org), ("any", Algorithm::EdDSA, "user_name = \"any\"")];
    let [bench, any] =
        Bench::all_prepared(mode, known, |init| super::add_policy(init, "teams", rule));
    let deployment = &bench.deployment;
    for tenant in ["shop", "other"] {
        deployment.tenant_add(tenant, &[]);
    }
    for user in ["alice", "frank", "barred", "known"] {
        deployment.user_add("shop", user, &["--publish", "orders.*"]);
    }
    deployment.sql(
        "UPDATE users SET status = 'suspended' WHERE name = 'barred';
         UPDATE users SET policy = 'teams' WHERE name = 'known';",
    );
    who_is_refused(&bench);
    where_to_look_closer(&bench);
    a_name_beside_it(&bench, &any);
    deployment.sql("DELETE FROM users WHERE name = 'other'");
    let said = deployment.cli(&["test", "other"]).stderr;
    let admin = "there is no user other; see `nats-callout show other`; other is the name of the tenant's admin, \
                 whom `test` takes where no user is named; `nats-callout test other --token-stdin` tells";
    assert!(said.contains(admin), "{said}");
}

#[test]
fn whom_the_command_test_names() {
    for mode in either_mode() {
        told(mode);
    }
}
