//! Which tests run at the same time. Most of them wait for conditions, as long as it takes, and run
//! side by side, as many as the test runner has threads. A test that asserts a time that users are
//! promised ([`measured`]) runs when none of these do, beside two others of its kind at most; one that
//! makes some load itself ([`measured_under_load`]) beside one, and one that makes much ([`alone`])
//! beside none: what is measured is then the product, and not the tests.
//!
//! They run last, since `within` is the last of the modules and the runner takes tests in the order
//! of their names. In any other order everything holds as well and takes longer.

use std::cell::RefCell;

use parking_lot::{Condvar, Mutex};

/// What there is to share among those who measure.
const PLACES: usize = 6;

#[derive(Debug, Default)]
struct Running {
    /// The places that are taken.
    measured: usize,
    others: usize,
    /// Of the others, those that wait for measured ones to end.
    waiting: usize,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { measured: 0, others: 0, waiting: 0 });
static CHANGED: Condvar = Condvar::new();

/// A test's turn, which ends with its thread.
#[derive(Debug)]
struct Turn {
    /// The places that it takes of those who measure; none for the others.
    measured: usize,
}

thread_local! {
    static HELD: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

impl Turn {
    fn other() -> Self {
        let mut running = RUNNING.lock();
        running.waiting += 1;
        while running.measured > 0 {
            CHANGED.wait(&mut running);
        }
        running.waiting -= 1;
        running.others += 1;
        Self { measured: 0 }
    }

    fn measured(places: usize) -> Self {
        let mut running = RUNNING.lock();
        while running.others + running.waiting > 0 || running.measured + places > PLACES {
            CHANGED.wait(&mut running);
        }
        running.measured += places;
        Self { measured: places }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = RUNNING.lock();
        running.measured -= self.measured;
        running.others -= usize::from(self.measured == 0);
        CHANGED.notify_all();
    }
}

/// Whether this is a test's own thread, which the runner names after it (or its main thread, where
/// it has no other); what a test starts is within its turn.
fn is_a_tests_own() -> bool {
    std::thread::current().name().is_some_and(|name| name == "main" || name.contains("::"))
}

/// Takes this test's turn beside others, unless it has one. Everything of the harness that costs a
/// machine something does so.
pub(crate) fn take() {
    if is_a_tests_own() {
        HELD.with_borrow_mut(|held| {
            held.get_or_insert_with(Turn::other);
        });
    }
}

/// Takes this test's turn for measuring, before it starts anything: for one that mostly waits.
pub(crate) fn measured() {
    take_for_measuring(PLACES / 3);
}

/// [`measured`], for one that has logins going on all the time.
pub(crate) fn measured_under_load() {
    take_for_measuring(PLACES / 2);
}

/// [`measured`], for one that keeps the machine busy itself.
pub(crate) fn alone() {
    take_for_measuring(PLACES);
}

fn take_for_measuring(places: usize) {
    assert!(is_a_tests_own(), "a test measures on its own thread");
    HELD.with_borrow_mut(|held| {
        // The main thread may have one of the test before.
        drop(held.take());
        *held = Some(Turn::measured(places));
    });
}
