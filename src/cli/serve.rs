//! `serve`: the service itself, as the configuration describes it.

use std::io::Write as _;

use tokio_util::sync::CancellationToken;

use super::{Usage, database};
use crate::config::Config;
use crate::daemon::{self, DaemonError};

/// Runs the service until `shutdown`, and calls `ready` once a request to itself has come back.
pub(super) async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let store = database::open_for_service(&config).await?;
    let announce = || {
        // A line of its own, whatever the log's format: scripts wait for it.
        let _ = writeln!(std::io::stderr().lock(), "nats-callout: ready");
        ready();
    };
    match daemon::run(&config, store, shutdown, announce).await {
        Ok(()) | Err(DaemonError::Stopped) => Ok(()),
        Err(
            error @ (DaemonError::Keys(_)
            | DaemonError::Policy(_)
            | DaemonError::Targets(_)
            | DaemonError::Users(_)),
        ) => Err(Usage(error.to_string()).into()),
        Err(error) => Err(error.into()),
    }
}
