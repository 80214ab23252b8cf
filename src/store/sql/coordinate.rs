//! What instances tell each other.

use futures_util::future::BoxFuture;

use super::{Backend, Durability, IfNone, Statement, Step, Subject, row};
use crate::keys::AccountId;
use crate::store::{Coordination, Effect, Hindrance, News, StoreError, queries};

fn beat<'q>(statement: Statement<'q>, instance: &'q str) -> Vec<Step<'q>> {
    let subject = Subject { what: "instance", key: instance, parent: "" };
    vec![Step { statement, subject, if_none: IfNone::Fine }]
}

impl<B: Backend> Coordination for B {
    fn news(&self) -> BoxFuture<'_, Result<News, StoreError>> {
        Backend::news(self)
    }

    fn effects(&self) -> BoxFuture<'_, Result<Vec<Effect>, StoreError>> {
        Box::pin(async move {
            let rows = self.select(Statement::new(queries::EFFECTS)).await?;
            rows.iter().filter_map(|found| row::effect(found).transpose()).collect()
        })
    }

    fn removed_accounts(&self) -> BoxFuture<'_, Result<Vec<AccountId>, StoreError>> {
        Box::pin(async move {
            let rows = self.select(Statement::new(queries::REMOVED_ACCOUNTS)).await?;
            // What is no account's key is no account of ours.
            Ok(rows.iter().filter_map(|found| row::account(found).ok()).collect())
        })
    }

    fn heartbeat<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let statement = Statement::new(queries::HEARTBEAT).bind(instance);
        self.write(beat(statement, instance), Durability::Passing)
    }

    fn depart<'a>(&'a self, instance: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let statement = Statement::new(queries::DEPART).bind(instance);
        self.write(beat(statement, instance), Durability::Passing)
    }

    fn wait_for_news(&self) -> BoxFuture<'_, ()> {
        Backend::wait_for_news(self)
    }

    fn hindrances(&self) -> BoxFuture<'_, Result<Vec<Hindrance>, StoreError>> {
        Backend::hindrances(self)
    }

    fn instances(&self, seconds: u32) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let rows =
                self.select(Statement::new(queries::INSTANCES).bind(i64::from(seconds))).await?;
            rows.iter().map(row::instance).collect()
        })
    }
}
