//! What the instance on this machine says of its own health.

use std::io;
use std::time::Duration;

use super::Findings;
use crate::admin::endpoint::{get, reachable};
use crate::config::Config;

const HTTP: &str = "http";

/// An instance takes a second at most for each part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let Some(listen) = config.http_listen else {
        findings.skip(HTTP, "[http] listen is empty: neither health nor metrics are served");
        return;
    };
    let at = reachable(listen);
    let remedy = "see /readyz there: it names the part that fails";
    match tokio::time::timeout(PATIENCE, get(at, "/readyz")).await {
        Ok(Ok(answer)) => match answer.split_once("\r\n\r\n") {
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
        Ok(Err(error)) => findings.warn(HTTP, format!("http://{at}: {error}"), remedy),
        Err(_) => {
            findings.warn(HTTP, format!("http://{at}: no answer within {PATIENCE:?}"), remedy);
        }
    }
}

/// What the metrics of the instance on this machine say, if there is one.
pub(super) async fn metrics(config: &Config) -> Option<String> {
    let answer = get(reachable(config.http_listen?), "/metrics");
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}
