//! Sends numbered notifications to one tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Backend;

/// The number of the last notification.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// BB, which sends the numbers from 1 on, until it is dropped.
pub(crate) struct Notifier {
    sent: Sent,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Sends one in each period.
    pub(crate) fn start(
        connecting: impl Future<Output = Backend>,
        tenant: &str,
        period: Duration,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let backend = runtime.block_on(connecting);
        let subject = format!("user.{tenant}.Notifications");
        let (sent, ends) = (Sent::default(), Arc::new(AtomicBool::new(false)));
        let (count, until) = (sent.clone(), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            runtime.block_on(notify(&backend, &subject, period, &count, &until));
        });
        Self { sent, ends, thread: Some(thread) }
    }

    /// What it has sent, now and later.
    pub(crate) fn sent(&self) -> &Sent {
        &self.sent
    }
}

async fn notify(
    backend: &Backend,
    subject: &str,
    period: Duration,
    sent: &Sent,
    ends: &AtomicBool,
) {
    let client = &backend.connected.client;
    let mut ticks = tokio::time::interval(period);
    for number in 1.. {
        if ends.load(Relaxed) {
            return;
        }
        ticks.tick().await;
        client.publish(subject.to_owned(), number.to_string().into()).await.expect("publishes");
        sent.0.store(number, Relaxed);
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
