//! Rows into records. The schema refuses what is not legal, but a row may have been written with
//! its checks turned off: such a row is an error of its own and never a record.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::{
    Change, Closes, Effect, EffectOn, Isolation, Limits, LoginRecord, PasswordHash, StoreError,
    TenantRecord, TokenListing, TokenRecord, UserRecord,
};

/// A row, and how to name it when it is corrupt.
struct Reader<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    key: String,
}

impl<'r> Reader<'r> {
    fn new(row: &'r SqliteRow, table: &'static str, key: &str) -> Self {
        let key = row.try_get(key).unwrap_or_else(|_| "(unreadable)".into());
        Self { row, table, key }
    }

    fn corrupt(&self, column: &str, reason: impl ToString) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            key: self.key.clone(),
            reason: format!("{column}: {}", reason.to_string()),
        }
    }

    fn take<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    fn parse<T: FromStr<Err: ToString>>(&self, column: &str) -> Result<T, StoreError> {
        self.take::<&str>(column)?
            .parse()
            .map_err(|error: T::Err| self.corrupt(column, error.to_string()))
    }

    fn parse_optional<T: FromStr<Err: ToString>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.take::<Option<&str>>(column)?
            .map(|text| {
                text.parse().map_err(|error: T::Err| self.corrupt(column, error.to_string()))
            })
            .transpose()
    }

    fn amount(&self, column: &str) -> Result<Option<u64>, StoreError> {
        self.take::<Option<i64>>(column)?
            .map(|amount| u64::try_from(amount).map_err(|error| self.corrupt(column, error)))
            .transpose()
    }

    fn subjects(&self, column: &str) -> Result<Vec<String>, StoreError> {
        serde_json::from_str(self.take(column)?).map_err(|error| self.corrupt(column, error))
    }
}

/// A row of `tenant_records` or `login_records`.
pub(super) fn tenant(row: &SqliteRow) -> Result<TenantRecord, StoreError> {
    let row = Reader::new(row, "tenants", "tenant_id");
    Ok(TenantRecord {
        id: row.parse("tenant_id")?,
        incarnation: row.take("incarnation")?,
        name: row.take("tenant_name")?,
        status: row.parse("tenant_status")?,
        isolation: row.parse_optional::<Isolation>("isolation")?,
        policy: row.take("tenant_policy")?,
        placement: row.take("placement")?,
        account: row.parse_optional("account")?,
        limits: Limits {
            memory: row.amount("js_memory")?.unwrap_or(0),
            storage: row.amount("js_storage")?.unwrap_or(0),
            streams: row.amount("js_streams")?,
            consumers: row.amount("js_consumers")?,
            connections: row.amount("max_connections")?,
        },
        answers: row.take("answers")?,
        expires_at: row.take("tenant_expires_at")?,
        created_at: row.take("tenant_created_at")?,
        updated_at: row.take("tenant_updated_at")?,
    })
}

/// A row of `user_records` or `login_records`.
pub(super) fn user(row: &SqliteRow) -> Result<UserRecord, StoreError> {
    let row = Reader::new(row, "users", "user_name");
    Ok(UserRecord {
        name: row.take("user_name")?,
        kind: row.parse("kind")?,
        password_hash: row.take::<Option<String>>("password_hash")?.map(PasswordHash::new),
        nkey: row.take("nkey")?,
        certificate: row.take("certificate")?,
        publish: row.subjects("publish")?,
        subscribe: row.subjects("subscribe")?,
        policy: row.take("user_policy")?,
        status: row.parse("user_status")?,
        expires_at: row.take("user_expires_at")?,
        last_login_at: row.take("last_login_at")?,
        created_at: row.take("user_created_at")?,
        updated_at: row.take("user_updated_at")?,
    })
}

/// A row of `login_records`.
pub(super) fn login(row: &SqliteRow) -> Result<LoginRecord, StoreError> {
    Ok(LoginRecord { user: user(row)?, tenant: tenant(row)? })
}

/// A row of `token_records`.
pub(super) fn token(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let row = Reader::new(row, "tokens", "user_name");
    Ok(TokenRecord { user_name: row.take("user_name")?, expires_at: row.take("token_expires_at")? })
}

/// A row of `token_records` with its tenant.
pub(super) fn token_listing(row: &SqliteRow) -> Result<TokenListing, StoreError> {
    let row = Reader::new(row, "tokens", "token_id");
    Ok(TokenListing {
        id: row.take("token_id")?,
        tenant: row.parse("user_tenant_id")?,
        user_name: row.take("user_name")?,
        label: row.take("label")?,
        expires_at: row.take("token_expires_at")?,
        created_at: row.take("token_created_at")?,
    })
}

/// A row of `change_records`: what a cache forgets.
pub(super) fn change(row: &SqliteRow) -> Result<Option<Change>, StoreError> {
    let row = Reader::new(row, "changes", "seq");
    let key = row.take("key")?;
    Ok(match row.take("kind")? {
        "tenant" => Some(Change::Tenant(key)),
        "user" => Some(Change::User(key)),
        "token" => Some(Change::Token(key)),
        "account" => None,
        _ => Some(Change::Everything),
    })
}

/// A row of `change_records`: what it means to connections and servers, if anything.
pub(super) fn effect(row: &SqliteRow) -> Result<Option<Effect>, StoreError> {
    let row = Reader::new(row, "changes", "key");
    let on = match row.take("kind")? {
        "tenant" => EffectOn::Tenant(row.parse("key")?),
        "user" => EffectOn::User(row.take("key")?),
        "account" => EffectOn::Account,
        _ => return Ok(None),
    };
    let closes = match (row.take::<bool>("closes")?, row.take("ends_at")?) {
        (true, _) => Closes::Everything,
        (false, Some(end)) => Closes::GrantsBeyond(end),
        (false, None) => Closes::Nothing,
    };
    let pushes: bool = row.take("pushes")?;
    if closes == Closes::Nothing && !pushes {
        return Ok(None);
    }
    let age = Duration::try_from_secs_f64(row.take("age")?).unwrap_or_default();
    // A text that is no key names no account that a server could hold.
    let account = row.take::<Option<&str>>("account")?.and_then(|account| account.parse().ok());
    Ok(Some(Effect { seq: row.take("seq")?, on, account, closes, pushes, age }))
}
