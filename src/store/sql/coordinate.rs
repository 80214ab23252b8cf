//! What instances tell each other.

use async_trait::async_trait;

use super::{Backend, Durability, IfNone, Statement, Step, Subject, row};
use crate::keys::AccountId;
use crate::store::{Coordination, Effect, Hindrance, News, Result, queries};

fn beat<'q>(statement: Statement<'q>, instance: &'q str) -> Vec<Step<'q>> {
    let subject = Subject { what: "instance", key: instance, parent: "" };
    vec![Step { statement, subject, if_none: IfNone::Fine }]
}

#[async_trait]
impl<B: Backend> Coordination for B {
    async fn news(&self) -> Result<News> {
        Backend::news(self).await
    }

    async fn effects(&self) -> Result<Vec<Effect>> {
        let rows = self.select(Statement::new(queries::EFFECTS)).await?;
        rows.iter().filter_map(|found| row::effect(found).transpose()).collect()
    }

    async fn removed_accounts(&self) -> Result<Vec<AccountId>> {
        let rows = self.select(Statement::new(queries::REMOVED_ACCOUNTS)).await?;
        // What is no account's key is no account of ours.
        Ok(rows.iter().filter_map(|found| row::account(found).ok()).collect())
    }

    async fn heartbeat(&self, instance: &str) -> Result<()> {
        let statement = Statement::new(queries::HEARTBEAT).bind(instance);
        self.write(beat(statement, instance), Durability::Passing).await
    }

    async fn depart(&self, instance: &str) -> Result<()> {
        let statement = Statement::new(queries::DEPART).bind(instance);
        self.write(beat(statement, instance), Durability::Passing).await
    }

    async fn wait_for_news(&self) {
        Backend::wait_for_news(self).await
    }

    async fn hindrances(&self) -> Result<Vec<Hindrance>> {
        Backend::hindrances(self).await
    }

    async fn instances(&self, seconds: u32) -> Result<Vec<String>> {
        let rows = self.select(Statement::new(queries::INSTANCES).bind(i64::from(seconds))).await?;
        rows.iter().map(row::instance).collect()
    }
}
