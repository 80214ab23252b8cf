//! What a change means to those who are connected: noted by the database itself, whoever writes.

use std::time::Duration;

use nats_callout::internals::{Closes, Effect, EffectOn, random_account_id};
use nats_callout::keys::AccountId;
use nats_callout::store::{PasswordHash, Status};

use super::{ALICE, Database, TENANT, TOKEN, on_every_database};

on_every_database!(
    changes_close_what_they_no_longer_allow,
    an_earlier_end_is_noted,
    a_row_that_is_replaced_is_compared,
    a_removed_tenant_leaves_its_account_behind,
    the_commands_own_writes,
    tokens_are_listed_and_removed,
    a_token_that_is_taken_back_is_noted,
    a_new_hash_of_the_same_password_takes_nothing_back,
);

fn tenant(closes: Closes, pushes: bool) -> (EffectOn, Closes, bool) {
    (EffectOn::Tenant("42".parse().unwrap()), closes, pushes)
}

fn user(name: &str) -> (EffectOn, Closes, bool) {
    (EffectOn::User(name.into()), Closes::Everything, false)
}

/// A credential is gone.
fn revoked(name: &str) -> (EffectOn, Closes, bool) {
    (EffectOn::User(format!("{name} revoked")), Closes::Nothing, false)
}

fn plain(effects: Vec<Effect>) -> Vec<(EffectOn, Closes, bool)> {
    assert!(effects.iter().all(|effect| effect.age < Duration::from_secs(20)), "{effects:?}");
    let plain = |effect: Effect| match effect.on {
        EffectOn::User(name) if effect.revokes => {
            (EffectOn::User(format!("{name} revoked")), effect.closes, effect.pushes)
        }
        on => (on, effect.closes, effect.pushes),
    };
    effects.into_iter().map(plain).collect()
}

async fn changes_close_what_they_no_longer_allow(db: &dyn Database) {
    db.run(ALICE).await;
    db.run("INSERT INTO tenants (id, name) VALUES ('43', 'Bob Ltd')").await;
    let store = db.store().await;
    store.news().await.unwrap();
    let closes = |pushes| vec![tenant(Closes::Everything, pushes)];
    for (sql, wanted) in [
        ("UPDATE tenants SET name = 'x', created_at = '2020-01-01' WHERE id = '42'", vec![]),
        ("UPDATE tenants SET js_storage = 5 WHERE id = '42'", vec![tenant(Closes::Nothing, true)]),
        (
            "UPDATE tenants SET max_connections = 5 WHERE id = '42'",
            vec![tenant(Closes::Nothing, true)],
        ),
        ("UPDATE tenants SET status = 'suspended' WHERE id = '42'", closes(false)),
        (
            "UPDATE tenants SET status = 'active' WHERE id = '42'",
            vec![tenant(Closes::Nothing, true)],
        ),
        ("UPDATE tenants SET isolation = 'shared' WHERE id = '42'", closes(false)),
        ("UPDATE tenants SET policy = 'x', js_memory = 1 WHERE id = '42'", closes(true)),
        ("UPDATE tenants SET account = 'USERS' WHERE id = '42'", closes(false)),
        ("UPDATE users SET status = 'suspended'", vec![user("alice")]),
        ("UPDATE users SET status = 'active', last_login_at = '2026-01-01'", vec![]),
        (
            "UPDATE users SET password_hash = '$2b$10$other$...', nkey = NULL, certificate = 'x'",
            vec![revoked("alice")],
        ),
        ("UPDATE users SET password_hash = NULL", vec![revoked("alice")]),
        ("UPDATE users SET password_hash = '$2b$10$first$...'", vec![]),
        ("UPDATE users SET certificate = 'x', nkey = NULL", vec![]),
        ("UPDATE users SET certificate = 'y'", vec![revoked("alice")]),
        ("UPDATE users SET kind = 'service'", vec![user("alice")]),
        ("UPDATE users SET publish = '[\"a\"]'", vec![user("alice")]),
        ("UPDATE users SET subscribe = '[\"a\"]'", vec![user("alice")]),
        ("UPDATE users SET policy = 'admin'", vec![user("alice")]),
        ("UPDATE users SET tenant_id = '43'", vec![user("alice")]),
        ("UPDATE users SET name = 'alicia'", vec![user("alice")]),
        ("DELETE FROM users", vec![user("alicia")]),
    ] {
        db.run(sql).await;
        let effects = store.news().await.unwrap().effects;
        assert_eq!(plain(effects), wanted, "{sql}");
    }
    assert_eq!(store.effects().await.unwrap().len(), 18, "what is noted stays for a while");
}

async fn an_earlier_end_is_noted(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    for (end, wanted) in [
        ("'2030-01-01 00:00:00+00:00'", Some(1_893_456_000)),
        ("'2031-01-01 00:00:00+00'", None),
        ("'2030-06-01'", Some(1_906_502_400)),
        ("NULL", None),
        ("'2020-01-01T00:00:00Z'", Some(1_577_836_800)),
    ] {
        for table in ["tenants", "users"] {
            db.run(&format!("UPDATE {table} SET expires_at = {end}")).await;
            let effects = store.news().await.unwrap().effects;
            // Servers learn of any other end of a tenant, and of none of a user.
            let (pushed, closing): (Vec<_>, Vec<_>) =
                effects.iter().partition(|effect| effect.pushes);
            assert_eq!(pushed.len(), usize::from(table == "tenants"), "{table}: {end}");
            let noted: Vec<Closes> = closing.iter().map(|effect| effect.closes).collect();
            let wanted: Vec<Closes> = wanted.map(Closes::GrantsBeyond).into_iter().collect();
            assert_eq!(noted, wanted, "{table}: {end}");
        }
    }
}

async fn a_row_that_is_replaced_is_compared(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    for (sql, wanted) in [
        ("INSERT INTO users (tenant_id, name) VALUES ('42', 'bob')", vec![]),
        (
            "INSERT OR IGNORE INTO users (tenant_id, name, password_hash)
               VALUES ('42', 'alice', '$2b$10$other$...')",
            vec![],
        ),
        (
            "INSERT OR REPLACE INTO users (tenant_id, name, password_hash)
               VALUES ('42', 'alice', '$2b$10$...')",
            vec![],
        ),
        (
            "INSERT OR REPLACE INTO users (tenant_id, name, password_hash)
               VALUES ('42', 'alice', '$2b$10$other$...')",
            vec![revoked("alice")],
        ),
        (
            "INSERT OR REPLACE INTO users (tenant_id, name, kind, password_hash)
               VALUES ('42', 'alice', 'service', '$2b$10$other$...')",
            vec![user("alice")],
        ),
        ("INSERT OR IGNORE INTO users (tenant_id, name) VALUES ('42', 'alice')", vec![]),
        (
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'alice') ON CONFLICT DO NOTHING",
            vec![],
        ),
        (
            "INSERT INTO users (tenant_id, name, policy) VALUES ('42', 'alice', 'x')
               ON CONFLICT (name) DO UPDATE SET policy = excluded.policy",
            vec![user("alice")],
        ),
        (
            "INSERT INTO users (tenant_id, name) VALUES ('42', 'alice')
               ON CONFLICT (name) DO UPDATE SET password_hash = NULL",
            vec![revoked("alice")],
        ),
        ("INSERT OR REPLACE INTO tenants (id, name) VALUES ('42', 'x')", vec![]),
        (
            "INSERT OR REPLACE INTO tenants (id, name, status) VALUES ('42', 'x', 'suspended')",
            vec![tenant(Closes::Everything, false)],
        ),
        (
            "INSERT OR REPLACE INTO tenants (id, name, status, js_storage)
               VALUES ('42', 'x', 'suspended', 7)",
            vec![tenant(Closes::Nothing, true)],
        ),
    ] {
        if sql.contains(" OR ") && !db.is_sqlite() {
            continue;
        }
        db.run(sql).await;
        assert_eq!(plain(store.news().await.unwrap().effects), wanted, "{sql}");
    }
}

async fn account_of_42(db: &dyn Database) -> AccountId {
    let candidate = random_account_id().unwrap();
    let store = db.store().await;
    let row = store.tenant(&"42".parse().unwrap()).await.unwrap().unwrap();
    store.account_of(&row, candidate).await.unwrap().unwrap()
}

async fn a_removed_tenant_leaves_its_account_behind(db: &dyn Database) {
    db.run(ALICE).await;
    let account = account_of_42(db).await;
    let store = db.store().await;
    store.news().await.unwrap();
    db.run("UPDATE users SET status = 'suspended'; UPDATE tenants SET status = 'suspended'").await;
    let effects = store.news().await.unwrap().effects;
    assert!(effects.iter().all(|effect| effect.account == Some(account)), "{effects:?}");
    assert_eq!(store.removed_accounts().await.unwrap(), []);

    db.run("DELETE FROM tenants").await;
    let effects = store.news().await.unwrap().effects;
    // Those of its users that have no row are in shared accounts, or in the one that goes.
    let (of_tenant, others): (Vec<_>, Vec<_>) =
        effects.into_iter().partition(|effect| matches!(effect.on, EffectOn::Tenant(_)));
    assert_eq!(plain(of_tenant), [tenant(Closes::Everything, false)]);
    assert!(others.iter().all(|effect| effect.account == Some(account)), "{others:?}");
    let noted = plain(others);
    assert_eq!(noted, [user("alice"), (EffectOn::Account, Closes::Everything, false)]);
    assert_eq!(store.removed_accounts().await.unwrap(), [account]);

    db.run(TENANT).await;
    assert_ne!(account_of_42(db).await, account, "another tenant");
    assert_eq!(store.removed_accounts().await.unwrap(), [account]);
    // A person who puts the row back means it.
    db.run(&format!(
        "DELETE FROM tenant_accounts;
         INSERT INTO tenant_accounts (tenant_id, account) VALUES ('42', '{account}')"
    ))
    .await;
    assert!(!store.removed_accounts().await.unwrap().contains(&account));
}

async fn the_commands_own_writes(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    let id = "42".parse().unwrap();
    store.set_user_status(&id, "alice", Status::Suspended).await.unwrap();
    store.set_tenant_status(&id, Status::Suspended).await.unwrap();
    store.set_tenant_status(&id, Status::Active).await.unwrap();
    store.remove_user(&id, "alice").await.unwrap();
    store.remove_tenant(&id).await.unwrap();
    let end = tenant(Closes::Everything, false);
    let resumed = tenant(Closes::Nothing, true);
    let wanted = [user("alice"), end.clone(), resumed, user("alice"), end];
    assert_eq!(plain(store.news().await.unwrap().effects), wanted);
    for (error, text) in [
        (store.remove_tenant(&id).await, "no such tenant: 42"),
        (store.set_tenant_status(&id, Status::Active).await, "no such tenant: 42"),
        (store.remove_user(&id, "alice").await, "no such tenant: 42"),
    ] {
        assert_eq!(error.unwrap_err().to_string(), text);
    }
    db.run(TENANT).await;
    let error = store.set_user_status(&id, "alice", Status::Active).await.unwrap_err();
    assert_eq!(error.to_string(), "no such user: alice");
}

async fn tokens_are_listed_and_removed(db: &dyn Database) {
    db.run(ALICE).await;
    db.run(&format!(
        "INSERT INTO tokens (id, user_name, token_hash, label, expires_at)
           VALUES ('t1', 'alice', '{TOKEN}', 'ci', '2030-01-01')"
    ))
    .await;
    let store = db.store().await;
    store.news().await.unwrap();
    let listed = store.tokens().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id.as_str(), listed[0].tenant.as_str()), ("t1", "42"));
    assert_eq!(listed[0].user_name, "alice");
    assert_eq!(
        (listed[0].label.as_deref(), listed[0].expires_at),
        (Some("ci"), Some(1_893_456_000))
    );
    store.remove_token_by_id("t1").await.unwrap();
    assert_eq!(plain(store.news().await.unwrap().effects), [revoked("alice")]);
    assert_eq!(store.tokens().await.unwrap(), []);
    assert_eq!(store.remove_token_by_id("t1").await.unwrap_err().to_string(), "no such token: t1");
}

async fn a_token_that_is_taken_back_is_noted(db: &dyn Database) {
    db.run(ALICE).await;
    let account = account_of_42(db).await;
    let token = |id: &str, hash: &str| {
        format!("INTO tokens (id, user_name, token_hash) VALUES ('{id}', 'alice', '{hash}')")
    };
    let other = TOKEN.replace('0', "f");
    let store = db.store().await;
    store.news().await.unwrap();
    let gone = || vec![revoked("alice")];
    for (sql, wanted) in [
        (format!("INSERT {}", token("t1", TOKEN)), vec![]),
        ("UPDATE tokens SET label = 'ci'".to_owned(), vec![]),
        (format!("INSERT OR IGNORE {}", token("t1", TOKEN)), vec![]),
        (format!("INSERT OR REPLACE {}", token("t1", TOKEN)), vec![]),
        (format!("INSERT OR REPLACE {}", token("t1", &other)), gone()),
        (format!("INSERT OR REPLACE {}", token("t2", TOKEN)), vec![]),
        ("DELETE FROM tokens WHERE id = 't2'".to_owned(), gone()),
        (format!("UPDATE tokens SET token_hash = '{}'", TOKEN.replace('0', "e")), gone()),
        ("UPDATE tokens SET expires_at = '2030-01-01'".to_owned(), gone()),
        ("UPDATE tokens SET expires_at = '2029-01-01'".to_owned(), gone()),
        ("UPDATE tokens SET expires_at = NULL".to_owned(), vec![]),
        ("DELETE FROM tokens".to_owned(), gone()),
    ] {
        // Without the rows that only one of the databases can be told of.
        if sql.contains(" OR ") && !db.is_sqlite() || sql.contains("'t2'") && !db.is_sqlite() {
            continue;
        }
        db.run(&sql).await;
        let effects = store.news().await.unwrap().effects;
        assert!(effects.iter().all(|effect| effect.account == Some(account)), "{sql}");
        assert_eq!(plain(effects), wanted, "{sql}");
    }
}

async fn a_new_hash_of_the_same_password_takes_nothing_back(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    store.news().await.unwrap();
    let hash = |text: &str| PasswordHash::new(text);
    store.rehash("alice", &hash("$2b$10$..."), &hash("$argon2id$new$...")).await.unwrap();
    assert_eq!(plain(store.news().await.unwrap().effects), []);
    store.set_password(&"42".parse().unwrap(), "alice", &hash("$2b$10$next$...")).await.unwrap();
    assert_eq!(plain(store.news().await.unwrap().effects), [revoked("alice")]);
}
