//! What is asked before something is lost.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;

use super::Usage;
use super::output::printable;

/// Asks before something is lost. Without a terminal there is nobody to ask.
pub(super) fn confirm(yes: bool, what: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Usage(format!("{what}: there is no terminal to ask on; say --yes")).into());
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}? [y/N] ", printable(what)).and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("nothing was changed")
}
