//! The service as a configuration describes it: the parts of this crate, wired together. The
//! program `nats-callout` runs this; so can any application, beside its own work.
//!
//! [`run`] goes through three phases, each made from the one before: `Prepared`, `Connected`,
//! `Serving`. What works beside the logins is a part of the service (`parts`).

mod base;
mod connect;
mod connected;
mod error;
mod event_sinks;
mod health;
mod hindrances;
mod http;
mod intake;
pub(crate) mod isolation;
pub(crate) mod logins;
mod metrics;
mod mode;
pub(crate) mod old_servers;
mod own_keys;
mod parts;
mod policies;
mod prepared;
mod renewal;
mod room;
mod samples;
mod serving;
pub(crate) mod takers;
mod waits;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::connected::Connected;
pub(crate) use self::error::DaemonError;
pub use self::error::Error;
pub(crate) use self::intake::logins as intake_logins;
use self::parts::PartName;
use self::prepared::Prepared;
use self::serving::Serving;
use crate::config::Config;
use crate::store::Store;

/// What a step of the service's start comes to.
type Result<T, E = DaemonError> = std::result::Result<T, E>;

/// Runs until `shutdown`: connects (for as long as it takes), serves, calls `ready` once a request
/// to itself has come back and the streams of events are there, and stops without losing a request. It
/// stops with an error when a part of it is lost for good: begun anew, it has all of them.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let prepared = Prepared::new(config, store).await?;
    let connected = Connected::new(prepared, &shutdown).await?;
    let mut serving = Serving::new(connected).await?;
    let falls = serving.falls();
    let settled = tokio::select! {
        settled = serving.settle(&shutdown) => settled,
        part = falls.lost() => return stop_without(part, serving).await,
    };
    match settled {
        Ok(true) => ready(),
        Ok(false) => {}
        Err(error) => {
            serving.abandon().await;
            return Err(error.into());
        }
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        part = falls.lost() => return stop_without(part, serving).await,
    }
    serving.stop().await;
    Ok(())
}

/// Stops in good order without a part that is lost.
async fn stop_without(part: PartName, serving: Serving<'_>) -> Result<(), Error> {
    serving.stop().await;
    Err(DaemonError::Fallen(part.into_owned()).into())
}
