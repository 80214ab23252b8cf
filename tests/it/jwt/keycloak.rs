//! A real Keycloak and what it sends at its defaults: it takes too long to fetch and to start for every commit.

use serde_json::json;

use super::{deployment, metric, test_command};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::keycloak::Keycloak;
use crate::harness::raw::{self, Verdict};
use crate::harness::{depth, eventually};

/// A realm's table: its users are admitted by a policy that their roles choose.
fn table(keycloak: &Keycloak, lines: &str) -> String {
    format!(
        "\n[issuers.realm]\nissuer = \"{}\"\naudience = [\"nats\"]\naudience_claim = \"azp\"\n\
         users = \"policy\"\ntenant = \"shop\"\n{lines}",
        keycloak.issuer()
    )
}

fn start(mode: Mode, table: &str) -> Deployment {
    let deployment = deployment(mode, table);
    deployment.tenant_add("shop", &[]);
    deployment
}

fn verdict(deployment: &Deployment, token: &str) -> Verdict {
    raw::connect(deployment.server.port(), &json!({ "auth_token": token })).0
}

#[track_caller]
fn admits(deployment: &Deployment, token: &str, name: &str, method: &str) {
    assert_eq!(verdict(deployment, token), Verdict::Admitted, "{}", deployment.service.log());
    let seen = test_command(deployment, &["shop", "--token-stdin"], token).success().json();
    assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!(name), &json!(method)));
}

/// Refused, and what the log says of it.
#[track_caller]
fn refuses(deployment: &Deployment, token: &str, words: &[&str]) {
    let all = || deployment.service.log();
    let before = all().lines().count();
    assert_ne!(verdict(deployment, token), Verdict::Admitted);
    let line = eventually(&format!("a refusal with {words:?}"), || {
        let refused = |line: &&str| line.contains(" refused reason=");
        all().lines().skip(before).find(refused).map(str::to_owned)
    });
    for word in words {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

/// JWTs at their defaults, keys that are rotated, and an issuer that hangs.
fn jwts(mode: Mode, keycloak: &Keycloak) {
    let by_roles = "discovery = true\nuser_claim = \"preferred_username\"\n\
                    policy_claim = \"realm_access.roles\"\npolicies = [\"seller=bb\"]\n";
    let deployment = start(mode, &table(keycloak, by_roles));
    eventually("its keys", || (metric(&deployment, "realm", "keys") != "0").then_some(()));
    let alice = keycloak.tokens("nats", "alice");
    admits(&deployment, alice.get("access_token"), "shop/alice", "jwt");
    let of_realm = "detail=\"issuer realm: ";
    let of_none = keycloak.tokens("nats", "bob");
    refuses(
        &deployment,
        of_none.get("access_token"),
        &["invalid_token", of_realm, "user=\"bob\" tenant=\"shop\"", "`realm_access.roles` is `['"],
    );
    let itself = keycloak.of_client();
    refuses(&deployment, itself.get("access_token"), &["user=\"service-account-nats\""]);
    let other = keycloak.tokens("other", "alice");
    refuses(&deployment, other.get("access_token"), &[of_realm, "`azp` is `other`"]);
    refuses(&deployment, alice.get("refresh_token"), &[of_realm, "`alg`, which is `HS512`"]);

    keycloak.rotate_keys();
    let before = alice;
    let alice = keycloak.tokens("nats", "alice");
    eventually("a login with the new key", || {
        (verdict(&deployment, alice.get("access_token")) == Verdict::Admitted).then_some(())
    });
    admits(&deployment, before.get("access_token"), "shop/alice", "jwt");
    keycloak.freeze();
    assert_eq!(verdict(&deployment, alice.get("access_token")), Verdict::Admitted);
    keycloak.thaw();
}

/// An address counts where it is verified.
fn addresses(mode: Mode, keycloak: &Keycloak) {
    let lines = "discovery = true\nuser_claim = \"email\"\npolicy = \"bb\"\n";
    let deployment = start(mode, &table(keycloak, lines));
    eventually("its keys", || (metric(&deployment, "realm", "keys") != "0").then_some(()));
    let alice = keycloak.tokens("nats", "alice");
    admits(&deployment, alice.get("access_token"), "shop/alice@example.com", "jwt");
    let bob = keycloak.tokens("nats", "bob");
    let words = ["or not verified", "`email` is `bob@example.com`", "`email_verified` is `false`"];
    refuses(&deployment, bob.get("access_token"), &words);
}

/// Each token is asked about, those of a session that was ended too.
fn introspection(mode: Mode, keycloak: &Keycloak) {
    let asked = format!(
        "introspection_url = \"{}/protocol/openid-connect/token/introspect\"\n\
         client_id = \"nats\"\nclient_secret = \"s3cret\"\nuser_claim = \"username\"\npolicy = \"bb\"\n",
        keycloak.issuer()
    );
    let deployment = start(mode, &table(keycloak, &asked));
    let alice = keycloak.tokens("nats", "alice");
    admits(&deployment, alice.get("access_token"), "shop/alice", "introspection");
    refuses(&deployment, alice.get("refresh_token"), &["invalid_token"]);
    let ended = keycloak.tokens("nats", "alice");
    keycloak.log_out(&ended);
    refuses(&deployment, ended.get("access_token"), &["unknown_token"]);
    let unasked = keycloak.tokens("nats", "alice");
    keycloak.freeze();
    assert_ne!(verdict(&deployment, unasked.get("access_token")), Verdict::Admitted);
    eventually("no answer", || {
        let unasked = "the issuer realm cannot be asked about a token";
        let is_told = |line: &str| line.contains("no reply") && line.contains(unasked);
        deployment.service.log().lines().any(is_told).then_some(())
    });
    keycloak.thaw();
    eventually("a login once it answers", || {
        (verdict(&deployment, unasked.get("access_token")) == Verdict::Admitted).then_some(())
    });
}

#[test]
fn a_realm_of_keycloak() {
    if depth(true, false) {
        return;
    }
    let Some(keycloak) = Keycloak::start() else { return };
    for mode in either_mode() {
        jwts(mode, &keycloak);
        addresses(mode, &keycloak);
        introspection(mode, &keycloak);
    }
}
