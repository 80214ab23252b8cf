//! Whether servers wait for as long as a decision may take, and for long enough for passwords.

use std::time::Duration;

use tokio::sync::watch;

use crate::authn::hashing::Pace;
use crate::protocol::request::time_to_decide;
use crate::servers::Cluster;
use crate::servers::varz;

/// Says so of each server that does not, and of those that come.
pub(super) async fn watch(
    deadline: Duration,
    pace: Pace,
    cluster: &Cluster,
    arrivals: &mut watch::Receiver<u64>,
) {
    loop {
        match varz::servers(cluster).await {
            Ok(servers) => {
                for (server, varz) in servers {
                    let Some(timeout) = varz.auth_timeout() else { continue };
                    let decision = time_to_decide(timeout);
                    if decision < deadline {
                        tracing::warn!(
                            server = server.name,
                            "the server waits for {timeout:?} (authorization.timeout): a decision for it has \
                             {decision:?}, and not {deadline:?} as in [callout] deadline; raise the time-out, \
                             or shorten the deadline"
                        );
                    }
                    if !pace.has_time_in(timeout) {
                        tracing::warn!(
                            server = server.name,
                            "the server waits for {timeout:?} (authorization.timeout), and a password's hash \
                             takes {:?} here: a few passwords at once are too many; give the service more \
                             cores, or raise the time-out",
                            pace.current()
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
