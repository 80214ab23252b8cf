//! A run from its beginning to its document.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use super::args::{Load, Plan};
use super::bottleneck::Evidence;
use super::client::{Patience, Run, Target};
use super::closed;
use super::cost::{Cpu, Memory, Processes};
use super::decisions::{self, Decided};
use super::histogram::rounded;
use super::login::Endpoint;
use super::open::{self, Arrivals};
use super::progress::{self, Goal};
use super::result::{self, Clients, CpuUsed, Held, Late, Measured, Settings, Users};
use super::series::{Row, Series};
use super::storm::Crowd;

/// A deployment that is measured, and what can be seen of it from here.
pub(super) struct Subject {
    pub(super) target: Arc<Target>,
    users: Users,
    processes: Arc<Processes>,
    /// Where instances serve their metrics.
    metrics: Vec<String>,
    pub(super) stop: CancellationToken,
}

/// What is seen beside the clients, at a moment.
struct Glance {
    at: Instant,
    cpu: Cpu,
    decided: Option<Decided>,
    /// Clients that are in, and attempts that have failed.
    logins: u64,
    failed: u64,
}

/// A load that has ended, as far as it is in the figures.
pub(super) struct Ended {
    pub(super) run: Arc<Run>,
    before: Glance,
    after: Glance,
    rows: Vec<Row>,
}

impl Subject {
    pub(super) fn new(
        target: Target,
        users: Users,
        metrics: Vec<String>,
        stop: &CancellationToken,
    ) -> Self {
        let addresses: Vec<_> = target.endpoints.iter().map(|it| it.address).collect();
        let processes = Arc::new(Processes::behind(&addresses));
        Self { target: Arc::new(target), users, processes, metrics, stop: stop.clone() }
    }

    fn run(&self, patience: Patience) -> anyhow::Result<Arc<Run>> {
        Ok(Arc::new(Run::new(&self.target, patience)?))
    }

    /// At the beginning: asks first.
    async fn first_glance(&self) -> Glance {
        let decided = decisions::ask(&self.metrics).await;
        Glance { at: Instant::now(), cpu: self.processes.cpu(), decided, logins: 0, failed: 0 }
    }

    /// At the end: asks last.
    async fn last_glance(&self, run: &Run) -> Glance {
        let (at, cpu) = (Instant::now(), self.processes.cpu());
        let (logins, failed) = run.recorder.all(|tally| (tally.logins, tally.failed()));
        Glance { at, cpu, decided: decisions::ask(&self.metrics).await, logins, failed }
    }

    /// Logs in until users are known and caches are warm; nothing of it is counted.
    pub(super) async fn warm_up(&self, plan: &Plan) -> anyhow::Result<()> {
        if plan.warm_up.is_zero() {
            return Ok(());
        }
        let run = self.run(plan.patience)?;
        let ends = self.stop.child_token();
        let _shown = progress::start("warming up", &run, Goal::Time(plan.warm_up));
        tokio::join!(
            closed::log_in(&run, plan.concurrency, None, &ends),
            closed::end_after(plan.warm_up, &ends)
        );
        Ok(())
    }

    /// Connections that are open while others come.
    pub(super) async fn hold(&self, plan: &Plan) -> anyhow::Result<Option<Holding>> {
        if plan.hold == 0 {
            return Ok(None);
        }
        let run = self.run(plan.patience.of_held())?;
        let _shown = progress::start("connecting", &run, Goal::In(u64::from(plan.hold)));
        let (begin, before) = (Instant::now(), self.processes.memory());
        let crowd = Crowd::hold(&run, plan.hold, plan.concurrency, &self.stop).await?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Some(Holding {
            crowd,
            connections: plan.hold,
            seconds,
            before,
            after: self.processes.memory(),
            earlier: Fates::default(),
        }))
    }

    /// Makes the load of a plan that is no search.
    pub(super) async fn load(
        &self,
        plan: &Plan,
        holding: Option<&Holding>,
    ) -> anyhow::Result<Ended> {
        let run = self.run(plan.patience)?;
        let held = holding.map(|holding| &holding.crowd.run);
        let before = self.first_glance().await;
        let series = Series::begin(&run, held, &self.processes);
        // They stay until the last row is written.
        let mut stay = None;
        let after = match plan.load {
            Load::Closed(connections) => {
                let ends = self.stop.child_token();
                let goal = plan.count.map_or(Goal::Time(plan.duration), Goal::Count);
                let _shown = progress::start("measuring", &run, goal);
                let load = closed::log_in(&run, connections, plan.count, &ends);
                match plan.count {
                    Some(_) => load.await,
                    None => {
                        tokio::join!(load, closed::end_after(plan.duration, &ends));
                    }
                }
                self.last_glance(&run).await
            }
            Load::Rate(rate) => {
                let arrivals = match plan.count {
                    Some(count) => Arrivals { rate, count },
                    None => Arrivals::during(rate, plan.duration),
                };
                let _shown = progress::start("measuring", &run, Goal::Time(arrivals.time()));
                self.arrivals(&run, arrivals, &self.stop).await
            }
            Load::Storm(clients) => {
                let _shown = progress::start("storming", &run, Goal::In(u64::from(clients)));
                stay = Some(Crowd::storm(&run, clients, &self.stop).await);
                self.last_glance(&run).await
            }
            Load::Limit(_) => bail!("a search is no load"),
        };
        let rows = series.end().await;
        if let Some(crowd) = stay {
            crowd.leave().await;
        }
        Ok(Ended { run, before, after, rows })
    }

    /// Has clients come until `no_more`, and waits for those that have; what is seen is that of the
    /// end of their coming.
    async fn arrivals(
        &self,
        run: &Arc<Run>,
        arrivals: Arrivals,
        no_more: &CancellationToken,
    ) -> Glance {
        let clients = open::come(run, arrivals, no_more, &self.stop).await;
        let after = self.last_glance(run).await;
        clients.wait().await;
        after
    }

    /// Clients at a rate that all are to be in at the first try. Ends early, once `is_enough`.
    pub(super) async fn try_rate(
        &self,
        arrivals: Arrivals,
        timeout: Duration,
        is_enough: impl Fn(&Run) -> bool,
    ) -> anyhow::Result<Ended> {
        const LOOK: Duration = Duration::from_millis(50);
        let run = self.run(Patience { timeout, retry: None, give_up: timeout })?;
        let no_more = self.stop.child_token();
        let before = self.first_glance().await;
        let series = Series::begin(&run, None, &self.processes);
        let watch = async {
            while !no_more.is_cancelled() {
                if is_enough(&run) {
                    no_more.cancel();
                }
                let _ = no_more.run_until_cancelled(tokio::time::sleep(LOOK)).await;
            }
        };
        let load = async {
            let after = self.arrivals(&run, arrivals, &no_more).await;
            no_more.cancel();
            after
        };
        let (after, ()) = tokio::join!(load, watch);
        Ok(Ended { run, before, after, rows: series.end().await })
    }

    /// The document of a load.
    pub(super) fn document(&self, plan: &Plan, ended: Ended, held: Option<Held>) -> Measured {
        let evidence = ended.evidence();
        let Ended { run, rows, .. } = ended;
        let transport = run.target.endpoints.first().map_or("", Endpoint::scheme);
        run.recorder.all(|tally| {
            let seconds = evidence.elapsed.as_secs_f64();
            // Clients still try after that: rates are of what was tried until then.
            let tried = evidence.logins + evidence.failed;
            let failed = tally.failed();
            let per_second = |count: u64| {
                if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 }
            };
            let clients = (!matches!(plan.load, Load::Closed(_))).then(|| {
                let late = tally.late.percentiles();
                let latest = tally.latencies.percentiles().max;
                let is_complete = tally.logins == tally.started;
                let is_storm = matches!(plan.load, Load::Storm(_));
                Clients {
                    started: tally.started,
                    first_try: tally.first_try,
                    later: tally.logins - tally.first_try,
                    not_in: tally.started - tally.logins,
                    late_ms: Late { p99: late.p99, max: late.max },
                    all_in_seconds: (is_storm && is_complete).then(|| rounded(latest / 1e3)),
                }
            });
            let memory = self.processes.memory();
            Measured {
                settings: Settings::of(plan, self.users, run.target.credentials.len(), transport),
                interrupted: self.stop.is_cancelled(),
                seconds: rounded(seconds),
                logins: tally.logins,
                failed,
                attempts: tally.logins + failed,
                logins_per_second: per_second(evidence.logins),
                connections_per_second: per_second(tried),
                latency_ms: tally.latencies.percentiles(),
                errors: result::errors(tally),
                clients,
                limit: None,
                held,
                cpu: CpuUsed::new(evidence.cpu, memory, tried),
                decisions: evidence.decided.map(Into::into),
                bottleneck: evidence.judge(),
                series: rows,
            }
        })
    }
}

impl Ended {
    fn evidence(&self) -> Evidence {
        let (before, after) = (&self.before, &self.after);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let decided = after.decided.zip(before.decided);
        self.run.recorder.all(|tally| Evidence {
            elapsed: after.at.saturating_duration_since(before.at),
            cores: cores as f64,
            cpu: after.cpu.since(before.cpu),
            decided: decided.and_then(|(after, before)| after.since(before)),
            latency: Duration::from_secs_f64(tally.latencies.percentiles().mean / 1e3),
            late: tally.late.percentile(0.99),
            logins: after.logins - before.logins,
            failed: after.failed - before.failed,
        })
    }

    pub(super) fn judge(&self) -> super::bottleneck::Bottleneck {
        self.evidence().judge()
    }
}

/// Connections that are held.
pub(super) struct Holding {
    crowd: Crowd,
    connections: u32,
    seconds: f64,
    before: Memory,
    after: Memory,
    /// What had become of them before others were measured.
    earlier: Fates,
}

/// What has become of those who are held.
#[derive(Debug, Clone, Copy, Default)]
struct Fates {
    closed: u64,
    back: u64,
    failed: u64,
}

impl Fates {
    fn of(run: &Run) -> Self {
        run.recorder.all(|tally| Self {
            closed: tally.closed,
            back: tally.back,
            failed: tally.failed(),
        })
    }
}

impl Holding {
    /// Others are measured from now on.
    pub(super) fn begin(&mut self) {
        self.earlier = Fates::of(&self.crowd.run);
    }

    /// Lets them go, and says what became of them.
    pub(super) async fn end(self) -> Held {
        let run = Arc::clone(&self.crowd.run);
        self.crowd.leave().await;
        let (before, after) = (self.before, self.after);
        let each = |before, after| Held::kb_each(before, after, self.connections);
        let (earlier, fates) = (self.earlier, Fates::of(&run));
        Held {
            connections: self.connections,
            seconds: rounded(self.seconds),
            closed: fates.closed - earlier.closed,
            back: fates.back - earlier.back,
            failed: fates.failed - earlier.failed,
            server_kb_each: each(before.server, after.server),
            service_kb_each: each(before.service, after.service),
        }
    }
}
