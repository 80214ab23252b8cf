//! Config mode: the logins of AUTH, SYS, BB, INTAKE, USERS and EVENTS, and the configuration with its accounts and
//! the `auth_callout` block.

use super::cluster::{nodes, replicas};
use super::conf::quote;
use super::server::head;
use super::stage::Stage;
use super::{Deployment, service};
use crate::deployment::topology::{
    Account, Share, bb_permissions, intake_permissions, users_permissions,
};
use crate::keys::{KeyKind, SigningKey, XKey};
use crate::protocol::claims::{ExportType, Permissions};
use crate::servers::versions;
use crate::streams::readers;

/// Writes everything that config mode needs.
pub(super) fn write(deployment: &Deployment, stage: &Stage) -> anyhow::Result<()> {
    let auth = key(stage, "auth", KeyKind::User)?;
    let sys = key(stage, "sys", KeyKind::User)?;
    let bb = key(stage, "bb", KeyKind::User)?;
    let intake = key(stage, "intake", KeyKind::User)?;
    let users = key(stage, "users", KeyKind::User)?;
    let events = key(stage, "events", KeyKind::User)?;
    let issuer = key(stage, "issuer", KeyKind::Account)?;
    let (xkey, seed) = XKey::generate()?;
    stage.file("keys/xkey.nk", &format!("{}\n", *seed))?;

    let mut accounts = String::new();
    for account in Account::CONFIG {
        let user = match account {
            Account::Auth => Some(auth.public_key()),
            Account::Sys => Some(sys.public_key()),
            Account::Bb => Some(bb.public_key()),
            Account::Intake => Some(intake.public_key()),
            Account::Users => Some(users.public_key()),
            Account::Events => Some(events.public_key()),
            Account::Answers => None,
        };
        accounts.push_str(&block(account, account.share(replicas(deployment)), user));
    }
    let rest = format!(
        "\n\
         # SYS: server events and requests. AUTH: nats-callout alone, which sees passwords.\n\
         # BB: the application behind the tenants. USERS: the tenants, kept apart by permissions.\n\
         # INTAKE: where tenants' events are taken in. EVENTS: where the service's own are read. These two\n\
         # and USERS have neither JetStream nor leaf nodes, by which tenants would reach each other.\n\
         accounts {{\n{accounts}}}\n\
         system_account: SYS\n\
         \n\
         # Every other login is decided by nats-callout. All logins above are in auth_users: the\n\
         # server would hand the others to the callout too. The issuer signs users and answers;\n\
         # `nats-callout keys rotate` replaces it. Since there are logins by nkey, the server\n\
         # sends every client a nonce, which nkeys of tenants' users sign too.\n\
         authorization {{\n    \
             timeout: 2\n    \
             auth_callout {{\n        \
                 issuer: {issuer}\n        \
                 auth_users: [ {auth}, {sys}, {bb}, {intake}, {users}, {events} ]\n        \
                 account: AUTH\n        \
                 xkey: {xkey}\n    \
             }}\n\
         }}\n",
        issuer = issuer.public_key(),
        auth = auth.public_key(),
        sys = sys.public_key(),
        bb = bb.public_key(),
        intake = intake.public_key(),
        users = users.public_key(),
        events = events.public_key(),
        xkey = xkey.public_key(),
    );
    for node in nodes(deployment)? {
        stage.file(&node.file, &(head(deployment, &node, versions::CONFIG_MODE) + &rest))?;
    }
    stage.file("nats-callout.toml", &service::config(deployment))
}

fn key(stage: &Stage, name: &str, kind: KeyKind) -> anyhow::Result<SigningKey> {
    let (key, seed) = SigningKey::generate(kind)?;
    stage.file(&format!("keys/{name}.nk"), &format!("{}\n", *seed))?;
    Ok(key)
}

fn block(account: Account, share: Share, user: Option<&str>) -> String {
    let mut text = format!("    {} {{\n", account.name());
    if share.storage > 0 {
        text.push_str(&format!(
            "        jetstream {{ max_mem: {}, max_file: {} }}\n",
            share.memory, share.storage
        ));
    }
    if !account.has_leaf_nodes() {
        text.push_str("        limits { max_leafnodes: 0 }\n");
    }
    if let Some(nkey) = user {
        match account {
            Account::Bb => text.push_str(&bb_user(nkey)),
            Account::Intake => text.push_str(&intake_user(nkey)),
            Account::Users => text.push_str(&users_user(nkey)),
            Account::Events => text.push_str(&reader(nkey)),
            _ => text.push_str(&format!("        users: [ {{ nkey: {nkey} }} ]\n")),
        }
    }
    let exports: Vec<String> = account
        .offers()
        .iter()
        .map(|offer| {
            let to = offer.to.map(|to| format!(", accounts: [{}]", to.name())).unwrap_or_default();
            let answers = if offer.many_answers { ", response_type: stream" } else { "" };
            let within = offer.within.map(|it| format!(", threshold: \"{}s\"", it.as_secs()));
            let within = within.unwrap_or_default();
            format!("{{ {}: {}{answers}{within}{to} }}", word(offer.kind), quote(&offer.subject))
        })
        .collect();
    let imports: Vec<String> = account
        .takes()
        .iter()
        .filter(|take| Account::CONFIG.contains(&take.from))
        .map(|take| {
            let to = take.local.as_deref().map(|to| format!(", to: {}", quote(to)));
            format!(
                "{{ {}: {{ account: {}, subject: {} }}{} }}",
                word(take.kind),
                take.from.name(),
                quote(&take.subject),
                to.unwrap_or_default()
            )
        })
        .collect();
    for (name, lines) in [("exports", exports), ("imports", imports)] {
        if !lines.is_empty() {
            text.push_str(&format!("        {name}: [\n"));
            for line in lines {
                text.push_str(&format!("            {line}\n"));
            }
            text.push_str("        ]\n");
        }
    }
    text.push_str("    }\n");
    text
}

fn bb_user(nkey: &str) -> String {
    let Permissions { publish, subscribe, .. } = bb_permissions();
    user(nkey, "", [("deny", &publish.deny), ("deny", &subscribe.deny)])
}

fn intake_user(nkey: &str) -> String {
    let Permissions { publish, subscribe, .. } = intake_permissions();
    user(nkey, "", [("allow", &publish.allow), ("allow", &subscribe.allow)])
}

fn users_user(nkey: &str) -> String {
    let Permissions { publish, subscribe, .. } = users_permissions();
    user(nkey, "", [("deny", &publish.deny), ("allow", &subscribe.allow)])
}

fn reader(nkey: &str) -> String {
    let requests = readers::requests(&readers::NEW);
    let Permissions { publish, subscribe, .. } = readers::permissions(&requests);
    let connections = readers::CONNECTIONS.join(", ");
    let connections = format!(", allowed_connection_types: [ {connections} ]");
    user(nkey, &connections, [("allow", &publish.allow), ("allow", &subscribe.allow)])
}

/// A user who may, or may not, publish and subscribe these.
fn user(nkey: &str, more: &str, [publish, subscribe]: [(&str, &[String]); 2]) -> String {
    let list = |subjects: &[String]| {
        subjects
            .iter()
            .map(|subject| format!("                    {}\n", quote(subject)))
            .collect::<String>()
    };
    format!(
        "        users: [\n            \
             {{ nkey: {nkey}{more}, permissions: {{\n                \
                 publish: {{ {}: [\n{}                ] }}\n                \
                 subscribe: {{ {}: [\n{}                ] }}\n            \
             }} }}\n        \
         ]\n",
        publish.0,
        list(publish.1),
        subscribe.0,
        list(subscribe.1),
    )
}

fn word(kind: ExportType) -> &'static str {
    match kind {
        ExportType::Stream => "stream",
        ExportType::Service => "service",
    }
}
