//! `serve`: the service itself, as the configuration describes it, watched from within and by the
//! service manager.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::notify::Manager;
use super::watchdog::Watchdog;
use super::{Usage, database};
use crate::config::Config;
use crate::daemon;

/// Runs the service until `shutdown`, and calls `ready` once a request to itself has come back.
pub(super) async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let _watchdog = Watchdog::start().context("cannot start the watchdog's thread")?;
    let manager = Arc::new(Manager::from_env());
    let telling = tokio::spawn({
        let (manager, shutdown) = (Arc::clone(&manager), shutdown.clone());
        async move {
            let stopping = async {
                shutdown.cancelled().await;
                manager.stopping();
                std::future::pending::<()>().await
            };
            tokio::join!(manager.keep_telling(), stopping);
        }
    });
    let outcome = serve(&config, &manager, shutdown, ready).await;
    telling.abort();
    outcome
}

async fn serve(
    config: &Config,
    manager: &Manager,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let store = database::open_for_service(config).await?;
    let announce = || {
        // A line of its own, whatever the log's format: scripts wait for it.
        let _ = writeln!(std::io::stderr().lock(), "nats-callout: ready");
        manager.ready();
        ready();
    };
    match daemon::run(config, store, shutdown, announce).await {
        Err(error) if error.is_misconfiguration() => Err(Usage(error.to_string()).into()),
        Err(error) if !error.is_stop() => Err(error.into()),
        _ => Ok(()),
    }
}
