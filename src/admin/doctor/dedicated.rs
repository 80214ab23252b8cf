//! Config mode: the accounts that the configuration gives to one tenant each, and nothing makes but
//! whoever writes nats-server.conf; and whether any account sends events as another tenant.

use super::Findings;
use super::powerless::INTAKE_REMEDY;
use super::table::Table;
use crate::config::{Config, Mode};
use crate::daemon::takers;
use crate::servers::Cluster;
use crate::store::TenantId;

const CHECK: &str = "own accounts";

pub(super) async fn check(
    config: &Config,
    cluster: &Cluster,
    table: Option<&Table>,
    findings: &mut Findings,
) {
    let Mode::Config(mode) = &config.mode else { return };
    for (account, tenant) in &mode.dedicated {
        let intake = mode.intake.as_ref().map(|intake| intake.account.as_str());
        // Whoever is placed in one that no server knows cannot log in.
        if takes_events(cluster, account, tenant, intake, findings).await
            && let Some(table) = table
        {
            is_given(account, tenant, table, findings);
        }
    }
    let Some(intake) = &mode.intake else { return };
    match takers::faults(config, cluster).await {
        Ok(faults) if faults.is_empty() => findings
            .ok(CHECK, format!("no account takes another tenant's events of {}", intake.account)),
        Ok(faults) => faults.into_iter().for_each(|it| findings.fail(CHECK, it, takers::REMEDY)),
        Err(error) => findings.fail(CHECK, error.to_string(), "see nats-server's log"),
    }
}

/// Whether the tenant is there, and placed in it.
fn is_given(account: &str, tenant: &TenantId, table: &Table, findings: &mut Findings) {
    let place = format!("UPDATE tenants SET account = '{account}' WHERE id = '{tenant}'");
    match table.tenants.iter().find(|row| row.id == *tenant) {
        None => findings.warn(
            CHECK,
            format!("{account} is for the tenant {tenant}, who is not in the table"),
            "add the tenant, or take the account out of [placement] dedicated",
        ),
        Some(row) if row.placement.as_deref() != Some(account) => {
            let where_else = row.placement.as_deref().unwrap_or("the account for all others");
            findings.warn(
                CHECK,
                format!("{account} is for the tenant {tenant}, who is placed in {where_else}"),
                format!("place the tenant in it: {place}"),
            );
        }
        Some(_) => {}
    }
}

/// Whether what its apps publish comes to the intake; `false` if servers do not know the account.
async fn takes_events(
    cluster: &Cluster,
    account: &str,
    tenant: &TenantId,
    intake: Option<&str>,
    findings: &mut Findings,
) -> bool {
    let found = match cluster.occupants(account).await {
        Ok(found) => found,
        Err(error) => {
            findings.fail(CHECK, error.to_string(), "see nats-server's log");
            return false;
        }
    };
    if !found.is_known {
        let what = format!("no server knows the account {account} of the tenant {tenant}");
        findings.fail(CHECK, what, "write it into nats-server.conf, and reload the server");
        return false;
    }
    let Some(intake) = intake else { return true };
    let subject = takers::own_subject(tenant.as_str());
    if found.imports.contains(&(intake.to_owned(), subject.clone())) {
        findings.ok(CHECK, format!("the account {account} of the tenant {tenant} takes {subject}"));
    } else {
        findings.fail(
            CHECK,
            format!(
                "the account {account} does not take {subject} of {intake}: what the tenant {tenant} \
                 publishes on Events goes nowhere"
            ),
            INTAKE_REMEDY,
        );
    }
    true
}
