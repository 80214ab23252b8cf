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
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::listener::Limited;
use super::health::Health;
use super::metrics::Metrics;
use super::{DaemonError, Result};

/// How long answers under way may take at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What the endpoints speak of.
pub(super) struct Observed {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// Listens, and answers until `stop`.
pub(super) async fn serve(
    listen: SocketAddr,
    observed: Arc<Observed>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let failed = |source| DaemonError::Http { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    tracing::info!("health and metrics: http://{at}/healthz, /readyz, /metrics");
    Ok(async move {
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
            () = serving => {}
            () = last => {}
        }
    })
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
    let word = observed.health.word().await;
    let status = if word.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{}\n", word.document()))
}

async fn metrics(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let text = observed.metrics.render(&observed.health.word().await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
