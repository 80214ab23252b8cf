//! The clients, and what became of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::site::{Site, TENANT, notifications};
use crate::harness::staying::{Library, Record, Said, Staying, Word};
use crate::harness::{PATIENCE, loudly, row};

/// How long it may take until all are connected.
const CONNECTING: Duration = Duration::from_secs(300);

/// One that has heard nothing of so many last seconds is silent: it says what it has heard every ten
/// seconds.
const SILENT: u64 = 30;

/// See the module.
pub(super) struct Crowd(Vec<(Library, Staying)>);

impl Crowd {
    /// So many connections of all libraries together. They begin at all servers.
    pub(super) fn connect(site: &Site, connections: usize) -> Self {
        let libraries = site.libraries();
        let (each, more) = (connections / libraries.len(), connections % libraries.len());
        let mut all = Vec::new();
        for (at, library) in libraries.into_iter().enumerate() {
            let login = site.cluster.init.user_add(TENANT, &format!("app-{at}"), &["--kind", "bb"]);
            let count = each + usize::from(at < more);
            let client = site.client(library, at % site.cluster.nodes.len(), &login, count);
            all.extend(client.map(|client| (library, client)));
        }
        let crowd = Self(all);
        let begun = Instant::now();
        loop {
            let waits: Vec<Library> =
                crowd.records().filter(|(_, it)| it.heard().is_none()).map(|(it, _)| it).collect();
            if waits.is_empty() {
                break;
            }
            assert!(begun.elapsed() < CONNECTING, "these have not heard anything: {waits:?}");
            std::thread::sleep(Duration::from_millis(250));
        }
        loudly(&format!("{} connections after {:.0?}", crowd.records().count(), begun.elapsed()));
        crowd
    }

    /// Each connection.
    pub(super) fn records(&self) -> impl Iterator<Item = (Library, &Record)> {
        self.0.iter().flat_map(|(library, it)| it.connections().iter().map(|one| (*library, one)))
    }

    /// Who has closed for good, or hears nothing of what is sent from now on, with its last words.
    pub(super) fn lost(&self, site: &Site) -> Vec<String> {
        let (sent, begun) = (site.sent(), Instant::now());
        let waits = |it: &Record| !it.is_closed() && it.heard() <= Some(sent);
        while self.records().any(|(_, it)| waits(it)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(250));
        }
        let lost = |it: &Record| it.is_closed() || it.heard() <= Some(sent);
        let members = self.0.iter().flat_map(|(library, client)| {
            let all = client.connections().iter().enumerate();
            all.filter(|(_, it)| lost(it))
                .map(|(at, it)| format!("{}, {at}: {}", library.name(), words(it)))
        });
        members.collect()
    }

    /// A row for each library: how often its connections have come back, how long they heard nothing, and
    /// what errors they saw.
    pub(super) fn print(&self, begun: Instant) {
        loudly("what became of them");
        row(
            "| library | connections | closed | came back, median | longest gap, s, median / most | missed, of 100 sent | errors |",
        );
        row("|---|---|---|---|---|---|---|");
        let sent = notifications(begun.elapsed().as_secs()).max(1);
        for (library, client) in &self.0 {
            let all = client.connections();
            let lives: Vec<Life> = all.iter().map(|it| Life::new(&it.said(), begun)).collect();
            let closed = all.iter().filter(|it| it.is_closed()).count();
            let gaps = middle_and_most(lives.iter().map(|it| it.gap_ms));
            let missed: u64 = lives.iter().map(|it| it.missed).sum();
            let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
            for (text, count) in lives.iter().flat_map(|it| &it.errors) {
                *errors.entry(text).or_default() += count;
            }
            let errors: Vec<String> =
                errors.into_iter().map(|(text, count)| format!("{count} x {text}")).collect();
            row(&format!(
                "| {} | {} | {closed} | {} | {:.1} / {:.1} | {:.2} | {} |",
                library.name(),
                all.len(),
                middle_and_most(lives.iter().map(|it| it.returns)).0,
                gaps.0 as f64 / 1e3,
                gaps.1 as f64 / 1e3,
                missed as f64 * 100.0 / (sent * lives.len() as u64) as f64,
                errors.join("; ").replace('|', "/"),
            ));
        }
    }
}

/// How many of these are silent, and how many closed for good, when so many notifications have been sent.
pub(super) fn silent_and_closed(records: &[Record], sent: u64) -> (usize, usize) {
    let late = sent.saturating_sub(notifications(SILENT));
    let closed = records.iter().filter(|it| it.is_closed()).count();
    let silent = records.iter().filter(|it| !it.is_closed() && it.heard() < Some(late)).count();
    (silent, closed)
}

/// What a connection has been through.
#[derive(Debug, Default)]
struct Life {
    returns: u64,
    gap_ms: u64,
    missed: u64,
    errors: BTreeMap<String, usize>,
}

impl Life {
    fn new(said: &[Said], since: Instant) -> Self {
        let mut life = Self::default();
        let mut is_away = false;
        for Said { word, .. } in said.iter().filter(|it| it.at >= since) {
            match word {
                Word::Disconnected => is_away = true,
                // Some say so more than once.
                Word::Reconnected => life.returns += u64::from(std::mem::take(&mut is_away)),
                Word::Gap { missed, ms } => {
                    life.missed += missed;
                    life.gap_ms = life.gap_ms.max(*ms);
                }
                Word::Error { text } => *life.errors.entry(short(text)).or_default() += 1,
                _ => {}
            }
        }
        life
    }
}

/// The words of an error without its numbers, which differ.
fn short(text: &str) -> String {
    let mut short: String =
        text.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
    while short.contains("00") {
        short = short.replace("00", "0");
    }
    short.chars().take(80).collect()
}

/// What a connection said at last.
pub(super) fn words(record: &Record) -> String {
    let said = record.said();
    let last = said.iter().skip(said.len().saturating_sub(12));
    let words: Vec<String> = last
        .map(|it| format!("{:.1} s ago {:?}", it.at.elapsed().as_secs_f64(), it.word))
        .collect();
    words.join(", ")
}

fn middle_and_most(values: impl Iterator<Item = u64>) -> (u64, u64) {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() - 1])
}
