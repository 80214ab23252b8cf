//! Issuers of others' making: one as a process, and what known ones send.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{Bench, deployment, has_keys, reasons, test_command};
use crate::harness::choice::either_mode;
use crate::harness::eventually;
use crate::harness::issuer::seconds_from_now;
use crate::harness::provider::{Kind, Provider};
use crate::harness::raw::{self, Verdict};

/// JWTs by discovery, and tokens that it is asked about, which it takes back.
#[test]
fn an_issuer_of_others_making() {
    let Some(provider) = Provider::start() else { return };
    for mode in either_mode() {
        let url = provider.url();
        let table = |name: &str, more: &str| {
            format!(
                "\n[issuers.{name}]\nissuer = \"{url}\"\naudience = [\"nats\"]\n\
                 user_claim = \"client_id\"\nclaims = [\"scope\"]\nsplit = [\"scope\"]\n{more}"
            )
        };
        let asked = format!(
            "discovery = true\nintrospection_url = \"{url}/token/introspection\"\n\
             client_id = \"callout\"\nclient_secret = \"s3:cret/+\"\n"
        );
        let deployment = deployment(mode, &table("others", &asked));
        has_keys(&deployment, "others", 1);
        deployment.tenant_add("shop", &[]);
        deployment.user_add("shop", "app", &["--publish", "orders.*"]);
        let port = deployment.server.port();
        let verdict = |token: &str| raw::connect(port, &json!({ "auth_token": token })).0;
        for (kind, method) in [(Kind::Jwt, "jwt"), (Kind::Opaque, "introspection")] {
            let token = provider.token(kind);
            assert_eq!(verdict(&token), Verdict::Admitted, "{}", deployment.service.log());
            let seen = test_command(&deployment, &["shop", "--token-stdin"], &token);
            let seen = seen.success().json();
            assert_eq!((&seen["user"]["name"], &seen["method"]), (&json!("app"), &json!(method)));
        }
        let taken_back = provider.token(Kind::Opaque);
        provider.revoke(&taken_back);
        let count = || reasons(&deployment, "unknown_token");
        let before = count();
        assert_ne!(verdict(&taken_back), Verdict::Admitted);
        eventually("the refusal", || (count() > before).then_some(()));
        let made_up = "vHC_DBXksG-Z7SLxQoA2cyjVRx_ghC47clmcek6G28_";
        assert_ne!(verdict(made_up), Verdict::Admitted);
        eventually("the second refusal", || (count() > before + 1).then_some(()));
        let forged = {
            let jwt = provider.token(Kind::Jwt);
            let (message, signature) = jwt.rsplit_once('.').unwrap();
            let turned: String = signature.chars().rev().collect();
            format!("{message}.{turned}")
        };
        assert_ne!(verdict(&forged), Verdict::Admitted);
        eventually("the third", || (reasons(&deployment, "invalid_token") > 0).then_some(()));
        drop(deployment);
        // Who may not ask says nothing about a token.
        let stranger = asked.replace("client_id = \"callout\"", "client_id = \"app\"");
        let deployment = super::deployment(mode, &table("others", &stranger));
        has_keys(&deployment, "others", 1);
        let port = deployment.server.port();
        let token = provider.token(Kind::Opaque);
        raw::connect(port, &json!({ "auth_token": token }));
        eventually("the cause", || {
            let log = deployment.service.log();
            let unasked = "the issuer others cannot be asked about a token";
            log.lines()
                .any(|line| line.contains(unasked) && line.contains("status 401"))
                .then_some(())
        });
    }
}

/// As Keycloak writes it: `aud` is the realm's own client, and `azp` is the one that asked.
fn of_keycloak(bench: &Bench) -> Value {
    json!({
        "exp": seconds_from_now(300), "iat": seconds_from_now(0), "jti": "trrtcc:1",
        "iss": bench.issuer.url(), "aud": "account", "sub": "f3b0c442-98fc-1c14-9afb-f4c8996fb924",
        "typ": "Bearer", "azp": "nats", "sid": "1", "acr": "1", "allowed-origins": ["/*"],
        "realm_access": { "roles": ["offline_access", "uma_authorization", "seller"] },
        "resource_access": { "account": { "roles": ["manage-account", "view-profile"] } },
        "scope": "email profile", "email_verified": true, "preferred_username": "alice",
    })
}

/// As Amazon Cognito writes it: there is no `aud`, nor a `typ` in the header.
fn of_cognito(bench: &Bench) -> Value {
    json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["sellers"],
        "iss": bench.issuer.url(), "version": 2, "client_id": "nats", "origin_jti": "1",
        "event_id": "2", "token_use": "access", "scope": "aws.cognito.signin.user.admin openid",
        "auth_time": seconds_from_now(0), "exp": seconds_from_now(300),
        "iat": seconds_from_now(0), "jti": "3", "username": "alice",
    })
}

/// As a cluster writes it for a pod.
pub(super) fn of_a_cluster(iss: &str, namespace: &str) -> Value {
    json!({
        "aud": ["nats"], "exp": seconds_from_now(600), "iat": seconds_from_now(0), "jti": "4",
        "iss": iss, "nbf": seconds_from_now(0),
        "sub": format!("system:serviceaccount:{namespace}:api"),
        "kubernetes.io": {
            "namespace": namespace,
            "node": { "name": "node-1", "uid": "5" },
            "pod": { "name": "api-6c9f5d7b8-x2x4q", "uid": "6" },
            "serviceaccount": { "name": "api", "uid": "7" },
            "warnafter": seconds_from_now(300),
        },
    })
}

fn with(mut claims: Value, claim: &str, value: Value) -> Value {
    claims[claim] = value;
    claims
}

#[test]
fn what_known_issuers_send() {
    let by_roles = "audience_claim = \"azp\"\nuser_claim = \"preferred_username\"\n\
                    users = \"policy\"\ntenant = \"shop\"\nclaims = [\"realm_access.roles\"]\n\
                    policy_claim = \"realm_access.roles\"\npolicies = [\"seller=bb\"]\n";
    let by_client = "audience_claim = \"client_id\"\nuser_claim = \"username\"\n\
                     users = \"policy\"\ntenant = \"shop\"\nclaims = [\"cognito:groups\"]\n";
    let cluster = "preset = \"kubernetes\"\ndiscovery = true\n";
    for mode in either_mode() {
        let known = [
            ("keycloak", Algorithm::RS256, by_roles),
            ("cognito", Algorithm::RS256, by_client),
            ("cluster", Algorithm::RS256, cluster),
        ];
        let [keycloak, cognito, cluster] = Bench::all(mode, known);
        keycloak.deployment.tenant_add("shop", &[]);
        let seen = |bench: &Bench, claims: &Value| {
            let jwt = bench.signer.sign(claims);
            bench.admits(&jwt);
            let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], &jwt);
            seen.success().json()["user"]["name"].clone()
        };
        let refuses = |bench: &Bench, what: &str, claims: &Value, reason: &str| {
            bench.refuses(what, &bench.signer.sign(claims), reason);
        };

        let sent = of_keycloak(&keycloak);
        assert_eq!(seen(&keycloak, &sent), "shop/alice");
        let other = with(sent.clone(), "azp", json!("shop-frontend"));
        refuses(&keycloak, "another client of the realm", &other, "invalid_token");
        let roleless = with(sent.clone(), "realm_access", json!({ "roles": ["offline_access"] }));
        refuses(&keycloak, "a user without the role", &roleless, "invalid_token");

        let sent = of_cognito(&cognito);
        assert_eq!(seen(&cognito, &sent), "shop/alice");
        let header = json!({ "alg": "RS256", "kid": cognito.signer.id });
        cognito.admits(&cognito.signer.sign_with(&header, &sent));
        let other = with(sent.clone(), "client_id", json!("another"));
        refuses(&cognito, "another app of the pool", &other, "invalid_token");
        let mut id = with(with(sent, "token_use", json!("id")), "aud", json!("nats"));
        id.as_object_mut().unwrap().remove("client_id");
        refuses(&cognito, "a token that tells an app who its user is", &id, "invalid_token");

        let iss = cluster.issuer.url();
        assert_eq!(seen(&cluster, &of_a_cluster(&iss, "shop")), "shop/api");
        let elsewhere = of_a_cluster(&iss, "kube-system");
        refuses(&cluster, "a pod of a namespace that is no tenant", &elsewhere, "unknown_user");
        let api = with(of_a_cluster(&iss, "shop"), "aud", json!(["https://kubernetes"]));
        refuses(&cluster, "a token for the cluster's API", &api, "invalid_token");
    }
}
