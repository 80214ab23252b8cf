//! What an error of the database means: a rule of the schema was broken, or the database cannot
//! answer now. Only the former is the caller's to mend.

use std::fmt::Display;
use std::io::ErrorKind;

use super::Place;
use crate::store::StoreError;
use crate::store::sql::Subject;

/// SQLSTATE codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) const NOT_NULL: &str = "23502";
pub(super) const FOREIGN_KEY: &str = "23503";
const UNIQUE: &str = "23505";
const CHECK: &str = "23514";
pub(super) const READ_ONLY: &str = "25006";
const SERIALIZATION: &str = "40001";
const DEADLOCK: &str = "40P01";
pub(super) const BAD_PASSWORD: &str = "28P01";
pub(super) const BAD_LOGIN: &str = "28000";
pub(super) const NO_DATABASE: &str = "3D000";
pub(super) const NO_RIGHT: &str = "42501";
pub(super) const TOO_MANY_CONNECTIONS: &str = "53300";
pub(super) const NO_LOCK: &str = "55P03";
pub(super) const CANCELLED: &str = "57014";
const ENDED: [&str; 3] = ["57P01", "57P02", "57P05"];
/// What was prepared is another statement by now: a newer release has changed a view.
const OUTDATED: [&str; 2] = ["0A000", "26000"];
/// What one of the two does not know of the protocol.
pub(super) const PROTOCOL: &str = "08P01";
pub(super) const STARTING: &str = "57P03";

/// The SQLSTATE code, if it was the server that said so.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn is(error: &sqlx::Error, codes: &[&str]) -> bool {
    code(error).is_some_and(|code| codes.contains(&&*code))
}

/// Whether the connection is of no use any more.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => {
            is(error, &ENDED)
                || is(error, &OUTDATED)
                || code(error).is_some_and(|code| code.starts_with("08"))
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}

/// Whether connecting may work in a moment: the server is starting, or has all the connections that
/// it takes.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_)) || is(error, &[STARTING, TOO_MANY_CONNECTIONS])
}

/// Whether the same transaction may well succeed when it is tried again.
pub(super) fn is_collision(error: &sqlx::Error) -> bool {
    is(error, &[SERIALIZATION, DEADLOCK])
}

/// An error of a read, or of anything that breaks no rule of the schema.
pub(super) fn unavailable(place: &Place, error: &sqlx::Error) -> StoreError {
    if let sqlx::Error::Io(fault) = error
        && fault.kind() != ErrorKind::InvalidData
    {
        return StoreError::Unavailable(format!("{place}: {}", unreached(fault)));
    }
    StoreError::Unavailable(match code(error).as_deref() {
        Some(CANCELLED | NO_LOCK) => {
            format!("{place}: slow, or a table is locked for longer than we may wait ({error})")
        }
        Some(READ_ONLY) => format!("{place}: the database is read-only"),
        Some(NO_RIGHT) => format!("{place}: {} ({error})", no_right(place)),
        Some(TOO_MANY_CONNECTIONS) => {
            format!("{place}: the server has no free connection ({error})")
        }
        _ => format!("{place}: {error}"),
    })
}

/// The server is down, hangs, or is not to be reached. (`InvalidData` is a fault of TLS.)
pub(super) fn unreached(reason: impl Display) -> String {
    format!("the server cannot be reached ({reason})")
}

pub(super) fn no_right(place: &Place) -> String {
    format!("the user {} lacks a right, see deploy/postgres/service.sql", place.user)
}

/// An error of a write.
pub(super) fn refused(place: &Place, error: &sqlx::Error, subject: Subject<'_>) -> StoreError {
    let Some(database) = error.as_database_error() else { return unavailable(place, error) };
    let code = code(error).unwrap_or_default();
    match (&*code, database.constraint().unwrap_or_default()) {
        (FOREIGN_KEY, rule) if rule.ends_with(": no such tenant") => {
            StoreError::Missing { what: "tenant", key: subject.parent.into() }
        }
        (FOREIGN_KEY, rule) if rule.ends_with(": no such user") => {
            StoreError::Missing { what: "user", key: subject.parent.into() }
        }
        (UNIQUE, rule)
            if ["tenants.id: ", "users.name: ", "tokens."]
                .iter()
                .any(|of| rule.starts_with(of)) =>
        {
            StoreError::Exists { what: subject.what, key: subject.key.into() }
        }
        // The name of the rule is its text; the server's own words would repeat the value.
        (UNIQUE, rule) => StoreError::Refused(rule.into()),
        (CHECK | NOT_NULL, _) => StoreError::Refused(database.message().into()),
        // A value that no column of that type can hold, such as a text with a NUL.
        (code, _) if code.starts_with("22") => StoreError::Refused(database.message().into()),
        _ => unavailable(place, error),
    }
}
