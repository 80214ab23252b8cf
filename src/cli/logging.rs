//! The log: on stderr, as text or JSON.

use std::any::Any;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::redact::without_secrets;

/// Begins to log as the configuration says, panics included.
pub(super) fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(directives(&log.level))?;
    // A line that cannot be written is lost. To say so, on stderr again, would panic.
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let begun = match log.format {
        LogFormat::Json => logger.json().flatten_event(true).try_init(),
        LogFormat::Text => logger.with_ansi(colour()).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("cannot begin to log: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name(),
            at = panic.location().map(tracing::field::display),
            panic = %without_secrets(words(panic.payload())),
            "a fault of the program"
        );
    }));
    Ok(())
}

/// What a panic says.
fn words(payload: &(dyn Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or_default()
}

/// A bare level is that of the service. Its NATS client repeats at `info` what is logged already, and
/// at `trace` it logs every message, servers' lists of clients among them, who may have sent a secret
/// as their name.
fn directives(level: &str) -> String {
    let client = match level.trim().to_ascii_lowercase().as_str() {
        "info" => "warn",
        "trace" => "debug",
        _ => return level.to_owned(),
    };
    format!("{level},async_nats={client}")
}

/// Whether stderr takes colours (<https://no-color.org>).
fn colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_library_says_less_than_the_service() {
        assert_eq!(directives("info"), "info,async_nats=warn");
        assert_eq!(directives("TRACE"), "TRACE,async_nats=debug");
        assert_eq!(directives("warn"), "warn");
        assert_eq!(directives("info,async_nats=trace"), "info,async_nats=trace");
    }

    #[test]
    fn the_words_of_a_panic_are_found() {
        let caught = |panics: fn()| std::panic::catch_unwind(panics).expect_err("a panic");
        assert_eq!(words(&*caught(|| panic!("fixed"))), "fixed");
        assert_eq!(words(&*caught(|| panic!("with {}", 1))), "with 1");
        assert_eq!(words(&*caught(|| std::panic::panic_any(1))), "");
    }
}
