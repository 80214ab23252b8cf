//! The time, as a parameter: everything that compares or stamps a time takes a [`Clock`], so that
//! tests can move it and no decision reads the ambient one.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z (NumericDate of RFC 7519, without fractions).
pub type UnixSeconds = i64;

/// Where the current time comes from.
///
/// ```
/// use nats_callout::clock::{Clock, UnixSeconds};
///
/// #[derive(Debug)]
/// struct Stopped(UnixSeconds);
///
/// impl Clock for Stopped {
///     fn now(&self) -> UnixSeconds {
///         self.0
///     }
/// }
///
/// assert_eq!(Stopped(1_800_000_000).now(), 1_800_000_000);
/// ```
pub trait Clock: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> UnixSeconds;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the ambient time")]
    fn now(&self) -> UnixSeconds {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}
