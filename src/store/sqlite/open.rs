//! Opening: makes the file with its modes, brings the schema up to date while others may be doing
//! the same, and says what is wrong in words that a person can act on.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::SqliteStore;
use super::accounts::Keeping;
use super::fault::{BUSY, CANTOPEN, CORRUPT, IOERR, LOCKED, NOTADB, READONLY, primary_code};
use super::feed::Feed;
use crate::store::migrations::{self, schema};
use crate::store::options::{OpenError, StoreOptions};

/// Time between attempts while another process creates the same file.
const RETRY: Duration = Duration::from_millis(20);

fn path_of(url: &str) -> Result<&Path, OpenError> {
    let wrong = |reason| {
        Err(OpenError::new(format!("database URL `{url}`: {reason}; write sqlite://PATH")))
    };
    let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) else {
        return wrong("not an SQLite URL");
    };
    match path {
        "" => wrong("no path"),
        ":memory:" => wrong("a database in memory would be gone with the connection"),
        _ if path.contains('?') => wrong("no parameters are taken"),
        _ if path.contains('\0') => wrong("a path has no NUL"),
        _ => Ok(Path::new(path)),
    }
}

/// Makes the file where there is none, and says whether it did. It belongs to its owner alone,
/// whatever the umask; SQLite gives its -wal and -shm the same mode.
///
/// The file gets its name only when it is ready and closed: closing a descriptor of a database
/// drops the locks that this whole process has on it, so nothing but SQLite may have it open.
fn make(path: &Path) -> Result<bool, OpenError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.exists() {
        let folder = folder.display();
        let what = format!("the folder {folder} does not exist; create it or correct the path");
        return Err(OpenError::of(path.display(), what));
    }
    let fault = |source: io::Error| {
        let what = format!(
            "{source}; name a file that this user can read and write, in a folder where it can make \
             others"
        );
        OpenError::of(path.display(), what).by(source)
    };
    match path.metadata() {
        Ok(there) if there.is_dir() => Err(fault(io::Error::from(io::ErrorKind::IsADirectory))),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let unnamed = folder.join(format!(".{name}.{}.{number}", std::process::id()));
            let made = make_as(&unnamed, path);
            // Gone already, if the file system knows no links.
            let _ = std::fs::remove_file(&unnamed);
            made.map_err(fault)
        }
        Err(error) => Err(fault(error)),
    }
}

fn make_as(unnamed: &Path, path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    owner_only(&options.open(unnamed)?)?;
    match std::fs::hard_link(unnamed, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // No links here: as good as it gets without them.
        Err(_) if !path.exists() => std::fs::rename(unnamed, path).map(|()| true),
        Err(error) => Err(error),
    }
}

/// Distinguishes the files that this process is making.
static NEXT: AtomicU64 = AtomicU64::new(0);

#[cfg(unix)]
fn owner_only(file: &File) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

#[cfg(not(unix))]
fn owner_only(_: &File) -> io::Result<()> {
    Ok(())
}

fn understand(path: &Path, source: sqlx::Error, waited: Duration) -> OpenError {
    let path = path.display();
    match primary_code(&source) {
        Some(BUSY | LOCKED) => {
            let waited = waited.as_secs_f32();
            let what = format!(
                "locked by another program for more than {waited} s; end its transaction and try \
                 again"
            );
            OpenError::of(path, what).locked()
        }
        Some(NOTADB | CORRUPT) => OpenError::of(
            path,
            "not an SQLite database, or a damaged one; correct the path or restore a backup",
        ),
        Some(READONLY | CANTOPEN) => OpenError::of(
            path,
            "cannot be read and written; let this user do so with the file, and make others in its \
             folder, where SQLite keeps the -wal and -shm files",
        ),
        _ => OpenError::of(path, &source).by(source),
    }
}

/// What goes wrong while another process creates, recovers or closes the same file.
fn passing(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(BUSY | LOCKED | IOERR))
}

/// Whether every migration of this build is applied: then nothing needs to be written, and opening
/// waits for nobody.
async fn is_current(
    connection: &mut SqliteConnection,
    migrator: &Migrator,
) -> Result<bool, sqlx::Error> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(table).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(false);
    }
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await?;
    let applied: Vec<(i64, Vec<u8>)> = rows
        .iter()
        .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(migrator.iter().all(|ours| {
        applied.iter().any(|(version, sum)| *version == ours.version && *sum == *ours.checksum)
    }))
}

/// Fails if the file cannot be written at all; that another program is just writing is no matter.
async fn probe(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    match connection.begin_with("BEGIN IMMEDIATE").await {
        Ok(transaction) => transaction.rollback().await,
        Err(error) if passing(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// All migrations in one transaction that has the file's lock from its beginning: whoever comes
/// second finds them applied.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let migrator = migrations::sqlite();
    if is_current(connection, &migrator).await? {
        return probe(connection).await.map_err(MigrateError::Execute);
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrator.run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}

fn database_error(error: MigrateError) -> Result<sqlx::Error, MigrateError> {
    match error {
        MigrateError::Execute(error) => Ok(error),
        MigrateError::ExecuteMigration(error, _) if passing(&error) => Ok(error),
        other => Err(other),
    }
}

/// Switches to WAL and brings the schema up to date.
async fn prepare(path: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let began = Instant::now();
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(options.open_timeout / 4);
    loop {
        let attempt = async {
            let mut connection = connect.connect().await.map_err(MigrateError::Execute)?;
            migrate(&mut connection).await?;
            connection.close().await.map_err(MigrateError::Execute)
        };
        let error = match attempt.await {
            Ok(()) => return Ok(()),
            Err(error) => database_error(error).map_err(|source| schema(path.display(), source))?,
        };
        // Switching to WAL does not wait for the lock by itself.
        if !passing(&error) || began.elapsed() >= options.open_timeout {
            return Err(understand(path, error, began.elapsed()));
        }
        tokio::time::sleep(RETRY).await;
    }
}

pub(super) async fn open(url: &str, options: &StoreOptions) -> Result<SqliteStore, OpenError> {
    let path = path_of(url)?;
    let made = make(path)?;
    if let Err(error) = prepare(path, options).await {
        let empty = || path.metadata().is_ok_and(|file| file.len() == 0);
        if made && !error.is_locked && empty() {
            // Only tidying: the error that is told is the one above.
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(options.read_timeout);
    let pool =
        SqlitePoolOptions::new().test_before_acquire(false).idle_timeout(None).max_lifetime(None);
    let readers = pool
        .clone()
        .max_connections(options.readers.max(1))
        .acquire_timeout(options.read_timeout)
        .connect_lazy_with(connect.clone());
    let writer = pool
        .max_connections(1)
        .acquire_timeout(options.write_timeout)
        .connect_lazy_with(connect.clone().busy_timeout(options.write_timeout));
    let store = SqliteStore {
        path: path.into(),
        readers,
        writer,
        feed: Feed::new(connect),
        keeping: Keeping::default(),
    };
    match store.readers.acquire().await {
        Ok(_) => Ok(store),
        Err(source) => Err(understand(path, source, options.read_timeout)),
    }
}
