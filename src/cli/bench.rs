//! `bench`: measures how a running deployment logs clients in, with real connections over the bare
//! protocol. docs/bench.md has the whole of it: the loads, the document, and the modules.

mod args;
mod bottleneck;
mod client;
mod closed;
mod compare;
mod cost;
mod credential;
mod decision_bench;
mod decisions;
mod failure;
mod histogram;
mod limit;
mod login;
mod measure;
mod mqtt;
mod open;
mod progress;
mod record;
mod report;
mod result;
mod series;
mod storm;
mod stream;
mod suite;
mod svg;
mod target;
mod text;
mod users;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use self::args::{HOW_TO_READ, Load, LoadArgs, PlaceArgs, Plan, ResultArgs, WhoArgs};
use self::client::Target;
use self::credential::Credential;
use self::login::{Endpoint, Protocol};
use self::measure::Subject;
use self::report::ReportArgs;
use self::result::{Measured, Users};
use self::suite::{Measurement, SuiteArgs};
use self::users::Temporary;
use super::output::{Output, note};
use super::{Context, Usage, load, up};
use crate::admin::endpoint::reachable;
use crate::config::{Config, Files, Mode, NatsTls};
use crate::store::Limits;

/// Measures how fast clients are logged in
#[derive(Debug, Args)]
#[command(after_help = HOW_TO_READ, args_conflicts_with_subcommands = true)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure everything that `bench report` draws; it takes some minutes
    Suite(SuiteArgs),
    /// Draw tables (Markdown) and charts (SVG) from what `bench suite` has measured
    Report(ReportArgs),
}

pub(super) async fn run(args: &BenchArgs, file: &Path, output: Output) -> anyhow::Result<()> {
    match &args.command {
        Some(BenchCommand::Report(report)) => report::run(report, output),
        Some(BenchCommand::Suite(suite)) => all(suite, file, output).await,
        None => one(args, file, output).await,
    }
}

async fn one(args: &BenchArgs, file: &Path, output: Output) -> anyhow::Result<()> {
    args.who.check()?;
    let plan = args.load.plan();
    let earlier = args.result.compare.as_deref().map(read).transpose()?;
    let stop = up::stop_on_signal()?;
    let measured = measured(&args.who, &plan, file, output, &stop).await?;
    write(&args.result, &measured)?;
    output.print(&serde_json::to_value(&measured)?, || text::text(&measured))?;
    some_login(&measured)?;
    earlier.map_or(Ok(()), |earlier| compare(&earlier, &measured, args.result.tolerance))
}

/// The measurements of a suite, one after the other.
async fn all(suite: &SuiteArgs, file: &Path, output: Output) -> anyhow::Result<()> {
    std::fs::create_dir_all(&suite.folder)
        .with_context(|| format!("cannot make {}", suite.folder.display()))?;
    let stop = up::stop_on_signal()?;
    let mut files = Vec::new();
    let mut measure = async |measurement: Measurement| {
        note(&measurement.name);
        let who = suite.who(&measurement);
        let measured = measured(&who, &measurement.plan, file, output, &stop).await?;
        if measured.interrupted {
            bail!("interrupted");
        }
        let file = measurement.file(&suite.folder);
        save(&file, &measured)?;
        some_login(&measured).with_context(|| format!("{} says nothing", file.display()))?;
        files.push(file);
        Ok(measured)
    };
    let mut peak: f64 = 1.0;
    for measurement in suite.unloaded() {
        let is_most = measurement.is_peak_of_tokens();
        let measured = measure(measurement).await?;
        if is_most {
            peak = peak.max(measured.logins_per_second);
        }
    }
    for measurement in suite.loaded(peak) {
        measure(measurement).await?;
    }
    let folder = suite.folder.display();
    output.print(&serde_json::json!({ "files": files }), || {
        format!(
            "{} results in {folder}; `nats-callout bench report {folder}` draws them",
            files.len()
        )
    })
}

fn some_login(measured: &Measured) -> anyhow::Result<()> {
    if measured.logins == 0 {
        bail!("not one login succeeded; see `failed`, and `nats-callout doctor`");
    }
    Ok(())
}

async fn measured(
    who: &WhoArgs,
    plan: &Plan,
    file: &Path,
    output: Output,
    stop: &CancellationToken,
) -> anyhow::Result<Measured> {
    // Another machine than the deployment's has neither its configuration nor its table.
    let config = match (&who.place.url, &who.users) {
        (Some(_), Some(_)) => None,
        _ => Some(load(file, Files::Unchecked)?),
    };
    let urls = match (&who.place.url, &config) {
        (Some(url), _) => std::slice::from_ref(url),
        (None, Some(config)) => config.nats.urls.as_slice(),
        (None, None) => &[],
    };
    let tls = tls(&who.place, config.as_ref());
    let endpoints = target::endpoints(urls, &tls).await?;
    target::suit(&endpoints, who.kind, who.users.is_some())?;
    target::allow_files(plan.connections())?;
    with_users(who, plan, endpoints, tls.ca, config, output, stop).await
}

/// How TLS is spoken with the servers.
fn tls(place: &PlaceArgs, config: Option<&Config>) -> NatsTls {
    let known = config.map(|config| config.nats.tls.clone());
    let mut tls = known.unwrap_or(NatsTls { ca: None, identity: None });
    tls.ca = place.tls_ca.clone().or(tls.ca);
    tls
}

/// Reads the users or makes them, measures, and removes those that were made, whatever happens.
async fn with_users(
    who: &WhoArgs,
    plan: &Plan,
    endpoints: Vec<Endpoint>,
    ca: Option<PathBuf>,
    config: Option<Config>,
    output: Output,
    stop: &CancellationToken,
) -> anyhow::Result<Measured> {
    let mode = config.as_ref().map(|config| match config.mode {
        Mode::Operator(_) => "operator",
        Mode::Config(_) => "config",
    });
    let mut metrics = who.place.metrics.clone();
    if metrics.is_empty() {
        let listen = config.as_ref().and_then(|config| config.http_listen);
        metrics.extend(listen.map(|listen| reachable(listen).to_string()));
    }
    let makes = config.as_ref().filter(|_| who.users.is_none());
    let known = Users {
        kind: who.kind,
        mode,
        tenants: makes.map(|_| who.tenants),
        isolation: makes.map(|config| who.isolation.unwrap_or(config.isolation).as_str()),
    };
    let has_mqtt = endpoints.iter().any(|it| it.protocol == Protocol::Mqtt);
    let run = async |credentials: Vec<Credential>| {
        let patient = |it: Credential| it.with_patience(plan.patience.timeout);
        let target = Target::new(endpoints, credentials.into_iter().map(patient).collect());
        measure_all(plan, &Subject::new(target, known, metrics, stop)).await
    };
    let (None, Some(config)) = (&who.users, config) else {
        let Some(file) = &who.users else {
            bail!(Usage("name the users with --users".to_owned()));
        };
        return run(users::read(file, who.kind, ca)?).await;
    };
    let context = Context::open(config, output).await?;
    let mut temporary = Temporary::new(&context, plan.time());
    let users = who.create.unwrap_or(10.max(who.tenants));
    let limits = if has_mqtt { users::room_for_sessions() } else { Limits::default() };
    let filled = match temporary.make(&context, who.tenants, who.isolation, limits, stop).await {
        Ok(()) => tokio::select! {
            filled = temporary.fill(&context, who.kind, users) => filled,
            () = stop.cancelled() => Err(anyhow!("interrupted before it began")),
        },
        Err(error) => Err(error),
    };
    let measured = match filled {
        Ok(credentials) => run(credentials).await,
        Err(error) => Err(error),
    };
    temporary.remove(&context).await;
    measured
}

async fn measure_all(plan: &Plan, subject: &Subject) -> anyhow::Result<Measured> {
    let mut holding = subject.hold(plan).await?;
    subject.warm_up(plan).await?;
    if let Some(holding) = &mut holding {
        holding.begin();
    }
    let mut measured = match plan.load {
        Load::Limit(bound) => limit::find(subject, plan, bound).await?,
        _ => {
            let ended = subject.load(plan, holding.as_ref()).await?;
            subject.document(plan, ended, None)
        }
    };
    if let Some(holding) = holding {
        measured.held = Some(holding.end().await);
    }
    Ok(measured)
}

fn write(args: &ResultArgs, measured: &Measured) -> anyhow::Result<()> {
    if let Some(file) = &args.csv {
        std::fs::write(file, series::csv(&measured.series))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    args.save.as_ref().map_or(Ok(()), |file| save(file, measured))
}

fn save(file: &Path, measured: &Measured) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_string_pretty(measured)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))
}

/// An earlier result, of a run that went on to its end.
fn read(file: &Path) -> anyhow::Result<Measured> {
    let unusable =
        |what: String| Usage(format!("cannot use the result {}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
    let measured: Measured =
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    if measured.interrupted {
        bail!(unusable("that run was interrupted".to_owned()));
    }
    Ok(measured)
}

/// Says how two results differ; an error where the later one is worse.
fn compare(earlier: &Measured, measured: &Measured, tolerance: u32) -> anyhow::Result<()> {
    if measured.interrupted {
        bail!("this run was interrupted, and is not compared");
    }
    let figures = compare::figures(earlier, measured, f64::from(tolerance) / 100.0)
        .map_err(|different| Usage(different.to_string()))?;
    for figure in &figures {
        note(&figure.text());
    }
    match figures.iter().filter(|figure| figure.is_worse).count() {
        0 => Ok(()),
        worse => bail!("{worse} figures are worse than before, by more than {tolerance} %"),
    }
}
