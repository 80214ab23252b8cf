//! Opening: connects, brings the schema up to date while others may be doing the same, and says what
//! is wrong in words that a person can act on.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};
use tokio::time::{Instant, timeout_at};

use super::fault::{
    BAD_LOGIN, BAD_PASSWORD, CANCELLED, NO_DATABASE, NO_LOCK, NO_RIGHT, PROTOCOL, READ_ONLY,
    STARTING, TOO_MANY_CONNECTIONS, code, is_passing, no_right, unreached,
};
use super::feed::Feed;
use super::pool::{Pool, silent};
use super::servers::Servers;
use super::{Place, PostgresStore};
use crate::causes::with_tls_remedy;
use crate::store::migrations::schema;
use crate::store::options::{OpenError, StoreOptions};
use crate::store::{migrations, queries};

/// The oldest release that the schema works on: PostgreSQL 14.
const OLDEST: i32 = 140_000;

/// What everybody who migrates holds while doing so: `ncallout` in ASCII.
const MIGRATING: i64 = 0x6e63_616c_6c6f_7574;

/// A setting of the connection that means nothing to the server, and that a pooler leaves out.
const DIRECT: &str = "nats_callout.direct";

const IS_DIRECT: &str =
    "SELECT current_setting('nats_callout.direct', TRUE) IS NOT DISTINCT FROM 'yes'";

/// What there is to do about a pooler.
const POOLER: &str = "a pooler such as PgBouncer stands before the server, and keeps from it what the \
    service sets on its connections: time limits, and to hear of changes. Give host and port of the \
    server itself in the URL; an instance has at most eleven connections, which it keeps";

/// Between two attempts while the server starts.
const RETRY: Duration = Duration::from_millis(100);

/// What is wrong with a URL that cannot be read.
fn unreadable(reason: String) -> OpenError {
    OpenError::new(format!(
        "the database's URL cannot be read ({reason}); write postgres://USER:PASSWORD@HOST/DATABASE, \
         with @ / # ? % in the password percent-encoded"
    ))
}

/// What the database says, and what to do about it.
fn understand(place: &Place, source: sqlx::Error, waited: Duration) -> OpenError {
    match understood(place, &source, waited) {
        Some(what) => OpenError::of(place, what),
        None => OpenError::of(place, &source).by(source),
    }
}

fn understood(place: &Place, error: &sqlx::Error, waited: Duration) -> Option<String> {
    let reason = match (error.as_database_error(), error) {
        (Some(error), _) => error.message().to_owned(),
        (None, sqlx::Error::Io(error)) => error.to_string(),
        (None, other) => other.to_string(),
    };
    let no_tls = || {
        format!(
            "no connection over TLS ({}); set the server up for TLS, or correct sslmode and \
             sslrootcert in the URL",
            with_tls_remedy(reason.clone(), "sslrootcert of the URL")
        )
    };
    Some(match (code(error).as_deref(), error) {
        (_, sqlx::Error::Tls(_)) => no_tls(),
        // A handshake that fails, or a certificate's file that cannot be read; a socket's path is
        // not there where no server is.
        (_, sqlx::Error::Io(error))
            if error.kind() == ErrorKind::InvalidData
                || (matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
                    && !place.server.starts_with('/')) =>
        {
            no_tls()
        }
        (_, sqlx::Error::Io(_)) | (Some(STARTING), _) => {
            format!("{}; start it, or correct host and port in the URL", unreached(reason))
        }
        // Of a pooler; the server itself knows them all.
        (Some(PROTOCOL), _) if reason.contains("startup parameter") => {
            format!("{POOLER} ({reason})")
        }
        (Some(TOO_MANY_CONNECTIONS), _) => format!(
            "the server has no free connection ({reason}); raise its max_connections, or run fewer \
             programs"
        ),
        (Some(NO_DATABASE), _) => format!(
            "does not exist; create it with CREATE DATABASE {} ENCODING 'UTF8'",
            place.database
        ),
        (Some(BAD_PASSWORD | BAD_LOGIN), _) => format!(
            "the user {} is not let in ({reason}); correct user and password in the URL, or let the \
             user in by pg_hba.conf",
            place.user
        ),
        (Some(NO_RIGHT), _) => format!("{reason}; {}", no_right(place)),
        (Some(CANCELLED | NO_LOCK), _) => format!(
            "its tables could not be brought up to date within {} s, since others lock them; \
             `nats-callout doctor` names them: end their transactions and try again",
            waited.as_secs_f32()
        ),
        (Some(READ_ONLY), _) => {
            "read-only, and its tables are not up to date; open the primary server's once"
                .to_owned()
        }
        _ => return None,
    })
}

/// Whether every migration of this build is applied: then nothing needs to be written, and opening
/// waits for nobody.
async fn is_current(
    connection: &mut PgConnection,
    migrator: &Migrator,
) -> Result<bool, sqlx::Error> {
    let table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(table).fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await?;
    Ok(migrator.iter().all(|ours| {
        applied.iter().any(|(version, sum)| *version == ours.version && *sum == *ours.checksum)
    }))
}

/// All migrations in one transaction, one instance at a time: whoever comes second finds them
/// applied.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut migrator = migrations::postgres();
    // The transaction's own lock ends with it, however it ends.
    migrator.set_locking(false);
    if is_current(connection, &migrator).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(MIGRATING)
        .execute(&mut *transaction)
        .await?;
    migrator.run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether what is set on a connection arrives.
async fn is_direct(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Unprepared: of a prepared statement some poolers know nothing any more.
    let row = sqlx::raw_sql(IS_DIRECT).fetch_one(connection).await?;
    row.try_get(0)
}

/// Whether the server and the database can hold the tables.
async fn check(connection: &mut PgConnection, place: &Place) -> Result<(), OpenError> {
    let facts = "SELECT current_setting('server_version_num')::INT AS number, \
        current_setting('server_version') AS version, current_setting('server_encoding') AS encoding";
    let fault = |source: sqlx::Error| OpenError::of(place, &source).by(source);
    let facts = sqlx::query(facts).fetch_one(connection).await.map_err(fault)?;
    if facts.try_get::<i32, _>("number").map_err(fault)? < OLDEST {
        let version: String = facts.try_get("version").map_err(fault)?;
        let what = format!("PostgreSQL {version} is too old; 14 is the oldest release supported");
        return Err(OpenError::of(place, what));
    }
    let encoding: String = facts.try_get("encoding").map_err(fault)?;
    match &*encoding {
        "UTF8" => Ok(()),
        _ => {
            let what = format!("its encoding is {encoding}; create it with ENCODING 'UTF8'");
            Err(OpenError::of(place, what))
        }
    }
}

/// Changes that came with a restore from another server carry transaction ids that this one is yet
/// to reach: they would be news at every look until then.
async fn rebase(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const FOREIGN: &str = "SELECT NOT pg_is_in_recovery() AND EXISTS ( \
        SELECT FROM changes WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))";
    const REBASE: &str = "UPDATE changes SET xid = pg_current_xact_id() \
        WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
    if sqlx::query_scalar::<_, bool>(FOREIGN).fetch_one(&mut *connection).await? {
        sqlx::query(REBASE).execute(connection).await?;
    }
    Ok(())
}

/// Connects; a server that is just starting or full is waited for.
async fn connect(servers: &Servers, deadline: Instant) -> Result<PgConnection, sqlx::Error> {
    let mut last = silent();
    loop {
        let error = match timeout_at(deadline, servers.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            // What it said before tells more.
            Err(_) => return Err(last),
        };
        let refused = matches!(error, sqlx::Error::Io(_));
        if refused || !is_passing(&error) || Instant::now() + RETRY >= deadline {
            return Err(error);
        }
        last = error;
        tokio::time::sleep(RETRY).await;
    }
}

/// Brings the schema up to date, and sees that it can be read.
async fn prepare(servers: &Servers, place: &Place, patience: Duration) -> Result<(), OpenError> {
    let fault = |source| understand(place, source, patience);
    let deadline = Instant::now() + patience;
    let servers = servers.with(|options| limited(options, patience).options([(DIRECT, "yes")]));
    let mut connection = connect(&servers, deadline).await.map_err(fault)?;
    if !is_direct(&mut connection).await.map_err(fault)? {
        return Err(OpenError::of(place, POOLER));
    }
    check(&mut connection, place).await?;
    migrate(&mut connection).await.map_err(|error| {
        let what = match error {
            MigrateError::Execute(source) => return fault(source),
            MigrateError::ExecuteMigration(ref source, _) => understood(place, source, patience),
            _ => None,
        };
        what.map_or_else(|| schema(place, error), |what| OpenError::of(place, what))
    })?;
    sqlx::query(queries::PING).execute(&mut connection).await.map_err(fault)?;
    rebase(&mut connection).await.map_err(fault)?;
    // A connection that cannot be closed in order is closed all the same.
    let _ = connection.close().await;
    Ok(())
}

/// The server itself gives up a little earlier than we do, so that the connection stays of use, and
/// nothing goes on for long for whom nobody waits any more.
fn limited(options: PgConnectOptions, patience: Duration) -> PgConnectOptions {
    let limit = |parts: u32| (patience * parts / 10).as_millis().max(1).to_string();
    options.options([("statement_timeout", limit(9)), ("lock_timeout", limit(8))])
}

pub(super) async fn open(url: &str, options: &StoreOptions) -> Result<PostgresStore, OpenError> {
    let (servers, store) = unopened(url, options).map_err(unreadable)?;
    prepare(&servers, &store.place, options.open_timeout).await?;
    Ok(store)
}

/// How to connect, and what works on the tables once they are there.
pub(super) fn unopened(
    url: &str,
    options: &StoreOptions,
) -> Result<(Servers, PostgresStore), String> {
    let servers = Servers::parse(url)?.with(|connect| {
        let connect = match connect.get_application_name() {
            None => connect.application_name("nats-callout"),
            Some(_) => connect,
        };
        // A host that dies in the middle of a transaction does not leave its locks behind for long.
        connect.options([
            ("idle_in_transaction_session_timeout", "10s"),
            ("client_min_messages", "warning"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ])
    });
    let reading = servers.with(|connect| limited(connect, options.read_timeout));
    let writing = servers.with(|connect| limited(connect, options.write_timeout));
    let store = PostgresStore {
        place: Place::of(&servers),
        feed: Feed::new(&reading, options.read_timeout),
        readers: Pool::new(reading, options.readers, options.read_timeout),
        writers: Pool::new(writing, options.readers, options.write_timeout),
    };
    Ok((servers, store))
}
