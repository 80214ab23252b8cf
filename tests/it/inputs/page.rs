//! The page names a test for each row, and each is there.

use std::path::Path;

const PAGE: &str = include_str!("../../../docs/inputs.md");

/// The files in which the module of a test can be: the module's own, or the one around it.
fn files(module: &str) -> Vec<String> {
    let around = |path: &str| path.rsplit_once('/').map(|(around, _)| around.to_owned());
    let path = module.replace("::", "/");
    let mut paths = vec![path.clone()];
    paths.extend(around(&path));
    let roots = ["tests/it", "src"];
    roots
        .iter()
        .flat_map(|root| paths.iter().map(move |path| format!("{root}/{path}.rs")))
        .collect()
}

/// Whether what is declared at this place of a text is a test: by its attribute, or in a list of those that run on
/// each database.
fn is_test(text: &str, at: usize, name: &str) -> bool {
    let before = &text[..at];
    let is_attribute = |line: &str| line.starts_with("#[") && line.contains("test");
    let block = |begin: &str, end: &str| {
        let (_, rest) = text.split_once(begin)?;
        rest.split_once(end).map(|(block, _)| block)
    };
    let is_listed = block("on_every_database!(", ");")
        .is_some_and(|list| list.split(',').any(|it| it.trim() == name));
    let is_within = block("on_both_databases! {\n", "\n}")
        .is_some_and(|block| block.contains(&format!("fn {name}(")));
    before.trim_end_matches("async ").lines().rev().take(3).any(|line| is_attribute(line.trim()))
        || is_listed
        || is_within
}

pub(crate) fn is_there(test: &str) -> bool {
    let Some((module, name)) = test.rsplit_once("::") else { return false };
    let declared = format!("fn {name}(");
    files(module).iter().any(|file| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let text = text.unwrap_or_default();
        text.match_indices(&declared).any(|(at, _)| is_test(&text, at, name))
    })
}

fn rows() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| sent"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn every_row_has_a_test_that_there_is() {
    let rows = rows();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let [sent, happens, tests] = row[..] else { panic!("three columns: {row:?}") };
        assert!(!sent.is_empty() && !happens.is_empty(), "{row:?}");
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test for {sent}");
        for test in tests {
            assert!(is_there(test), "{sent}: there is no test {test}");
        }
    }
    for none in ["", "inputs", "inputs::none", "login::recipes::run", "inputs::page::rows"] {
        assert!(!is_there(none), "{none}");
    }
}

/// What a row says is documented is there.
#[test]
fn every_link_leads_somewhere() {
    let targets: Vec<&str> = PAGE
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(to, _)| to)
        .collect();
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets {
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{target}: {error}"));
        let slug = |heading: &str| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        };
        let mut headings = text.lines().filter(|line| line.starts_with('#'));
        let is_anchor = |line: &str| slug(line.trim_start_matches('#').trim()) == anchor;
        assert!(anchor.is_empty() || headings.any(is_anchor), "{target}: no such heading");
    }
}
