//! In which mode a test runs, and in which database its tenants are.
//!
//! A claim that does not depend on them is proved once: the test's name chooses, so that it is the same
//! in each run and all four pairs occur. A failure prints which they were. `TEST_DATABASE` and
//! `TEST_MODE` choose for all tests.

use super::deployment::Mode;
use super::{loudly, servers};

/// Whether the server under test lacks a mode, which is said.
pub(crate) fn lacks(mode: Mode) -> bool {
    let lacks = mode == Mode::Operator && !servers::has_operator_mode();
    if lacks {
        let version = servers::version();
        loudly(&format!("SKIPPED: operator mode, which nats-server {version} cannot serve"));
    }
    lacks
}

/// The modes that the server under test has: for a claim about both.
pub(crate) fn modes() -> impl Iterator<Item = Mode> {
    [Mode::Operator, Mode::Config].into_iter().filter(|mode| !lacks(*mode))
}

/// The mode that this test runs in: for a claim that holds in both, and by the same code.
/// `TEST_MODE=both` gives it in both, one after the other.
pub(crate) fn either_mode() -> impl Iterator<Item = Mode> {
    let chosen = match std::env::var("TEST_MODE").as_deref() {
        Ok("both") => None,
        Ok("operator") => Some(Mode::Operator),
        Ok("config") => Some(Mode::Config),
        Ok(other) => panic!("TEST_MODE={other}: write operator, config or both"),
        Err(_) if !servers::has_operator_mode() => Some(Mode::Config),
        Err(_) if (sum(&test()) / 2).is_multiple_of(2) => Some(Mode::Operator),
        Err(_) => Some(Mode::Config),
    };
    modes().filter(move |mode| chosen.is_none_or(|chosen| chosen == *mode))
}

/// Whether this test has its tenants in PostgreSQL in this mode: fixed by its name, and the other way
/// round in the other mode, so that a claim about both modes is one about both databases. One in a module of
/// the database's name, as of [`on_both_databases`], says it itself; a main thread is a benchmark's, or that of a runner with one
/// thread.
pub(super) fn uses_postgres(mode: Mode) -> bool {
    let test = test();
    if test == "main" || test.contains("on_sqlite::") {
        return false;
    }
    if test.contains("on_postgres::") {
        return true;
    }
    match std::env::var("TEST_DATABASE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") => false,
        Ok(other) => panic!("TEST_DATABASE={other}: write sqlite or postgres"),
        Err(_) => sum(&test).is_multiple_of(2) == (mode == Mode::Operator),
    }
}

/// The name of the test that runs on this thread.
fn test() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// What chooses for a claim, whichever mode its name says it is proved in.
fn sum(test: &str) -> usize {
    let claim = test.strip_suffix("_in_operator_mode").or(test.strip_suffix("_in_config_mode"));
    claim.unwrap_or(test).bytes().map(usize::from).sum()
}

/// A test for each database out of each function, which may be async: for what is about the table.
macro_rules! on_both_databases {
    (@each) => {};
    (@each $(#[$about:meta])* async fn $name:ident() $body:block $($others:tt)*) => {
        $(#[$about])*
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() $body
        $crate::harness::choice::on_both_databases!(@each $($others)*);
    };
    (@each $(#[$about:meta])* fn $name:ident() $body:block $($others:tt)*) => {
        $(#[$about])*
        #[test]
        fn $name() $body
        $crate::harness::choice::on_both_databases!(@each $($others)*);
    };
    ($($tests:tt)+) => {
        mod on_sqlite {
            use super::*;
            $crate::harness::choice::on_both_databases!(@each $($tests)+);
        }
        mod on_postgres {
            use super::*;
            $crate::harness::choice::on_both_databases!(@each $($tests)+);
        }
    };
}
pub(crate) use on_both_databases;
