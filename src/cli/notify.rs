//! Tells the service manager how the service does, as `sd_notify(3)` describes: a datagram to the
//! socket that `NOTIFY_SOCKET` names. Without one, nobody is told. The crate `sd-notify` knows no
//! abstract names, and waits for a manager that hangs.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the service does well.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                None
            }
        });
        let for_us = variable("WATCHDOG_PID")
            .is_none_or(|pid| pid.parse::<u32>().is_ok_and(|pid| pid == std::process::id()));
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| for_us)
            .and_then(|text| text.parse().ok())
            .filter(|period| *period > 0)
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The service answers.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The service ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the service does well, twice as often as is asked for, as long as the runtime
    /// gives this task its turns. Never returns.
    pub(super) async fn keep_telling(&self) {
        let (Some(period), Some(_)) = (self.watchdog, &self.socket) else {
            return std::future::pending().await;
        };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(period / 2).await;
        }
    }

    fn tell(&self, state: &str) {
        let Some((socket, manager)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), manager) {
            tracing::debug!(%error, state, "the service manager could not be told");
        }
    }
}

fn connect(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    // A manager that hangs must not make the service hang.
    socket.set_nonblocking(true)?;
    Ok((socket, address(name)?))
}

/// `@name` is a name in Linux's abstract namespace, everything else a path.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;

        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}
