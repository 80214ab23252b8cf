//! Opens the tenant table that the configuration names, and puts the store's errors in the words
//! of the command line.

use std::sync::Arc;

use anyhow::anyhow;

use crate::config::Config;
use crate::store::{Coordination, ProvisioningStore, StoreError};

/// The tenant table, as commands use it.
pub(super) struct Database {
    pub(super) provisioning: Arc<dyn ProvisioningStore>,
    pub(super) coordination: Arc<dyn Coordination>,
}

/// Opens the database.
pub(super) async fn open(_config: &Config) -> anyhow::Result<Database> {
    anyhow::bail!("no database is wired yet")
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
