//! The tenant table, and the instances that note there that they are alive.

use super::super::database;
use super::super::settle::HEARTBEAT_SECONDS;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::{Findings, rows};
use crate::config::Config;
use crate::store::{Coordination, Hindrance, Misfit, ProvisioningStore, TenantRecord};

const DATABASE: &str = "database";
const INSTANCES: &str = "instances";
const ROWS: &str = "rows";
const LOCKS: &str = "locks";

/// How long it is listened who holds others up.
const LISTEN: Duration = Duration::from_secs(1);

/// How often, and at what distance, a heartbeat is looked for.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What the table holds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) tenants: Vec<TenantRecord>,
    pub(super) instances: usize,
}

/// Whoever can read the file has the hashes. (Who can write it is among the other files.)
fn check_mode(config: &Config, findings: &mut Findings) {
    let Some(path) = config.database.url.expose().strip_prefix("sqlite://") else { return };
    let Ok(found) = std::fs::metadata(path) else { return };
    let mode = found.permissions().mode() & 0o777;
    let said = format!("{path} has mode {mode:04o}");
    let remedy = format!("run `chmod 600 {path}`, or 660 for a group that writes tenants");
    if mode & 0o004 != 0 {
        findings.warn(DATABASE, format!("{said}: anybody reads the password hashes"), remedy);
    }
}

/// Who holds others up, as far as a short look can tell.
async fn check_sessions(coordination: &dyn Coordination, findings: &mut Findings) {
    let look = async {
        coordination.wait_for_news().await;
        tokio::time::sleep(LISTEN).await;
        coordination.hindrances().await
    };
    let found = match look.await {
        Ok(found) => found,
        Err(error) => return findings.warn(LOCKS, error.to_string(), "look again"),
    };
    if found.is_empty() {
        findings.ok(LOCKS, "nobody waits for another's, nobody floods the notices");
    }
    for Hindrance { role, session, blocks, notices } in found {
        let end =
            format!("end it with `SELECT pg_terminate_backend({session})`, and see why it did");
        if blocks > 0 {
            let what = format!("{blocks} sessions wait for the role {role} (session {session})");
            findings.fail(LOCKS, what, end);
        } else {
            let what = format!(
                "the role {role} (session {session}) sends {notices} notices a second: a queue that \
                 is full lets nobody commit"
            );
            findings.fail(LOCKS, what, end);
        }
    }
}

async fn check_rows(provisioning: &dyn ProvisioningStore, findings: &mut Findings) {
    match provisioning.misfits().await.map_err(database::explain) {
        Ok((0, _)) => findings.ok(ROWS, "each keeps the rules for new ones"),
        Ok((count, some)) => {
            let some: Vec<String> = some
                .iter()
                .map(|Misfit { table, key, column }| format!("{table}.{column} of {key}"))
                .collect();
            findings.warn(
                ROWS,
                format!("{count} texts are longer than new ones may be: {}", some.join(", ")),
                "they count as before until they are changed; shorten them",
            );
        }
        Err(error) => findings.warn(ROWS, format!("{error:#}"), "look again"),
    }
}

pub(super) async fn check(config: &Config, findings: &mut Findings) -> Option<Table> {
    // Opening makes a file where there is none, which a check must not.
    let missing = config.database.url.expose().strip_prefix("sqlite://").filter(|path| {
        let path = path.split('?').next().unwrap_or(path);
        !std::path::Path::new(path).exists()
    });
    if let Some(path) = missing {
        findings.fail(
            DATABASE,
            format!("{path} does not exist"),
            "correct [database] url, restore the file, or start `nats-callout serve`, which makes \
             an empty one",
        );
        findings.skip(INSTANCES, "not without the database");
        return None;
    }
    let read = async {
        let version = database::schema_version(config).await?;
        let database = database::open(config).await?;
        let tenants = database::tenants(&*database.provisioning).await?;
        let mut alive = 0;
        // On a busy machine a heartbeat may be late.
        for _ in 0..LOOKS {
            let found = database.coordination.instances(HEARTBEAT_SECONDS).await;
            let found = found.map_err(database::explain)?;
            alive = found.len();
            if alive > 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok((version, database, tenants, alive))
    };
    match read.await {
        Ok((version, database, tenants, instances)) => {
            let count = tenants.len();
            findings.ok(DATABASE, format!("answers; schema version {version}, {count} tenants"));
            check_mode(config, findings);
            check_rows(&*database.provisioning, findings).await;
            rows::left(&*database.provisioning, &tenants, findings).await;
            if !config.database.url.is_sqlite() {
                check_sessions(&*database.coordination, findings).await;
            }
            if instances == 0 {
                findings.fail(
                    INSTANCES,
                    "no instance of the service has noted within 3 s that it is alive",
                    "start `nats-callout serve`, on this database",
                );
            } else {
                findings.ok(INSTANCES, format!("{instances} alive"));
            }
            Some(Table { tenants, instances })
        }
        Err(error) => {
            findings.fail(DATABASE, format!("{error:#}"), "the tenants are not known without it");
            findings.skip(INSTANCES, "not without the database");
            None
        }
    }
}
