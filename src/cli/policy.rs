//! `policy`: checks the files of policies, runs their test tables, and explains what a user gets.

mod check;
mod explain;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::explain::ExplainArgs;
use super::output::{Output, note};
use super::{Context, Usage, load, warned};
use crate::config::{self, Config, ConfigError, DEFAULT_FILE, Files};
use crate::deployment::policies::handed;
use crate::policy::rules::{NoPolicies, PolicyError};
use crate::policy::table::{self, Issuers, Report};
use crate::problem::{Origin, Problem};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Read all policies, and report every mistake with its file, line and remedy
    Check(FolderArgs),
    /// Run the test tables `<name>.test.toml` beside the policies
    Test(FolderArgs),
    /// Show what a user would be granted and by which lines, or which line refuses it
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(super) struct FolderArgs {
    /// The folder of policies [default: the configured one, else the policies that are built in]
    folder: Option<PathBuf>,
}

pub(super) async fn run(command: PolicyCommand, file: &Path, output: Output) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Check(args) => check::run(&args.resolve(file)?, output),
        PolicyCommand::Test(args) => test::run(&args.resolve(file)?, output),
        PolicyCommand::Explain(args) => {
            let config = load(file, Files::Unchecked)?;
            explain::run(&args, &Context::open(config, output).await?).await
        }
    }
}

/// Which policies are meant.
struct Meant {
    /// Their folder; those that are built in have none.
    folder: Option<PathBuf>,
    /// The configuration that says so, which may name some of them.
    config: Option<Config>,
}

impl Meant {
    /// Runs their test tables.
    fn run_tables(&self) -> Result<Report, PolicyError> {
        let handed = self.config.as_ref().map(handed);
        table::run(self.folder.as_deref(), handed.as_ref().map(|it| it as Issuers<'_>))
    }
}

impl FolderArgs {
    fn resolve(&self, file: &Path) -> anyhow::Result<Meant> {
        if let Some(folder) = &self.folder {
            if !folder.is_dir() {
                let what =
                    format!("{} is no folder; name the folder of policies", folder.display());
                return Err(Usage(what).into());
            }
            return Ok(Meant { folder: Some(folder.clone()), config: None });
        }
        match Config::load(file, Files::Unchecked) {
            Ok(loaded) => {
                let config = warned(loaded);
                Ok(Meant { folder: config.policies.clone(), config: Some(config) })
            }
            // Nobody named a configuration, and the built-in policies need none.
            Err(config::Error(ConfigError::Unreadable { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound
                    && file == Path::new(DEFAULT_FILE) =>
            {
                note("there is no configuration here: these are the policies that are built in");
                Ok(Meant { folder: None, config: None })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Reports policies that cannot be used, on stdout too where JSON is asked for.
fn broken(error: PolicyError, output: Output) -> anyhow::Error {
    let problems = match &error.0 {
        NoPolicies::Invalid(problems) => problems.iter().map(problem_json).collect(),
        NoPolicies::Unreadable { path, source } => {
            vec![json!({ "file": path, "what": source.to_string() })]
        }
    };
    let json = json!({ "sound": false, "problems": Value::Array(problems) });
    match output.print_json(&json) {
        Ok(()) => Usage(error.to_string()).into(),
        Err(error) => error,
    }
}

fn problem_json(problem: &Problem) -> Value {
    let (file, line) = place(&problem.at);
    json!({
        "file": file,
        "line": line,
        "key": problem.key,
        "what": problem.what,
        "remedy": problem.remedy,
    })
}

/// The file and the line, as far as there are any.
fn place(at: &Origin) -> (Option<&Path>, Option<usize>) {
    match at {
        Origin::Line(path, line) => (Some(path), Some(*line)),
        Origin::File(path) => (Some(path), None),
        Origin::Env(_) => (None, None),
    }
}
