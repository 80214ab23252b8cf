//! The log: on stderr, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Begins to log as the configuration says.
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
    begun.map_err(|error| anyhow::anyhow!("cannot begin to log: {error}"))
}

/// A bare level is that of the service: its NATS client repeats at `info` what is logged already.
fn directives(level: &str) -> String {
    if level.trim().eq_ignore_ascii_case("info") {
        format!("{level},async_nats=warn")
    } else {
        level.to_owned()
    }
}

/// Whether stderr takes colours (<https://no-color.org>).
fn colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
