//! Why there is no configuration: all its mistakes at once.

use std::path::PathBuf;

use crate::problem::list;
pub(super) use crate::problem::{Origin, Problem};

/// Why there is no configuration. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] pub(crate) ConfigError);

/// What [`Error`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file itself cannot be read.
    #[error(
        "cannot read the configuration file {}; name it with --config or NATS_CALLOUT_CONFIG, \
         or write one with `nats-callout init --dir DIR`",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has mistakes: all of them.
    #[error("{}{}", list(problems, "the configuration"), also(warnings))]
    Invalid {
        /// The mistakes.
        problems: Vec<Problem>,
        /// What is odd besides, and may be why something is missing.
        warnings: Vec<String>,
    },
}

fn also(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n  warning: {warning}")).collect()
}
