//! A result beside an earlier one.

use serde_json::Value;

use super::result::{Measured, Settings, Shape};
use super::text::shown;

/// Latencies that differ by less are the same, in milliseconds.
const SAME: f64 = 1.0;

/// Of all attempts: so much more may have failed.
const FAILED: f64 = 0.001;

/// Why two results cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error("the earlier run was another one: its {name} is {then}, and this one's {now}")]
pub(super) struct Different {
    name: String,
    then: String,
    now: String,
}

/// One figure, then and now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    name: &'static str,
    then: String,
    now: String,
    pub(super) is_worse: bool,
}

impl Figure {
    pub(super) fn text(&self) -> String {
        let verdict = if self.is_worse { "worse" } else { "ok" };
        format!("{}: {} then, {} now: {verdict}", self.name, self.then, self.now)
    }
}

/// All figures that both have; `tolerance` is a share.
pub(super) fn figures(
    then: &Measured,
    now: &Measured,
    tolerance: f64,
) -> Result<Vec<Figure>, Different> {
    same_run(&then.settings, &now.settings)?;
    let mut figures = Vec::new();
    let mut rate = |name, then: f64, now: f64| {
        let is_worse = now < then * (1.0 - tolerance);
        let figure = |rate: f64| format!("{rate:.1}");
        figures.push(Figure { name, then: figure(then), now: figure(now), is_worse });
    };
    match (&then.limit, &now.limit) {
        (Some(then), Some(now)) => rate(
            "highest rate",
            then.logins_per_second.unwrap_or(0.0),
            now.logins_per_second.unwrap_or(0.0),
        ),
        _ => rate("logins/s", then.logins_per_second, now.logins_per_second),
    }
    // What a search measures at the rates that it has found is not the same load.
    if then.limit.is_none() {
        let (before, after) = (then.latency_ms, now.latency_ms);
        for (name, then, now) in [
            ("p50", before.p50, after.p50),
            ("p90", before.p90, after.p90),
            ("p99", before.p99, after.p99),
        ] {
            let is_worse = now > then * (1.0 + tolerance) && now > then + SAME;
            figures.push(Figure { name, then: shown(then), now: shown(now), is_worse });
        }
        let failed = |of: &Measured| of.failed as f64 / of.attempts.max(1) as f64;
        let figure = |share: f64| format!("{:.2} %", share * 100.0);
        let (before, after) = (failed(then), failed(now));
        let is_worse = after > before * (1.0 + tolerance) + FAILED;
        let (then, now) = (figure(before), figure(after));
        figures.push(Figure { name: "failed", then, now, is_worse });
    }
    if let (Some(before), Some(after)) = (&then.clients, &now.clients) {
        let count = |name, then: u64, now: u64, is_worse| Figure {
            name,
            then: then.to_string(),
            now: now.to_string(),
            is_worse,
        };
        let (then, now) = (before.not_in, after.not_in);
        let allowed = then as f64 * (1.0 + tolerance) + after.started as f64 * FAILED;
        figures.push(count("not in", then, now, now as f64 > allowed));
    }
    Ok(figures)
}

fn same_run(earlier: &Settings, later: &Settings) -> Result<(), Different> {
    let as_json = |settings| serde_json::to_value(settings).unwrap_or_default();
    let (then, now) = (as_json(earlier), as_json(later));
    let (Some(then), Some(now)) = (then.as_object(), now.as_object()) else { return Ok(()) };
    let differs =
        |(name, value): &(&String, &Value)| matters(later, name) && then.get(*name) != Some(*value);
    // What kind of run it was tells more than what follows from it.
    let load = now.iter().find(|it| it.0 == "load" && differs(it));
    match load.or_else(|| now.iter().find(differs)) {
        None => Ok(()),
        Some((name, value)) => Err(Different {
            name: name.clone(),
            then: said(then.get(name)),
            now: said(Some(value)),
        }),
    }
}

/// Whether a run of these settings depends on that one.
fn matters(settings: &Settings, name: &str) -> bool {
    match name {
        // Of a search, nobody tries twice; whoever is held does.
        "retry_seconds" => settings.load != Shape::Limit || settings.hold > 0,
        "give_up_seconds" => matches!(settings.load, Shape::Rate | Shape::Storm),
        "concurrency" => {
            let is_closed = settings.load == Shape::Closed;
            is_closed || settings.hold > 0 || settings.warm_up_seconds > 0.0
        }
        _ => true,
    }
}

/// An earlier program did not write all of them.
fn said(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(logins_per_second: f64, p99: f64, failed: u64) -> Measured {
        let document = serde_json::json!({
            "load": "closed", "mode": "config", "kind": "token", "transport": "nats",
            "concurrency": 100, "rate": null, "storm": null, "p99_ms": null, "hold": 0,
            "timeout_seconds": 5.0, "retry_seconds": 2.0, "give_up_seconds": 30.0,
            "warm_up_seconds": 0.0, "users": 10, "interrupted": false, "seconds": 10.0,
            "logins": 10_000, "failed": failed, "attempts": 10_000 + failed,
            "logins_per_second": logins_per_second, "connections_per_second": logins_per_second,
            "latency_ms": {"p50": 5.0, "p90": 8.0, "p99": p99, "p99_9": p99, "max": p99, "mean": 5.0},
            "errors": {}, "decisions": null, "bottleneck": {"who": "unknown", "why": ""},
            "cpu": {"bench_seconds": 1.0, "bench_ms_per_login": 0.1, "server_seconds": null,
                "service_seconds": null, "idle_seconds": null, "bench_share": null,
                "server_memory_mb": null, "service_memory_mb": null},
        });
        serde_json::from_value(document).unwrap()
    }

    fn worse(then: &Measured, now: &Measured) -> Vec<&'static str> {
        let figures = figures(then, now, 0.2).unwrap();
        figures.iter().filter(|it| it.is_worse).map(|it| it.name).collect()
    }

    #[test]
    fn what_is_worse_beyond_the_tolerance() {
        let then = measured(1_000.0, 20.0, 0);
        assert!(worse(&then, &then).is_empty());
        assert!(worse(&then, &measured(810.0, 23.9, 5)).is_empty());
        assert!(worse(&then, &measured(2_000.0, 1.0, 0)).is_empty());
        assert_eq!(worse(&then, &measured(790.0, 20.0, 0)), ["logins/s"]);
        assert_eq!(worse(&then, &measured(1_000.0, 24.1, 0)), ["p99"]);
        assert_eq!(worse(&then, &measured(1_000.0, 20.0, 100)), ["failed"]);
        // A fraction of a millisecond is nothing.
        assert!(worse(&measured(1_000.0, 0.5, 0), &measured(1_000.0, 0.9, 0)).is_empty());
    }

    #[test]
    fn other_runs_are_not_compared() {
        let then = measured(1_000.0, 20.0, 0);
        let mut now = then.clone();
        now.settings.hold = 500;
        let error = figures(&then, &now, 0.2).unwrap_err().to_string();
        assert!(error.contains("its hold is 0, and this one's 500"), "{error}");
        now.settings.load = Shape::Rate;
        let error = figures(&then, &now, 0.2).unwrap_err().to_string();
        assert!(error.contains("its load is \"closed\", and this one's \"rate\""), "{error}");
    }

    /// How two runs differ that are the same but for what `change` does.
    fn differ(then: &Measured, change: impl Fn(&mut Settings)) -> Option<String> {
        let mut now = then.clone();
        change(&mut now.settings);
        figures(then, &now, 0.2).err().map(|error| error.to_string())
    }

    #[test]
    fn who_logs_in_and_for_how_long_belongs_to_a_run() {
        let then = measured(1_000.0, 20.0, 0);
        for (name, error) in [
            ("users", differ(&then, |it| it.users = 500)),
            ("tenants", differ(&then, |it| it.tenants = Some(20))),
            ("isolation", differ(&then, |it| it.isolation = Some("account".to_owned()))),
            ("count", differ(&then, |it| it.count = Some(40))),
            ("duration_seconds", differ(&then, |it| it.duration_seconds = Some(60.0))),
        ] {
            assert!(error.as_ref().is_some_and(|it| it.contains(name)), "{name}: {error:?}");
        }
        let tenants = differ(&then, |it| it.tenants = Some(20)).unwrap();
        assert!(tenants.contains("its tenants is not given, and this one's 20"), "{tenants}");
    }

    #[test]
    fn what_a_run_does_not_use_may_differ() {
        let shaped = |load| {
            let mut then = measured(1_000.0, 20.0, 0);
            then.settings.load = load;
            then
        };
        let pause = |it: &mut Settings| it.retry_seconds = None;
        let patience = |it: &mut Settings| it.give_up_seconds = 60.0;
        let others = |it: &mut Settings| it.concurrency = 5;
        for (load, uses) in [
            (Shape::Closed, [true, false, true]),
            (Shape::Rate, [true, true, false]),
            (Shape::Storm, [true, true, false]),
            (Shape::Limit, [false, false, false]),
        ] {
            let then = shaped(load);
            let seen = [differ(&then, pause), differ(&then, patience), differ(&then, others)];
            assert_eq!(seen.map(|it| it.is_some()), uses, "{load:?}");
        }
        let mut held = shaped(Shape::Limit);
        held.settings.hold = 10;
        assert!(differ(&held, pause).is_some() && differ(&held, others).is_some());
    }
}
