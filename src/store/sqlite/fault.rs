//! What an error of the database means: a rule of the schema was broken, or the database cannot
//! answer now. Only the former is the caller's to mend.

use std::path::Path;

use crate::store::StoreError;
use crate::store::sql::Subject;

/// Primary result codes (<https://www.sqlite.org/rescode.html>).
pub(super) const BUSY: i32 = 5;
pub(super) const LOCKED: i32 = 6;
pub(super) const READONLY: i32 = 8;
pub(super) const IOERR: i32 = 10;
pub(super) const CORRUPT: i32 = 11;
pub(super) const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
pub(super) const NOTADB: i32 = 26;

/// The primary result code, if it was SQLite that failed.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Whether the file cannot be read as what it should be.
pub(super) fn damaged(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(IOERR | CORRUPT | NOTADB))
}

/// An error of a read, or of anything that breaks no rule of the schema.
pub(super) fn unavailable(path: &Path, error: &sqlx::Error) -> StoreError {
    let path = path.display();
    StoreError::Unavailable(match (primary_code(error), error) {
        (Some(BUSY | LOCKED), _) => {
            format!("{path} is locked by another program for longer than we may wait")
        }
        (_, sqlx::Error::PoolTimedOut) => format!("{path}: no connection became free in time"),
        (_, other) => format!("{path}: {other}"),
    })
}

/// An error of a write.
pub(super) fn refused(path: &Path, error: &sqlx::Error, subject: Subject<'_>) -> StoreError {
    let (Some(CONSTRAINT), Some(database)) = (primary_code(error), error.as_database_error())
    else {
        return unavailable(path, error);
    };
    let text = database.message();
    let text = text.strip_prefix("CHECK constraint failed: ").unwrap_or(text);
    if text.ends_with(": no such tenant") {
        StoreError::Missing { what: "tenant", key: subject.parent.into() }
    } else if text.ends_with(": no such user") {
        StoreError::Missing { what: "user", key: subject.parent.into() }
    } else if matches!(
        text,
        "UNIQUE constraint failed: tenants.id" | "UNIQUE constraint failed: users.name"
    ) || text.starts_with("tokens.token_hash: another")
        || text.starts_with("UNIQUE constraint failed: tokens.")
    {
        StoreError::Exists { what: subject.what, key: subject.key.into() }
    } else {
        StoreError::Refused(text.into())
    }
}
