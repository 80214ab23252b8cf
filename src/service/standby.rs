//! Another connection, to another server, on which requests are taken while the main one is away. Those who lost
//! the same server come back before the service's own connection is made again, and a request to which nobody has
//! subscribed is never answered.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::replies::Via;
use super::taker::Taker;
use super::{CALLOUT_SUBJECT, QUEUE_GROUP, prove};

/// How often it is looked whether the main connection is back.
const LOOK: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Standby {
    /// It carries nothing while the main connection stands.
    pub(crate) client: Client,
    /// The main connection has been lost.
    pub(crate) lost: Arc<Notify>,
}

impl Standby {
    /// Stands in whenever `main` is lost, until `stop`.
    pub(super) async fn run(self, main: Client, taker: Arc<Taker>, stop: CancellationToken) {
        while stop.run_until_cancelled(self.lost.notified()).await.is_some() {
            let subscribed = self.client.queue_subscribe(CALLOUT_SUBJECT, QUEUE_GROUP.to_owned());
            let mut requests = match subscribed.await {
                Ok(requests) => requests,
                Err(error) => {
                    tracing::debug!(%error, "the standby connection is closed");
                    return;
                }
            };
            tracing::info!("requests are taken on the standby connection: the main one is away");
            let back = async {
                tokio::select! {
                    () = is_back(&main) => {}
                    () = stop.cancelled() => {}
                }
            };
            taker.take_until(&mut requests, Via::Standby, back).await;
            taker.end(requests, Via::Standby, &self.client).await;
            if !stop.is_cancelled() {
                tracing::info!("requests are taken on the main connection again");
            }
        }
    }
}

/// Returns once requests are taken on it again.
async fn is_back(main: &Client) {
    loop {
        tokio::time::sleep(LOOK).await;
        if main.connection_state() == State::Connected && prove(main).await.is_ok() {
            return;
        }
    }
}
