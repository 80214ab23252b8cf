//! Changes that take effect before the command returns: the row is committed, the running
//! instances decide by it, and the connections that it no longer allows are closed. Without NATS
//! the commit stands, and the instances follow when they can.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::lookup::find_tenant;
use super::output::note;
use super::{Context, Usage, settle};
use crate::accounts::resolver;
use crate::audit::Observer;
use crate::clock::SystemClock;
use crate::config::{self, Config, Mode};
use crate::connections::{Connections, Selection};
use crate::deployment::{self, Login};
use crate::events::decisions::{self, DecisionEvents};
use crate::events::publisher::Publisher;
use crate::servers::Cluster;
use crate::store::{CredentialStore, TenantId, TenantRecord, UserRecord};

/// How long a server may take to read an answer that an instance has given.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// How long the connection to the system account may take.
const CONNECT: Duration = Duration::from_secs(2);

/// The connections that a command is about, as they were before the change.
pub(super) struct Live {
    pub(super) cluster: Cluster,
    selection: Selection,
    before: Connections,
    /// Tells of the connections that are closed.
    events: Mutex<Option<DecisionEvents>>,
}

impl Live {
    /// Looks at what is connected before anything is changed.
    pub(super) async fn look(
        context: &Context,
        selection: anyhow::Result<Selection>,
    ) -> anyhow::Result<Self> {
        let selection = selection?;
        let client = tokio::time::timeout(CONNECT, Login::System.connect(context.admin.config()))
            .await
            .context("NATS does not answer")??;
        let (observer, events) = told(context).await?.unzip();
        let cluster = Cluster::new(client).with_observer(observer);
        let before = cluster.find(&selection, Instant::now()).await?;
        Ok(Self { cluster, selection, before, events: Mutex::new(events) })
    }

    /// [`Self::look`] for a change that is made in any case.
    pub(super) async fn try_look(
        context: &Context,
        selection: anyhow::Result<Selection>,
    ) -> Option<Self> {
        match Self::look(context, selection).await {
            Ok(live) => Some(live),
            Err(error) => {
                note(&format!(
                    "warning: {error:#}; the change is made, and connections are closed by the \
                     running instances"
                ));
                None
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.before.ids.len()).unwrap_or(u64::MAX)
    }

    /// Waits until the change counts everywhere, closes what it no longer allows, and says how
    /// many distinct connections have ended with it, whoever closed them.
    pub(super) async fn close(&self, context: &Context) -> Option<usize> {
        settle::settle(context).await;
        self.close_settled().await
    }

    async fn close_settled(&self) -> Option<usize> {
        let closed = self.close_all().await;
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(events) = events {
            let at_once = CancellationToken::new();
            at_once.cancel();
            events.run(at_once).await;
        }
        match closed {
            Ok(count) => Some(count),
            Err(error) => {
                note(&format!(
                    "warning: the change is made, but connections may be left: {error:#}"
                ));
                None
            }
        }
    }

    async fn bring(&self, context: &Context, tenant: &TenantId) -> anyhow::Result<()> {
        let Mode::Operator(mode) = &context.admin.config().mode else { return Ok(()) };
        let tenant = find_tenant(context, tenant).await?;
        let places = deployment::places(context.admin.config())?;
        let Some(account) = places.own(tenant.account) else { return Ok(()) };
        let issuer = deployment::account_issuer(context.admin.config(), mode)?;
        let standing = issuer.standing(&tenant, context.admin.now()).before_closing();
        let token = issuer.issue(&tenant, account, standing).await?;
        Ok(resolver::hold(&self.cluster, &token).await?)
    }

    async fn close_all(&self) -> anyhow::Result<usize> {
        let mut closed = self.cluster.close(&self.selection, Instant::now()).await?;
        if !self.selection.is_empty() {
            // An answer given just before may still be on its way to its server.
            tokio::time::sleep(LAST_ANSWERS).await;
            closed.merge(self.cluster.close(&self.selection, Instant::now()).await?);
        }
        let left = self.cluster.find(&self.selection, Instant::now()).await?;
        for silent in &left.silent {
            note(&format!(
                "warning: server {silent} does not answer: connections may be left on it, which \
                 the running instances close when it answers"
            ));
        }
        let mut ended = closed.ids;
        ended.extend(self.before.ids.iter().map(|(id, holder)| (id.clone(), holder.clone())));
        ended.retain(|id, _| !left.ids.contains_key(id));
        Ok(ended.len())
    }
}

/// Who is told of closed connections, and what publishes them in the end; none where the
/// configuration wants none.
async fn told(context: &Context) -> anyhow::Result<Option<(Arc<dyn Observer>, DecisionEvents)>> {
    let config = context.admin.config();
    if config.events.decisions == config::DecisionEvents::Off {
        return Ok(None);
    }
    let client = tokio::time::timeout(CONNECT, Login::Auth.connect(config))
        .await
        .context("NATS does not answer")??;
    let prefix = client.new_inbox();
    let source = config.events.source.clone();
    let (log, events) = decisions::queue(
        config.events.queue,
        Publisher::new(client, source, config.streams.clone()),
        Arc::clone(context.admin.store()) as Arc<dyn CredentialStore>,
        Arc::new(SystemClock),
        prefix,
    );
    Ok(Some((Arc::new(log), events)))
}

/// [`Live::close`] where NATS was there.
pub(super) async fn close(live: Option<&Live>, context: &Context) -> Option<usize> {
    close_with(live, context, None).await
}

/// [`close`], and before it brings the account of a tenant to the servers, as it is good for now.
pub(super) async fn close_with(
    live: Option<&Live>,
    context: &Context,
    tenant: Option<&TenantId>,
) -> Option<usize> {
    settle::settle(context).await;
    let live = live?;
    if let Some(tenant) = tenant
        && let Err(error) = live.bring(context, tenant).await
    {
        note(&format!(
            "warning: the change is made, but not all servers know what the tenant's account is \
             good for now: {error:#}; the running instances see to it"
        ));
    }
    live.close_settled().await
}

/// All connections of a tenant's users.
pub(super) fn of_tenant(
    config: &Config,
    tenant: &TenantRecord,
    users: &[UserRecord],
) -> anyhow::Result<Selection> {
    let mut selection = Selection::default();
    let places = deployment::places(config)?;
    let names = users.iter().map(|user| user.name.as_str());
    places.select_tenant(&tenant.id, names, Duration::ZERO, &mut selection);
    if let Some(account) = places.own(tenant.account) {
        selection.add_account(account.as_str(), Duration::ZERO);
    }
    Ok(selection)
}

/// All connections of one user.
pub(super) fn of_user(
    config: &Config,
    tenant: &TenantRecord,
    user: &str,
) -> anyhow::Result<Selection> {
    let mut selection = Selection::default();
    let places = deployment::places(config)?;
    places.select_users([user], tenant.account, Duration::ZERO, &mut selection);
    Ok(selection)
}

/// The number of connections closed, as a result.
pub(super) fn kicked(count: Option<usize>) -> Value {
    json!({ "kicked": count })
}

/// The same for people.
pub(super) fn kicked_text(count: Option<usize>) -> String {
    match count {
        None => "its connections are not known".to_owned(),
        Some(1) => "closed 1 connection".to_owned(),
        Some(count) => format!("closed {count} connections"),
    }
}

/// Asks before something is lost. Without a terminal there is nobody to ask.
pub(super) fn confirm(yes: bool, what: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Usage(format!("{what}: there is no terminal to ask on; say --yes")).into());
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{what}? [y/N] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    anyhow::bail!("nothing was changed")
}
