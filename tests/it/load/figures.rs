//! The tables and charts of docs/figures: `cargo bench --bench load -- figures [DIR]`, out of `nats-callout bench
//! suite` on a deployment of each mode and, where it has run, of `cargo bench --bench authorize`.

use std::path::PathBuf;

use super::contenders::progress;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::service;
use crate::harness::target_dir;

/// Tables and charts of how fast it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where they go
    #[arg(default_value = "docs/figures")]
    folder: PathBuf,
    /// How long each measurement lasts, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Clients of each storm
    #[arg(long, default_value = "1000,4000")]
    storms: String,
    /// Connections whose memory is measured
    #[arg(long, default_value_t = 5_000)]
    hold: u64,
}

pub(crate) fn run(args: &Args) {
    let (results, here) =
        (target_dir().join("figures"), std::env::current_dir().expect("a folder"));
    let _ = std::fs::remove_dir_all(&results);
    std::fs::create_dir_all(&results).expect("a folder for results");
    std::fs::create_dir_all(&args.folder).expect("a folder");
    let (time, hold) = (args.seconds.to_string(), args.hold.to_string());
    let mut report = vec!["bench".to_owned(), "report".to_owned()];
    for mode in [Mode::Config, Mode::Operator] {
        progress(&format!("{mode:?} mode"));
        let folder = results.join(mode.name()).display().to_string();
        let deployment = Deployment::start(mode);
        let suite =
            ["bench", "suite", &folder, "--metrics", deployment.http(), "--duration", &time];
        let sizes = ["--storms", &args.storms, "--hold", &hold];
        deployment.cli(&[&suite[..], &sizes].concat()).success();
        report.push(folder);
    }
    report.extend(["--into".to_owned(), args.folder.display().to_string()]);
    let criterion = target_dir().join("criterion");
    if criterion.is_dir() {
        report.extend(["--criterion".to_owned(), criterion.display().to_string()]);
    }
    let report: Vec<&str> = report.iter().map(String::as_str).collect();
    print!("{}", service::cli(&here, &report).success().stdout);
}
