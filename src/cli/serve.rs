//! `serve`: the service itself, built from the configuration.

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Runs the service until `shutdown`, and calls `ready` once a request to itself has come back.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let _ = (config, shutdown, ready);
    anyhow::bail!("not wired yet")
}
