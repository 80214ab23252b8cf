//! Where results and remarks go: results to stdout, as text or as one JSON document; remarks to
//! stderr.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::builder::StyledStr;
use comfy_table::{Attribute, Cell, ContentArrangement, Table};
use serde_json::{Value, json};

use super::CONFIG_VARIABLE;
use crate::causes::quoted;
use crate::clock::UnixSeconds;
use crate::hidden::{escaped_all, escaped_json, without_breaks_of};

/// The form of a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints what can be asked for again, so that a reader may stop reading (`| head`).
    pub(super) fn show(self, json: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.print(json, text) {
            Err(error)
                if error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe) =>
            {
                Ok(())
            }
            printed => printed,
        }
    }

    /// Prints the document where one was asked for, and otherwise nothing.
    pub(super) fn print_json(self, json: &Value) -> anyhow::Result<()> {
        if self.json { self.print(json, String::new) } else { Ok(()) }
    }

    /// Prints a result in the form that was asked for.
    pub(super) fn print(self, json: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let mut result = match self.json {
            true => escaped_json(&serde_json::to_string_pretty(json)?).into_owned(),
            false => shown(&text(), is_bold()),
        };
        result.push('\n');
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(result.as_bytes())
            .and_then(|()| stdout.flush())
            .context("the command was carried out, but its result cannot be written to stdout")
    }
}

/// Prints a remark.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "nats-callout: {}", printable(text));
}

/// A text as it may be printed: what is not seen is escaped, and so is a line break or a tab that the person at
/// the command line has written, which is told from those that lay the text out.
pub(super) fn printable(text: &str) -> String {
    let written = std::env::args_os().chain(std::env::var_os(CONFIG_VARIABLE));
    let written = written.map(|it| it.to_string_lossy().into_owned());
    // clap leaves out what colours a text.
    let written: Vec<String> =
        written.flat_map(|it| [StyledStr::from(&it).to_string(), it]).collect();
    escaped_all(&without_breaks_of(text, &written)).into_owned()
}

/// What makes a header bold, and what ends that.
const BOLD: [&str; 2] = ["\u{1b}[1m", "\u{1b}[0m"];

/// Whether headers are bold (<https://no-color.org>).
fn is_bold() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text without what is not seen: it repeats names and claims, and what a terminal takes from it must not
/// be theirs to say.
fn shown(text: &str, is_bold: bool) -> String {
    let [begin, end] = BOLD;
    if !is_bold {
        return printable(text);
    }
    let part = |text: &str| text.split(end).map(printable).collect::<Vec<_>>().join(end);
    text.split(begin).map(part).collect::<Vec<_>>().join(begin)
}

/// Lays out rows below a header, as wide as the terminal at most.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let bold = is_bold();
    table.set_header(header.iter().map(|title| {
        let cell = Cell::new(title);
        if bold { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| escaped_all(cell))));
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Lays out facts below each other, each behind its name.
pub(super) fn facts(rows: &[(&str, String)]) -> String {
    let lines: Vec<String> =
        rows.iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.join("\n")
}

/// A name within a sentence: marked where it has blanks, which would be taken for the sentence's.
pub(super) fn name(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_whitespace) { quoted(text).into() } else { text.into() }
}

/// RFC 3339 in UTC.
pub(super) fn time(at: UnixSeconds) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// A time that may be missing, as JSON.
pub(super) fn time_json(at: Option<UnixSeconds>) -> Value {
    at.map_or(Value::Null, |at| Value::String(time(at)))
}

/// The number of connections closed, as a result.
pub(super) fn kicked(count: Option<usize>) -> Value {
    json!({ "kicked": count })
}

/// The same for people.
pub(super) fn kicked_text(count: Option<usize>) -> String {
    match count {
        None => "its connections are not known".to_owned(),
        Some(1) => "closed 1 connection".to_owned(),
        Some(count) => format!("closed {count} connections"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program itself makes bold stays so on a terminal, and nothing else does anything there.
    #[test]
    fn a_header_stays_bold_and_nothing_else_reaches_the_terminal() {
        let text = "\u{1b}[1mNAME\u{1b}[0m\nal\u{202e}ice\u{1b}[31m";
        assert_eq!(shown(text, true), "\u{1b}[1mNAME\u{1b}[0m\nal\\u{202e}ice\\u{1b}[31m");
        assert_eq!(shown(text, false), "\\u{1b}[1mNAME\\u{1b}[0m\nal\\u{202e}ice\\u{1b}[31m");
    }
}
