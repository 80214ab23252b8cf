//! The accounts that may have neither JetStream nor leaf nodes, since either sends messages under
//! subjects of its user's choice: EVENTS, by which more of AUTH would be reached, and INTAKE and those
//! that tenants share, by which an event would come under another tenant's name.

use super::super::AdminError;
use super::callout::Watched;
use super::{EXPOSED, Findings, SILENT, State, reader, servers};
use crate::causes::chain;
use crate::config::{Config, Mode};
use crate::daemon::intake_logins;
use crate::keyfile::{self, KeyFileError};
use crate::keys::{AccountId, OperatorId};
use crate::protocol::claims::AccountBody;
use crate::servers::{Cluster, ClusterError};
use crate::streams::readers;

const INTAKE: &str = "intake";

/// What there is to do where the service takes no events in.
pub(crate) const INTAKE_REMEDY: &str = "see \"Taking events in\" in deploy/README.md";

/// One of the accounts.
struct Account {
    name: String,
    /// In operator mode.
    id: Option<AccountId>,
    check: &'static str,
    /// What it would be good for.
    harm: &'static str,
    remedy: &'static str,
}

/// What an account has, as a server tells it.
struct Powers {
    jetstream: bool,
    /// In operator mode, whether it may have any; in config mode, whether it has.
    leafnodes: bool,
}

/// Looks at the accounts on every server.
pub(super) async fn check(
    config: &Config,
    system: &Watched,
    count: usize,
    answering: Option<usize>,
    findings: &mut Findings,
) {
    if config.mode.intake().is_none() {
        findings.fail(
            INTAKE,
            "there is no [intake]: BB takes events itself, and a tenant with JetStream or leaf nodes \
             can send them under another tenant's name",
            INTAKE_REMEDY,
        );
    }
    if let Mode::Operator(mode) = &config.mode
        && mode.events_account.is_none()
    {
        findings.fail(reader::CHECK, "there is no [operator] events_account", readers::REMEDY);
    }
    for account in accounts(config) {
        look(&account, (system, count), findings).await;
    }
    match taken(config, &system.cluster, answering, findings).await {
        Ok(()) => {}
        Err(AdminError::Deployment(cause))
            if matches!(cause.downcast_ref(), Some(KeyFileError::Exposed(_))) =>
        {
            findings.skip(INTAKE, EXPOSED);
        }
        Err(error) => {
            // What is wrong with a file says what to do by itself.
            let is_of_server =
                matches!(&error, AdminError::Deployment(cause) if cause.is::<ClusterError>());
            let remedy = is_of_server.then(|| "see nats-server's log".to_owned());
            findings.add(INTAKE, State::Fail, chain(&error), remedy);
        }
    }
}

/// Whether the instances that run are where they take events, and answer: a connection stays for minutes
/// where its process hangs.
async fn taken(
    config: &Config,
    cluster: &Cluster,
    answering: Option<usize>,
    findings: &mut Findings,
) -> Result<(), AdminError> {
    let named = async |account: &str, name: &str, user: Option<&str>| {
        let (clients, _) = cluster.clients_in(account).await?;
        let named = clients.iter().filter(|client| client.name.starts_with(name));
        Ok::<_, ClusterError>(
            named.filter(|client| user.is_none_or(|user| client.user == user)).count(),
        )
    };
    let auth = match &config.mode {
        Mode::Operator(mode) => mode.auth_account.to_string(),
        Mode::Config(mode) => mode.auth_account.clone(),
    };
    let running = named(&auth, "nats-callout main", None).await?;
    let files = config.mode.intake().into_iter().flatten();
    for (resident, file) in intake_logins(config)?.into_iter().zip(files) {
        if matches!(config.mode, Mode::Operator(_)) {
            let account = keyfile::account_of_creds(file)?.to_string();
            if account != resident.account {
                findings.fail(
                    INTAKE,
                    format!("{}: is no login in the account {}", file.display(), resident.account),
                    "restore the one that `init` wrote; no instance begins with this one",
                );
                continue;
            }
        }
        let taking = named(&resident.account, "nats-callout intake", Some(&resident.user)).await?;
        let of = format!("{taking} of {running} instances");
        let (file, what) = (file.display(), format!("{of} take events, by {}", file.display()));
        let connected = format!("{of} are connected to take events, by {file}");
        match answering {
            _ if taking < running => findings.fail(
                INTAKE,
                what,
                "see the log of the others: is that file a login there?",
            ),
            _ if running == 0 => {}
            None => findings.skip(INTAKE, format!("{connected}; whether they answer is not known")),
            Some(0) => findings.fail(INTAKE, format!("{connected}, but none answers"), SILENT),
            Some(some) if some < running => findings.warn(
                INTAKE,
                format!("{connected}, but {some} of {running} answer"),
                format!("of each of the others: {SILENT}"),
            ),
            Some(_) => findings.ok(INTAKE, what),
        }
    }
    Ok(())
}

fn accounts(config: &Config) -> Vec<Account> {
    let events = |name: &str, id| Account {
        name: name.to_owned(),
        id,
        check: reader::CHECK,
        harm: "by which a reader reaches more of AUTH",
        remedy: readers::REMEDY,
    };
    let taking = |name: &str, id| Account {
        name: name.to_owned(),
        id,
        check: INTAKE,
        harm: "by which events come under other tenants' names",
        remedy: INTAKE_REMEDY,
    };
    match &config.mode {
        Mode::Operator(mode) => {
            let reading = mode.events_account.map(|id| events("EVENTS", Some(id)));
            let intake = mode.intake.as_ref().map(|intake| {
                [taking("INTAKE", Some(intake.account)), taking("USERS", Some(mode.users_account))]
            });
            reading.into_iter().chain(intake.into_iter().flatten()).collect()
        }
        Mode::Config(mode) => {
            let intake = mode.intake.as_ref().map(|intake| {
                let shared = mode.accounts.iter().map(|name| taking(name, None));
                [taking(&intake.account, None)].into_iter().chain(shared).collect::<Vec<_>>()
            });
            [events("EVENTS", None)].into_iter().chain(intake.into_iter().flatten()).collect()
        }
    }
}

async fn look(account: &Account, (system, count): (&Watched, usize), findings: &mut Findings) {
    let Account { name, check, harm, remedy, .. } = account;
    let found = match &account.id {
        Some(id) => servers::look_up(system, id, count).await.map(|found| {
            let powers = |(body, _): &(AccountBody, OperatorId)| Powers {
                jetstream: body.limits.mem_storage != 0 || body.limits.disk_storage != 0,
                leafnodes: body.limits.leaf != 0,
            };
            found.iter().map(powers).collect()
        }),
        // No server tells the limit of a named account's leaf nodes, but whether it has any.
        None => system.cluster.occupants(name).await.map(|found| {
            let leafnodes = !found.leafnodes.is_empty();
            let powers = Powers { jetstream: found.jetstream, leafnodes };
            found.is_known.then_some(powers).into_iter().collect()
        }),
    };
    let found: Vec<Powers> = match found {
        Ok(found) => found,
        Err(error) => return findings.fail(check, error.to_string(), "see nats-server's log"),
    };
    if found.is_empty() {
        return findings.fail(check, format!("no server knows the account {name}"), *remedy);
    }
    let before = findings.count(State::Fail);
    let leafnodes = if account.id.is_some() { "can have leaf nodes" } else { "has leaf nodes" };
    for (what, has) in [
        ("has JetStream", found.iter().any(|powers| powers.jetstream)),
        (leafnodes, found.iter().any(|powers| powers.leafnodes)),
    ] {
        if has {
            findings.fail(
                check,
                format!("the account {name} {what}, {harm}"),
                "take that away from it",
            );
        }
    }
    if findings.count(State::Fail) == before {
        let now = if account.id.is_some() { "" } else { " now" };
        findings.ok(check, format!("the account {name} has neither JetStream nor leaf nodes{now}"));
    }
}
