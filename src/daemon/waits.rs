//! Whether servers wait for as long as a decision may take.

use std::time::Duration;

use tokio::sync::watch;

use crate::servers::Cluster;
use crate::servers::varz;

/// Says so in the log of each server that does not, and of those that come.
pub(super) async fn watch(
    deadline: Duration,
    cluster: &Cluster,
    arrivals: &mut watch::Receiver<u64>,
) {
    loop {
        match varz::servers(cluster).await {
            Ok(servers) => {
                for (server, varz) in servers {
                    if let Some(timeout) = varz.auth_timeout()
                        && timeout <= deadline
                    {
                        tracing::warn!(
                            server = server.name,
                            "the server waits for {timeout:?} (authorization.timeout), and [callout] \
                             deadline is {deadline:?}: logins that are not decided sooner are cut short \
                             there; set the deadline below the time-out, or raise that"
                        );
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "for how long servers wait is not known"),
        }
        if arrivals.changed().await.is_err() {
            return;
        }
        cluster.call_anew();
    }
}
