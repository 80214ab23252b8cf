//! The service's connections to NATS: made as soon as a server is there, and made again within
//! milliseconds when it is back, since clients race the service then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event};
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::isolation::Denials;
use super::metrics::{Metrics, flag};
use super::{DaemonError, Result};
use crate::config::Config;
use crate::deployment::{Login, connect_failure};
use crate::servers::{Cluster, KnownServers};
use crate::service::Standby;

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

/// How often it is looked whether two connections are on one server, and how seldom where that cannot be changed.
const APART: Duration = Duration::from_secs(2);
const APART_AT_MOST: Duration = Duration::from_secs(600);

/// Commands that may wait in a connection.
const CAPACITY: usize = 16 * 1024;

/// What is done with what happens to a connection, beside that it is logged.
#[derive(Debug, Clone, Default)]
struct Noted {
    /// Counts what the check of the isolation is refused.
    denials: Denials,
    /// It has been lost.
    lost: Arc<Notify>,
    /// Nothing depends on it: it may be moved from one server to another.
    is_spare: bool,
}

/// Connects, trying until it works or `shutdown`; `name` tells the connections apart in the log
/// and in connz.
async fn connect(
    name: &str,
    config: &Config,
    urls: &[String],
    login: Login,
    noted: &Noted,
    shutdown: &CancellationToken,
) -> Result<Client> {
    let servers = urls.join(",");
    let mut attempts = 0;
    loop {
        let options = lasting(login.options(config)?, name, noted.clone());
        let attempt = options.connect(urls);
        let Some(connected) = shutdown.run_until_cancelled(attempt).await else {
            return Err(DaemonError::Stopped);
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) if attempts % ATTEMPTS_PER_LINE == 0 => tracing::warn!(
                connection = name,
                %servers,
                error = %connect_failure(&error),
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
fn lasting(options: ConnectOptions, name: &str, noted: Noted) -> ConnectOptions {
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
            let expected = noted.denials.note(&event);
            if matches!(event, Event::Disconnected) {
                noted.lost.notify_one();
            }
            let is_spare = noted.is_spare;
            async move {
                if expected {
                    return;
                }
                match event {
                    Event::Connected | Event::Disconnected if is_spare => {
                        tracing::debug!(connection, %event, "connection to NATS");
                    }
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
    /// Where there are several servers.
    pub(super) standby: Option<Standby>,
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
        let standby = self.standby.iter().map(|standby| ("standby", &standby.client));
        let others = others.into_iter().chain(standby);
        let others = others.map(|(name, client)| (name.to_owned(), client));
        others.chain(replies).map(|(name, client)| (name, client.clone())).collect()
    }

    pub(super) async fn drain(&self) {
        let standby = self.standby.iter().map(|standby| &standby.client);
        let others = [&self.loading, &self.events, &self.main];
        for client in self.replies.iter().chain(standby).chain(others) {
            if let Err(error) = client.drain().await {
                tracing::debug!(%error, "a connection was closed already");
            }
        }
    }
}

/// Makes them.
pub(super) async fn connect_all(config: &Config, shutdown: &CancellationToken) -> Result<Clients> {
    let (noted, none, urls) = (Noted::default(), Noted::default(), &config.nats.urls);
    let auth =
        async |name, urls, noted| connect(name, config, urls, Login::Auth, noted, shutdown).await;
    let main = auth("main", urls, &noted).await?;
    let mut replies = Vec::new();
    for _ in 1..config.nats.connections {
        replies.push(auth("replies", urls, &none).await?);
    }
    let loading = auth("loading", urls, &none).await?;
    let events = auth("events", urls, &none).await?;
    let system = connect("system", config, urls, Login::System, &none, shutdown).await?;
    let Noted { denials, lost, .. } = noted.clone();
    let spare = Noted { is_spare: true, ..Noted::default() };
    let standby = if urls.len() > 1 || !main.server_info().connect_urls.is_empty() {
        let mut others = urls.clone();
        others.rotate_left(1);
        Some(Standby { client: auth("standby", &others, &spare).await?, lost })
    } else {
        None
    };
    Ok(Clients { main, denials, replies, loading, standby, events, system })
}

/// Has a connection on another server than `main`, as far as there is one.
pub(super) async fn keep_apart(standby: &Client, main: &Client) {
    let mut pause = APART;
    loop {
        tokio::time::sleep(pause).await;
        let on = |client: &Client| {
            let is_up = client.connection_state() == State::Connected;
            is_up.then(|| client.server_info().server_id)
        };
        if on(standby).is_none_or(|server| on(main).is_none_or(|it| it != server)) {
            pause = APART;
            continue;
        }
        let Ok(pool) = standby.server_pool().await else { return };
        let mut addresses: Vec<_> = pool.into_iter().map(|server| server.addr).collect();
        if addresses.len() > 1 {
            addresses.rotate_left(1);
            if standby.set_server_pool(addresses).await.is_err()
                || standby.force_reconnect().await.is_err()
            {
                return;
            }
        }
        pause = (pause * 2).min(APART_AT_MOST);
    }
}
