//! `doctor`: checks a deployment from end to end, one line for each finding.

use std::path::Path;

use anyhow::bail;
use serde_json::{Value, json};

use super::database::explain;
use super::output::Output;
use crate::admin::doctor::{Doctor, Finding, Findings, State};
use crate::config::{Config, Files};

/// Checks the deployment that `file` describes.
pub(super) async fn run(file: &Path, output: Output) -> anyhow::Result<()> {
    let doctor = Doctor::with_explanation(|error| explain(error).to_string());
    let report = Report(doctor.examine(Config::load(file, Files::Unchecked)).await);
    output.print(&report.json(), || report.text())?;
    match report.0.count(State::Fail) {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", report.0.all().len()),
    }
}

struct Report(Findings);

impl Report {
    fn json(&self) -> Value {
        let checks = self.0.all().iter().map(|finding| {
            let Finding { check, state, what, remedy, .. } = finding;
            json!({ "check": check, "state": state.as_str(), "what": what, "remedy": remedy })
        });
        json!({
            "healthy": self.0.count(State::Fail) == 0,
            "failed": self.0.count(State::Fail),
            "warnings": self.0.count(State::Warn),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let lines = self.0.all().iter().map(line);
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, state, what, remedy, .. } = finding;
    let word = match state {
        State::Fail => "FAIL",
        other => other.as_str(),
    };
    let remedy = remedy.as_ref().map(|it| format!("; {it}")).unwrap_or_default();
    // One line each, whatever a message holds.
    let what = format!("{what}{remedy}").replace('\n', " ");
    format!("{word:<5}{check:<17} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_as_lines_and_json() {
        let mut findings = Findings::default();
        findings.ok("one", "well");
        findings.fail("two", "broken\nbadly", "mend it");
        findings.skip("three", "not now");
        findings.ok("of a name that is long", "well");
        let findings = Report(findings);
        assert_eq!(
            findings.text(),
            "ok   one               well\n\
             FAIL two               broken badly; mend it\n\
             skip three             not now\n\
             ok   of a name that is long well"
        );
        let json = findings.json();
        assert_eq!(json["healthy"], false);
        assert_eq!(json["checks"][1]["state"], "fail");
    }
}
