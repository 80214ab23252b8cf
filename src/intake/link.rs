//! A connection that is kept: made again at once when it is lost, read and written by two loops that
//! wait for the socket alone.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
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

/// Before what has panicked begins again: the first pause, and the longest. Each is twice the one before,
/// until it has worked for as long as the longest.
const AFTER_A_PANIC: Duration = Duration::from_millis(250);
const LONGEST_AFTER_A_PANIC: Duration = Duration::from_secs(30);

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

/// Keeps the connection of `form` until `end`, also after a panic: this one alone is made again, and
/// nobody takes it to be there meanwhile.
pub(crate) async fn keep(
    isolation: Isolation,
    connection: &str,
    place: Place,
    carrier: &Mutex<Carrier>,
    end: CancellationToken,
) {
    let work = || keep_once(isolation, connection, &place, carrier, &end);
    outlive(connection, work, || carrier.lock().down(isolation, Instant::now()), &end).await;
}

/// Begins `work` again when it has panicked, once `tidy` has put right what it left behind.
pub(crate) async fn outlive<F: Future<Output = ()>>(
    what: &str,
    mut work: impl FnMut() -> F,
    mut tidy: impl FnMut(),
    end: &CancellationToken,
) {
    let (mut begun, mut pause) = (Instant::now(), AFTER_A_PANIC);
    while AssertUnwindSafe(async { work().await }).catch_unwind().await.is_err() {
        tidy();
        if begun.elapsed() >= LONGEST_AFTER_A_PANIC {
            pause = AFTER_A_PANIC;
        }
        tracing::error!(what, "has panicked and begins again in {pause:?}");
        if end.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        (begun, pause) = (Instant::now(), pause.saturating_mul(2).min(LONGEST_AFTER_A_PANIC));
    }
}

async fn keep_once(
    isolation: Isolation,
    connection: &str,
    place: &Place,
    carrier: &Mutex<Carrier>,
    end: &CancellationToken,
) {
    let (mut attempts, mut said) = (0_u32, None::<Instant>);
    for address in place.servers.addresses.iter().cycle() {
        let attempt = dial(address, &place.servers, &place.login, connection);
        let Some(dialed) = end.run_until_cancelled(attempt).await else { return };
        let pause = match dialed {
            Ok(dialed) => {
                tracing::info!(connection, server = %address, "connected to NATS");
                (attempts, said) = (0, None);
                carrier.lock().up(isolation, dialed.max_payload);
                let lost = end.run_until_cancelled(serve(isolation, dialed, carrier)).await;
                carrier.lock().down(isolation, Instant::now());
                let Some(lost) = lost else { return };
                carrier.lock().note_lost();
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
        let taken = take_all(isolation, &mut read, &mut carrier.lock());
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
                carrier.lock().line(isolation).ping(Vec::new());
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
        while !carrier.lock().bar(isolation, &read) && read.len() < MOST_SEARCHED {
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
    let wake = std::sync::Arc::clone(&carrier.lock().line(isolation).wake);
    let mut written = Vec::new();
    loop {
        written = carrier.lock().line(isolation).take(written);
        if written.is_empty() {
            wake.notified().await;
            continue;
        }
        writer.write_all(&written).await?;
        writer.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_link_that_panics_is_down_and_begins_again() {
        let carrier = Mutex::new(Carrier::new(Settings::default()).unwrap());
        let up = |isolation| carrier.lock().up(isolation, 1 << 20);
        let is_up = |isolation| carrier.lock().line(isolation).is_up();
        up(Isolation::Account);
        let mut begun = 0;
        let work = || {
            begun += 1;
            assert!(!is_up(Isolation::Shared));
            up(Isolation::Shared);
            let is_first = begun == 1;
            async move { assert!(!is_first, "on purpose") }
        };
        let tidy = || carrier.lock().down(Isolation::Shared, Instant::now());
        outlive("shared", work, tidy, &CancellationToken::new()).await;
        assert_eq!((begun, is_up(Isolation::Account), is_up(Isolation::Shared)), (2, true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_panics_ends_at_the_end() {
        let end = CancellationToken::new();
        end.cancel();
        outlive("shared", || async { panic!("on purpose") }, || {}, &end).await;
    }
}
