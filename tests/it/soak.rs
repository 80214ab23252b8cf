//! A thousand connections of all libraries, whose grants live for a minute, on three servers with two
//! instances that are killed, stopped and started again: nobody is lost or refused, memory and descriptors
//! stay flat, and renewals are spread evenly.
//!
//! One instance and one server are never restarted, so that they can be compared with themselves over the
//! whole time.

mod crowd;
mod figures;
mod site;
mod watch;

use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use self::crowd::Crowd;
use self::figures::{Event, Figures};
use self::site::{Failure, Site};
use self::watch::Watch;
use crate::harness::deployment::Mode;
use crate::harness::staying::Library;
use crate::harness::turn::alone;
use crate::harness::{depth, loudly, servers};

const MINUTE: Duration = Duration::from_secs(60);

/// At the end nothing fails for so long, or for this part of the time if that is shorter.
const REST: Duration = Duration::from_secs(180);
const REST_PART: u32 = 3;

/// Between two failures, in seconds.
const BETWEEN: std::ops::Range<u64> = 60..120;

/// For how long what has failed is away, in seconds.
const AWAY: std::ops::Range<u64> = 2..8;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |it| it.parse().expect("a number"))
}

/// Operator mode, unless the other is asked for or nothing else can be served: MQTT is in it too.
fn mode() -> Mode {
    let config = std::env::var("TEST_MODE").is_ok_and(|mode| mode == "config");
    if config || !servers::has_operator_mode() { Mode::Config } else { Mode::Operator }
}

fn soak(length: Duration, connections: usize) {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    let seed = number("TEST_SEED", usize::try_from(since.as_secs()).expect("a small number"));
    let mode = mode();
    loudly(&format!("{mode:?} mode, {length:?}, {connections} connections: TEST_SEED={seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);

    Library::ALL.into_iter().for_each(Library::fetch);
    let mut site = Site::start(mode);
    let crowd = Crowd::connect(&site, connections);
    let begun = Instant::now();
    let watch = Watch::start(&site, &crowd);
    // They have all come at the same time.
    let mut events = vec![Event { from: begun, to: begun }];
    let last = length - REST.min(length / REST_PART);
    loop {
        let pause = Duration::from_secs(random.random_range(BETWEEN));
        if begun.elapsed() + pause > last {
            break;
        }
        site.rest(pause);
        let failure = Failure::ALL[random.random_range(0..Failure::ALL.len())];
        let away = Duration::from_secs(random.random_range(AWAY));
        let from = Instant::now();
        loudly(&format!("after {:.0?}: {failure:?}, back after {away:?}", begun.elapsed()));
        site.fail(failure, away);
        watch.follow(&site);
        events.push(Event { from, to: Instant::now() });
    }
    site.rest(length.saturating_sub(begun.elapsed()));
    let figures = Figures { events, samples: watch.end() };

    let lost = crowd.lost(&site);
    crowd.print(begun);
    let faults = figures.faults();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_thousand_connections_stay_through_restarts_of_instances_and_servers() {
    if !depth(false, true) {
        return;
    }
    alone();
    let minutes = u32::try_from(number("SOAK_MINUTES", 45)).expect("a small number");
    soak(MINUTE * minutes, number("SOAK_CONNECTIONS", 1_000));
}
