//! For how long a client waits for its login: its library says which one it is, and nothing else. An application
//! may have chosen another time, so nobody is refused by this; it says who is served first where not all can be.

use std::time::Duration;

use crate::protocol::request::VerifiedRequest;

/// nats.go, nats-py, jnats, nats.c, and whoever is not known: the shortest.
const SHORTEST: Duration = Duration::from_secs(2);

/// async-nats.
const RUST: Duration = Duration::from_secs(5);

/// nats.js and its predecessors, on every runtime.
const JAVASCRIPT: Duration = Duration::from_secs(20);

/// No longer than its server does.
pub(super) fn of(request: &VerifiedRequest) -> Duration {
    by_default(request.lang()).min(request.patience()).max(SHORTEST)
}

/// What the library does unless it is told otherwise.
fn by_default(lang: &str) -> Duration {
    match lang {
        "rust" => RUST,
        lang if lang.starts_with("nats.") => JAVASCRIPT,
        _ => SHORTEST,
    }
}
