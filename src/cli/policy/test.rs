//! `policy test`: what the test tables expect, beside what the policies do.

use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Value, json};

use super::super::output::{Output, note};
use super::{Meant, broken, place, problem_json};
use crate::hidden::in_a_line;
use crate::policy::table::Outcome;
use crate::problem::{Origin, Problem};

pub(super) fn run(meant: &Meant, output: Output) -> anyhow::Result<()> {
    let report = meant.run_tables().map_err(|error| broken(error, output))?;
    let warnings: Vec<_> = warnings(&report.untested).collect();
    for warning in &warnings {
        note(&format!("warning: {warning}"));
    }
    let cases = report.outcomes.len();
    let failed = report.outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    let json = json!({
        "cases": cases,
        "failed": failed,
        "results": report.outcomes.iter().map(result_json).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(problem_json).collect::<Vec<_>>(),
    });
    output.show(&json, || {
        let lines = report.outcomes.iter().map(lines);
        lines.chain([format!("{cases} cases, {failed} failed")]).collect::<Vec<_>>().join("\n")
    })?;
    if failed > 0 {
        bail!("{failed} of {cases} cases failed");
    }
    Ok(())
}

/// A warning for each policy that no table tests.
pub(super) fn warnings(untested: &[PathBuf]) -> impl Iterator<Item = Problem> {
    untested.iter().map(|path| Problem {
        at: Origin::File(path.clone()),
        key: String::new(),
        what: "no test table".to_owned(),
        remedy: format!("write {} beside it", path.with_extension("test.toml").display()),
    })
}

fn result_json(outcome: &Outcome) -> Value {
    let (file, line) = place(&outcome.at);
    json!({
        "policy": outcome.policy,
        "case": outcome.case,
        "file": file,
        "line": line,
        "passed": outcome.failures.is_empty(),
        "failures": outcome.failures.iter().map(|failure| json!({
            "expected": failure.expected,
            "seen": failure.seen,
        })).collect::<Vec<_>>(),
    })
}

/// A line for the case, and two for each failure, whatever the files hold that they repeat.
fn lines(outcome: &Outcome) -> String {
    let Outcome { policy, case, at, failures } = outcome;
    let (policy, case) = (in_a_line(policy), in_a_line(case));
    if failures.is_empty() {
        return format!("ok    {policy}: {case}");
    }
    let mut text = format!("FAIL  {policy}: {case}  ({at})");
    for failure in failures {
        text.push_str(&format!("\n        expected  {}", in_a_line(&failure.expected)));
        text.push_str(&format!("\n        seen      {}", in_a_line(&failure.seen)));
    }
    text
}
