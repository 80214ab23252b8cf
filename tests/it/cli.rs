//! Commands that look at a running deployment from outside: `test`, `doctor`, `bench`, and what
//! `tenant add` asks the server before it adds one.

pub(crate) mod bench;
mod ceiling;
mod containers;
mod doctor;
mod files;
mod hidden;
pub(crate) mod keys;
mod leftovers;
mod test;
mod variables;

use serde_json::Value;

use crate::harness::deployment::Initialised;
use crate::harness::service::{self, Output};

/// Runs one command on the deployment with something on its stdin.
fn with_stdin(init: &Initialised, args: &[&str], stdin: &str) -> Output {
    let config = init.config();
    let mut all = vec!["--config", config.to_str().unwrap()];
    all.extend(args);
    service::cli_with_stdin(&init.dir(), &all, stdin)
}

/// The document of a command that ended with `status`.
#[track_caller]
fn document(output: &Output, status: i32) -> Value {
    assert_eq!(output.status, status, "{}\n{}", output.stdout, output.stderr);
    output.json()
}
