//! The notation of `nats-server.conf`.

use std::path::Path;

/// A string of nats-server's configuration.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}
