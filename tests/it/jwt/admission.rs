//! Users that have no row: who of them is admitted, and that a tenant's end is theirs, in shared
//! accounts and in its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Bench, test_command};
use crate::changes::crowd::Held;
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;
use crate::harness::eventually;

const BY_POLICY: &str =
    "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"realm_access.roles\"]";

/// Within this time a change is carried through, by contract.
const AT_MOST: Duration = Duration::from_secs(5);

impl Bench {
    fn guest(&self, user: &str, tenant: &str) -> String {
        self.jwt_with(user, "org", json!(tenant))
    }

    fn hold(&self, user: &str, tenant: &str) -> Held {
        let login = Login::Token(self.guest(user, tenant));
        Held::connect(self.deployment.server.port(), &login)
    }
}

async fn without_a_row(mode: Mode) {
    let bench = Bench::start(mode, BY_POLICY);
    let deployment = &bench.deployment;
    bench.refuses("no such tenant", &bench.guest("gast", "shop"), "unknown_user");
    deployment.tenant_add("shop", &[]);
    deployment.tenant_add("other", &[]);
    deployment.user_add("shop", "known", &["--kind", "bb"]);

    let login = Login::Token(bench.guest("gast", "shop"));
    let guest = client::connect(&deployment.url(), &login, "_INBOX_shop").await.unwrap();
    let own = mode == Mode::Operator;
    let events = if own { "Events" } else { "user.shop.Events" };
    guest.client.publish(events, "x".into()).await.unwrap();
    guest.client.publish("user.other.Events", "x".into()).await.unwrap();
    guest.violation(&["publish", "user.other.Events"]).await;
    let seen = test_command(deployment, &["shop", "--token-stdin"], &bench.guest("gast", "shop"));
    assert_eq!(seen.success().json()["user"]["name"], "shop/gast");
    bench.admits_as(&json!({ "user": "gast", "pass": bench.guest("gast", "shop") }));

    bench.refuses("no tenant", &bench.jwt("gast"), "invalid_token");
    bench.refuses("no tenant's id", &bench.guest("gast", "sh.op"), "invalid_token");
    bench.refuses("a wildcard", &bench.guest("gast", "*"), "invalid_token");
    // The row comes first, and is of its own tenant.
    bench.admits(&bench.guest("known", "shop"));
    bench.refuses("another tenant's user", &bench.guest("known", "other"), "unknown_user");
    deployment.cli(&["user", "suspend", "shop", "known"]).success();
    bench.refuses("suspended by its row", &bench.guest("known", "shop"), "user_suspended");
    deployment.sql("INSERT INTO users (tenant_id, name) VALUES ('other', 'shop/taken')");
    bench.refuses("a row of that name", &bench.guest("taken", "shop"), "unknown_user");
    assert_eq!(deployment.sql("SELECT count(*) FROM users WHERE name LIKE '%gast%'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_a_row_in_operator_mode() {
    without_a_row(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_a_row_in_config_mode() {
    without_a_row(Mode::Config).await;
}

/// Suspending or removing a tenant closes the connections of its users without a row, by the
/// command and by plain SQL, in a shared account and in its own; and nobody else's.
fn closed_with_the_tenant(mode: Mode, isolation: &str) {
    let bench = Bench::start(mode, BY_POLICY);
    let deployment = &bench.deployment;
    let extra = ["--isolation", isolation];
    deployment.tenant_add("shop2", &extra);
    let mut neighbours = [bench.hold("anna", "shop2"), bench.hold("x", "shop2")];
    let end = |what: &str, change: &dyn Fn()| {
        deployment.tenant_add("shop", &extra);
        let mut held =
            [bench.hold("anna", "shop"), bench.hold("anna", "shop"), bench.hold("bert", "shop")];
        let begun = Instant::now();
        change();
        held.iter_mut().for_each(Held::wait_closed);
        assert!(begun.elapsed() < AT_MOST, "{what}: {:?}", begun.elapsed());
        let login = Login::Token(bench.guest("anna", "shop"));
        assert!(Held::try_connect(deployment.server.port(), &login).is_err(), "{what}");
    };
    let kicked = |args: &[&str]| -> Value {
        let all = [&["--json"][..], args].concat();
        deployment.cli(&all).success().json()["kicked"].clone()
    };
    end("the command suspend", &|| {
        assert_eq!(kicked(&["tenant", "suspend", "shop"]), 3);
    });
    assert_eq!(kicked(&["tenant", "remove", "shop", "--yes"]), 0);
    end("the command remove", &|| {
        assert_eq!(kicked(&["tenant", "remove", "shop", "--yes"]), 3);
    });
    end("UPDATE", &|| {
        deployment.sql("UPDATE tenants SET status = 'suspended' WHERE id = 'shop'");
    });
    deployment.sql("DELETE FROM tenants WHERE id = 'shop'");
    end("DELETE", &|| {
        deployment.sql("DELETE FROM tenants WHERE id = 'shop'");
    });
    // A tenant without any row of a user, as a licence server may insert it.
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name, isolation) VALUES ('shop', 'x', {})",
        if mode == Mode::Config { "NULL".to_owned() } else { format!("'{isolation}'") }
    ));
    let mut held = eventually("the tenant", || {
        let login = Login::Token(bench.guest("anna", "shop"));
        Held::try_connect(deployment.server.port(), &login).ok()
    });
    deployment.sql("DELETE FROM tenants WHERE id = 'shop'");
    held.wait_closed();
    for neighbour in &mut neighbours {
        assert!(neighbour.is_alive(), "another tenant's connection was closed");
    }
}

#[test]
fn a_tenants_end_closes_users_without_a_row_in_its_own_account() {
    closed_with_the_tenant(Mode::Operator, "account");
}

#[test]
fn a_tenants_end_closes_users_without_a_row_in_a_shared_account() {
    closed_with_the_tenant(Mode::Operator, "shared");
}

#[test]
fn a_tenants_end_closes_users_without_a_row_in_config_mode() {
    closed_with_the_tenant(Mode::Config, "shared");
}

/// A fixed tenant, and a policy of their own for users without a row.
#[test]
fn a_policy_of_their_own() {
    for mode in [Mode::Operator, Mode::Config] {
        let lines = "users = \"policy\"\ntenant = \"shop\"\npolicy = \"guest\"";
        let rule =
            "publish = [\"user.{{tenant.id}}.guests\"]\nsubscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
        let bench = Bench::start_with_policy(mode, lines, "guest", rule);
        bench.deployment.tenant_add("shop", &[]);
        let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], &bench.jwt("gast"));
        let seen = seen.success().json();
        assert_eq!(seen["user"]["name"], "shop/gast");
        assert_eq!(seen["permissions"]["publish"]["allow"], json!(["user.shop.guests"]), "{seen}");
    }
}
