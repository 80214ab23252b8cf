//! What the license server writes is what a login reads; and what provisioning writes, and says
//! when it cannot.

use nats_callout::internals::{NewTenant, NewToken, NewUser};
use nats_callout::store::{
    Freshness, Identity, Isolation, Limits, PasswordHash, Status, StoreError, TokenHash, UserKind,
};

use super::{ALICE, Database, TOKEN, on_every_database};

on_every_database!(
    the_contracts_statements_work_word_for_word,
    defaults_are_what_the_contract_says,
    a_user_is_found_by_what_names_it,
    a_tenant_is_found_without_a_user,
    provisioned_rows_are_read_back,
    a_tenant_is_added_with_its_user_or_not_at_all,
    what_is_taken_or_missing_is_named,
    a_password_is_set_and_rehashed_once,
    logins_are_noted_and_never_go_back,
    lists_are_in_order,
);

pub(crate) const STATEMENTS: [&str; 6] = [
    "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');",
    "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '$2b$10$...');",
    r#"INSERT INTO users (tenant_id, name, kind, password_hash, publish, subscribe)
  VALUES ('42', 'order-service', 'service', '$argon2id$...', '["orders.*","events.order.*"]', '["payments.*","inventory.*"]');"#,
    "UPDATE users SET status = 'suspended' WHERE name = 'alice';",
    "UPDATE tenants SET expires_at = '2027-01-01 00:00:00+00:00', js_storage = 1073741824 WHERE id = '42';",
    "DELETE FROM tenants WHERE id = '42';",
];

async fn the_contracts_statements_work_word_for_word(db: &dyn Database) {
    for client in db.programs() {
        let run = async |at: usize| {
            db.run_with(client, STATEMENTS[at]).await.unwrap();
        };
        run(0).await;
        assert!(db.login("alice").await.is_none());
        run(1).await;
        let alice = db.login("alice").await.unwrap();
        assert_eq!(alice.user.password_hash.as_ref().unwrap().expose(), "$2b$10$...");
        assert_eq!((alice.tenant.id.as_str(), &*alice.tenant.name), ("42", "Alice Ltd"));
        run(2).await;
        let service = db.login("order-service").await.unwrap();
        assert_eq!(service.user.kind, UserKind::Service);
        assert_eq!(service.user.publish, ["orders.*", "events.order.*"]);
        assert_eq!(service.user.subscribe, ["payments.*", "inventory.*"]);
        run(3).await;
        assert_eq!(db.login("alice").await.unwrap().user.status, Status::Suspended);
        run(4).await;
        let tenant = db.login("alice").await.unwrap().tenant.clone();
        assert_eq!((tenant.expires_at, tenant.limits.storage), (Some(1_798_761_600), 1 << 30));
        run(5).await;
        assert!(db.login("alice").await.is_none());
        assert!(db.login("order-service").await.is_none());
        assert_eq!(db.run("SELECT count(*) FROM users").await, ["0"]);
    }
}

async fn defaults_are_what_the_contract_says(db: &dyn Database) {
    db.run(ALICE).await;
    let login = db.login("alice").await.unwrap();
    let (user, tenant) = (&login.user, &login.tenant);
    assert_eq!((user.kind, user.status), (UserKind::Bb, Status::Active));
    assert_eq!((&user.nkey, &user.certificate, &user.policy), (&None, &None, &None));
    assert_eq!((&*user.publish, &*user.subscribe), (&[] as &[String], &[] as &[String]));
    assert_eq!((user.expires_at, user.last_login_at), (None, None));
    assert_eq!((tenant.status, tenant.isolation), (Status::Active, None));
    assert_eq!((&tenant.policy, &tenant.placement, tenant.account), (&None, &None, None));
    assert_eq!((tenant.limits, tenant.expires_at), (Limits::default(), None));
    assert!(!tenant.limits.jetstream());
    assert!(tenant.created_at > 1_700_000_000 && tenant.updated_at == tenant.created_at);
    assert!(user.created_at >= tenant.created_at && user.updated_at == user.created_at);
}

async fn a_user_is_found_by_what_names_it(db: &dyn Database) {
    let nkey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    db.run(ALICE).await;
    db.run(&format!("UPDATE users SET nkey = '{nkey}', certificate = 'CN=alice,O=Alice Ltd'"))
        .await;
    let store = db.store().await;
    let name_of = async |identity: &Identity| {
        let found = store.holder(identity, Freshness::Fresh).await.unwrap();
        found.map(|login| (login.user.name.clone(), login.tenant.id.to_string()))
    };
    let alice = Some(("alice".to_owned(), "42".to_owned()));
    let certificate = |name: &str| Identity::Certificate(name.into());
    assert_eq!(name_of(&Identity::Nkey(nkey.parse().unwrap())).await, alice);
    assert_eq!(name_of(&certificate("CN=alice,O=Alice Ltd")).await, alice);
    for other in ["CN=alice", "cn=alice,o=alice ltd", nkey, "alice", "", "%"] {
        assert_eq!(name_of(&certificate(other)).await, None, "{other}");
    }
    db.run("UPDATE users SET nkey = NULL, certificate = NULL").await;
    assert_eq!(name_of(&Identity::Nkey(nkey.parse().unwrap())).await, None);
    assert_eq!(name_of(&certificate("CN=alice,O=Alice Ltd")).await, None);
}

async fn a_tenant_is_found_without_a_user(db: &dyn Database) {
    db.run("INSERT INTO tenants (id, name, js_storage) VALUES ('42', 'Alice Ltd', 7);").await;
    let store = db.store().await;
    let found = store.tenant_of(&"42".parse().unwrap(), Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.limits.storage), ("42", 7));
    assert!(store.tenant_of(&"43".parse().unwrap(), Freshness::Fresh).await.unwrap().is_none());
}

fn tenant(id: &str) -> NewTenant {
    NewTenant {
        id: id.parse().unwrap(),
        name: "Alice Ltd".into(),
        isolation: Some(Isolation::Shared),
        policy: Some("gold".into()),
        limits: Limits {
            memory: 1,
            storage: 2,
            streams: Some(3),
            consumers: Some(4),
            connections: Some(5),
        },
        answers: true,
        expires_at: Some(1_798_761_600),
    }
}

fn user(tenant: &str, name: &str) -> NewUser {
    NewUser {
        tenant: tenant.parse().unwrap(),
        name: name.into(),
        kind: UserKind::Service,
        password_hash: Some(PasswordHash::new("$argon2id$1$...")),
        nkey: None,
        certificate: None,
        publish: vec!["orders.*".into(), "a\"b.>".into()],
        subscribe: vec![],
        policy: Some("admin".into()),
    }
}

fn token(user: &str, byte: u8) -> NewToken {
    NewToken {
        user_name: user.into(),
        hash: TokenHash([byte; 32]),
        label: Some("laptop".into()),
        expires_at: Some(4_000_000_000),
    }
}

async fn provisioned_rows_are_read_back(db: &dyn Database) {
    let store = db.store().await;
    store.add_tenant(&tenant("42"), &user("42", "42")).await.unwrap();
    let read = store.user("42", Freshness::Fresh).await.unwrap().unwrap();
    let wanted = tenant("42");
    assert_eq!(read.tenant.id, wanted.id);
    assert_eq!((&read.tenant.isolation, &read.tenant.policy), (&wanted.isolation, &wanted.policy));
    assert_eq!((read.tenant.limits, read.tenant.expires_at), (wanted.limits, wanted.expires_at));
    assert_eq!(read.user.publish, ["orders.*", "a\"b.>"]);
    assert_eq!(read.user.policy.as_deref(), Some("admin"));
    assert_eq!(store.tenant(&wanted.id).await.unwrap().unwrap(), read.tenant);
    assert_eq!(store.users(&wanted.id).await.unwrap(), std::slice::from_ref(&read.user));
    store.add_token(&wanted.id, &token("42", 7)).await.unwrap();
    let read = store.token(&TokenHash([7; 32]), Freshness::Fresh).await.unwrap().unwrap();
    assert_eq!((&*read.user_name, read.expires_at), ("42", Some(4_000_000_000)));
    assert!(store.token(&TokenHash([8; 32]), Freshness::Fresh).await.unwrap().is_none());
}

async fn a_tenant_is_added_with_its_user_or_not_at_all(db: &dyn Database) {
    let store = db.store().await;
    store.add_tenant(&tenant("42"), &user("42", "taken")).await.unwrap();
    let error = store.add_tenant(&tenant("43"), &user("43", "taken")).await.unwrap_err();
    assert_eq!(error.to_string(), "user taken exists already");
    assert_eq!(store.tenants().await.unwrap().len(), 1);
    let error = store.add_tenant(&tenant("43"), &user("42", "other")).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    let mut never = tenant("43");
    never.expires_at = Some(i64::MAX);
    let error = store.add_tenant(&never, &user("43", "43")).await.unwrap_err();
    assert!(error.to_string().starts_with("tenants.expires_at: "), "{error}");
    let mut huge = tenant("43");
    huge.limits.storage = u64::MAX;
    let error = store.add_tenant(&huge, &user("43", "43")).await.unwrap_err();
    assert!(error.to_string().starts_with("tenants.js_storage: "), "{error}");
    assert_eq!(store.tenants().await.unwrap().len(), 1);
}

async fn what_is_taken_or_missing_is_named(db: &dyn Database) {
    let store = db.store().await;
    store.add_tenant(&tenant("42"), &user("42", "alice")).await.unwrap();
    store.add_tenant(&tenant("43"), &user("43", "bob")).await.unwrap();
    let (here, gone) = ("42".parse().unwrap(), "44".parse().unwrap());
    let hash = PasswordHash::new("$2b$10$...");
    let said = |done: Result<(), StoreError>| done.unwrap_err().to_string();
    assert_eq!(
        said(store.add_tenant(&tenant("42"), &user("42", "x")).await),
        "tenant 42 exists already"
    );
    assert_eq!(said(store.add_user(&user("42", "bob")).await), "user bob exists already");
    assert_eq!(said(store.add_user(&user("44", "x")).await), "no such tenant: 44");
    assert_eq!(said(store.set_password(&gone, "alice", &hash).await), "no such tenant: 44");
    assert_eq!(said(store.set_password(&here, "bob", &hash).await), "no such user: bob");
    assert_eq!(said(store.add_token(&gone, &token("alice", 1)).await), "no such tenant: 44");
    assert_eq!(said(store.add_token(&here, &token("bob", 1)).await), "no such user: bob");
    store.add_token(&here, &token("alice", 1)).await.unwrap();
    let again = store.add_token(&here, &token("alice", 1)).await;
    assert_eq!(said(again), "token laptop exists already");
    let mut odd = user("42", "odd");
    odd.publish = vec!["a b".into()];
    assert_eq!(said(store.add_user(&odd).await), "users.publish: holds a text that is no subject");
    odd.publish = vec![];
    odd.password_hash = Some(PasswordHash::new("secret"));
    let text = said(store.add_user(&odd).await);
    assert!(text.starts_with("users.password_hash: ") && !text.contains("secret"), "{text}");
    assert!(store.user("odd", Freshness::Fresh).await.unwrap().is_none());
}

async fn a_password_is_set_and_rehashed_once(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    let hash = async || db.login("alice").await.unwrap().user.password_hash.clone().unwrap();
    let new = |text: &str| PasswordHash::new(text);
    store.set_password(&"42".parse().unwrap(), "alice", &new("$2b$11$a$...")).await.unwrap();
    assert_eq!(hash().await, new("$2b$11$a$..."));
    store.rehash("alice", &new("$2b$10$..."), &new("$argon2id$b$...")).await.unwrap();
    assert_eq!(hash().await, new("$2b$11$a$..."), "the password changed meanwhile");
    store.rehash("alice", &new("$2b$11$a$..."), &new("$argon2id$b$...")).await.unwrap();
    assert_eq!(hash().await, new("$argon2id$b$..."));
    store.rehash("nobody", &new("$2b$11$a$..."), &new("$argon2id$b$...")).await.unwrap();
    let error = store.rehash("alice", &new("$argon2id$b$..."), &new("plain")).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}

async fn logins_are_noted_and_never_go_back(db: &dyn Database) {
    db.run(ALICE).await;
    let store = db.store().await;
    let before = db.login("alice").await.unwrap().user.clone();
    let many: Vec<(String, i64)> = (0..600)
        .map(|n| (format!("gone-{n}"), 1_800_000_000))
        .chain([("alice".into(), 1_800_000_100), ("alice".into(), i64::MAX), ("alice".into(), 5)])
        .collect();
    store.record_logins(&many).await.unwrap();
    store.record_logins(&[]).await.unwrap();
    let after = db.login("alice").await.unwrap().user.clone();
    assert_eq!(after.last_login_at, Some(1_800_000_100));
    assert_eq!(after.updated_at, before.updated_at, "a login is no change");
}

async fn lists_are_in_order(db: &dyn Database) {
    let store = db.store().await;
    assert!(store.tenants().await.unwrap().is_empty());
    for id in ["b", "a", "C"] {
        store.add_tenant(&tenant(id), &user(id, id)).await.unwrap();
        store.add_user(&user(id, &format!("0{id}"))).await.unwrap();
    }
    let ids: Vec<_> =
        store.tenants().await.unwrap().into_iter().map(|t| t.unwrap().id.to_string()).collect();
    assert_eq!(ids, ["C", "a", "b"]);
    let names: Vec<_> =
        store.users(&"a".parse().unwrap()).await.unwrap().into_iter().map(|u| u.name).collect();
    assert_eq!(names, ["0a", "a"]);
    assert!(store.tenant(&"d".parse().unwrap()).await.unwrap().is_none());
    assert!(store.users(&"d".parse().unwrap()).await.unwrap().is_empty());
    db.run(&format!("INSERT INTO tokens (user_name, token_hash) VALUES ('a', '{TOKEN}')")).await;
    assert_eq!(db.run("SELECT length(id) FROM tokens").await, ["12"]);
}
