//! The service's connections to NATS: made as soon as a server is there, and made again within
//! milliseconds when it is back, since clients race the service then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use super::isolation::Denials;
use super::metrics::{Metrics, flag};
use super::{DaemonError, Result};
use crate::causes::chain;
use crate::config::Config;
use crate::deployment::Login;
use crate::servers::{Cluster, KnownServers};

/// Between two attempts of a first connect.
const FIRST_CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Every so many failed attempts the log says so again.
const ATTEMPTS_PER_LINE: u32 = 20;

/// A server that comes back asks about its first client within milliseconds, and a request that
/// nobody has subscribed to costs that client two seconds: so a reconnect is tried at once, then
/// this often, and more slowly only once the server has been away for some time.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
const EAGER_RECONNECTS: usize = 2_000;
const LATE_RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Commands that may wait in a connection.
const CAPACITY: usize = 16 * 1024;

/// Connects, trying until it works or `shutdown`; `name` tells the connections apart in the log
/// and in connz, and `denials` counts what the check of the isolation is refused.
async fn connect(
    name: &str,
    config: &Config,
    login: Login,
    denials: &Denials,
    shutdown: &CancellationToken,
) -> Result<Client> {
    let urls = &config.nats.urls;
    let servers = urls.join(",");
    let mut attempts = 0;
    loop {
        let options = lasting(login.options(config)?, name, denials.clone());
        let attempt = options.connect(urls.clone());
        let Some(connected) = shutdown.run_until_cancelled(attempt).await else {
            return Err(DaemonError::Stopped);
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) if attempts % ATTEMPTS_PER_LINE == 0 => tracing::warn!(
                connection = name,
                %servers,
                error = %chain(&error),
                "cannot connect to NATS yet; trying again every {FIRST_CONNECT_PAUSE:?}"
            ),
            Err(_) => {}
        }
        attempts += 1;
        if shutdown.run_until_cancelled(tokio::time::sleep(FIRST_CONNECT_PAUSE)).await.is_none() {
            return Err(DaemonError::Stopped);
        }
    }
}

/// A connection that is made again whatever happens, and says so in the log.
fn lasting(options: ConnectOptions, name: &str, denials: Denials) -> ConnectOptions {
    let name = name.to_owned();
    options
        .name(format!("nats-callout {name}"))
        .connection_timeout(Duration::from_secs(2))
        .ping_interval(Duration::from_secs(5))
        .max_reconnects(None)
        .client_capacity(CAPACITY)
        .retain_servers_order()
        .reconnect_delay_callback(|attempts| match attempts {
            0..=1 => Duration::ZERO,
            2..=EAGER_RECONNECTS => RECONNECT_PAUSE,
            _ => LATE_RECONNECT_PAUSE,
        })
        .event_callback(move |event| {
            let connection = name.clone();
            let expected = denials.note(&event);
            async move {
                if expected {
                    return;
                }
                match event {
                    Event::Connected => tracing::info!(connection, "connected to NATS"),
                    Event::Disconnected => {
                        tracing::warn!(connection, "connection to NATS lost; reconnecting");
                    }
                    // An attempt to reconnect that failed, of which there are hundreds a second.
                    Event::ClientError(_) | Event::Closed | Event::Draining => {
                        tracing::debug!(connection, %event, "connection to NATS");
                    }
                    other => tracing::warn!(connection, event = %other, "connection to NATS"),
                }
            }
        })
}

/// What there is of NATS.
pub(super) struct Nats {
    pub(super) connections: Clients,
    pub(super) servers: Arc<KnownServers>,
    pub(super) cluster: Cluster,
    /// This instance's id, which no other has.
    pub(super) id: String,
}

/// The connections: one to the account SYS, all others to AUTH.
pub(super) struct Clients {
    pub(super) main: Client,
    /// What was refused on the main one.
    pub(super) denials: Denials,
    pub(super) replies: Vec<Client>,
    pub(super) loading: Client,
    /// Its own: an event must not wait behind replies, nor they behind events.
    pub(super) events: Client,
    pub(super) system: Client,
}

impl Clients {
    pub(super) fn show(&self, metrics: &Metrics) {
        let named = self.named();
        metrics.show(move || {
            for (name, client) in &named {
                let is_up = client.connection_state() == State::Connected;
                gauge!("nats_callout_nats_connected", "connection" => name.clone())
                    .set(flag(is_up));
                let connects = client.statistics().connects.load(Relaxed);
                counter!("nats_callout_nats_connects_total", "connection" => name.clone())
                    .absolute(connects);
            }
        });
    }

    /// All connections, by their names in the log.
    fn named(&self) -> Vec<(String, Client)> {
        let replies = self.replies.iter().enumerate();
        let replies = replies.map(|(n, client)| (format!("replies-{}", n + 1), client));
        let others = [
            ("main", &self.main),
            ("loading", &self.loading),
            ("events", &self.events),
            ("system", &self.system),
        ];
        let others = others.map(|(name, client)| (name.to_owned(), client));
        others.into_iter().chain(replies).map(|(name, client)| (name, client.clone())).collect()
    }

    pub(super) async fn drain(&self) {
        for client in self.replies.iter().chain([&self.loading, &self.events, &self.main]) {
            if let Err(error) = client.drain().await {
                tracing::debug!(%error, "a connection was closed already");
            }
        }
    }
}

/// Makes them.
pub(super) async fn connect_all(config: &Config, shutdown: &CancellationToken) -> Result<Clients> {
    let denials = Denials::default();
    let main = connect("main", config, Login::Auth, &denials, shutdown).await?;
    let mut replies = Vec::new();
    let none = Denials::default();
    for _ in 1..config.nats.connections {
        replies.push(connect("replies", config, Login::Auth, &none, shutdown).await?);
    }
    let loading = connect("loading", config, Login::Auth, &none, shutdown).await?;
    let events = connect("events", config, Login::Auth, &none, shutdown).await?;
    let system = connect("system", config, Login::System, &none, shutdown).await?;
    Ok(Clients { main, denials, replies, loading, events, system })
}
