//! Opens the tenant table that the configuration names, and puts the errors of operations on it in the
//! words of the command line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::Usage;
use super::output::name;
use crate::admin::{AdminError, Error, ceiling};
use crate::config::{Config, DatabaseUrl};
use crate::store::{self, OpenError, Store, StoreError, StoreOptions};

/// How long a command waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the database for a command.
pub(super) async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    // A person can wait longer than a login.
    let options = StoreOptions {
        read_timeout: PATIENCE,
        write_timeout: PATIENCE,
        readers: 2,
        ..StoreOptions::default()
    };
    named(config, store::open(config.database.url.expose(), &options).await)
}

/// Whether the database at an address can be opened, before the address is written down. A file is
/// made by whoever needs it.
pub(super) async fn probe(url: &DatabaseUrl) -> anyhow::Result<()> {
    if !url.is_sqlite() {
        let store = store::open(url.expose(), &StoreOptions::default())
            .await
            .context("cannot open the database; check --database")?;
        store.close().await;
    }
    Ok(())
}

/// Opens the database for the service.
pub(super) async fn open_for_service(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    named(config, config.open_store().await)
}

fn named(
    config: &Config,
    opened: Result<Arc<dyn Store>, OpenError>,
) -> anyhow::Result<Arc<dyn Store>> {
    opened.with_context(|| format!("cannot open {}", config.database_origin()))
}

/// The error in the words of the command line, with what to do about it.
pub(super) fn explain(error: impl Into<Error>) -> anyhow::Error {
    let error = error.into();
    let usage = |text| Usage(text).into();
    match &error.0 {
        AdminError::NoOwnAccounts => usage(format!("--isolation account: {error}; leave it out")),
        AdminError::AnsweredAnyway => usage(format!("--answers: {error}; leave it out")),
        AdminError::Expiry(_) => usage(format!("--expires: {error}")),
        AdminError::Ceiling(_) => {
            anyhow!("{error}; {}, with --memory and --storage; nothing was added", ceiling::REMEDY)
        }
        AdminError::Store(fault @ StoreError::Missing { what, key }) => {
            anyhow!("no such {what}: {}; {}", name(key), remedy(fault))
        }
        AdminError::Store(fault) => anyhow!("{error}; {}", remedy(fault)),
        _ => error.into(),
    }
}

fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => {
            "check the database's URL, and that the database runs and is not locked by another program"
        }
        StoreError::Corrupt { .. } => "correct the row with SQL",
        StoreError::Refused(_) => "correct the value",
        StoreError::Missing { what: "tenant", .. } => "see `nats-callout list`",
        StoreError::Missing { what: "token", .. } => "see `nats-callout token list`",
        StoreError::Missing { .. } => "see `nats-callout show` with the tenant's id",
        StoreError::Exists { what: "tenant", .. } => "choose another id with --id",
        StoreError::Exists { .. } => "logins are unique over all tenants: choose another name",
    }
}
