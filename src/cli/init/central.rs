//! Config mode: the logins of AUTH, SYS, BB, INTAKE, USERS and EVENTS, and the configuration with its accounts and
//! the `auth_callout` block.

use super::cluster::{nodes, replicas};
use super::conf::quote;
use super::server::head;
use super::stage::Stage;
use super::{Deployment, service};
use crate::deployment::topology::{Account, Share};
use crate::keys::{KeyKind, SigningKey, XKey};
use crate::protocol::claims::{ExportType, Permission, Permissions, UserBody};
use crate::servers::versions;

/// Writes everything that config mode needs.
pub(super) fn write(deployment: &Deployment, stage: &Stage) -> anyhow::Result<()> {
    let issuer = key(stage, "issuer", KeyKind::Account)?;
    let (xkey, seed) = XKey::generate()?;
    stage.file("keys/xkey.nk", &format!("{}\n", *seed))?;

    let (mut accounts, mut auth_users) = (String::new(), Vec::new());
    for account in Account::CONFIG {
        let login = key(stage, &account.file_name(), KeyKind::User)?;
        let share = account.share(replicas(deployment));
        accounts.push_str(&block(account, share, login.public_key()));
        auth_users.push(login.public_key().to_owned());
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
                 auth_users: [ {auth_users} ]\n        \
                 account: AUTH\n        \
                 xkey: {xkey}\n    \
             }}\n\
         }}\n",
        issuer = issuer.public_key(),
        auth_users = auth_users.join(", "),
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

fn block(account: Account, share: Share, nkey: &str) -> String {
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
    text.push_str(&user(nkey, account.login()));
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

/// The account's user, who may, or may not, publish and subscribe certain subjects.
fn user(nkey: &str, login: UserBody) -> String {
    let UserBody { permissions, allowed_connection_types: types, .. } = login;
    if permissions == Permissions::default() {
        return format!("        users: [ {{ nkey: {nkey} }} ]\n");
    }
    let types = match types.as_slice() {
        [] => String::new(),
        types => format!(", allowed_connection_types: [ {} ]", types.join(", ")),
    };
    let list = |Permission { allow, deny }: &Permission| {
        let (word, subjects) = if allow.is_empty() { ("deny", deny) } else { ("allow", allow) };
        let line = |subject: &String| format!("                    {}\n", quote(subject));
        format!("{word}: [\n{}                ]", subjects.iter().map(line).collect::<String>())
    };
    format!(
        "        users: [\n            \
             {{ nkey: {nkey}{types}, permissions: {{\n                \
                 publish: {{ {} }}\n                \
                 subscribe: {{ {} }}\n            \
             }} }}\n        \
         ]\n",
        list(&permissions.publish),
        list(&permissions.subscribe),
    )
}

fn word(kind: ExportType) -> &'static str {
    match kind {
        ExportType::Stream => "stream",
        ExportType::Service => "service",
    }
}
