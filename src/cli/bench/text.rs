//! A result for people.

use strum::IntoEnumIterator as _;

use super::failure::Failure;
use super::result::{Held, Limit, Measured, Shape};

/// With what the bench was late that is worth a line, in milliseconds.
const LATE: f64 = 5.0;

/// The lines of a finished run.
pub(super) fn text(measured: &Measured) -> String {
    let mut lines = vec![headline(measured), String::new()];
    if let Some(limit) = &measured.limit {
        lines.extend(steps(limit));
    }
    if measured.logins > 0 {
        let latency = measured.latency_ms;
        lines.push(format!(
            "latency  p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
            shown(latency.p50),
            shown(latency.p90),
            shown(latency.p99),
            shown(latency.p99_9),
            shown(latency.max)
        ));
    }
    if let Some(clients) = &measured.clients {
        lines.push(format!(
            "clients  {}: {} in at the first try, {} at a later one, {} not in",
            clients.started, clients.first_try, clients.later, clients.not_in
        ));
        if clients.late_ms.p99 > LATE {
            let late = shown(clients.late_ms.p99);
            lines.push(format!("         the bench was late with starting them, p99 {late}"));
        }
    }
    lines.push(format!("failed   {}", measured.failed));
    for (code, count) in &measured.errors {
        let meaning = Failure::iter().find(|it| it.code() == code).map_or("", Failure::meaning);
        lines.push(format!("         {count} {code}: {meaning}"));
    }
    if let Some(held) = &measured.held {
        lines.push(self::held(held));
    }
    lines.push(cost(measured));
    lines.push(format!("bottleneck  {}", measured.bottleneck.text()));
    lines.join("\n")
}

fn headline(measured: &Measured) -> String {
    let settings = &measured.settings;
    let who = format!("{} users by {}", settings.users, <&str>::from(settings.kind));
    let end = if measured.interrupted { " (interrupted)" } else { "" };
    let (rate, logins, seconds) = (measured.logins_per_second, measured.logins, measured.seconds);
    match settings.load {
        Shape::Closed => {
            let at_once = settings.concurrency;
            format!(
                "{rate:.1} logins/s: {logins} logins in {seconds:.2} s, {at_once} at once, {who}{end}"
            )
        }
        Shape::Rate => {
            let offered = settings.rate.unwrap_or_default();
            format!(
                "{rate:.1} logins/s of {offered} offered for {seconds:.2} s: {logins} logins in all, \
                 {who}{end}"
            )
        }
        Shape::Limit => {
            let bound = shown(settings.p99_ms.unwrap_or_default());
            match measured.limit.as_ref().and_then(|limit| limit.logins_per_second) {
                Some(limit) => {
                    format!("{limit:.0} logins/s with p99 below {bound} and no failure, {who}{end}")
                }
                None => format!("no rate has p99 below {bound} and no failure, {who}{end}"),
            }
        }
        Shape::Storm => {
            let clients = settings.storm.unwrap_or_default();
            match measured.clients.as_ref().and_then(|clients| clients.all_in_seconds) {
                Some(seconds) => {
                    format!("all {clients} clients in after {seconds:.2} s, {who}{end}")
                }
                None => {
                    format!("{logins} of {clients} clients in after {seconds:.2} s, {who}{end}")
                }
            }
        }
    }
}

fn steps(limit: &Limit) -> Vec<String> {
    let line = |step: &super::result::Step| {
        let verdict = if step.passed { "" } else { ": too much" };
        let (rate, p99) = (step.rate, shown(step.p99_ms));
        format!("         {rate:.0}/s: p99 {p99}, {} failed{verdict}", step.failed)
    };
    let mut lines = vec!["tried".to_owned()];
    lines.extend(limit.steps.iter().map(line));
    lines
}

fn held(held: &Held) -> String {
    let mut line = format!(
        "held     {} connections, all in after {:.2} s; {} were closed, {} of them came back",
        held.connections, held.seconds, held.closed, held.back
    );
    for (name, each) in
        [("nats-server", held.server_kb_each), ("nats-callout", held.service_kb_each)]
    {
        if let Some(each) = each {
            line.push_str(&format!("; {name} {each:.1} KB each"));
        }
    }
    line
}

fn cost(measured: &Measured) -> String {
    let cpu = measured.cpu;
    let mut cost = format!(
        "cost     the bench itself used {:.2} s of CPU, {:.3} ms a login",
        cpu.bench_seconds, cpu.bench_ms_per_login
    );
    for (name, cpu) in [("nats-server", cpu.server_seconds), ("nats-callout", cpu.service_seconds)]
    {
        if let Some(cpu) = cpu {
            cost.push_str(&format!("; {name} {cpu:.2} s"));
        }
    }
    if let Some(share) = cpu.bench_share {
        cost.push_str(&format!(": {:.0} % of the whole is the bench's", share * 100.0));
    }
    cost
}

/// Milliseconds.
pub(super) fn shown(millis: f64) -> String {
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
