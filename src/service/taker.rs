//! Takes requests off a subscription and begins their decisions.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_util::task::TaskTracker;

use super::replies::Via;
use super::worker::Worker;
use super::{ENDED_BY_THE_SERVER, prove};

/// See the module.
pub(super) struct Taker {
    /// How many requests are here at most.
    pub(super) most: usize,
    pub(super) worker: Arc<Worker>,
    pub(super) requests: TaskTracker,
}

impl Taker {
    /// Takes what comes until `end`.
    pub(super) async fn take_until(
        &self,
        requests: &mut Subscriber,
        via: Via,
        end: impl Future<Output = ()>,
    ) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                message = requests.next() => match message {
                    Some(message) => self.take(message, via),
                    None => break,
                },
            }
        }
    }

    /// Ends the subscription on the server alone and awaits a proof, which comes back behind the
    /// last request on its way. [`Subscriber::drain`] forgets the subscription as soon as it has
    /// asked the server, and loses what is on its way then.
    pub(super) async fn end(&self, mut requests: Subscriber, via: Via, client: &Client) {
        if let Err(error) = requests.unsubscribe_after(ENDED_BY_THE_SERVER).await {
            tracing::debug!(%error, "the connection is gone already");
        }
        let ended = async {
            if let Err(error) = prove(client).await {
                tracing::warn!(%error, "requests on their way may be lost");
            }
        };
        self.take_until(&mut requests, via, ended).await;
        while let Some(Some(message)) = requests.next().now_or_never() {
            self.take(message, via);
        }
    }

    fn take(&self, message: Message, via: Via) {
        if self.requests.len() >= self.most {
            return self.worker.turns.note_shed();
        }
        let (worker, received) = (Arc::clone(&self.worker), Instant::now());
        self.requests.spawn(async move { worker.work(message, received, via).await });
    }
}
