//! What is seen, without what differs from one time to the next.

use std::path::Path;

use serde_json::{Map, Value};

use super::site::another_day;

/// A line of a log in JSON.
pub(super) fn without_time(line: Value) -> String {
    let Value::Object(all) = line else { panic!("{line}") };
    let kept: Map<String, Value> =
        all.into_iter().filter(|(name, _)| name != "timestamp").collect();
    Value::Object(kept).to_string()
}

/// Without what differs each time.
pub(super) fn settled(text: &str, folder: &Path) -> String {
    let day = format!("\"{} ", another_day());
    let folder = folder.display().to_string();
    let mut text =
        text.replace(&folder, "...").replace(&another_day(), "DAY").replace(&day, "\"DAY ");
    for (before, end) in
        [("cid=", ' '), ("took_us=", ' '), ("\"cid\":", ','), ("\"took_us\":", ',')]
    {
        text = replaced(&text, before, |c| c == end || c == '}', "N");
    }
    for (before, end) in [("instance=\"", '"'), ("\"instance\":\"", '"')] {
        text = replaced(&text, before, |c| c == end, "...");
    }
    // Times of tokens.
    text =
        text.split('`').map(|it| if is_time(it) { "N" } else { it }).collect::<Vec<_>>().join("`");
    // Nkeys, of nobody, accounts and servers, are new ones each time.
    let is_nkey = |part: &str| part.len() == 56 && part.starts_with(['U', 'A', 'N']);
    let shown =
        |part: &str| if is_nkey(part) { format!("{}...", &part[..1]) } else { part.to_owned() };
    let words = |part: &str| part.split(' ').map(shown).collect::<Vec<_>>().join(" ");
    let parts = text.split('"').map(words);
    without_bytes(&parts.collect::<Vec<_>>().join("\""))
}

fn is_time(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// How long a grant is depends on ids in it.
fn without_bytes(text: &str) -> String {
    let [measured, guessed] = ["the grant takes ", "the grant takes about "];
    replaced(text, if text.contains(guessed) { guessed } else { measured }, |c| c == ' ', "N")
}

pub(super) fn replaced(text: &str, before: &str, ends: impl Fn(char) -> bool, by: &str) -> String {
    let Some((head, rest)) = text.split_once(before) else { return text.to_owned() };
    let tail = rest.find(ends).map_or("", |at| &rest[at..]);
    format!("{head}{before}{by}{tail}")
}
