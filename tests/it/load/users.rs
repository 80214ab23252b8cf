//! What the number of users costs a login: the time of an uncached look-up with few and with many
//! users, side by side in one run. `cargo bench --bench load -- users [--users 1000,1000000]
//! [--database sqlite,postgres]`; the table comes on stdout, progress on stderr.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::postgres::{self, PostgresDatabase};
use nats_callout::store::{Freshness, Store, StoreOptions, open};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// What the number of users costs a login.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many users the table has
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    users: Vec<usize>,
    /// Which database
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgres")]
    database: Vec<String>,
    /// Look-ups that are timed, of each table
    #[arg(long, default_value_t = 20_000)]
    samples: usize,
}

/// Users of one tenant, and users inserted in one transaction.
const PER_TENANT: usize = 100;
const AT_ONCE: usize = 10_000;

/// Look-ups of one table before it is the next one's turn.
const TURN: usize = 100;

/// A filled table.
struct Table {
    users: usize,
    store: Arc<dyn Store>,
    filled_in: Duration,
    times: Vec<Duration>,
    // Gone last.
    _folder: Option<tempfile::TempDir>,
    _database: Option<PostgresDatabase<'static>>,
}

pub(crate) async fn run(args: &Args) {
    println!("| database | users | look-up p50 / p99 | filled in |");
    println!("|---|---:|---:|---:|");
    for database in &args.database {
        let mut tables = Vec::new();
        for &users in &args.users {
            tables.push(table(database, users).await);
        }
        for _ in 0..args.samples / TURN {
            for table in &mut tables {
                look_up(table).await;
            }
        }
        for table in &mut tables {
            table.times.sort_unstable();
            let at = |share: f64| {
                let index = (table.times.len() as f64 * share) as usize;
                table.times[index].as_secs_f64() * 1e6
            };
            println!(
                "| {database} | {} | {:.0} / {:.0} us | {:.0} s |",
                table.users,
                at(0.5),
                at(0.99),
                table.filled_in.as_secs_f64()
            );
            table.store.close().await;
        }
    }
}

async fn table(database: &str, users: usize) -> Table {
    let (folder, server, url) = match database {
        "sqlite" => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("tenants.db").display());
            (Some(folder), None, url)
        }
        "postgres" => {
            let server = postgres::database();
            let url = server.url();
            (None, Some(server), url)
        }
        other => panic!("--database {other}: sqlite or postgres"),
    };
    let store = open(&url, &StoreOptions::default()).await.unwrap();
    let begun = Instant::now();
    for first in (0..users).step_by(AT_ONCE) {
        let last = users.min(first + AT_ONCE);
        insert(&url, server.as_ref(), first, last).await;
        progress(database, last, users, begun);
    }
    if let Some(server) = &server {
        server.psql("ANALYZE");
    }
    eprintln!();
    let filled_in = begun.elapsed();
    Table { users, store, filled_in, times: Vec::new(), _folder: folder, _database: server }
}

async fn insert(url: &str, server: Option<&PostgresDatabase<'_>>, first: usize, last: usize) {
    let numbers = match server {
        Some(_) => format!("generate_series({first}, {}) AS c (n)", last - 1),
        None => format!(
            "(WITH RECURSIVE c (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c \
             WHERE n < {}) SELECT n FROM c) AS c",
            last - 1
        ),
    };
    let sql = format!(
        "BEGIN;
         INSERT INTO tenants (id, name) SELECT 't' || (n / {PER_TENANT}), 'Tenant' FROM {numbers} \
         WHERE n % {PER_TENANT} = 0;
         INSERT INTO users (tenant_id, name, password_hash) \
         SELECT 't' || (n / {PER_TENANT}), 'user-' || n || '@example.com', '$2b$10$...' \
         FROM {numbers};
         COMMIT;"
    );
    match server {
        Some(server) => drop(server.psql(&sql)),
        None => {
            let path = url.trim_start_matches("sqlite://");
            let mut connection =
                SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn look_up(table: &mut Table) {
    for _ in 0..TURN {
        // Every user is somewhere in this order, and neighbours are far apart.
        let number = table.times.len() * 7_919 % table.users;
        let name = format!("user-{number}@example.com");
        let begun = Instant::now();
        let found = table.store.user(&name, Freshness::Fresh).await.unwrap();
        table.times.push(begun.elapsed());
        assert!(found.is_some_and(|found| found.user.name == name), "{name}");
    }
}

fn progress(database: &str, done: usize, all: usize, begun: Instant) {
    const WIDTH: usize = 40;
    let filled = done * WIDTH / all;
    let left = begun.elapsed().mul_f64((all - done) as f64 / done as f64);
    eprint!(
        "\r{database} [{}{}] {done} of {all} users, {:.0} s left ",
        "#".repeat(filled),
        ".".repeat(WIDTH - filled),
        left.as_secs_f64()
    );
    let _ = std::io::stderr().flush();
}
