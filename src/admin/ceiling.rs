//! The ceiling over all tenants' JetStream limits: a server that stands alone admits an account's
//! JetStream only while the *sum* of all loaded accounts' limits fits into its own maxima. Beyond,
//! logins go on to work, and JetStream answers "insufficient resources" or 503.

use super::{AdminError, Result};
use crate::config::units::format_size;
use crate::config::{Config, Mode};
use crate::deployment::Login;
use crate::servers::Cluster;
use crate::servers::varz::{self, Maxima, Promised};
use crate::store::{Isolation, Limits, TenantRecord};

/// What the sum has to fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) maxima: Maxima,
    /// What the accounts AUTH and BB have on top of the tenants.
    pub(crate) own: Promised,
}

/// A tenant whose limits do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    pub(super) tenant: String,
    resource: &'static str,
    setting: &'static str,
    asks: u64,
    /// What is given away before it, to AUTH and BB too.
    given: u64,
    maximum: u64,
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tenant, resource, setting, asks, given, maximum } = self;
        write!(
            f,
            "tenant {tenant} exceeds nats-server's JetStream {resource}: it asks for {asks}, and of \
             the maximum {maximum} ({setting}) {given} are given to AUTH, BB and the tenants before \
             it. Its logins would work, but JetStream would answer \"insufficient resources\" or \
             503",
            asks = format_size(*asks),
            maximum = format_size(*maximum),
            given = format_size(*given),
        )
    }
}

/// What to do about an excess.
pub(crate) const REMEDY: &str = "raise max_mem or max_file in the jetstream block of \
    nats-server.conf and restart the server, or give tenants smaller limits";

/// Limits that count against the ceiling: a tenant's own account has JetStream of its own, also one
/// that it has kept from before it came to share another.
pub(super) fn counts(tenant: &TenantRecord, config: &Config) -> bool {
    let isolation = tenant.isolation.unwrap_or(config.isolation);
    matches!(config.mode, Mode::Operator(_))
        && (isolation == Isolation::Account || tenant.account.is_some())
}

impl Ceiling {
    /// The tenants whose limits do not fit, of memory or of storage, in order of creation. The server
    /// does not admit them, so that they take nothing from those who come later.
    pub(crate) fn exceeded_by(&self, tenants: &[TenantRecord], config: &Config) -> Vec<Excess> {
        let mut counting: Vec<&TenantRecord> =
            tenants.iter().filter(|tenant| counts(tenant, config)).collect();
        counting.sort_by_key(|tenant| (tenant.created_at, tenant.id.clone()));
        self.over(counting.iter().map(|tenant| (tenant.id.as_str(), &tenant.limits)))
    }

    fn over<'a>(&self, tenants: impl Iterator<Item = (&'a str, &'a Limits)>) -> Vec<Excess> {
        let mut over = Vec::new();
        let (mut memory, mut storage) = (self.own.memory, self.own.storage);
        for (tenant, limits) in tenants {
            let excess = |resource, setting, asks: u64, given: u64, maximum| {
                (given.saturating_add(asks) > maximum && asks > 0).then(|| Excess {
                    tenant: tenant.to_owned(),
                    resource,
                    setting,
                    asks,
                    given,
                    maximum,
                })
            };
            let found = excess("memory", "max_mem", limits.memory, memory, self.maxima.memory)
                .or_else(|| {
                    excess("storage", "max_file", limits.storage, storage, self.maxima.storage)
                });
            match found {
                Some(excess) => over.push(excess),
                None => {
                    memory = memory.saturating_add(limits.memory);
                    storage = storage.saturating_add(limits.storage);
                }
            }
        }
        over
    }
}

/// The ceiling of the server, asked now. `None` where there is no such ceiling: in config mode, in
/// a cluster, and without JetStream.
pub(super) async fn of_server(config: &Config) -> Result<Option<Ceiling>> {
    let Mode::Operator(mode) = &config.mode else { return Ok(None) };
    let cluster = Cluster::new(Login::System.connect(config).await?);
    let varz = varz::any_server(&cluster).await?;
    let nobody = || AdminError::Deployment("no server answers the system account".into());
    let varz = varz.ok_or_else(nobody)?;
    let alone = varz.cluster.name.is_empty();
    let Some(maxima) = varz.jetstream.config.filter(|_| alone) else { return Ok(None) };
    let mut own = Promised::default();
    for account in [mode.auth_account.as_str(), mode.bb_account.as_str()] {
        for (_, promised) in varz::promised(&cluster, account, 1).await? {
            own.memory = own.memory.saturating_add(promised.memory);
            own.storage = own.storage.saturating_add(promised.storage);
        }
    }
    Ok(Some(Ceiling { maxima, own }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_over_are_named_and_take_nothing() {
        let ceiling = Ceiling {
            maxima: Maxima { memory: 100, storage: 1_000 },
            own: Promised { memory: 10, storage: 100 },
        };
        let limits = |memory, storage| Limits { memory, storage, ..Limits::default() };
        let named = |tenants: &[(&str, Limits)]| {
            ceiling
                .over(tenants.iter().map(|(id, limits)| (*id, limits)))
                .into_iter()
                .map(|excess| (excess.tenant, excess.resource, excess.given))
                .collect::<Vec<_>>()
        };
        let small = ("a", limits(30, 300));
        assert_eq!(named(&[small, ("b", limits(60, 600))]), []);
        assert_eq!(
            named(&[small, ("b", limits(61, 600)), ("c", limits(1, 1))]),
            [("b".to_owned(), "memory", 40)]
        );
        assert_eq!(named(&[small, ("b", limits(1, 601))]), [("b".to_owned(), "storage", 400)]);
        assert_eq!(named(&[("none", limits(0, 0))]), []);
        assert_eq!(
            named(&[("huge", limits(1 << 50, u64::MAX)), small, ("b", limits(61, 1))]),
            [("huge".to_owned(), "memory", 10), ("b".to_owned(), "memory", 40)]
        );
    }
}
