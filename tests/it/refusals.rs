//! `docs/refusals.md`: every reason for which a login is refused and every flaw of a token, as it is seen from all
//! sides. Each is brought about on a real server; what client, log, events, `test` and `policy explain` say of it is
//! written down and compared.
//!
//! With `WRITE_DOCS=1` in the environment the test writes the page instead.

mod cases;
mod embedded;
mod settled;
mod silences;
mod site;
mod tokens;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nats_callout::internals::{DenyReason, FAULT_CODES};
use strum::IntoEnumIterator as _;

use self::cases::Row;
use self::site::Site;
use crate::harness::choice::lacks;
use crate::harness::deployment::Mode;
use crate::inputs::page::is_there;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/refusals.md");

const HEAD: &str = "\
# What a refusal looks like

`tests/it/refusals.rs` brings each of these about, on a real nats-server (in config mode but where a row says otherwise), and writes
this page. What differs
from one time to the next is replaced: `N` is a number, `...` an id, a folder or a port.

The client is told one and the same of all of them, and of a login that gets no answer (`no reply`). The line of the log
is at its default level, as text and as JSON. An event is in the stream `AUTH_DECISIONS`, with the user as its `subject` and
the tenant as its `organizationid`; a login without an answer has none, and an application's own service writes none.
`test` is `nats-callout test --json`, which takes passwords and tokens alone, and `policy explain` is there for who has a
row; it looks at nothing but the policy.

| what | seen by | as |
|---|---|---|
";

/// Writes the rows of one refusal.
fn show(page: &mut String, what: &str, row: &Row) {
    writeln!(page, "| `{}`: {what} | the client | `{}` |", row.reason, row.client).unwrap();
    for (who, what) in [
        ("the log", Some(&row.line)),
        ("the log, as JSON", Some(&row.json)),
        ("an event", row.event.as_ref()),
        ("`test`", row.test.as_ref()),
        ("`policy explain`", row.explain.as_ref()),
    ] {
        let Some(what) = what else { continue };
        // Two of them, since there are some within.
        writeln!(page, "| | {who} | `` {} `` |", what.replace('|', "\\|")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_sees_of_a_refusal() {
    if lacks(Mode::Config) {
        return;
    }
    let [text, json] = [Site::start("text"), Site::start("json")];
    let mut page = HEAD.to_owned();
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        let row = case.row(&text, &json).await;
        seen.insert(row.reason.clone());
        show(&mut page, &case.what, &row);
    }
    for (what, row) in silences::rows().await.into_iter().chain(embedded::rows()) {
        seen.insert(row.reason.clone());
        show(&mut page, what, &row);
    }
    page.push_str(
        "\nOther silences have a line of the same form (`audit::tests::every_silence_has_its_line_with_cause_and_client`). \
         A client alone\nbrings none of them about; the test which is named shows when there is one:\n\n",
    );
    for (code, how, test) in silences::OTHERS {
        assert!(is_there(test), "there is no test {test}");
        writeln!(page, "- `no reply: {code}`: {how} (`{test}`)").unwrap();
        seen.insert(format!("no reply: {code}"));
    }
    page.push_str(
        "\nOf requests beyond `[callout] max_in_flight` nothing is opened, so that nobody knows whose they are. One line \
         a second says\nhow many there were (`overloaded: requests were dropped unanswered`).\n",
    );
    let silences = FAULT_CODES.map(|code| format!("no reply: {code}"));
    let missing: Vec<&String> = silences.iter().filter(|it| !seen.contains(*it)).collect();
    assert!(missing.is_empty(), "silences that nobody has seen: {missing:?}");
    let missing: Vec<&str> =
        DenyReason::iter().map(<&str>::from).filter(|it| !seen.contains(*it)).collect();
    assert_eq!(missing, [""; 0], "reasons that nobody has seen");
    for mark in ["Some(", "\\\"", "Error {", "OtherError"] {
        assert!(!page.contains(mark), "{mark} in\n{page}");
    }
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(PAGE, page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(one, other)| one != other);
    let remedy = "write it anew: WRITE_DOCS=1 cargo test --test it refusals";
    assert!(written == page, "docs/refusals.md is outdated at {differs:#?}; {remedy}");
}
