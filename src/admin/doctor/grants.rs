//! Rows that name a policy or an account that is not there, so that whoever they are for is refused.

use super::named::Named;
use super::{Findings, policies};
use crate::causes::quoted;
use crate::config::{Config, Mode};
use crate::deployment::targets;
use crate::policy::rules::PolicySet;
use crate::redact::begun;
use crate::store::{LoginListing, TenantRecord};

const ACCOUNTS: &str = "accounts of tenants";

/// The rows whose policy is not there.
#[derive(Debug)]
pub(super) struct Astray<'a> {
    /// Without them nothing can be said.
    policies: Option<&'a PolicySet>,
    users: Named,
}

impl<'a> Astray<'a> {
    pub(super) fn new(policies: Option<&'a PolicySet>) -> Self {
        Self { policies, users: Named::default() }
    }

    pub(super) fn look_at(&mut self, listing: &LoginListing) {
        let LoginListing { tenant, user_name, policy, .. } = listing;
        if let Some(policy) = self.missing(policy.as_deref()) {
            self.users
                .add(|| format!("{} of tenant {tenant} ({})", begun(user_name), quoted(policy)));
        }
    }

    fn missing<'p>(&self, policy: Option<&'p str>) -> Option<&'p str> {
        let policies = self.policies?;
        policy.filter(|policy| !policies.names().any(|name| name == *policy))
    }

    pub(super) fn report(&self, tenants: &[TenantRecord], findings: &mut Findings) {
        let mut named = Named::default();
        for TenantRecord { id, policy, .. } in tenants {
            if let Some(policy) = self.missing(policy.as_deref()) {
                named.add(|| format!("{id} ({})", quoted(policy)));
            }
        }
        report(&self.users, "user", "users.policy names a policy that is not there", findings);
        report(&named, "tenant", "tenants.policy names a policy that is not there", findings);
    }
}

fn report(rows: &Named, of: &str, why: &str, findings: &mut Findings) {
    if rows.count > 0 {
        findings.warn(
            policies::CHECK,
            refused(rows, of, why),
            "add its file `<name>.toml` to the folder of policies, or change the column",
        );
    }
}

/// Who is refused, and why.
fn refused(rows: &Named, of: &str, why: &str) -> String {
    let (count, names) = (rows.count, rows.names());
    let who = match (of, count) {
        ("user", 1) => "a user is".to_owned(),
        ("user", _) => format!("{count} users are"),
        (_, 1) => "users of a tenant are".to_owned(),
        (..) => format!("users of {count} tenants are"),
    };
    format!("{who} refused, since {why}: {names}")
}

/// Tenants whose row names an account that they have no place in (config mode).
pub(super) fn placed(config: &Config, tenants: &[TenantRecord], findings: &mut Findings) {
    let Mode::Config(mode) = &config.mode else { return };
    let Ok(targets) = targets(mode) else { return };
    let mut unplaced = Named::default();
    for tenant in tenants.iter().filter(|it| targets.isolation(it).is_none()) {
        let account = tenant.placement.as_deref().unwrap_or_default();
        unplaced.add(|| format!("{} ({})", tenant.id, quoted(account)));
    }
    if unplaced.count > 0 {
        let why =
            "tenants.account names one that is neither shared nor the tenant's own by [placement]";
        findings.warn(
            ACCOUNTS,
            refused(&unplaced, "tenant", why),
            "name one that is, or leave the column empty",
        );
    }
}
