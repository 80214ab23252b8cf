//! The first phase: what needs no server has been judged, read and opened, and `/healthz` answers.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::base::Base;
use super::mode::{self, Homes, Signing};
use super::parts::Part;
use super::policies::Policies;
use super::{DaemonError, Result, logins};
use crate::authn::Authenticator;
use crate::authn::hashing::Pace;
use crate::config::Config;
use crate::deployment::key_role::{self, PublicKeys};
use crate::keyfile::{self, Audit};
use crate::protocol::envelope::Envelope;
use crate::store::Store;

/// What a decision takes, apart from the tenant table and where tenants live.
pub(super) struct Deciding {
    pub(super) envelope: Envelope,
    /// The authenticators, in the order in which they are asked.
    pub(super) logins: Vec<Arc<dyn Authenticator>>,
    /// How fast this machine hashes.
    pub(super) pace: Pace,
    pub(super) policies: Arc<Policies>,
    pub(super) signing: Signing,
}

/// A service that has not connected yet.
pub(super) struct Prepared<'a> {
    pub(super) base: Base<'a>,
    pub(super) deciding: Deciding,
    pub(super) homes: Homes<'a>,
    /// The public keys of all generations.
    pub(super) keys: PublicKeys,
}

impl<'a> Prepared<'a> {
    pub(super) async fn new(config: &'a Config, store: Arc<dyn Store>) -> Result<Self> {
        audit(config)?;
        let policies = Arc::new(Policies::read(config.policies.clone(), config.trust())?);
        policies.warn_of_faults(config);
        let envelope = Envelope::new(keyfile::xkeys(&config.callout.xkey)?);
        let (signing, homes) = mode::read(config)?;
        let keys = key_role::of(config)?;
        let base = Base::new(config, store).await?;
        let (logins, pace) = logins::open(&base)?;
        policies.show(&base.observed.metrics);
        let part = Part::vital("policies").until_done();
        base.parts.spawn(part, Arc::clone(&policies), |it, _| Arc::clone(it).watch().boxed());
        let deciding = Deciding { envelope, logins, pace, policies, signing };
        Ok(Self { base, deciding, homes, keys })
    }
}

fn audit(config: &Config) -> Result<()> {
    let Audit { faults, unsearched } = config.audit();
    for what in unsearched {
        tracing::warn!("{what}");
    }
    if !faults.is_empty() {
        return Err(DaemonError::Keys(faults));
    }
    let exposures = config.exposures();
    if !exposures.is_empty() {
        return Err(DaemonError::Exposed(exposures));
    }
    Ok(())
}
