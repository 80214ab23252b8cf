//! The tenant table, and the instances that note there that they are alive.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::grants::{self, Astray};
use super::{Doctor, Findings, logins, rows};
use crate::admin::tenants;
use crate::causes::chain;
use crate::config::Config;
use crate::instance::HEARTBEAT_SECONDS;
use crate::policy::rules::PolicySet;
use crate::store::open::{self, StoreOptions};
use crate::store::{
    Coordination, Hindrance, Misfit, ProvisioningStore, Store, StoreError, TenantRecord,
};

const DATABASE: &str = "database";
const INSTANCES: &str = "instances";
const ROWS: &str = "rows";
const LOCKS: &str = "locks";

/// How often, and at what distance, it is looked who holds others up: while this waits for a lock itself,
/// and for longer than the second by which notices are counted.
const GLANCES: u32 = 6;
const GLANCE: Duration = Duration::from_millis(250);

/// How long the database has for each answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often, and at what distance, a heartbeat is looked for.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What the table holds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) store: Arc<dyn Store>,
    pub(super) tenants: Vec<TenantRecord>,
    pub(super) instances: usize,
}

impl Table {
    /// Whether an instance has noted here that it is alive, lately or before it lost the database.
    pub(super) async fn knows(&self, instance: &str) -> Result<bool, StoreError> {
        for _ in 0..LOOKS {
            if self.store.instances(u32::MAX).await?.iter().any(|it| it == instance) {
                return Ok(true);
            }
            // It may have just begun.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }
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

/// Who holds others up in two looks on end, as far as a short time can tell: everybody waits for a moment
/// now and then.
async fn holders(coordination: &dyn Coordination) -> Result<Vec<Hindrance>, StoreError> {
    coordination.wait_for_news().await;
    let (mut before, mut holders) = (Vec::new(), BTreeMap::new());
    for _ in 0..GLANCES {
        tokio::time::sleep(GLANCE).await;
        let found = coordination.hindrances().await?;
        let sessions = found.iter().map(|held| held.session).collect();
        let again = found.into_iter().filter(|held| before.contains(&held.session));
        holders.extend(again.map(|held| (held.session, held)));
        before = sessions;
    }
    Ok(holders.into_values().collect())
}

fn report_holders(holders: Vec<Hindrance>, findings: &mut Findings) {
    if holders.is_empty() {
        findings.ok(LOCKS, "nobody waits for another's, nobody floods the notices");
    }
    for Hindrance { role, session, blocks, notices } in holders {
        let end =
            format!("end it with `SELECT pg_terminate_backend({session})`, and see why it did");
        let what = if blocks > 0 {
            format!("{blocks} sessions wait for the role {role} (session {session})")
        } else {
            format!(
                "the role {role} (session {session}) sends {notices} notices a second: a queue that \
                 is full lets nobody commit"
            )
        };
        findings.fail(LOCKS, what, end);
    }
}

async fn check_rows(
    doctor: &Doctor,
    provisioning: &dyn ProvisioningStore,
    findings: &mut Findings,
) {
    match provisioning.misfits().await {
        Ok((0, _)) => findings.ok(ROWS, "no text is longer than new ones may be"),
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
        Err(error) => findings.warn(ROWS, (doctor.explain)(error), "look again"),
    }
}

pub(super) async fn check(
    doctor: &Doctor,
    config: &Config,
    policies: Option<&PolicySet>,
    findings: &mut Findings,
) -> Option<Table> {
    // Opening makes a file where there is none, which a check must not.
    let file = config.database.url.expose().strip_prefix("sqlite://");
    let missing = file.filter(|path| !std::path::Path::new(path).exists());
    if let Some(path) = missing {
        findings.fail(
            DATABASE,
            format!("{path} does not exist"),
            format!(
                "correct {}, restore the file, or start `nats-callout serve`, which makes an empty one",
                config.database_origin()
            ),
        );
        findings.skip(INSTANCES, "not without the database");
        return None;
    }
    // Whoever holds others up holds this up as well.
    let looking = async {
        match open::sessions(config.database.url.expose(), &StoreOptions::default()) {
            Some(sessions) => Some(holders(&*sessions).await),
            None => None,
        }
    };
    let (held, table) = tokio::join!(looking, read(doctor, config, policies, findings));
    match held {
        Some(Ok(held)) => report_holders(held, findings),
        // That the database does not answer is said above.
        Some(Err(error)) if table.is_some() => {
            findings.warn(LOCKS, error.to_string(), "look again");
        }
        Some(Err(_)) | None => {}
    }
    table
}

async fn opened(config: &Config, options: &StoreOptions) -> Result<Arc<dyn Store>, String> {
    open::open(config.database.url.expose(), options)
        .await
        .map_err(|error| format!("cannot open {}: {}", config.database_origin(), chain(&error)))
}

/// What the table holds, and whether an instance works on it.
async fn read(
    doctor: &Doctor,
    config: &Config,
    policies: Option<&PolicySet>,
    findings: &mut Findings,
) -> Option<Table> {
    let reading = async {
        // In the time that logins have; the rest may take longer.
        let hurried = opened(config, &StoreOptions::default()).await?;
        let version = hurried.ping().await.map_err(doctor.explain)?;
        let options = StoreOptions {
            read_timeout: PATIENCE,
            write_timeout: PATIENCE,
            ..StoreOptions::default()
        };
        let store = opened(config, &options).await?;
        let tenants = tenants::all(&*store).await.map_err(doctor.explain)?;
        let mut alive = 0;
        // On a busy machine a heartbeat may be late.
        for _ in 0..LOOKS {
            let found = store.instances(HEARTBEAT_SECONDS).await;
            alive = found.map_err(doctor.explain)?.len();
            if alive > 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, String>((version, store, tenants, alive))
    };
    let (version, store, tenants, instances): (_, _, Vec<_>, _) = match reading.await {
        Ok(read) => read,
        Err(why) => {
            findings.fail(DATABASE, why, "the tenants are not known without it");
            findings.skip(INSTANCES, "not without the database");
            return None;
        }
    };
    let count = tenants.len();
    findings.ok(DATABASE, format!("answers; schema version {version}, {count} tenants"));
    check_mode(config, findings);
    check_rows(doctor, &*store, findings).await;
    let mut astray = Astray::new(policies);
    logins::check(doctor, &*store, &tenants, &mut astray, findings).await;
    astray.report(&tenants, findings);
    grants::placed(config, &tenants, findings);
    rows::without_room(&tenants, findings);
    rows::left(doctor, &*store, &tenants, findings).await;
    if instances == 0 {
        findings.fail(
            INSTANCES,
            "no instance of the service has noted within 3 s that it is alive",
            "start `nats-callout serve`, on this database",
        );
    } else {
        findings.ok(INSTANCES, format!("{instances} alive"));
    }
    Some(Table { store, tenants, instances })
}
