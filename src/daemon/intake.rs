//! The intake as the configuration has it, and the tenants that it takes events of, as the tenant
//! table has them: those that there are at the start, what changes, and ends by the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics::counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::metrics::{Metrics, set};
use super::{DaemonError, Result};
use crate::clock::{Clock, UnixSeconds};
use crate::config::{Config, Mode, Nats};
use crate::connections::Resident;
use crate::intake::{self, Address, Gauge, Intake, Login, Place, Running, Servers, Settings};
use crate::keyfile::{self, KeyFileError};
use crate::keys::KeyKind;
use crate::placement::{Arrival, Entrance, Objection, Placement};
use crate::revoke::Signal;
use crate::servers::Cluster;
use crate::store::{
    self, Change, Isolation, ProvisioningStore, StoreError, TenantId, TenantRecord,
};
use crate::streams::RECEIVED_EVENTS;

/// How long readiness waits for the events of shared tenants.
const ALL_TAKEN: Duration = Duration::from_secs(5);

/// How long a login waits at most until its tenant's events are taken.
const ENTRANCE: Duration = Duration::from_millis(250);

/// Between two looks at what others do.
const STEP: Duration = Duration::from_millis(5);

/// Between two attempts to read the tenant table.
const PAUSE: Duration = Duration::from_millis(500);

/// So many tenants are read faster with all others than one by one.
const MANY: usize = 1_000;

/// The longest time between two looks for tenants that have ended.
const LOOK: Duration = Duration::from_secs(60);

/// Starts to take events, where the configuration says so. Until tenants are read, those with
/// accounts of their own have nobody who hears them.
pub(super) fn start(config: &Config, instance: &str) -> Result<Option<Running>> {
    let Some([own, users]) = config.mode.intake() else { return Ok(None) };
    let place = |file: &Path| {
        Ok::<_, DaemonError>(Place {
            servers: servers(&config.nats)?,
            login: login(&config.mode, file)?,
        })
    };
    let settings = Settings {
        stream: RECEIVED_EVENTS.to_owned(),
        max_message: usize::try_from(config.streams.bb.message_size).unwrap_or(usize::MAX),
        remembered: config.callout.ttl,
        ..Settings::default()
    };
    let intake = Intake::new(place(own)?, settings).with_shared(place(users)?).named(instance);
    let running = intake.start(&[])?;
    Ok(Some(running))
}

/// Lets it take events until `stop`.
pub(super) async fn take(intake: Running, stop: CancellationToken) {
    stop.cancelled().await;
    intake.stop().await;
}

pub(super) fn show(taking: Gauge, metrics: &Metrics) {
    metrics.show(move || {
        let tally = taking.tally();
        set("nats_callout_intake_connected", taking.is_connected());
        counter!("nats_callout_intake_stored_total").absolute(tally.stored);
        counter!("nats_callout_intake_connections_lost_total").absolute(tally.lost);
        for (reason, count) in tally.by_reason() {
            counter!("nats_callout_intake_refused_total", "reason" => reason).absolute(count);
        }
    });
}

/// The service's logins in INTAKE and in USERS, the same for all instances.
pub(crate) fn logins(config: &Config) -> Result<Vec<Resident>, KeyFileError> {
    let key = |file: &Path| {
        Ok::<_, KeyFileError>(keyfile::signing_key(file, KeyKind::User)?.public_key().to_owned())
    };
    let residents = match &config.mode {
        Mode::Operator(mode) => mode.intake.as_ref().map(|intake| {
            [(intake.account, &intake.login), (mode.users_account, &intake.users_login)]
                .map(|(account, file)| (account.to_string(), keyfile::user_of_creds(file)))
        }),
        Mode::Config(mode) => mode.intake.as_ref().map(|intake| {
            let users = mode.accounts.first().cloned().unwrap_or_default();
            [(intake.account.clone(), &intake.login), (users, &intake.users_login)]
                .map(|(account, file)| (account, key(file)))
        }),
    };
    let residents = residents.into_iter().flatten();
    residents.map(|(account, user)| Ok(Resident { account, user: user? })).collect()
}

/// Waits until tenants' events are taken, by connections that are where they belong; `false` if
/// `shutdown` came first. USERS is not waited for forever: while a deployment of before is brought over,
/// it admits nobody yet.
pub(super) async fn settled(
    config: &Config,
    taking: &Gauge,
    cluster: &Cluster,
    instance: &str,
    shutdown: &CancellationToken,
) -> Result<bool> {
    let until = async |is_there: fn(&Gauge) -> bool| {
        while !is_there(taking) {
            tokio::time::sleep(STEP).await;
        }
    };
    let taken = async {
        until(|taking| taking.takes(Isolation::Account)).await;
        if tokio::time::timeout(ALL_TAKEN, until(Gauge::is_connected)).await.is_err() {
            tracing::warn!("events of shared tenants are not taken: there is no login to USERS");
        }
    };
    if shutdown.run_until_cancelled(taken).await.is_none() {
        return Ok(false);
    }
    let found = misplaced(config, taking, cluster, instance).await?;
    if found.is_empty() { Ok(true) } else { Err(DaemonError::Misplaced(found)) }
}

/// Whether the connections of this instance are in the accounts that they are for: the files whose login
/// is another one's, and these accounts. What is not connected is passed by.
async fn misplaced(
    config: &Config,
    taking: &Gauge,
    cluster: &Cluster,
    instance: &str,
) -> Result<Vec<(PathBuf, String)>> {
    let Some(files) = config.mode.intake() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for ((login, file), isolation) in
        logins(config)?.into_iter().zip(files).zip([Isolation::Account, Isolation::Shared])
    {
        let Ok((clients, silent)) = cluster.clients_in(&login.account).await else { continue };
        let name = format!("{} {instance}", intake::name(isolation));
        let is_there = clients.iter().any(|client| client.name == name);
        if taking.takes(isolation) && !is_there && silent.is_empty() {
            found.push((file.to_owned(), login.account));
        }
    }
    Ok(found)
}

fn servers(nats: &Nats) -> Result<Servers> {
    let addresses: Vec<Address> = nats.urls.iter().filter_map(|url| url.parse().ok()).collect();
    if addresses.is_empty() {
        return Err(DaemonError::Intake);
    }
    Ok(Servers { addresses, ca: nats.tls.ca.clone(), identity: nats.tls.identity.clone() })
}

fn login(mode: &Mode, file: &Path) -> Result<Login, KeyFileError> {
    let login = match mode {
        Mode::Operator(_) => {
            let (jwt, seed) = keyfile::creds(file)?;
            Login::jwt(jwt, &seed)
        }
        Mode::Config(_) => Login::nkey(keyfile::read_secret(file)?.trim()),
    };
    login.map(|login| login.from_file(file)).map_err(|error| KeyFileError::Unusable {
        path: file.to_owned(),
        problem: error.to_string(),
    })
}

/// Lets nobody in whose tenant's events nobody would hear.
#[derive(Debug)]
pub(super) struct Heard(pub(super) intake::Tenants);

#[async_trait]
impl Entrance for Heard {
    async fn enters(&self, arrival: Arrival<'_>) -> Result<(), Objection> {
        let tenant = &arrival.tenant.id;
        let heard = async move {
            // It goes on, or has come again, by a row that has been read here and is yet to be read
            // for the intake.
            while self.0.is_over(tenant) {
                tokio::time::sleep(STEP).await;
            }
            if arrival.isolation == Isolation::Account {
                self.0.expect(tenant).await;
            }
        };
        if tokio::time::timeout(ENTRANCE, heard).await.is_err() {
            tracing::warn!(
                %tenant,
                "let somebody in although the server has not said that the tenant's events are \
                 heard"
            );
        }
        Ok(())
    }
}

/// Follows the tenant table.
pub(super) struct Following {
    pub(super) tenants: intake::Tenants,
    pub(super) store: Arc<dyn ProvisioningStore>,
    pub(super) placement: Placement,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
}

/// What has to be read.
#[derive(Debug)]
enum Unread {
    All,
    Some(BTreeSet<TenantId>),
}

impl Following {
    /// Reads all, and then what the signals tell.
    pub(super) async fn run(&mut self) {
        let mut ends = BTreeMap::new();
        let mut unread = Unread::All;
        loop {
            let pause = match self.read(&unread, &mut ends).await {
                Ok(()) => {
                    unread = Unread::Some(BTreeSet::new());
                    self.until_next(&ends)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read whose events are taken; trying again");
                    PAUSE
                }
            };
            tokio::select! {
                signal = self.signals.recv() => match signal {
                    Some(signal) => unread.note(signal),
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Ok(signal) = self.signals.try_recv() {
                unread.note(signal);
            }
        }
    }

    async fn read(
        &self,
        unread: &Unread,
        ends: &mut BTreeMap<TenantId, UnixSeconds>,
    ) -> Result<(), StoreError> {
        match unread {
            Unread::All => {
                let all = store::readable(self.store.tenants().await?);
                let now = self.clock.now();
                *ends = all.iter().filter_map(|it| Some((it.id.clone(), it.expires_at?))).collect();
                let placed = all.iter().filter_map(|it| {
                    let site = self.placement.site(it)?;
                    Some((it.id.clone(), site.isolation, it.is_over(now)))
                });
                self.tenants.replace(&placed.collect::<Vec<_>>());
            }
            Unread::Some(ids) => {
                for id in ids {
                    let tenant = store::if_readable(self.store.tenant(id).await)?;
                    self.take(id, tenant.as_ref(), ends);
                }
            }
        }
        let now = self.clock.now();
        ends.retain(|tenant, end| {
            let is_to_come = *end > now;
            if !is_to_come {
                self.tenants.suspend(tenant);
            }
            is_to_come
        });
        Ok(())
    }

    fn take(
        &self,
        id: &TenantId,
        tenant: Option<&TenantRecord>,
        ends: &mut BTreeMap<TenantId, UnixSeconds>,
    ) {
        ends.remove(id);
        let placed =
            tenant.and_then(|tenant| Some((tenant, self.placement.site(tenant)?.isolation)));
        let Some((tenant, isolation)) = placed else { return self.tenants.remove(id) };
        if let Some(end) = tenant.expires_at {
            ends.insert(id.clone(), end);
        }
        if tenant.is_over(self.clock.now()) {
            self.tenants.close(id, isolation);
        } else {
            drop(self.tenants.add(id, isolation));
        }
    }

    fn until_next(&self, ends: &BTreeMap<TenantId, UnixSeconds>) -> Duration {
        let now = self.clock.now();
        let next = ends.values().map(|end| end.saturating_sub(now)).min();
        let next = next.and_then(|seconds| u64::try_from(seconds).ok());
        next.map_or(LOOK, |seconds| Duration::from_secs(seconds.max(1)).min(LOOK))
    }
}

impl Unread {
    fn note(&mut self, signal: Signal) {
        match (signal, &mut *self) {
            (_, Self::All) => {}
            (Signal::Unknown(_), this) => *this = Self::All,
            (Signal::News(news), Self::Some(ids)) => {
                ids.extend(news.changes.into_iter().filter_map(|change| match change {
                    Change::Tenant(id) => id.parse().ok(),
                    _ => None,
                }));
                if ids.len() > MANY {
                    *self = Self::All;
                }
            }
        }
    }
}
