//! What people do to a deployment, apart from how they ask for it: each operation takes a typed
//! request and gives a typed result. It prints nothing and knows no command line; the program's
//! commands are one of its callers.
//!
//! The order of the steps of an operation is security (a suspended user's row is committed before
//! its connections are closed, or it would be back by a cached one), and stands here alone.

pub mod keys;

use std::sync::Arc;

use crate::clock::{Clock, SystemClock, UnixSeconds};
use crate::config::Config;
use crate::deployment::LoginError;
use crate::keyfile::KeyFileError;
use crate::servers::ClusterError;
use crate::store::{Store, StoreError};

/// A deployment to work on: its configuration, its tenant table, and who hears remarks.
#[derive(Clone)]
pub struct Admin {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    remarks: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Admin {
    /// `store` is the tenant table of `config`, which [`crate::store::open`] opens.
    pub fn new(config: Config, store: Arc<dyn Store>) -> Self {
        Self {
            config: Arc::new(config),
            store,
            clock: Arc::new(SystemClock),
            remarks: Arc::new(|remark| tracing::info!("{remark}")),
        }
    }

    /// Has what an operation remarks on its way told to `remarks` rather than to the log: what it
    /// waits for, and what it could not do though it goes on. Each is one line without its end.
    #[must_use]
    pub fn with_remarks(self, remarks: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { remarks: Arc::new(remarks), ..self }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tenant table.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn remark(&self, remark: &str) {
        (self.remarks)(remark);
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("config", &self.config.file).finish_non_exhaustive()
    }
}

/// Why an operation was not carried out. What had been changed by then is said in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// What was asked for cannot be: nothing was changed.
    #[error("{0}")]
    Invalid(String),
    /// The tenant table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key file.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The service's own login.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The servers.
    #[error(transparent)]
    Servers(#[from] ClusterError),
    /// A server was asked, and did not answer in time.
    #[error("NATS does not answer")]
    Silent,
}
