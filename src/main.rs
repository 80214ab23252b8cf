//! The program: reads the command line and runs the command.

use std::process::ExitCode;

use nats_callout::cli;

fn main() -> ExitCode {
    cli::parse().map_or_else(|code| code, cli::run)
}
