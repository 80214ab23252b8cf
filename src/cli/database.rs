//! Opens the tenant table that the configuration names, and puts the store's errors in the words
//! of the command line.

use std::sync::Arc;

use anyhow::{anyhow, bail};

use super::Usage;
use crate::config::Config;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Coordination, ProvisioningStore, StoreError};

/// The tenant table, as commands use it.
pub(super) struct Database {
    pub(super) provisioning: Arc<dyn ProvisioningStore>,
    pub(super) coordination: Arc<dyn Coordination>,
}

/// Opens the database for a command.
pub(super) async fn open(config: &Config) -> anyhow::Result<Database> {
    let store = connect(config).await?;
    Ok(Database { provisioning: store.clone(), coordination: store })
}

/// Opens the database.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Arc<SqliteStore>> {
    let url = &config.database.url;
    if !url.is_sqlite() {
        bail!(Usage(format!(
            "{}: [database] url: this version keeps the tenant table in SQLite alone; write \
             sqlite://PATH",
            config.file.display()
        )));
    }
    let options =
        SqliteOptions { read_timeout: config.database.timeout, ..SqliteOptions::default() };
    Ok(Arc::new(SqliteStore::open(url.expose(), &options).await?))
}

/// The error, with what to do about it.
pub(super) fn explain(error: StoreError) -> anyhow::Error {
    let remedy = match &error {
        StoreError::Unavailable(_) => {
            "check [database] url, and that the database runs and is not locked by another program"
        }
        StoreError::Corrupt { .. } => "correct the row with SQL",
        StoreError::Refused(_) => "correct the value",
        StoreError::Missing { what: "tenant", .. } => "see `nats-callout list`",
        StoreError::Missing { .. } => "see `nats-callout show TENANT`",
        StoreError::Exists { what: "tenant", .. } => "choose another id with --id",
        StoreError::Exists { .. } => "logins are unique over all tenants: choose another name",
    };
    anyhow!("{error}; {remedy}")
}
