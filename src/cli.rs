//! The program `nats-callout`: its commands, each in a file of its own, on top of the library.
//!
//! A command writes its result to stdout (with `--json` as exactly one document) and everything
//! else to stderr. Exit status 0 is done, 1 is failed, 2 is wrong use or a bad configuration.

mod bench;
mod confirm;
mod database;
mod demo;
mod doctor;
mod env_file;
mod init;
mod issued;
mod keys;
mod list;
mod logging;
mod lookup;
mod nats_server;
mod notify;
mod output;
mod policy;
mod secret;
mod serve;
mod show;
mod tenant;
mod test;
mod token;
mod up;
mod url;
mod user;
mod watchdog;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use self::output::Output;
use crate::admin::Admin;
use crate::causes::chain;
use crate::config::{self, Config, DEFAULT_FILE, Files, Loaded};
use crate::exposure;
use crate::redact::without_secrets;

/// The variable that may name the configuration file.
const CONFIG_VARIABLE: &str = "NATS_CALLOUT_CONFIG";

/// Who may log in to NATS, and what they may do there.
#[derive(Debug, Parser)]
#[command(name = "nats-callout", version, propagate_version = true, infer_subcommands = false)]
struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = CONFIG_VARIABLE,
        default_value = DEFAULT_FILE
    )]
    config: PathBuf,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a new deployment: nats-server.conf, nats-callout.toml and all keys
    Init(init::InitArgs),
    /// Run everything at once: nats-server, the service and the tenant `demo`
    Up(up::UpArgs),
    /// Run the service
    Serve,
    /// Tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Users of a tenant
    #[command(subcommand)]
    User(user::UserCommand),
    /// Tokens: further credentials of a user
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Keys: their generations, and the change from one to the next
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Policies: check, test and explain what users may do
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// List the tenants
    List,
    /// Show a tenant with its users, or one of them
    Show(show::ShowArgs),
    /// Log a user in, and say what it may do or why it is refused
    Test(test::TestArgs),
    /// Check a deployment from end to end, one line each; exit status 1 if anything fails
    Doctor,
    /// Measure how fast a running deployment logs clients in
    Bench(Box<bench::BenchArgs>),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A mistake of the person at the command line: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// An error in whose text nothing is left that may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Clean(String);

/// What a command that works on the tenant table is given.
struct Context {
    admin: Admin,
    output: Output,
}

/// Runs the command that the command line names, and says how it ended.
pub fn main() -> ExitCode {
    parse().map_or_else(|code| code, run)
}

/// Reads the command line. What is wrong with it is said without the secrets, and what is not seen, that stand
/// in it.
fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let text = error.render().to_string();
        let shown = without_secrets(&text);
        let shown = output::printable(&shown);
        if error.use_stderr() && shown != text {
            let _ = write!(std::io::stderr().lock(), "{shown}");
            return ExitCode::from(2);
        }
        error.exit()
    })
}

/// Runs the command and says how it ended. The runtime is this function's own: a caller that awaits
/// a future has the compiler make all of it once more.
#[tokio::main]
async fn run(cli: Cli) -> ExitCode {
    match dispatch(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let wrong_use =
                error.chain().any(|cause| cause.is::<Usage>() || cause.is::<config::Error>());
            let text = chain(&*error);
            // A token may have been written where an id belongs.
            match error.is::<Clean>() {
                true => output::note(&text),
                false => output::note(&without_secrets(&text)),
            }
            ExitCode::from(if wrong_use { 2 } else { 1 })
        }
    }
}

/// Says so where a password stands in an argument, which every user of the machine can read.
fn warn_of_passwords() {
    let mut held =
        std::env::args().filter(|argument| exposure::holds_password(argument)).peekable();
    if held.peek().is_none() {
        return;
    }
    let remedy = match held.any(|argument| argument.contains("postgres")) {
        true => format!(
            "give the database's URL in {} instead, and change the password",
            init::DATABASE_VARIABLE
        ),
        false => "change it".to_owned(),
    };
    output::note(&format!(
        "warning: the command line holds a password, which every user of this machine can read \
         there: {remedy}"
    ));
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    warn_of_passwords();
    let output = Output::new(cli.json);
    let context = async || Context::open(load(&cli.config, Files::Unchecked)?, output).await;
    match cli.command {
        Command::Init(args) => init::run(&args, output),
        Command::Up(args) => up::run(&args, output).await,
        Command::Serve => up::serve(&cli.config).await,
        Command::Bench(args) => bench::run(&args, &cli.config, output).await,
        Command::Doctor => doctor::run(&cli.config, output).await,
        Command::Completions { shell } => completions(shell),
        Command::Policy(command) => policy::run(command, &cli.config, output).await,
        Command::Tenant(command) => tenant::run(command, &context().await?).await,
        Command::User(command) => user::run(command, &context().await?).await,
        Command::Token(command) => token::run(command, &context().await?).await,
        Command::Keys(command) => keys::run(command, &context().await?).await,
        Command::List => list::run(&context().await?).await,
        Command::Show(args) => show::run(&args, &context().await?).await,
        Command::Test(args) => test::run(&args, &context().await?).await,
    }
}

/// Reads the configuration and prints its warnings.
fn load(file: &std::path::Path, files: Files) -> anyhow::Result<Config> {
    Ok(warned(Config::load(file, files)?))
}

/// What was read, once its warnings are printed.
fn warned(loaded: Loaded) -> Config {
    warn(loaded.warnings);
    loaded.config
}

fn warn(warnings: Vec<String>) {
    for warning in warnings {
        output::note(&format!("warning: {warning}"));
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nats-callout", &mut script);
    std::io::stdout().write_all(&script).context("cannot write to stdout")
}

impl Context {
    async fn open(config: Config, output: Output) -> anyhow::Result<Self> {
        let store = database::open(&config).await?;
        Ok(Self { admin: Admin::new(config, store).with_remarks(output::note), output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
