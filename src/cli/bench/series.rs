//! A row for each second of a run.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Run;
use super::cost::{Cpu, Processes};
use super::histogram::rounded;

const SECOND: Duration = Duration::from_secs(1);

/// What is over of a last second that was hardly one, and is left out if nothing came in it.
const SLIVER: f64 = 0.05;

/// One second, or what the run had left of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Row {
    /// Since the beginning, at the end of this row.
    pub(super) seconds: f64,
    /// Clients that came, got in, gave up; attempts that failed.
    pub(super) started: u64,
    pub(super) logins: u64,
    pub(super) gave_up: u64,
    pub(super) failed: u64,
    /// At its end: clients that are not in, and connections that are open.
    pub(super) waiting: u64,
    pub(super) open: u64,
    /// Open connections that ended, and clients that came back.
    pub(super) closed: u64,
    pub(super) back: u64,
    /// Of those that got in, or gave up.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Cores in use.
    pub(super) bench_cpu: f64,
    pub(super) server_cpu: Option<f64>,
    pub(super) service_cpu: Option<f64>,
}

impl Row {
    fn is_idle(&self) -> bool {
        let Self { started, logins, gave_up, failed, closed, back, .. } = *self;
        [started, logins, gave_up, failed, closed, back] == [0; 6]
    }
}

const HEADER: &str = "seconds,started,logins,gave_up,failed,waiting,open,closed,back,p50_ms,p99_ms,\
                      max_ms,bench_cpu,server_cpu,service_cpu";

/// The rows as a table. What is not known is empty.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    let maybe = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for row in rows {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            row.seconds,
            row.started,
            row.logins,
            row.gave_up,
            row.failed,
            row.waiting,
            row.open,
            row.closed,
            row.back,
            row.p50_ms,
            row.p99_ms,
            row.max_ms,
            row.bench_cpu,
            maybe(row.server_cpu),
            maybe(row.service_cpu),
        );
    }
    text
}

/// Rows that are being written.
pub(super) struct Series {
    writer: Arc<Writer>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Writer {
    run: Arc<Run>,
    /// Clients that are held beside those of the run.
    held: Option<Arc<Run>>,
    processes: Arc<Processes>,
    begin: Instant,
    written: Mutex<Written>,
}

struct Written {
    rows: Vec<Row>,
    at: f64,
    cpu: Cpu,
}

impl Series {
    /// Begins; what was counted before is in no row.
    pub(super) fn begin(
        run: &Arc<Run>,
        held: Option<&Arc<Run>>,
        processes: &Arc<Processes>,
    ) -> Self {
        run.recorder.take_second(|_| ());
        if let Some(held) = held {
            held.recorder.take_second(|_| ());
        }
        let written = Written { rows: Vec::new(), at: 0.0, cpu: processes.cpu() };
        let writer = Arc::new(Writer {
            run: Arc::clone(run),
            held: held.cloned(),
            processes: Arc::clone(processes),
            begin: Instant::now(),
            written: Mutex::new(written),
        });
        let stop = CancellationToken::new();
        let (each, ends) = (Arc::clone(&writer), stop.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at((each.begin + SECOND).into(), SECOND);
            while ends.run_until_cancelled(ticks.tick()).await.is_some() {
                each.write();
            }
        });
        Self { writer, stop, task }
    }

    /// All rows, with what is left as the last one.
    pub(super) async fn end(self) -> Vec<Row> {
        self.stop.cancel();
        let _ = self.task.await;
        let left = self.writer.begin.elapsed().as_secs_f64() - self.writer.written.lock().at;
        self.writer.write();
        let mut rows = std::mem::take(&mut self.writer.written.lock().rows);
        if left <= SLIVER && rows.len() > 1 {
            rows.pop_if(|last| last.is_idle());
        }
        rows
    }
}

impl Writer {
    fn write(&self) {
        let (at, cpu) = (self.begin.elapsed().as_secs_f64(), self.processes.cpu());
        let mut written = self.written.lock();
        let (width, used) = ((at - written.at).max(f64::EPSILON), cpu.since(written.cpu));
        let cores = |time: Duration| rounded(time.as_secs_f64() / width);
        let now = self.run.recorder.now();
        let mut row = self.run.recorder.take_second(|tally| {
            let latency = tally.latencies.percentiles();
            Row {
                seconds: rounded(at),
                started: tally.started,
                logins: tally.logins,
                gave_up: tally.gave_up,
                failed: tally.failed(),
                waiting: now.waiting,
                open: now.open,
                closed: tally.closed,
                back: tally.back,
                p50_ms: latency.p50,
                p99_ms: latency.p99,
                max_ms: latency.max,
                bench_cpu: cores(used.bench),
                server_cpu: used.server.map(cores),
                service_cpu: used.service.map(cores),
            }
        });
        if let Some(held) = &self.held {
            row.open += held.recorder.now().open;
            let (closed, back) = held.recorder.take_second(|tally| (tally.closed, tally.back));
            row.closed += closed;
            row.back += back;
        }
        written.rows.push(row);
        (written.at, written.cpu) = (at, cpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_header_s_columns() {
        let row = Row { seconds: 1.0, started: 7, server_cpu: Some(0.5), ..Row::default() };
        let text = csv(&[row, row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], "1,7,0,0,0,0,0,0,0,0,0,0,0,0.5,");
        // The names are those of the document.
        let names = serde_json::to_value(row).unwrap();
        for name in lines[0].split(',') {
            assert!(names.get(name).is_some(), "{name}");
        }
        assert_eq!(lines[0].split(',').count(), names.as_object().unwrap().len());
    }
}
