//! What every store promises, and what its database refuses from anyone: each function takes a
//! [`Database`], so that all databases run through the same ones. `open` is about SQLite alone,
//! `postgres_open` and `postgres_feed` about PostgreSQL. How long anything takes is asked in
//! [`within::store`](crate::within::store).

mod bounds;
mod changes;
mod effects;
mod given_up;
mod hashes;
mod license_server;
pub(crate) mod logins;
pub(crate) mod open;
pub(crate) mod outbox;
mod plans;
pub(crate) mod postgres;
mod postgres_feed;
pub(crate) mod postgres_open;
mod postgres_servers;
mod races;
mod rules;
pub(crate) mod sqlite;
mod subjects;
mod times;

use std::sync::Arc;

use async_trait::async_trait;
use nats_callout::internals::NewUser;
use nats_callout::store::{Freshness, LoginRecord, Store, StoreOptions, UserKind};

use crate::harness::PATIENCE;

/// A fresh database, gone when dropped.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// The store under test; each call is another instance on the same database.
    async fn store(&self) -> Arc<dyn Store>;

    /// An instance that is there as long as the database.
    async fn kept(&self) -> Arc<dyn Store>;

    /// The other programs that write to it, at least one.
    fn programs(&self) -> Vec<&'static str>;

    /// Those with which every statement is tried. The first makes what a test begins with.
    fn clients(&self) -> Vec<&'static str> {
        self.programs()
    }

    /// Runs statements as another program does, in autocommit; rows as text, NULL as an empty one.
    async fn run_with(&self, client: &'static str, sql: &str) -> Result<Vec<String>, String>;

    /// Whether a refusal says what it should: `words`, unless the database has words of its own for
    /// a value that its types do not know.
    fn says(&self, text: &str, words: &str) -> bool {
        text.contains(words)
    }

    /// Whether it is SQLite: with INSERT OR REPLACE, and with types that are no more than a hint.
    fn is_sqlite(&self) -> bool {
        true
    }
}

/// Options of a store that waits as long as the tests do, for what is not about time.
pub(crate) fn patient() -> StoreOptions {
    StoreOptions {
        read_timeout: PATIENCE,
        write_timeout: PATIENCE,
        open_timeout: PATIENCE,
        ..StoreOptions::default()
    }
}

impl dyn Database + '_ {
    /// Runs statements that must work.
    pub(crate) async fn run(&self, sql: &str) -> Vec<String> {
        let client = self.clients()[0];
        self.run_with(client, sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// Statements that every client must be refused, with a text that holds `words`.
    async fn refuses(&self, sql: &str, words: &str) {
        for client in self.clients() {
            match self.run_with(client, sql).await {
                Ok(_) => panic!("{client} took: {sql}"),
                Err(text) => {
                    assert!(self.says(&text, words), "{client}: {sql}\n{text}\nnot: {words}");
                }
            }
        }
    }

    async fn login(&self, user: &str) -> Option<Arc<LoginRecord>> {
        self.kept().await.user(user, Freshness::Fresh).await.unwrap()
    }
}

/// Runs each function against every database.
macro_rules! on_every_database {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = crate::store_contract::sqlite::SqliteFile::new();
                super::$name(&database).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = crate::store_contract::postgres::Postgres::new();
                super::$name(&database).await;
            })+
        }
    };
}
use on_every_database;

const TENANT: &str = "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');";

pub(crate) const ALICE: &str = "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');
    INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '$2b$10$...');";

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Another user of that tenant, to be added.
pub(crate) fn bob() -> NewUser {
    NewUser {
        tenant: "42".parse().unwrap(),
        name: "bob".into(),
        kind: UserKind::Bb,
        password_hash: None,
        nkey: None,
        certificate: None,
        publish: vec![],
        subscribe: vec![],
        policy: None,
    }
}
