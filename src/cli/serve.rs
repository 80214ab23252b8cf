//! `serve`: the service itself, as the configuration describes it.

use std::io::Write as _;

use tokio_util::sync::CancellationToken;

use super::database;
use crate::config::Config;
use crate::daemon::{self, DaemonError};

/// Runs the service until `shutdown`. Once a request to itself has come back, prints that it is
/// ready, on stderr and in these words whatever the log's format, and calls `ready`.
pub(super) async fn run(
    config: &Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let store = database::connect(config).await?;
    let served = daemon::run(config, store, shutdown, || {
        // A closed stderr must not stop the service.
        let _ = writeln!(std::io::stderr(), "nats-callout: ready");
        ready();
    });
    match served.await {
        Ok(()) | Err(DaemonError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
