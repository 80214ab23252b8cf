//! What the instance on this machine says of its own health.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::Findings;
use super::table::Table;
use crate::admin::endpoint::{get, reachable};
use crate::config::Config;

const HTTP: &str = "http";

/// An instance takes a second at most for each part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(config: &Config, table: Option<&Table>, findings: &mut Findings) {
    let Some(listen) = config.http_listen else {
        findings.skip(HTTP, "[http] listen is empty: neither health nor metrics are served");
        return;
    };
    let at = reachable(listen);
    let remedy = "see /readyz there: it names the part that fails";
    match tokio::time::timeout(PATIENCE, get(at, "/readyz")).await {
        Ok(Ok(answer)) => match answer.split_once("\r\n\r\n") {
            Some((_, body)) if is_foreign(body, table).await => findings.warn(
                HTTP,
                format!("another deployment's service answers at http://{at}/readyz"),
                "give one of the two another address in [http] listen, and start this one's; what is said of the \
                 instance on this machine is of the other",
            ),
            Some((head, _)) if head.starts_with("HTTP/1.0 200") => {
                findings.ok(HTTP, format!("http://{at}/readyz: ready"));
            }
            Some((head, body)) if head.starts_with("HTTP/1.0 503") => {
                findings.fail(HTTP, format!("http://{at}/readyz: {}", body.trim()), remedy);
            }
            _ => findings.warn(
                HTTP,
                format!("{at} is not nats-callout: another program listens there"),
                "give the service another address in [http] listen",
            ),
        },
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => findings.skip(
            HTTP,
            format!("nothing listens on {at}: an instance elsewhere, or with another address"),
        ),
        Ok(Err(error)) => {
            findings.warn(HTTP, format!("http://{at}: {error}"), "see the service's log");
        }
        Err(_) => findings.warn(
            HTTP,
            format!("http://{at}: no answer within {PATIENCE:?}"),
            "the process there hangs or is overloaded: see its log, and restart it",
        ),
    }
}

/// Whether it is the answer of an instance that this deployment's table does not know. One from before says
/// nothing of itself.
async fn is_foreign(body: &str, table: Option<&Table>) -> bool {
    let said = serde_json::from_str::<Value>(body).unwrap_or_default();
    match (said.get("instance").and_then(Value::as_str), table) {
        (Some(instance), Some(table)) => table.knows(instance).await.is_ok_and(|known| !known),
        _ => false,
    }
}

/// What the metrics of the instance on this machine say, if there is one.
pub(super) async fn metrics(config: &Config) -> Option<String> {
    let answer = get(reachable(config.http_listen?), "/metrics");
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}
