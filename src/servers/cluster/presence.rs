//! Which servers there are, by what each of them says: who is there, who is missed, and how long it is waited
//! for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;

/// How long servers have to say that they are there. A server that is healthy takes milliseconds.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// How long those have that did not say so when they were called last.
const ROLL_CALL_AGAIN: Duration = Duration::from_millis(300);

/// For how long peers that have missed a server's last word count it, beside the one that has come
/// back in its place (`checkRemoteServers` of the server's `events.go`).
const COUNTED: SignedDuration = SignedDuration::from_mins(4);

/// What a server is called of which nothing is known but that it is there.
const UNNAMED: &str = "(name unknown)";

/// The servers that are there.
#[derive(Debug, Clone, Default)]
pub(super) struct Present {
    pub(super) servers: BTreeSet<String>,
    /// Those that these know of and that do not answer.
    pub(super) absent: BTreeSet<String>,
    /// How many more these count than there are, whether they are missed or not.
    pub(super) missing: usize,
    /// Until when this holds, on which connection.
    pub(super) until: Option<(Instant, u64)>,
}

impl Present {
    /// How long the others have to answer the next roll call, in all, when these have answered: who was
    /// silent at this one has less time.
    pub(super) fn patience(&self, answers: &BTreeMap<String, Presence>) -> Duration {
        let missing = expected(answers).saturating_sub(answers.len());
        let known = missing <= self.missing
            && self.servers.iter().all(|server| answers.contains_key(server));
        match missing {
            0 => Duration::ZERO,
            _ if known => ROLL_CALL_AGAIN,
            _ => ROLL_CALL,
        }
    }
}

/// How many servers there are: each says so.
pub(super) fn expected(present: &BTreeMap<String, Presence>) -> usize {
    present.values().map(|one| one.statsz.active_servers).max().unwrap_or(1).max(1)
}

/// Those that are counted and do not answer, by the routes of those that do (`linked`, where they are
/// known). One with a route hangs. One without has ended, or is cut off: it is missed unless a server
/// that began since then explains it ([`COUNTED`]).
pub(super) fn absent(
    present: &BTreeMap<String, Presence>,
    linked: Option<BTreeSet<String>>,
) -> BTreeSet<String> {
    let young = present.values().filter(|one| one.is_young()).count();
    let explained = linked.as_ref().map_or(0, |_| young);
    let linked = linked.unwrap_or_default().into_iter();
    let mut absent: BTreeSet<String> =
        linked.filter(|server| !present.contains_key(server)).collect();
    if present.len() + absent.len() + explained < expected(present) {
        absent.insert(UNNAMED.to_owned());
    }
    absent
}

#[derive(Deserialize)]
pub(super) struct Presence {
    server: PresentServer,
    #[serde(default)]
    statsz: Statsz,
}

#[derive(Deserialize)]
struct PresentServer {
    #[serde(default)]
    time: Timestamp,
}

impl Presence {
    /// Whether it began so lately that its peers may count another in its place.
    fn is_young(&self) -> bool {
        let age = self.server.time.duration_since(self.statsz.start);
        !age.is_negative() && age < COUNTED
    }

    /// Whether other clusters are linked to it, whose servers nobody counts here.
    pub(super) fn has_gateways(&self) -> bool {
        !self.statsz.gateways.is_empty()
    }
}

#[derive(Default, Deserialize)]
struct Statsz {
    #[serde(default)]
    start: Timestamp,
    #[serde(default)]
    active_servers: usize,
    #[serde(default)]
    gateways: Vec<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What servers say that have run for so many seconds, and count so many of each other.
    fn say(counted: usize, ages: &[(&str, i64)]) -> BTreeMap<String, Presence> {
        let time: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let say = |&(name, age): &(&str, i64)| {
            let start = time - SignedDuration::from_secs(age);
            let presence = json!({ "server": { "time": time },
                "statsz": { "start": start, "active_servers": counted } });
            (name.to_owned(), serde_json::from_value(presence).expect("a presence"))
        };
        ages.iter().map(say).collect()
    }

    fn missed(present: &BTreeMap<String, Presence>, linked: Option<&[&str]>) -> Vec<String> {
        let linked = linked.map(|all| all.iter().map(|&one| one.to_owned()).collect());
        absent(present, linked).into_iter().collect()
    }

    #[test]
    fn who_does_not_answer_is_missed_unless_it_has_ended() {
        let old = say(3, &[("a", 300), ("b", 300)]);
        assert_eq!(missed(&old, Some(&["a", "b", "c"])), ["c"], "it hangs");
        assert_eq!(missed(&old, Some(&["a", "b"])), [UNNAMED], "it is cut off");
        assert_eq!(missed(&old, None), [UNNAMED], "nobody says who is linked");
        let back = say(4, &[("a", 300), ("b", 300), ("c", 239)]);
        assert_eq!(missed(&back, Some(&["a", "b", "c"])), [""; 0], "c stands in its own place");
        assert_eq!(missed(&back, Some(&["a", "b", "c", "d"])), ["d"], "it hangs all the same");
        let later = say(4, &[("a", 300), ("b", 300), ("c", 240)]);
        assert_eq!(missed(&later, Some(&["a", "b", "c"])), [UNNAMED], "c has stood there too long");
        let all = say(2, &[("a", 1), ("b", 300)]);
        assert_eq!(missed(&all, None), [""; 0], "all of them answer");
    }

    #[test]
    fn who_was_silent_before_has_less_time() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let servers = names(&["a", "b"]);
        let before = Present { servers, missing: 1, ..Present::default() };
        let patience = |counted, answered: &[&str]| {
            let answered: Vec<_> = answered.iter().map(|&name| (name, 300)).collect();
            before.patience(&say(counted, &answered))
        };
        assert_eq!(patience(3, &["a", "b", "c"]), Duration::ZERO);
        assert_eq!(patience(2, &["a", "b"]), Duration::ZERO, "c was given up");
        assert_eq!(patience(3, &["a", "b"]), ROLL_CALL_AGAIN);
        assert_eq!(patience(3, &["a", "c"]), ROLL_CALL, "b was there");
        assert_eq!(patience(3, &["a"]), ROLL_CALL);
        assert_eq!(patience(4, &["a", "b"]), ROLL_CALL, "one more is there than was known");
        assert_eq!(patience(1, &[]), ROLL_CALL, "nobody has answered");
        let first = Present::default().patience(&say(2, &[("a", 300)]));
        assert_eq!(first, ROLL_CALL, "nobody was called before");
    }

    #[test]
    fn a_start_in_the_future_explains_nothing() {
        let skewed = say(2, &[("a", -5)]);
        assert_eq!(missed(&skewed, Some(&["a"])), [UNNAMED]);
    }
}
