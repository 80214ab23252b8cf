//! Users that have no row: who of them is admitted. That a tenant's end is theirs is in
//! `within::ends`.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{Bench, add_policy, test_command};
use crate::harness::choice::modes;
use crate::harness::client::{self, Login};
use crate::harness::deployment::Mode;

const BY_POLICY: &str =
    "users = \"policy\"\ntenant_claim = \"org\"\nclaims = [\"realm_access.roles\"]";

impl Bench {
    fn guest(&self, user: &str, tenant: &str) -> String {
        self.jwt_with(user, "org", json!(tenant))
    }
}

async fn without_a_row(bench: &Bench) {
    let deployment = &bench.deployment;
    let mode = deployment.mode;
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
    // The row comes first; of that name in another tenant there is another user.
    bench.admits(&bench.guest("known", "shop"));
    bench.admits(&bench.guest("known", "other"));
    deployment.cli(&["user", "suspend", "shop", "known"]).success();
    bench.refuses("suspended by its row", &bench.guest("known", "shop"), "user_suspended");
    bench.admits(&bench.guest("known", "other"));
    // Nor does a row of another tenant shut anybody out, from before the rule that refuses it.
    let table = if deployment.table.is_sqlite() { "" } else { " ON users" };
    deployment.sql(&format!("DROP TRIGGER users_insert_name_check{table}"));
    deployment.sql("INSERT INTO users (tenant_id, name) VALUES ('other', 'shop/free')");
    bench.admits(&bench.guest("free", "shop"));
    deployment.sql("INSERT INTO users (tenant_id, name) VALUES ('shop', 'shop/taken')");
    bench.refuses("a row of that name", &bench.guest("taken", "shop"), "unknown_user");
    assert_eq!(deployment.sql("SELECT count(*) FROM users WHERE name LIKE '%gast%'"), "0");
}

/// A fixed tenant, and a policy of their own for users without a row.
fn a_policy_of_their_own(bench: &Bench) {
    let seen = test_command(&bench.deployment, &["shop", "--token-stdin"], &bench.jwt("gast"));
    let seen = seen.success().json();
    assert_eq!(seen["user"]["name"], "shop/gast");
    assert_eq!(seen["permissions"]["publish"]["allow"], json!(["user.shop.guests"]), "{seen}");
}

async fn guests(mode: Mode) {
    let own = "users = \"policy\"\ntenant = \"shop\"\npolicy = \"guest\"";
    let rule =
        "publish = [\"user.{{tenant.id}}.guests\"]\nsubscribe = [\"_INBOX_{{tenant.id}}.>\"]\n";
    let known = [("kc", Algorithm::RS256, BY_POLICY), ("own", Algorithm::EdDSA, own)];
    let [bench, own] = Bench::all_prepared(mode, known, |init| add_policy(init, "guest", rule));
    without_a_row(&bench).await;
    a_policy_of_their_own(&own);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_a_row_and_with_a_policy_of_their_own() {
    for mode in modes() {
        guests(mode).await;
    }
}
