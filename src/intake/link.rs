//! A connection that is kept: made again at once when it is lost, read and written by two loops that
//! wait for the socket alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::Place;
use super::carrier::Carrier;
use super::dial::{CHUNK, DialError, Dialed, dial};
use super::wire::{self, WireError};
use crate::store::Isolation;

/// A server that comes back has tenants within milliseconds: so a connection is tried at once, then
/// this often, and more slowly only once the server has been away for some time.
const PAUSE: Duration = Duration::from_millis(5);
const EAGER_ATTEMPTS: u32 = 2_000;
const LATE_PAUSE: Duration = Duration::from_millis(50);

/// After a login that the server does not take.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

/// Between two lines about a server that cannot be reached.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// A server that has said nothing for so long is asked, and given up after twice that.
const QUIET: Duration = Duration::from_secs(5);

/// A buffer that has grown beyond this is not used again.
const KEPT: usize = 1 << 20;

/// How far and how long it is looked for who has broken the protocol. No subject is longer than
/// 64 KiB.
const MOST_SEARCHED: usize = 256 << 10;
const SEARCH: Duration = Duration::from_millis(500);

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the server closed it")]
    Closed,
    #[error("the server sent {0}")]
    Wire(#[from] WireError),
    #[error("the server does not read")]
    Stuck,
    #[error("the server is silent")]
    Silent,
}

pub(crate) fn lock(carrier: &Mutex<Carrier>) -> MutexGuard<'_, Carrier> {
    carrier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the connection of `form` until `end`.
pub(crate) async fn keep(
    isolation: Isolation,
    connection: &str,
    place: Place,
    carrier: &Mutex<Carrier>,
    end: CancellationToken,
) {
    let (mut attempts, mut said) = (0_u32, None::<Instant>);
    for address in place.servers.addresses.iter().cycle() {
        let attempt = dial(address, &place.servers, &place.login, connection);
        let Some(dialed) = end.run_until_cancelled(attempt).await else { return };
        let pause = match dialed {
            Ok(dialed) => {
                tracing::info!(connection, server = %address, "connected to NATS");
                (attempts, said) = (0, None);
                lock(carrier).up(isolation, dialed.max_payload);
                let lost = end.run_until_cancelled(serve(isolation, dialed, carrier)).await;
                lock(carrier).down(isolation, Instant::now());
                let Some(lost) = lost else { return };
                lock(carrier).note_lost();
                tracing::warn!(connection, server = %address, error = %lost,
                    "connection to NATS lost; reconnecting");
                continue;
            }
            Err(error) => {
                attempts = attempts.saturating_add(1);
                if said.is_none_or(|said| said.elapsed() > BETWEEN_LINES) {
                    said = Some(Instant::now());
                    tracing::warn!(connection, server = %address, login = place.login.source(), %error,
                        "cannot connect to NATS, so that no events are taken; trying again");
                }
                match error {
                    DialError::Refused(_) | DialError::Tls(_) => REFUSED_PAUSE,
                    _ if attempts <= EAGER_ATTEMPTS => PAUSE,
                    _ => LATE_PAUSE,
                }
            }
        };
        if end.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Reads and writes until the connection ends, and says why.
async fn serve(isolation: Isolation, dialed: Dialed, carrier: &Mutex<Carrier>) -> Lost {
    let (reader, writer, read) = dialed.split();
    let ended = tokio::select! {
        ended = read_all(isolation, reader, read, carrier) => ended,
        ended = write_all(isolation, writer, carrier) => ended,
    };
    match ended {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

type Never = std::convert::Infallible;

async fn read_all(
    isolation: Isolation,
    mut reader: impl AsyncRead + Unpin,
    mut read: BytesMut,
    carrier: &Mutex<Carrier>,
) -> Result<Never, Lost> {
    let mut is_asked = false;
    loop {
        let taken = take_all(isolation, &mut read, &mut lock(carrier));
        if let Err(lost) = taken {
            if matches!(lost, Lost::Wire(_)) {
                bar(isolation, reader, read, carrier).await;
            }
            return Err(lost);
        }
        if read.is_empty() && read.capacity() > KEPT {
            read = BytesMut::new();
        }
        read.reserve(CHUNK);
        match tokio::time::timeout(QUIET, reader.read_buf(&mut read)).await {
            Ok(Ok(0)) => return Err(Lost::Closed),
            Ok(Ok(_)) => is_asked = false,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if is_asked => return Err(Lost::Silent),
            Err(_) => {
                is_asked = true;
                lock(carrier).line(isolation).ping(Vec::new());
            }
        }
    }
}

fn take_all(isolation: Isolation, read: &mut BytesMut, carrier: &mut Carrier) -> Result<(), Lost> {
    let now = Instant::now();
    while let Some((frame, length)) = wire::parse(read, |sid| carrier.knows(isolation, sid))? {
        carrier.take(isolation, frame, now);
        read.advance(length);
    }
    if carrier.line(isolation).is_stuck() { Err(Lost::Stuck) } else { Ok(()) }
}

/// Finds out who has broken the protocol, as far as that is soon to be seen.
async fn bar(
    isolation: Isolation,
    mut reader: impl AsyncRead + Unpin,
    mut read: BytesMut,
    carrier: &Mutex<Carrier>,
) {
    let search = async {
        while !lock(carrier).bar(isolation, &read) && read.len() < MOST_SEARCHED {
            read.reserve(CHUNK);
            if !matches!(reader.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
    };
    // Without an answer the connection is made again all the same.
    let _ = tokio::time::timeout(SEARCH, search).await;
}

async fn write_all(
    isolation: Isolation,
    mut writer: impl AsyncWrite + Unpin,
    carrier: &Mutex<Carrier>,
) -> Result<Never, Lost> {
    let wake = std::sync::Arc::clone(&lock(carrier).line(isolation).wake);
    let mut written = Vec::new();
    loop {
        written = lock(carrier).line(isolation).take(written);
        if written.is_empty() {
            wake.notified().await;
            continue;
        }
        writer.write_all(&written).await?;
        writer.flush().await?;
    }
}
