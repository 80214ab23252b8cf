//! Accounts: one for each incarnation of a tenant, whoever asks first, whatever happens meanwhile.

use std::collections::HashSet;

use nats_callout::internals::random_account_id;
use nats_callout::keys::AccountId;
use nats_callout::store::{Freshness, TenantId, TenantRecord};

use super::{ALICE, Database, Store, TENANT, on_every_database};
use crate::harness::depth;

on_every_database!(
    racing_for_an_account_gives_one,
    an_account_lasts_as_long_as_the_tenant,
    an_account_is_found_by_its_key,
    deleting_and_inserting_races_with_logins,
);

fn id() -> TenantId {
    "42".parse().unwrap()
}

/// The account of the tenant as it is in the table now, if it is there.
async fn ask(store: &dyn Store) -> Option<AccountId> {
    let tenant = store.tenant(&id()).await.unwrap()?;
    store.account_of(&tenant, random_account_id().unwrap()).await.unwrap()
}

async fn racing_for_an_account_gives_one(db: &dyn Database) {
    db.run(TENANT).await;
    let (one, other) = (db.store().await, db.store().await);
    let tasks = (0..16).map(|n| {
        let store = if n % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move { ask(&*store).await.unwrap() })
    });
    let mut accounts = HashSet::new();
    for task in tasks.collect::<Vec<_>>() {
        accounts.insert(task.await.unwrap());
    }
    assert_eq!(accounts.len(), 1);
    assert_eq!(db.run("SELECT count(*) FROM tenant_accounts").await, ["1"]);
}

async fn an_account_lasts_as_long_as_the_tenant(db: &dyn Database) {
    let store = db.store().await;
    let ask = async || ask(&*store).await;
    let nobody = TenantRecord::new(id());
    let candidate = random_account_id().unwrap();
    assert_eq!(store.account_of(&nobody, candidate).await.unwrap(), None, "there is no tenant");
    db.run(ALICE).await;
    assert_eq!(store.account_of(&nobody, candidate).await.unwrap(), None, "nor one of this row");
    let first = ask().await.unwrap();
    assert_eq!(ask().await, Some(first));
    assert_eq!(db.login("alice").await.unwrap().tenant.account, Some(first));
    for client in db.clients() {
        let replace = if db.is_sqlite() {
            "INSERT OR REPLACE INTO tenants (id, name) VALUES ('42', 'renamed')"
        } else {
            "INSERT INTO tenants (id, name) VALUES ('42', 'renamed')
               ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        };
        db.run_with(client, replace).await.unwrap();
        assert_eq!(ask().await, Some(first), "a replaced tenant keeps its account");
        assert_eq!(db.login("alice").await.unwrap().tenant.name, "renamed");
    }
    let before = store.tenant(&id()).await.unwrap().unwrap();
    db.run("DELETE FROM tenants").await;
    assert_eq!(store.account_of(&before, candidate).await.unwrap(), None);
    db.run(ALICE).await;
    assert_eq!(store.account_of(&before, candidate).await.unwrap(), None, "its id is another's");
    assert_eq!(db.login("alice").await.unwrap().tenant.account, None);
    let second = ask().await.unwrap();
    assert_ne!(second, first, "a tenant deleted and inserted again is a new one");
}

async fn an_account_is_found_by_its_key(db: &dyn Database) {
    db.run(TENANT).await;
    let store = db.store().await;
    let account = random_account_id().unwrap();
    assert!(store.tenant_of_account(&account).await.unwrap().is_none());
    let tenant = store.tenant(&id()).await.unwrap().unwrap();
    store.account_of(&tenant, account).await.unwrap();
    let found = store.tenant_of_account(&account).await.unwrap().unwrap();
    assert_eq!((found.id, found.account), (id(), Some(account)));
}

async fn deleting_and_inserting_races_with_logins(db: &dyn Database) {
    let rounds = depth(15, 40);
    db.run(ALICE).await;
    let store = db.store().await;
    let asking = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut seen = HashSet::new();
            for _ in 0..rounds * 4 {
                seen.extend(ask(&*store).await);
                if let Some(login) = store.user("alice", Freshness::Fresh).await.unwrap() {
                    seen.extend(login.tenant.account);
                }
            }
            seen
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut incarnations = HashSet::new();
    for _ in 0..rounds {
        db.run(&format!("BEGIN IMMEDIATE; DELETE FROM tenants; {ALICE} COMMIT;")).await;
        let account = ask(&*store).await.unwrap();
        assert!(incarnations.insert(account), "an account came back to life");
    }
    for task in asking {
        task.await.unwrap();
    }
    let kept = db.run("SELECT count(*) FROM tenant_accounts").await;
    assert_eq!(kept, ["1"]);
}
