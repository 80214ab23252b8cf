//! The steps that bring a database's schema up to date, in the order of their numbers: the files of
//! `migrations/sqlite` and `migrations/postgres`, as they were when this program was built.

use std::fmt::Display;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::options::OpenError;

/// A step: its number, what it brings, and its statements.
type Step = (i64, &'static str, &'static str);

/// The files of a folder: both databases have the same steps, each in its own words.
macro_rules! steps {
    ($folder:literal) => {
        steps!($folder:
            1 "tables" "0001_tables.sql",
            2 "rules" "0002_rules.sql",
            3 "changes" "0003_changes.sql",
            4 "views" "0004_views.sql",
            5 "events" "0005_events.sql",
            6 "end of tenant" "0006_end_of_tenant.sql",
            7 "bounds" "0007_bounds.sql",
            8 "over" "0008_over.sql",
            9 "credentials" "0009_credentials.sql",
            10 "refusals" "0010_refusals.sql",
            11 "names" "0011_names.sql",
            12 "likeness" "0012_likeness.sql",
            13 "bytes" "0013_bytes.sql",
        )
    };
    ($folder:literal: $($number:literal $name:literal $file:literal,)+) => {
        &[$((
            $number,
            $name,
            include_str!(concat!("migrations/", $folder, "/", $file)),
        )),+]
    };
}

#[cfg(feature = "sqlite")]
const SQLITE: &[Step] = steps!("sqlite");

#[cfg(feature = "postgres")]
const POSTGRES: &[Step] = steps!("postgres");

/// SQLite's.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// PostgreSQL's.
#[cfg(feature = "postgres")]
pub(super) fn postgres() -> Migrator {
    migrator(POSTGRES)
}

/// That a schema could not be brought up to date.
pub(super) fn schema(database: impl Display, source: MigrateError) -> OpenError {
    let what = format!(
        "its tables cannot be brought up to date ({source}); is it the database of another program?"
    );
    OpenError::of(database, what).by(source)
}

/// Steps of a newer version that a database has already do no harm.
fn migrator(steps: &[Step]) -> Migrator {
    let steps = steps.iter().map(|&(number, name, statements)| {
        let statements = statements.into_sql_str();
        Migration::new(number, name.into(), MigrationType::Simple, statements, false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_ignore_missing(true);
    migrator
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use super::*;

    /// Number and name are written to the database, and a file that nobody names is never applied.
    #[test]
    fn every_file_is_a_step_under_its_own_number_and_name() {
        for (folder, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = path.join("src/store/migrations").join(folder);
            let mut files: Vec<(String, String)> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                    (name, std::fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            let named: Vec<(String, String)> = steps
                .iter()
                .map(|(number, name, statements)| {
                    (format!("{number:04}_{}.sql", name.replace(' ', "_")), statements.to_string())
                })
                .collect();
            assert_eq!(named, files);
        }
    }
}
