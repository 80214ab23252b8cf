//! What `cargo bench --bench authorize` has measured, out of criterion's files.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::super::Usage;

/// A decision beside its floor, without and with sealing.
pub(super) fn rows(folder: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for how in ["without xkey", "with xkey"] {
        let decision = micros(folder, &format!("decision, {how}"))?;
        let floor = micros(folder, &format!("floor, {how}"))?;
        rows.push(vec![
            how.to_owned(),
            String::new(),
            format!("{decision:.1} µs"),
            format!("{floor:.1} µs"),
            format!("{:.2}", decision / floor),
        ]);
    }
    Ok(rows)
}

fn micros(folder: &Path, name: &str) -> anyhow::Result<f64> {
    let file = folder.join("decision").join(name).join("new/estimates.json");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    let estimates: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is none of criterion's", file.display()))?;
    let nanos = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
    Ok(nanos.with_context(|| format!("{} has no median", file.display()))? / 1e3)
}
