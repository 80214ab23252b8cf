//! `policy check`: whether the policies can be used, and which there are.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::super::output::{Output, note, table};
use super::{Meant, broken, problem_json};
use crate::deployment::policies::faults;
use crate::hidden::in_a_line;
use crate::policy::rules::{NoPolicies, PolicySet};
use crate::problem::shown_file;

pub(super) fn run(meant: &Meant, output: Output) -> anyhow::Result<()> {
    let folder = meant.folder.as_deref();
    let policies = PolicySet::configured(folder).map_err(|error| broken(error, output))?;
    let named = meant.config.as_ref().map(|config| faults(config, &policies));
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return Err(broken(NoPolicies::Invalid(named).into(), output));
    }
    let tested = meant.run_tables().map_err(|error| broken(error, output))?;
    let untested: BTreeSet<&Path> = tested.untested.iter().map(AsRef::as_ref).collect();
    let warnings = super::test::warnings(&tested.untested).chain(policies.warnings());
    let warnings: Vec<_> = warnings.collect();
    for warning in &warnings {
        note(&format!("warning: {warning}"));
    }
    let json = json!({
        "sound": true,
        "policies": policies.files().map(|(name, file)| json!({
            "name": name,
            "file": file,
            "tested": !untested.contains(file),
        })).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(problem_json).collect::<Vec<_>>(),
    });
    output.show(&json, || {
        let rows = policies.files().map(|(name, file)| {
            let tests = if untested.contains(file) { "none" } else { "yes" };
            vec![in_a_line(name).into_owned(), shown_file(file), tests.to_owned()]
        });
        table(&["POLICY", "FILE", "TESTS"], rows.collect())
    })
}
