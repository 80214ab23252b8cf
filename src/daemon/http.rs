//! `/healthz`, `/readyz` and `/metrics`, for orchestrators and Prometheus. Nothing that they say is
//! secret; only GET and HEAD are answered, and no body is read.

mod listener;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::listener::Limited;
use super::DaemonError;
use super::health::{Health, Phase};
use super::metrics::Metrics;

/// How often recorded latencies are sorted in.
const TIDY: Duration = Duration::from_secs(5);

/// How long answers under way may take at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What the endpoints speak of.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// Listens, if it is told where, and answers until `stop`.
pub(super) async fn serve(
    listen: Option<SocketAddr>,
    observed: Arc<Observed>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, DaemonError> {
    let listener = match listen {
        Some(listen) => {
            let failed = |source| DaemonError::Http { listen, source };
            let listener = TcpListener::bind(listen).await.map_err(failed)?;
            let at = listener.local_addr().map_err(failed)?;
            tracing::info!("health and metrics: http://{at}/healthz, /readyz, /metrics");
            Some(listener)
        }
        None => None,
    };
    Ok(async move {
        let tidying = tidy(Arc::clone(&observed), stop.clone());
        let Some(listener) = listener else { return tidying.await };
        let signal = stop.clone().cancelled_owned();
        let server = axum::serve(Limited::new(listener), routes(observed));
        let serving = async {
            if let Err(error) = server.with_graceful_shutdown(signal).await {
                tracing::error!(%error, "health and metrics are served no more");
            }
        };
        let last = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(serving, tidying) } => {}
            () = last => {}
        }
    })
}

async fn tidy(observed: Arc<Observed>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
        observed.metrics.tidy();
    }
}

fn routes(observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(observed)
}

/// That there is an answer says it: the runtime makes progress.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let phase = match observed.health.phase() {
        Phase::Starting => Err("starting"),
        Phase::Ready => Ok(()),
        Phase::Stopping => Err("stopping"),
    };
    let report = observed.health.report().await;
    let parts: Vec<_> = std::iter::once(("service", phase))
        .chain(report.into_iter().flat_map(|report| report.parts()))
        .collect();
    let failed: Vec<&str> =
        parts.iter().filter(|(_, part)| part.is_err()).map(|(name, _)| *name).collect();
    let status = if failed.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let words: serde_json::Map<_, _> = parts
        .iter()
        .map(|(name, part)| ((*name).to_owned(), json!(part.err().unwrap_or("ok"))))
        .collect();
    let document = json!({ "ready": failed.is_empty(), "failed": failed, "parts": words });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{document}\n"))
}

async fn metrics(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let text = observed.metrics.render(&observed.health).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
