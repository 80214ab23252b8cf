//! Rows into records. The schema refuses what is not legal, but a row may have been written with
//! its checks turned off: such a row is an error of its own and never a record.

use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::keys::AccountId;
use crate::store::{
    Change, Closes, Effect, EffectOn, HashListing, Isolation, Limits, LoginListing, LoginRecord,
    Misfit, News, OMITTED, OutboxEvent, PasswordHash, Result, StoreError, TenantRecord,
    TokenListing, TokenRecord, UserRecord,
};

/// In the place of a text that is none.
const UNREADABLE: &str = "(unreadable)";

/// A row of one of the databases. A value of another type is an error.
pub(crate) trait Columns: Send + Sync {
    fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error>;
    fn integer(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn truth(&self, column: &str) -> Result<Option<bool>, sqlx::Error>;
    fn real(&self, column: &str) -> Result<Option<f64>, sqlx::Error>;
}

macro_rules! columns {
    ($row:ty) => {
        impl Columns for $row {
            fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
                sqlx::Row::try_get(self, column)
            }

            fn integer(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, column)
            }

            fn truth(&self, column: &str) -> Result<Option<bool>, sqlx::Error> {
                sqlx::Row::try_get(self, column)
            }

            fn real(&self, column: &str) -> Result<Option<f64>, sqlx::Error> {
                sqlx::Row::try_get(self, column)
            }
        }
    };
}

#[cfg(feature = "sqlite")]
columns!(sqlx::sqlite::SqliteRow);
#[cfg(feature = "postgres")]
columns!(sqlx::postgres::PgRow);

/// A row, and how to name it when it is corrupt.
struct Reader<'r, R> {
    row: &'r R,
    table: &'static str,
    key: String,
}

impl<'r, R: Columns> Reader<'r, R> {
    fn new(row: &'r R, table: &'static str, key: &str) -> Self {
        let key = row.text(key).ok().flatten().unwrap_or(UNREADABLE).to_owned();
        Self { row, table, key }
    }

    fn corrupt(&self, column: &str, reason: impl ToString) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            key: self.key.clone(),
            reason: format!("{column}: {}", reason.to_string()),
        }
    }

    /// A column that is never NULL.
    fn some<T>(
        &self,
        read: fn(&'r R, &str) -> Result<Option<T>, sqlx::Error>,
        column: &str,
    ) -> Result<T> {
        self.maybe(read, column)?.ok_or_else(|| self.corrupt(column, "NULL"))
    }

    fn maybe<T>(
        &self,
        read: fn(&'r R, &str) -> Result<Option<T>, sqlx::Error>,
        column: &str,
    ) -> Result<Option<T>> {
        read(self.row, column).map_err(|error| self.corrupt(column, error))
    }

    fn text(&self, column: &str) -> Result<String> {
        self.some(R::text, column).map(str::to_owned)
    }

    fn text_or_null(&self, column: &str) -> Result<Option<String>> {
        Ok(self.maybe(R::text, column)?.map(str::to_owned))
    }

    fn seconds(&self, column: &str) -> Result<i64> {
        self.some(R::integer, column)
    }

    fn seconds_or_null(&self, column: &str) -> Result<Option<i64>> {
        self.maybe(R::integer, column)
    }

    fn parse<T: FromStr<Err: ToString>>(&self, column: &str) -> Result<T> {
        self.some(R::text, column)?
            .parse()
            .map_err(|error: T::Err| self.corrupt(column, error.to_string()))
    }

    fn parse_optional<T: FromStr<Err: ToString>>(&self, column: &str) -> Result<Option<T>> {
        self.maybe(R::text, column)?
            .map(|text| {
                text.parse().map_err(|error: T::Err| self.corrupt(column, error.to_string()))
            })
            .transpose()
    }

    fn amount(&self, column: &str) -> Result<Option<u64>> {
        self.maybe(R::integer, column)?
            .map(|amount| u64::try_from(amount).map_err(|error| self.corrupt(column, error)))
            .transpose()
    }

    fn subjects(&self, column: &str) -> Result<Vec<String>> {
        serde_json::from_str(self.some(R::text, column)?)
            .map_err(|error| self.corrupt(column, error))
    }
}

/// A row of `outbox_records`.
///
/// What nobody can read is left out: the event says the rest, and holds nobody up.
pub(crate) fn event(row: &impl Columns) -> Result<OutboxEvent> {
    let row = Reader::new(row, "outbox", "id");
    let whom = |column| row.text(column).unwrap_or_else(|_| UNREADABLE.to_owned());
    let data = row.text("data").ok().and_then(|data| RawValue::from_string(data).ok());
    let omitted = || serde_json::from_str(OMITTED).map_err(|error| row.corrupt("data", error));
    Ok(OutboxEvent {
        id: row.text("id")?,
        kind: row.text("type")?,
        tenant: whom("tenant_id"),
        subject: whom("subject"),
        time: row.text("at")?,
        data: data.map_or_else(omitted, Ok)?,
    })
}

/// A row of `misfits`.
pub(crate) fn misfit(row: &impl Columns) -> Result<Misfit> {
    let row = Reader::new(row, "misfits", "key");
    Ok(Misfit { table: row.text("tbl")?, key: row.text("key")?, column: row.text("col")? })
}

/// A count.
pub(crate) fn count(row: &impl Columns) -> Result<u64> {
    Ok(Reader::new(row, "outbox", "id").amount("count")?.unwrap_or(0))
}

/// A row of `lease_records`: whose turn it is.
pub(crate) fn holder(row: &impl Columns) -> Result<String> {
    Reader::new(row, "leases", "name").text("holder")
}

/// A row of `tenant_records` or `login_records`.
pub(crate) fn tenant(row: &impl Columns) -> Result<TenantRecord> {
    let row = Reader::new(row, "tenants", "tenant_id");
    Ok(TenantRecord {
        id: row.parse("tenant_id")?,
        incarnation: row.text("incarnation")?,
        name: row.text("tenant_name")?,
        status: row.parse("tenant_status")?,
        isolation: row.parse_optional::<Isolation>("isolation")?,
        policy: row.text_or_null("tenant_policy")?,
        placement: row.text_or_null("placement")?,
        account: row.parse_optional("account")?,
        limits: Limits {
            memory: row.amount("js_memory")?.unwrap_or(0),
            storage: row.amount("js_storage")?.unwrap_or(0),
            streams: row.amount("js_streams")?,
            consumers: row.amount("js_consumers")?,
            connections: row.amount("max_connections")?,
        },
        answers: row.some(Columns::truth, "answers")?,
        expires_at: row.seconds_or_null("tenant_expires_at")?,
        created_at: row.seconds("tenant_created_at")?,
        updated_at: row.seconds("tenant_updated_at")?,
    })
}

/// A row of `user_records` or `login_records`.
pub(crate) fn user(row: &impl Columns) -> Result<UserRecord> {
    let row = Reader::new(row, "users", "user_name");
    Ok(UserRecord {
        name: row.text("user_name")?,
        kind: row.parse("kind")?,
        password_hash: row.text_or_null("password_hash")?.map(PasswordHash::new),
        nkey: row.text_or_null("nkey")?,
        certificate: row.text_or_null("certificate")?,
        publish: row.subjects("publish")?,
        subscribe: row.subjects("subscribe")?,
        policy: row.text_or_null("user_policy")?,
        status: row.parse("user_status")?,
        expires_at: row.seconds_or_null("user_expires_at")?,
        last_login_at: row.seconds_or_null("last_login_at")?,
        created_at: row.seconds("user_created_at")?,
        updated_at: row.seconds("user_updated_at")?,
    })
}

/// A row of `user_records` that has a password hash.
pub(crate) fn hash_listing(row: &impl Columns) -> Result<HashListing> {
    let row = Reader::new(row, "users", "user_name");
    Ok(HashListing {
        tenant: row.parse("user_tenant_id")?,
        user_name: row.text("user_name")?,
        hash: PasswordHash::new(row.text("password_hash")?),
    })
}

/// A row of `user_records`, without its lists.
pub(crate) fn login_listing(row: &impl Columns) -> Result<LoginListing> {
    let row = Reader::new(row, "users", "user_name");
    Ok(LoginListing {
        tenant: row.parse("user_tenant_id")?,
        user_name: row.text("user_name")?,
        nkey: row.text_or_null("nkey")?,
        certificate: row.text_or_null("certificate")?,
        policy: row.text_or_null("user_policy")?,
    })
}

/// A row of `login_records`.
pub(crate) fn login(row: &impl Columns) -> Result<LoginRecord> {
    Ok(LoginRecord { user: user(row)?, tenant: tenant(row)? })
}

/// A row of `token_records`.
pub(crate) fn token(row: &impl Columns) -> Result<TokenRecord> {
    let row = Reader::new(row, "tokens", "user_name");
    Ok(TokenRecord {
        user_name: row.text("user_name")?,
        expires_at: row.seconds_or_null("token_expires_at")?,
    })
}

/// A row of `token_records` with its tenant.
pub(crate) fn token_listing(row: &impl Columns) -> Result<TokenListing> {
    let row = Reader::new(row, "tokens", "token_id");
    Ok(TokenListing {
        id: row.text("token_id")?,
        tenant: row.parse("user_tenant_id")?,
        user_name: row.text("user_name")?,
        label: row.text_or_null("label")?,
        expires_at: row.seconds_or_null("token_expires_at")?,
        created_at: row.seconds("token_created_at")?,
    })
}

/// A row of `change_records`: what a cache forgets.
fn change(row: &impl Columns) -> Result<Option<Change>> {
    let row = Reader::new(row, "changes", "seq");
    // Whatever took a credential back is noted by itself too.
    if row.seconds("revokes")? != 0 {
        return Ok(None);
    }
    let key = row.text("key")?;
    Ok(match row.some(Columns::text, "kind")? {
        "tenant" => Some(Change::Tenant(key)),
        "user" => Some(Change::User(key)),
        "token" => Some(Change::Token(key)),
        "account" => None,
        _ => Some(Change::Everything),
    })
}

/// A row of `change_records`: what it means to connections and servers, if anything.
pub(crate) fn effect(row: &impl Columns) -> Result<Option<Effect>> {
    let row = Reader::new(row, "changes", "key");
    let on = match row.some(Columns::text, "kind")? {
        "tenant" => EffectOn::Tenant(row.parse("key")?),
        "user" => EffectOn::User(row.text("key")?),
        "account" => EffectOn::Account,
        _ => return Ok(None),
    };
    let closes = match (row.seconds("closes")? != 0, row.seconds_or_null("ends_at")?) {
        (true, _) => Closes::Everything,
        (false, Some(end)) => Closes::GrantsBeyond(end),
        (false, None) => Closes::Nothing,
    };
    let (pushes, revokes) = (row.seconds("pushes")? != 0, row.seconds("revokes")? != 0);
    if closes == Closes::Nothing && !pushes && !revokes {
        return Ok(None);
    }
    let age = Duration::try_from_secs_f64(row.some(Columns::real, "age")?).unwrap_or_default();
    // A text that is no key names no account that a server could hold.
    let account = row.maybe(Columns::text, "account")?.and_then(|account| account.parse().ok());
    Ok(Some(Effect { seq: row.seconds("seq")?, on, account, closes, revokes, pushes, age }))
}

/// Rows of `change_records`: what they tell. `None` where a row cannot be read.
pub(crate) fn news<R: Columns>(rows: &[R]) -> Option<News> {
    let mut news = News::default();
    for found in rows {
        if let Some(change) = change(found).ok()?
            && news.changes.last() != Some(&change)
        {
            news.changes.push(change);
        }
        news.effects.extend(effect(found).ok()?);
    }
    Some(news)
}

/// A row of `tenant_accounts` or `removed_accounts`.
pub(crate) fn account(row: &impl Columns) -> Result<AccountId> {
    Reader::new(row, "tenant_accounts", "account").parse("account")
}

/// A row of `instances`.
pub(crate) fn instance(row: &impl Columns) -> Result<String> {
    Reader::new(row, "instances", "id").text("id")
}

/// The row of `schema_version`, if the schema has one.
pub(crate) fn version(row: &impl Columns) -> Option<i64> {
    row.integer("version").ok().flatten()
}
