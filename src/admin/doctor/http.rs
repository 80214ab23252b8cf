//! What the instance on this machine says of its own health.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Findings;
use crate::config::Config;

const HTTP: &str = "http";

/// An instance takes a second at most for each part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

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

/// The address to connect to: of one that listens everywhere, this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(at) if at.ip().is_unspecified() => ([127, 0, 0, 1], at.port()).into(),
        SocketAddr::V6(at) if at.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, at.port()).into()
        }
        listen => listen,
    }
}

/// What the metrics of the instance on this machine say, if there is one.
pub(super) async fn metrics(config: &Config) -> Option<String> {
    let answer = get(reachable(config.http_listen?), "/metrics");
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

async fn get(at: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let question = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
