//! What one instance learns of what others committed, and of the others.

use nats_callout::internals::Change;
use nats_callout::store::TokenHash;

use crate::harness::eventually_async;

use super::{ALICE, Database, TENANT, TOKEN, on_every_database};

on_every_database!(
    the_first_call_forgets_everything,
    changes_of_other_programs_are_noted_once,
    own_writes_are_noted,
    a_login_is_no_change,
    both_keys_of_a_rename_are_noted,
    what_is_rolled_back_is_not_noted,
    many_changes_are_everything,
    pruned_changes_are_everything,
    instances_come_and_go,
);

fn tenant(id: &str) -> Change {
    Change::Tenant(id.into())
}

fn user(name: &str) -> Change {
    Change::User(name.into())
}

fn token(hash: &str) -> Change {
    Change::Token(hash.into())
}

async fn the_first_call_forgets_everything(db: &dyn Database) {
    let store = db.store().await;
    assert_eq!(store.news().await.unwrap().changes, [Change::Everything]);
    assert_eq!(store.news().await.unwrap().changes, []);
}

async fn changes_of_other_programs_are_noted_once(db: &dyn Database) {
    let (one, other) = (db.store().await, db.store().await);
    for store in [&one, &other] {
        store.news().await.unwrap();
    }
    for client in db.programs() {
        let insert_token = format!(
            "INSERT INTO tokens (id, user_name, token_hash) VALUES ('t', 'alice', '{TOKEN}')"
        );
        let other_hash = TOKEN.replace('0', "1");
        let replace_token = if db.is_sqlite() {
            format!(
                "INSERT OR REPLACE INTO tokens (id, user_name, token_hash)
                   VALUES ('t', 'alice', '{other_hash}')"
            )
        } else {
            format!("UPDATE tokens SET token_hash = '{other_hash}'")
        };
        let account = format!(
            "INSERT INTO tenant_accounts (tenant_id, account) VALUES ('42', 'A{}')",
            "2".repeat(55)
        );
        for (sql, wanted) in [
            (TENANT, vec![tenant("42")]),
            ("INSERT INTO users (tenant_id, name) VALUES ('42', 'alice')", vec![user("alice")]),
            (&insert_token, vec![token(TOKEN)]),
            (&replace_token, vec![token(TOKEN), token(&other_hash)]),
            (&account, vec![tenant("42")]),
            ("UPDATE users SET status = 'suspended'", vec![user("alice")]),
            ("UPDATE users SET status = 'suspended'", vec![]),
            ("UPDATE tenants SET status = 'suspended'", vec![tenant("42")]),
            ("UPDATE tenants SET answers = true", vec![tenant("42")]),
            ("UPDATE tenants SET answers = true", vec![]),
            ("UPDATE tokens SET expires_at = '2027-01-01'", vec![token(&other_hash)]),
            ("UPDATE tokens SET label = 'x'", vec![]),
            ("DELETE FROM tokens", vec![token(&other_hash)]),
            (
                "INSERT OR REPLACE INTO users (tenant_id, name) VALUES ('42', 'alice')",
                vec![user("alice")],
            ),
            ("INSERT OR REPLACE INTO tenants (id, name) VALUES ('42', 'x')", vec![tenant("42")]),
            (
                "INSERT INTO tenants (id, name) VALUES ('42', 'y')
                   ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                vec![tenant("42")],
            ),
            ("INSERT INTO tenants (id, name) VALUES ('42', 'z') ON CONFLICT DO NOTHING", vec![]),
            ("DELETE FROM tenants", vec![tenant("42"), user("alice")]),
        ] {
            if sql.contains(" OR REPLACE INTO ") && !db.is_sqlite() {
                continue;
            }
            db.run_with(client, sql).await.unwrap();
            for store in [&one, &other] {
                let mut noted = store.news().await.unwrap().changes;
                let mut wanted = wanted.clone();
                for list in [&mut noted, &mut wanted] {
                    list.sort_by_key(|change| format!("{change:?}"));
                    list.dedup();
                }
                assert_eq!(noted, wanted, "{sql}");
                assert_eq!(store.news().await.unwrap().changes, [], "{sql}");
            }
        }
    }
}

async fn own_writes_are_noted(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    let hash = nats_callout::store::PasswordHash::new("$2b$10$new$...");
    store.set_password(&"42".parse().unwrap(), "alice", &hash).await.unwrap();
    assert_eq!(store.news().await.unwrap().changes, [user("alice")]);
    let candidate = nats_callout::internals::random_account_id().unwrap();
    let row = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    store.account_of(&row, candidate).await.unwrap();
    assert_eq!(store.news().await.unwrap().changes, [tenant("42")]);
    let new = nats_callout::internals::NewToken {
        user_name: "alice".into(),
        hash: TokenHash([0xab; 32]),
        label: None,
        expires_at: None,
    };
    store.add_token(&"42".parse().unwrap(), &new).await.unwrap();
    assert_eq!(store.news().await.unwrap().changes, [token(&"ab".repeat(32))]);
}

async fn a_login_is_no_change(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    store.record_logins(&[("alice".into(), 1_800_000_000)]).await.unwrap();
    store.heartbeat("i1").await.unwrap();
    assert_eq!(store.news().await.unwrap().changes, []);
}

async fn both_keys_of_a_rename_are_noted(db: &dyn Database) {
    db.run(ALICE).await;
    db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{TOKEN}')"))
        .await;
    db.run("INSERT INTO tenants (id, name) VALUES ('43', 'Bob')").await;
    let store = db.store().await;
    store.news().await.unwrap();
    db.run("UPDATE users SET name = 'alicia'").await;
    let noted = store.news().await.unwrap().changes;
    for change in [user("alice"), user("alicia"), token(TOKEN)] {
        assert!(noted.contains(&change), "{change:?} in {noted:?}");
    }
    db.run("UPDATE users SET tenant_id = '43'").await;
    assert_eq!(store.news().await.unwrap().changes, [user("alicia")]);
    let other = TOKEN.replace('0', "f");
    db.run(&format!("UPDATE tokens SET token_hash = '{other}'")).await;
    assert_eq!(store.news().await.unwrap().changes, [token(TOKEN), token(&other)]);
}

async fn what_is_rolled_back_is_not_noted(db: &dyn Database) {
    db.run(TENANT).await;
    let store = db.store().await;
    store.news().await.unwrap();
    db.run("BEGIN; UPDATE tenants SET status = 'suspended'; ROLLBACK").await;
    assert_eq!(store.news().await.unwrap().changes, []);
    db.run("BEGIN; UPDATE tenants SET status = 'suspended'; COMMIT").await;
    assert_eq!(store.news().await.unwrap().changes, [tenant("42")]);
}

async fn many_changes_are_everything(db: &dyn Database) {
    let store = db.store().await;
    store.news().await.unwrap();
    db.run(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
           INSERT INTO tenants (id, name) SELECT n, 'x' FROM n",
    )
    .await;
    assert_eq!(store.news().await.unwrap().changes, [Change::Everything]);
    assert_eq!(store.news().await.unwrap().changes, []);
}

async fn pruned_changes_are_everything(db: &dyn Database) {
    db.run(TENANT).await;
    let store = db.store().await;
    store.news().await.unwrap();
    db.run("UPDATE tenants SET status = 'suspended'; DELETE FROM changes").await;
    assert_eq!(store.news().await.unwrap().changes, [Change::Everything]);
    db.run("UPDATE tenants SET status = 'active'").await;
    assert_eq!(store.news().await.unwrap().changes, [tenant("42")]);
    // Notes without end do not fill the database.
    let note = async |many: u32| {
        db.run(&format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {many})
               INSERT INTO changes (kind, key) SELECT 'user', n FROM n"
        ))
        .await;
    };
    note(70_000).await;
    // Others' transactions may keep what they might not have seen for a while.
    let kept = eventually_async("notes to be pruned", async || {
        note(1_024).await;
        let kept: u32 = db.run("SELECT count(*) FROM changes").await[0].parse().unwrap();
        (kept < 65_536 + 1_100).then_some(kept)
    })
    .await;
    assert!(kept >= 65_536, "{kept}");
    assert_eq!(store.news().await.unwrap().changes, [Change::Everything]);
}

async fn instances_come_and_go(db: &dyn Database) {
    let (one, other) = (db.store().await, db.store().await);
    one.heartbeat("i1").await.unwrap();
    other.heartbeat("i2").await.unwrap();
    assert_eq!(one.instances(30).await.unwrap(), ["i1", "i2"]);
    db.run("UPDATE instances SET seen_at = seen_at - 60 WHERE id = 'i1'").await;
    assert_eq!(one.instances(30).await.unwrap(), ["i2"]);
    assert_eq!(one.instances(90).await.unwrap(), ["i1", "i2"]);
    one.heartbeat("i1").await.unwrap();
    assert_eq!(other.instances(30).await.unwrap(), ["i1", "i2"]);
    one.depart("i1").await.unwrap();
    one.depart("i1").await.unwrap();
    assert_eq!(other.instances(30).await.unwrap(), ["i2"]);
    db.run("UPDATE instances SET seen_at = seen_at - 86405").await;
    one.heartbeat("i3").await.unwrap();
    let left = db.run("SELECT id FROM instances").await;
    assert_eq!(left, ["i3"], "one that died long ago is gone");
}
