//! What happens to clients, what became of them, and the table of that.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::staying::{Library, Said, Word};
use crate::harness::{loudly, row};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Renewals,
    ServiceHangs,
    ServiceDown,
    DatabaseFrozen,
    ServerKilled,
    Suspension,
    NewPassword,
    Change,
}

impl Happening {
    fn name(self) -> &'static str {
        match self {
            Self::Renewals => "renewals alone",
            Self::ServiceHangs => "service hangs",
            Self::ServiceDown => "service down",
            Self::DatabaseFrozen => "database frozen",
            Self::ServerKilled => "nats-server down",
            Self::Suspension => "suspended",
            Self::NewPassword => "password changed",
            Self::Change => "changed by SQL",
        }
    }
}

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It hears what is sent.
    Alive,
    /// It hears nothing, and tries on.
    Silent,
    /// It has closed for good.
    Dead,
}

/// What one client has been through.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    fate: Fate,
    missed: u64,
    /// The longest time without a message.
    gap_ms: u64,
    errors: BTreeSet<String>,
    /// All that one said which is lost, with the seconds since its first word.
    story: Vec<String>,
    /// Whether it was between two connections when that began.
    was_between: bool,
}

impl Seen {
    pub(super) fn new(fate: Fate, said: &[Said]) -> Self {
        let story = said.iter().filter(|_| fate != Fate::Alive).map(|it| {
            let after = it.at.duration_since(said[0].at);
            format!("{:.3} {:?}", after.as_secs_f64(), it.word)
        });
        let story = story.collect();
        let (missed, gap_ms, errors, was_between) = (0, 0, BTreeSet::new(), false);
        let mut seen = Self { fate, missed, gap_ms, errors, story, was_between };
        for said in said {
            match &said.word {
                Word::Gap { missed, ms } => {
                    seen.missed += missed;
                    seen.gap_ms = seen.gap_ms.max(*ms);
                }
                Word::Error { text } => drop(seen.errors.insert(text.clone())),
                _ => {}
            }
        }
        seen
    }

    pub(super) fn was_between(self, was_between: bool) -> Self {
        Self { was_between, ..self }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.fate == Fate::Dead
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<(Library, Happening), Vec<Seen>>);

impl Table {
    pub(super) fn note(&mut self, happening: Happening, all: Vec<(Library, Seen)>) {
        for (library, seen) in all {
            self.0.entry((library, happening)).or_default().push(seen);
        }
    }

    /// Prints it, as README and docs have it: of how many how many are closed for good or hear nothing,
    /// the longest gap and what was missed, each the median and the most.
    pub(super) fn print(&self, title: &str) {
        loudly(title);
        row("| library | what | outcome | gap, s | missed | errors |");
        row("|---|---|---|---|---|---|");
        for ((library, happening), seen) in &self.0 {
            let count = |fate| seen.iter().filter(|it| it.fate == fate).count();
            let (dead, silent) = (count(Fate::Dead), count(Fate::Silent));
            let between = seen.iter().filter(|it| it.fate != Fate::Alive && it.was_between).count();
            let outcome = match (dead, silent) {
                (0, 0) => format!("{} alive", seen.len()),
                _ => format!(
                    "of {} {dead} DEAD, {silent} silent ({between} of them between two connections)",
                    seen.len()
                ),
            };
            let gaps = middle_and_most(seen.iter().map(|it| it.gap_ms));
            let missed = middle_and_most(seen.iter().map(|it| it.missed));
            let errors: BTreeSet<&str> =
                seen.iter().flat_map(|it| it.errors.iter().map(String::as_str)).collect();
            let errors: Vec<&str> = errors.into_iter().collect();
            row(&format!(
                "| {} | {} | {outcome} | {:.2} / {:.2} | {} / {} | {} |",
                library.name(),
                happening.name(),
                gaps.0 as f64 / 1e3,
                gaps.1 as f64 / 1e3,
                missed.0,
                missed.1,
                errors.join("; ").replace('|', "/"),
            ));
        }
    }

    /// Who has not lived through what everybody has to, and what he said.
    pub(super) fn lost(&self) -> Vec<String> {
        let may = [Happening::Suspension, Happening::NewPassword];
        let must = |it: Happening| !may.contains(&it);
        let of_these = self.0.iter().filter(|((_, happening), _)| must(*happening));
        let lost = of_these.flat_map(|((library, happening), seen)| {
            let lost = seen.iter().filter(|it| it.fate != Fate::Alive && !it.was_between);
            lost.map(move |it| format!("{}, {}: {:?}", library.name(), happening.name(), it.story))
        });
        lost.collect()
    }
}

fn middle_and_most(values: impl Iterator<Item = u64>) -> (u64, u64) {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() - 1])
}
