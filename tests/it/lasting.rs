//! A client of each library at its defaults, and what it lives through: renewals of its connection,
//! outages of the service, its database and nats-server, a change. What of a suspension and a new password
//! becomes of it is recorded.

mod crew;
mod site;
mod table;

use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use self::crew::Crew;
use self::site::{Site, TENANT};
use self::table::{Happening, Table};
use crate::harness::choice::lacks;
use crate::harness::deployment::Mode;
use crate::harness::staying::Library;
use crate::harness::{PATIENCE, depth, loudly};

const SECOND: Duration = Duration::from_secs(1);

/// Outages of each kind at random moments, in `.ci/nightly`.
const OUTAGES: usize = 6;

/// How many of 100 messages a second a renewal costs a library: those that come back at once, what is on
/// its way; Go and C wait for two seconds, paho for one. The machine may be slow.
fn most_missed(library: Library) -> u64 {
    match library {
        Library::NatsGo | Library::Libnats => 300,
        Library::Paho => 200,
        _ => 50,
    }
}

/// Those whom each of their renewals cost more than that, or who had none.
fn who_missed_more(crew: &Crew, since: Instant, title: &str) -> Vec<String> {
    let mut more = Vec::new();
    for member in &crew.members {
        let (library, missed) = (member.library, member.missed_each(since));
        loudly(&format!("{title}, {}: missed at each renewal {missed:?}", library.name()));
        if missed.iter().min().is_none_or(|least| *least > most_missed(library)) {
            more.push(format!("{}: {missed:?}, {:?}", library.name(), member.said(since)));
        }
    }
    more
}

/// Closes the connections of a user.
fn change(site: &Site, user: &str) {
    site.deployment.sql(&format!("UPDATE users SET policy = 'bb' WHERE name = '{user}'"));
}

/// Each is renewed, lives through an outage that lasts until its first grants would have ended, and is
/// renewed again.
fn a_short_life(mode: Mode) {
    // A grant lives for 19.2 to 24 s, and is renewed after 9.6 to 15.6.
    let mut site = Site::start(mode, "24s");
    let crew = Crew::connect(&site, "app", 1);
    let mut table = Table::default();
    // They begin at the same time.
    let begun = Instant::now();
    change(&site, "app");
    crew.come_back(1, begun, PATIENCE);
    table.note(Happening::Change, crew.seen(&site, begun));

    let renewing = Instant::now();
    crew.come_back(1, renewing, PATIENCE);
    crew.hear(&site);
    table.note(Happening::Renewals, crew.seen(&site, renewing));

    let down = Instant::now();
    site.service_down(3 * SECOND);
    crew.come_back(1, down, PATIENCE);
    crew.hear(&site);
    table.note(Happening::ServiceDown, crew.seen(&site, down));
    table.print(&format!("{mode:?} mode, a short life"));
    let more = who_missed_more(&crew, renewing, &format!("{mode:?} mode"));
    assert!(table.lost().is_empty(), "{:#?}", table.lost());
    assert!(more.is_empty(), "{more:#?}");
}

/// The same for what everybody has to live through, at random moments.
fn a_long_life(mode: Mode) {
    let seed = std::env::var("TEST_SEED").map(|it| it.parse().expect("a number"));
    let seed: u64 = seed.unwrap_or_else(|_| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        since.as_secs()
    });
    loudly(&format!("{mode:?} mode: TEST_SEED={seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);

    let mut site = Site::start(mode, "2m");
    let mut crew = Crew::connect(&site, "app", 2);
    let mut table = Table::default();
    let begun = Instant::now();
    crew.come_back(3, begun, 300 * SECOND);
    crew.hear(&site);
    table.note(Happening::Renewals, crew.seen(&site, begun));
    let more = who_missed_more(&crew, begun, &format!("{mode:?} mode"));

    let kinds = [
        Happening::ServiceHangs,
        Happening::ServiceDown,
        Happening::DatabaseFrozen,
        Happening::ServerKilled,
    ];
    let mut outages = kinds.repeat(OUTAGES);
    while !outages.is_empty() {
        let happening = outages.swap_remove(random.random_range(0..outages.len()));
        std::thread::sleep(Duration::from_millis(random.random_range(5_000..60_000)));
        tell_of_the_dead(&mut crew, &site, &mut table, Happening::Renewals);
        let (began, between) = (Instant::now(), crew.between());
        loudly(&format!("{mode:?} mode, {happening:?} at {:.0?}", begun.elapsed()));
        match happening {
            Happening::ServiceHangs => site.service_hangs(10 * SECOND),
            Happening::ServiceDown => site.service_down(10 * SECOND),
            Happening::DatabaseFrozen => site.database_frozen(8 * SECOND),
            _ => site.server_down(3 * SECOND),
        }
        crew.hear(&site);
        let seen = crew.seen(&site, began).into_iter().zip(between);
        table.note(happening, seen.map(|((it, seen), was)| (it, seen.was_between(was))).collect());
        tell_of_the_dead(&mut crew, &site, &mut Table::default(), happening);
    }
    // What an outage left behind shows when the last of the grants before it ends.
    std::thread::sleep(125 * SECOND);
    tell_of_the_dead(&mut crew, &site, &mut table, Happening::Renewals);
    table.print(&format!("{mode:?} mode, a long life"));
    assert!(table.lost().is_empty(), "{:#?}", table.lost());
    assert!(more.is_empty(), "{more:#?}");
}

/// Notes those that have died since, says so, and has others in their places.
fn tell_of_the_dead(crew: &mut Crew, site: &Site, table: &mut Table, happening: Happening) {
    let seen = crew.seen(site, Instant::now());
    table.note(happening, seen.into_iter().filter(|(_, it)| it.is_dead()).collect());
    for (library, words) in crew.replace_the_dead(site) {
        loudly(&format!("{} is DEAD, {happening:?}: {words:?}", library.name()));
    }
}

/// What not everybody lives through, for README's table: a suspension, and a new password, which a client
/// without it meets once its connection has been closed. A change is nothing to anybody.
fn what_ends_some(mode: Mode) {
    let site = Site::start(mode, "24s");
    let mut table = Table::default();
    let crew = Crew::connect(&site, "suspended", 1);
    let began = Instant::now();
    change(&site, "suspended");
    crew.come_back(1, began, PATIENCE);
    crew.hear(&site);
    table.note(Happening::Change, crew.seen(&site, began));

    let began = Instant::now();
    site.deployment.sql("UPDATE users SET status = 'suspended' WHERE name = 'suspended'");
    std::thread::sleep(5 * SECOND);
    site.deployment.sql("UPDATE users SET status = 'active' WHERE name = 'suspended'");
    crew.come_back(1, began, PATIENCE);
    crew.hear(&site);
    table.note(Happening::Suspension, crew.seen(&site, began));
    drop(crew);

    let crew = Crew::connect(&site, "renamed", 1);
    site.deployment.cli(&["--json", "user", "passwd", TENANT, "renamed"]).success();
    let began = Instant::now();
    // The connections that the old password made are closed, and what tries on has heard nothing for a while.
    std::thread::sleep(45 * SECOND);
    table.note(Happening::NewPassword, crew.seen(&site, began));
    table.print(&format!("{mode:?} mode, what ends some"));
    assert!(table.lost().is_empty(), "{:#?}", table.lost());
}

fn life(mode: Mode) {
    if !lacks(mode) {
        depth(a_short_life as fn(Mode), a_long_life)(mode);
    }
}

fn end(mode: Mode) {
    if depth(false, true) && !lacks(mode) {
        what_ends_some(mode);
    }
}

#[test]
fn a_suspension_and_a_new_password_are_recorded_in_operator_mode() {
    end(Mode::Operator);
}

#[test]
fn a_suspension_and_a_new_password_are_recorded_in_config_mode() {
    end(Mode::Config);
}

#[test]
fn every_library_stays_at_its_defaults_in_operator_mode() {
    life(Mode::Operator);
}

#[test]
fn every_library_stays_at_its_defaults_in_config_mode() {
    life(Mode::Config);
}
