//! `bench report`: tables and charts of what `bench suite` has measured, of one deployment or of
//! several beside each other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::super::Usage;
use super::super::output::Output;
use super::decision_bench;
use super::result::Measured;
use super::svg::{self, Line, Titles};
use super::text::shown;

/// Draws tables and charts from what `bench suite` has measured
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders that `bench suite` has filled
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Where report.md and the charts go [default: the first DIR]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Results of `cargo bench --bench authorize`: target/criterion
    #[arg(long, value_name = "DIR")]
    criterion: Option<PathBuf>,
}

/// A result of a suite.
pub(super) struct Entry {
    /// What it is about, and which of its kind: the name of its file.
    pub(super) part: String,
    pub(super) which: String,
    /// Which deployment: its mode, or its folder.
    pub(super) deployment: String,
    pub(super) measured: Measured,
}

/// Text and charts.
#[derive(Debug, Default)]
struct Page {
    text: String,
    charts: Vec<(&'static str, String)>,
}

impl Page {
    fn table(&mut self, title: &str, header: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(self.text, "## {title}\n\n| {} |", header.join(" | "));
        let rule: Vec<&str> =
            (0..header.len()).map(|column| if column < 2 { "---" } else { "---:" }).collect();
        let _ = writeln!(self.text, "|{}|", rule.join("|"));
        for row in rows {
            let _ = writeln!(self.text, "| {} |", row.join(" | "));
        }
        self.text.push('\n');
    }

    fn chart(&mut self, file: &'static str, title: &str, svg: String) {
        let _ = writeln!(self.text, "![{title}]({file})\n");
        self.charts.push((file, svg));
    }
}

pub(super) fn run(args: &ReportArgs, output: Output) -> anyhow::Result<()> {
    let mut entries = Vec::new();
    for folder in &args.folders {
        entries.extend(read(folder)?);
    }
    if entries.is_empty() {
        bail!(Usage(
            "there are no results; make some with `nats-callout bench suite DIR`".to_owned()
        ));
    }
    let mut page = draw(&entries);
    if let Some(folder) = &args.criterion {
        let rows = decision_bench::rows(folder)?;
        page.table("One decision in process", &["", "", "decision", "floor", "ratio"], &rows);
    }
    let into = args.into.as_ref().or(args.folders.first()).context("a folder")?;
    let mut files = vec![into.join("report.md")];
    write(&into.join("report.md"), &page.text)?;
    for (name, svg) in &page.charts {
        write(&into.join(name), svg)?;
        files.push(into.join(name));
    }
    output.show(&json!({ "files": files }), || page.text.trim_end().to_owned())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// All results of a folder, in the order of their names.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let unusable =
        |file: &Path, what: String| Usage(format!("cannot use {}: {what}", file.display()));
    let listed = std::fs::read_dir(folder).map_err(|error| unusable(folder, error.to_string()))?;
    let mut files: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|it| unusable(&file, it.to_string()))?;
        let measured: Measured =
            serde_json::from_str(&text).map_err(|it| unusable(&file, it.to_string()))?;
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (part, which) = stem.split_once('-').unwrap_or((stem, ""));
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        entries.push(Entry {
            part: part.to_owned(),
            which: which.to_owned(),
            deployment: measured.settings.mode.clone().unwrap_or_else(|| name.to_owned()),
            measured,
        });
    }
    Ok(entries)
}

fn draw(entries: &[Entry]) -> Page {
    let of = |part: &'static str| entries.iter().filter(move |entry| entry.part == part);
    let mut page = Page::default();
    let rows: Vec<_> = of("calm").map(|calm| end_to_end(calm, entries)).collect();
    page.table(
        "Logins, by credential",
        &["mode", "credential", "p50", "p99", "at once: logins/s", "p50", "p99"],
        &rows,
    );
    let rows: Vec<_> = of("first").chain(of("unknown")).map(first).collect();
    page.table("First logins", &["mode", "of", "logins/s", "p50", "p99", "failed"], &rows);
    let rows: Vec<_> = of("limit").map(limit).collect();
    page.table(
        "The highest rate without a failure",
        &["mode", "credential", "p99 below", "logins/s", "bottleneck"],
        &rows,
    );
    overload(&mut page, &of("overload").collect::<Vec<_>>());
    storm(&mut page, &of("storm").collect::<Vec<_>>());
    cpu(&mut page, &of("peak").collect::<Vec<_>>());
    let rows: Vec<_> = of("hold").filter_map(held).collect();
    page.table(
        "Memory of connections that are held",
        &["mode", "", "connections", "nats-server, each", "nats-callout, each", "closed"],
        &rows,
    );
    page
}

fn end_to_end(calm: &Entry, entries: &[Entry]) -> Vec<String> {
    let same = |entry: &&Entry| {
        entry.part == "peak" && entry.which == calm.which && entry.deployment == calm.deployment
    };
    let latency = calm.measured.latency_ms;
    let mut row =
        vec![calm.deployment.clone(), calm.which.clone(), shown(latency.p50), shown(latency.p99)];
    row.extend(match entries.iter().find(same) {
        None => [const { String::new() }; 3],
        Some(Entry { measured: peak, .. }) => [
            format!("{:.0}", peak.logins_per_second),
            shown(peak.latency_ms.p50),
            shown(peak.latency_ms.p99),
        ],
    });
    row
}

fn first(entry: &Entry) -> Vec<String> {
    let measured = &entry.measured;
    vec![
        entry.deployment.clone(),
        entry.which.replace('-', " "),
        format!("{:.0}", measured.logins_per_second),
        shown(measured.latency_ms.p50),
        shown(measured.latency_ms.p99),
        measured.failed.to_string(),
    ]
}

fn limit(entry: &Entry) -> Vec<String> {
    let measured = &entry.measured;
    let found = measured.limit.as_ref().and_then(|limit| limit.logins_per_second);
    vec![
        entry.deployment.clone(),
        entry.which.clone(),
        shown(measured.settings.p99_ms.unwrap_or_default()),
        found.map_or_else(|| "none".to_owned(), |rate| format!("{rate:.0}")),
        measured.bottleneck.word(),
    ]
}

/// The entries of each deployment, by a number.
fn by_deployment<'a>(
    entries: &[&'a Entry],
    number: impl Fn(&Measured) -> f64,
) -> Vec<(&'a str, Vec<(f64, &'a Measured)>)> {
    let mut groups: Vec<(&str, Vec<(f64, &Measured)>)> = Vec::new();
    for entry in entries {
        let point = (number(&entry.measured), &entry.measured);
        match groups.iter_mut().find(|(name, _)| *name == entry.deployment) {
            Some((_, points)) => points.push(point),
            None => groups.push((&entry.deployment, vec![point])),
        }
    }
    for (_, points) in &mut groups {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    groups
}

fn overload(page: &mut Page, entries: &[&Entry]) {
    let groups = by_deployment(entries, |measured| measured.settings.rate.unwrap_or_default());
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for (deployment, points) in &groups {
        for (rate, measured) in points {
            let clients = measured.clients.as_ref();
            rows.push(vec![
                (*deployment).to_owned(),
                measured.bottleneck.word(),
                format!("{rate:.0}"),
                format!("{:.0}", measured.logins_per_second),
                shown(measured.latency_ms.p50),
                shown(measured.latency_ms.p99),
                clients.map_or_else(String::new, |clients| clients.not_in.to_string()),
            ]);
        }
        let points = points.iter().map(|(rate, it)| (*rate, it.logins_per_second));
        lines.push(Line { name: (*deployment).to_owned(), points: points.collect() });
    }
    page.table(
        "More clients than there is room for",
        &["mode", "bottleneck", "offered/s", "in/s", "p50", "p99", "not in"],
        &rows,
    );
    if !lines.is_empty() {
        let title = "Clients that get in, by those that come";
        let titles = Titles { title, x: "clients a second that come", y: "logins a second" };
        page.chart("overload.svg", title, svg::lines(titles, &lines));
    }
}

fn storm(page: &mut Page, entries: &[&Entry]) {
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for (deployment, points) in
        by_deployment(entries, |measured| f64::from(measured.settings.storm.unwrap_or_default()))
    {
        for (clients, measured) in points {
            let Some(became) = &measured.clients else { continue };
            let patience = measured.settings.timeout_seconds;
            rows.push(vec![
                deployment.to_owned(),
                format!("{patience} s"),
                format!("{clients:.0}"),
                became.first_try.to_string(),
                shown(measured.latency_ms.p50),
                became.all_in_seconds.map_or_else(|| "never".to_owned(), |it| format!("{it:.1} s")),
                became.not_in.to_string(),
            ]);
            let mut inside = 0.0;
            let points = measured.series.iter().map(|row| {
                inside += row.logins as f64;
                (row.seconds, inside)
            });
            let points: Vec<_> = std::iter::once((0.0, 0.0)).chain(points).collect();
            lines.push(Line { name: format!("{deployment}, {clients:.0}, {patience} s"), points });
        }
    }
    page.table(
        "Clients that come at once",
        &["mode", "patience", "clients", "in at the first try", "half in", "all in", "not in"],
        &rows,
    );
    if !lines.is_empty() {
        let title = "Clients that came at once, and are in";
        let titles = Titles { title, x: "seconds", y: "clients" };
        page.chart("storm.svg", title, svg::lines(titles, &lines));
    }
}

fn cpu(page: &mut Page, entries: &[&Entry]) {
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for entry in entries {
        let cpu = entry.measured.cpu;
        let (Some(server), Some(service)) = (cpu.server_seconds, cpu.service_seconds) else {
            continue;
        };
        let each = [server, service, cpu.bench_seconds]
            .map(|seconds| seconds * 1e3 / entry.measured.attempts.max(1) as f64);
        let mut row = vec![entry.deployment.clone(), entry.which.clone()];
        row.extend(each.iter().map(|millis| format!("{millis:.3} ms")));
        rows.push(row);
        bars.push((format!("{}, {}", entry.deployment, entry.which), each.to_vec()));
    }
    let parts = ["nats-server", "nats-callout", "bench"];
    page.table("CPU time of a login", &[&["mode", "credential"], &parts[..]].concat(), &rows);
    if !bars.is_empty() {
        let title = "CPU time of a login, by process";
        let titles = Titles { title, x: "", y: "milliseconds" };
        page.chart("cpu.svg", title, svg::bars(titles, &parts, &bars));
    }
}

fn held(entry: &Entry) -> Option<Vec<String>> {
    let held = entry.measured.held.as_ref()?;
    let each = |kb: Option<f64>| kb.map_or_else(String::new, |kb| format!("{kb:.1} KB"));
    Some(vec![
        entry.deployment.clone(),
        String::new(),
        held.connections.to_string(),
        each(held.server_kb_each),
        each(held.service_kb_each),
        held.closed.to_string(),
    ])
}
