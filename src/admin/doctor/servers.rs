//! The servers: their versions and clocks, and, in operator mode, whether the operator, the account
//! AUTH and the account USERS are those that the service's keys belong to, on every one of them.

use super::callout::Watched;
use super::files::{Keys, UNREAD, names};
use super::{Findings, State};
use crate::clock::{Clock as _, SystemClock, UnixSeconds};
use crate::config::{Config, Mode, OperatorMode};
use crate::daemon::old_servers;
use crate::keys::{AccountId, OperatorId};
use crate::protocol::claims::{AccountBody, OperatorBody};
use crate::protocol::jwt::Parsed;
use crate::protocol::request::CLOCK_LEEWAY;
use crate::servers::varz::{self, Varz};
use crate::servers::{ClusterError, ServerName, versions};

const SERVERS: &str = "servers";
const VERSION: &str = "version";
const CLOCK: &str = "clock";
const OPERATOR: &str = "operator";
const AUTH: &str = "account AUTH";
const RESOLVER: &str = "resolver";

/// A difference that whole seconds and the way of the answer cannot explain.
const SKEW_SEEN: UnixSeconds = 2;

pub(super) async fn check(
    config: &Config,
    keys: &Keys,
    system: &Watched,
    findings: &mut Findings,
) -> Vec<(ServerName, Varz)> {
    let before = SystemClock.now();
    let servers = match varz::servers(&system.cluster).await {
        Ok(servers) => servers,
        Err(ClusterError::Nobody) => {
            findings.fail(
                SERVERS,
                "no server answers the login to SYS",
                "is its account the server's `system_account`?",
            );
            return Vec::new();
        }
        Err(error) => {
            findings.fail(SERVERS, error.to_string(), "see nats-server's log");
            return Vec::new();
        }
    };
    let after = SystemClock.now();
    let names: Vec<&str> = servers.iter().map(|(server, _)| server.name.as_str()).collect();
    findings.ok(SERVERS, format!("{} answer: {}", servers.len(), names.join(", ")));
    let operator = matches!(config.mode, Mode::Operator(_));
    match old_servers::faults(config, &system.cluster).await {
        Ok(faults) => {
            for fault in faults {
                findings.fail(VERSION, fault, "serve does not begin before that");
            }
        }
        Err(error) => findings.fail(VERSION, error.to_string(), "see nats-server's log"),
    }
    for (server, varz) in &servers {
        let is_old =
            |version| versions::shares_jetstream(version) && versions::serves_config_mode(version);
        if !operator && versions::parse(&varz.version).is_some_and(is_old) {
            let what = format!("on server {} {}", server.name, old_servers::BB);
            findings.warn(VERSION, what, versions::REMEDY);
        }
        let (state, what) = judge_version(&varz.version);
        let remedy = (state != State::Ok).then(|| "install a newer nats-server".to_owned());
        findings.add(VERSION, state, format!("{}: {what}", server.name), remedy);
        clock(server, varz, before, after, findings);
    }
    let most = servers.len();
    match &config.mode {
        Mode::Operator(mode) => {
            let trusted = operator_keys(keys, &servers, findings);
            auth_account(mode, keys, &trusted, (system, most), findings).await;
            resolver(mode, keys, &servers, system, findings).await;
        }
        Mode::Config(_) => {
            for check in [OPERATOR, AUTH, RESOLVER] {
                findings.skip(check, "operator mode only");
            }
            server_conf(config, keys, findings);
        }
    }
    servers
}

/// What is to be said of a server's version.
fn judge_version(version: &str) -> (State, String) {
    let Some(parsed) = versions::parse(version) else {
        return (State::Warn, format!("{version} is no version that is known here"));
    };
    if parsed < (2, 10, 0) {
        return (State::Fail, format!("{version} has no auth callout; 2.10.0 or later is needed"));
    }
    let mut bugs = Vec::new();
    if parsed < (2, 12, 14) || ((2, 13, 0)..(2, 14, 4)).contains(&parsed) {
        bugs.push(
            "lets a client that begins with PING past `no_auth_user`, mended in 2.12.14 and 2.14.4",
        );
    }
    if bugs.is_empty() {
        (State::Ok, version.to_owned())
    } else {
        (State::Warn, format!("{version} {}", bugs.join(", and ")))
    }
}

fn clock(
    server: &ServerName,
    varz: &Varz,
    before: UnixSeconds,
    after: UnixSeconds,
    findings: &mut Findings,
) {
    let name = &server.name;
    let Ok(there) = varz.now.parse::<jiff::Timestamp>() else {
        return findings.warn(
            CLOCK,
            format!("{name} says its time is {}", varz.now),
            "see its log",
        );
    };
    let skew = skew(there.as_second(), before, after);
    let what = format!("{name} is {} s {}", skew.abs(), if skew < 0 { "behind" } else { "ahead" });
    let remedy = "let both machines follow the same time (NTP): requests and grants expire by it";
    if skew.abs() > CLOCK_LEEWAY {
        findings.fail(CLOCK, what, remedy);
    } else if skew.abs() >= SKEW_SEEN {
        findings.warn(CLOCK, what, remedy);
    } else {
        findings.ok(CLOCK, format!("{name} has this machine's time"));
    }
}

/// How far a server's clock is ahead of the time between question and answer.
fn skew(there: UnixSeconds, before: UnixSeconds, after: UnixSeconds) -> UnixSeconds {
    if there < before {
        there - before
    } else if there > after {
        there - after
    } else {
        0
    }
}

/// Whether every server's operator lists our keys; gives all that it lists.
fn operator_keys(
    keys: &Keys,
    servers: &[(ServerName, Varz)],
    findings: &mut Findings,
) -> Vec<OperatorId> {
    let mut trusted = Vec::new();
    for (server, varz) in servers {
        let mut listed = Vec::new();
        for token in &varz.operators {
            let parsed = Parsed::<OperatorBody>::parse(token);
            if let Ok((claims, issuer)) = parsed.and_then(Parsed::verify::<OperatorId>) {
                listed.push(issuer);
                listed.extend(claims.body.signing_keys);
            }
        }
        let name = &server.name;
        if listed.is_empty() {
            findings.fail(
                OPERATOR,
                format!("{name} trusts no operator: it does not run in operator mode"),
                "run it with the nats-server.conf of `init`, or set [nats] mode",
            );
        } else {
            let missing = keys.operator_signing.iter().position(|key| !listed.contains(key));
            match (keys.operator_signing.as_slice(), missing) {
                ([], _) => findings.skip(OPERATOR, "not without [operator] operator_signing"),
                (_, Some(0)) => findings.fail(
                    OPERATOR,
                    format!(
                        "{name}'s operator does not list the key of [operator] operator_signing"
                    ),
                    "tenants' accounts signed with it are refused: restore the key, or list it in \
                     the operator's JWT in nats-server.conf",
                ),
                (_, Some(_)) => findings.warn(
                    OPERATOR,
                    format!("{name}'s operator does not list the next key of operator_signing"),
                    "list it in the operator's JWT before the keys are rotated",
                ),
                (_, None) => findings.ok(OPERATOR, format!("{name}'s lists our signing keys")),
            }
        }
        trusted.extend(listed);
    }
    trusted
}

/// The account's JWT on every server that keeps it.
pub(super) async fn look_up(
    system: &Watched,
    account: &AccountId,
    most: usize,
) -> Result<Vec<(AccountBody, OperatorId)>, ClusterError> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    let answers = system.cluster.gather(&subject, b"", most).await?;
    Ok(answers
        .iter()
        .filter_map(|answer| {
            let token = std::str::from_utf8(answer).ok()?;
            let (claims, issuer) = Parsed::<AccountBody>::parse(token).ok()?.verify().ok()?;
            (claims.subject == account.as_str()).then_some((claims.body, issuer))
        })
        .collect())
}

async fn auth_account(
    mode: &OperatorMode,
    keys: &Keys,
    trusted: &[OperatorId],
    (system, most): (&Watched, usize),
    findings: &mut Findings,
) {
    let found = match look_up(system, &mode.auth_account, most).await {
        Ok(found) => found,
        Err(error) => {
            return findings.fail(AUTH, error.to_string(), "see nats-server's log");
        }
    };
    let Some((body, issuer)) = found.first() else {
        return findings.fail(
            AUTH,
            format!("no server knows the account {}", mode.auth_account),
            "correct [callout] account, or use the nats-server.conf of the same `init`",
        );
    };
    let before = findings.count(State::Fail);
    let mut wrong = |what: &str, remedy: &str| findings.fail(AUTH, what, remedy);
    if !trusted.is_empty() && !trusted.contains(issuer) {
        wrong("its JWT is signed by no key of the operator", "sign it anew");
    }
    let callout = &body.authorization;
    match (callout.xkey, keys.xkey) {
        (None, _) => wrong(
            "it has no xkey, so that passwords travel in plain text",
            "put the public key of [callout] xkey into its `authorization`",
        ),
        (Some(theirs), Some(_)) if !keys.xkeys.iter().any(|key| *key.public_key() == theirs) => {
            wrong(
                "its xkey is not that of [callout] xkey: the service cannot open requests",
                "restore the key file, or put its public key into the account's JWT",
            );
        }
        _ => {}
    }
    if let Some(user) = &keys.service_user
        && !callout.auth_users.iter().any(|listed| listed.as_str() == user)
    {
        wrong(
            "its auth_users do not list the service's own user",
            "the service's login would be delegated to itself: list it",
        );
    }
    if let Some(first) = keys.response_signing.first()
        && !body.signing_keys.contains(first)
    {
        wrong(
            "it does not list the key of [callout] response_signing: answers are not taken",
            "restore the key file, or list it in the account's JWT",
        );
    }
    if callout.auth_users.len() > 1 {
        findings.warn(
            AUTH,
            format!("{} users bypass the callout", callout.auth_users.len()),
            "each of them is admitted by its key alone: keep the service's own",
        );
    }
    if findings.count(State::Fail) == before {
        let compared = [
            ("xkey", keys.xkey.is_some()),
            ("auth_users", keys.service_user.is_some()),
            ("signing keys", !keys.response_signing.is_empty()),
        ];
        match names(&compared) {
            Some(names) => findings.ok(AUTH, format!("{names} are the service's")),
            None => findings.skip(AUTH, UNREAD),
        }
    }
}

async fn resolver(
    mode: &OperatorMode,
    keys: &Keys,
    servers: &[(ServerName, Varz)],
    system: &Watched,
    findings: &mut Findings,
) {
    let found = match look_up(system, &mode.users_account, servers.len()).await {
        Ok(found) => found,
        Err(error) => {
            return findings.fail(RESOLVER, error.to_string(), "see nats-server's log");
        }
    };
    if found.len() < servers.len() {
        return findings.fail(
            RESOLVER,
            format!(
                "{} of {} servers keep the account USERS ({})",
                found.len(),
                servers.len(),
                mode.users_account
            ),
            "every server needs `resolver { type: full }` and the same resolver_preload: others \
             forget accounts, and their streams with them",
        );
    }
    match keys.user_signing.first() {
        Some(key) if found.iter().any(|(body, _)| !body.signing_keys.contains(key)) => findings
            .fail(
                RESOLVER,
                "the account USERS does not list the key of [operator] user_signing: users of \
                 shared tenants are refused",
                "restore the key file, or list it in the account's JWT",
            ),
        _ => findings.ok(RESOLVER, format!("full, on {} servers", servers.len())),
    }
}

/// Config mode: no server tells its `auth_callout` block, but its file may lie beside ours.
fn server_conf(config: &Config, keys: &Keys, findings: &mut Findings) {
    const CHECK: &str = "auth_callout";
    let file = config.folder.join("nats-server.conf");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return findings.skip(
            CHECK,
            "no server tells its settings, and there is no nats-server.conf beside the \
             configuration; `nats-callout test TENANT` shows whether they fit",
        );
    };
    let file = file.display();
    let before = findings.count(State::Fail);
    let ours = [
        ("issuer", keys.issuer.first().map(ToString::to_string)),
        ("xkey", keys.xkey.map(|key| key.to_string())),
        ("auth_users", keys.service_user.clone()),
    ];
    for (name, key) in &ours {
        if let Some(key) = key
            && !text.contains(key)
        {
            findings.fail(
                CHECK,
                format!("{file} does not hold the public key of our {name}, {key}"),
                "restore the key file, or correct the block and restart the server",
            );
        }
    }
    if findings.count(State::Fail) == before {
        match names(&ours.map(|(name, key)| (name, key.is_some()))) {
            Some(names) => findings.ok(CHECK, format!("{file} holds our {names}")),
            None => findings.skip(CHECK, UNREAD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, state) in [
            ("2.15.1", State::Ok),
            ("2.12.14", State::Ok),
            ("2.14.4", State::Ok),
            ("2.14.3", State::Warn),
            ("2.12.13", State::Warn),
            ("2.12.6", State::Warn),
            ("2.10.26", State::Warn),
            ("2.9.25", State::Fail),
            ("2.16.0-RC.1", State::Ok),
            ("unknown", State::Warn),
        ] {
            let (found, what) = judge_version(version);
            assert_eq!(found, state, "{version}: {what}");
        }
    }

    #[test]
    fn clocks() {
        assert_eq!(skew(100, 100, 101), 0);
        assert_eq!(skew(101, 100, 101), 0);
        assert_eq!(skew(99, 100, 101), -1);
        assert_eq!(skew(110, 100, 101), 9);
    }
}
