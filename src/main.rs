//! The program: reads the command line and runs the command.

use std::process::ExitCode;

use clap::Parser as _;
use nats_callout::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
