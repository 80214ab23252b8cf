//! `keys list`: every generation of every key, by its public half, where it lies, and how many
//! instances and servers know it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::Context;
use super::super::output::{note, table};
use super::files;
use super::instances::Instances;
use super::journal::Journal;
use super::rotate::folder;
use super::servers::{Servers, listed, operator_keys};
use crate::config::Mode;
use crate::deployment::key_role::KeyRole;
use crate::keyfile;

/// One generation.
struct Row {
    key: KeyRole,
    public: String,
    /// `in use`, `known`, `offline` or `out of use`
    state: &'static str,
    file: PathBuf,
    /// How many instances and servers know it, of how many; `None`: they could not be asked.
    instances: Option<(usize, usize)>,
    servers: Option<(usize, usize)>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let config = context.admin.config();
    let folder = folder(config)?;
    let journal = Journal::read(&folder)?;
    let mut rows = Vec::new();
    for key in KeyRole::of(config) {
        for (index, (public, file)) in
            key.public(config)?.into_iter().zip(key.files(config)).enumerate()
        {
            let state = if index == 0 { "in use" } else { "known" };
            rows.push(Row {
                key,
                public,
                state,
                file: file.clone(),
                instances: None,
                servers: None,
            });
        }
        for (state, folder) in [("out of use", folder.clone()), ("offline", folder.join("offline"))]
        {
            for (public, file) in files::seeds_in(key, &folder) {
                if !rows
                    .iter()
                    .any(|row| row.public == public && (row.file == file || state != "offline"))
                {
                    rows.push(Row { key, public, state, file, instances: None, servers: None });
                }
            }
        }
    }
    match Servers::connect(config).await {
        Ok(servers) => {
            let instances = Instances::ask(context, &servers.auth).await?;
            for row in &mut rows {
                let unfit = instances.unfit(row.key, |known| known.contains(&row.public)).len();
                row.instances = Some((instances.count() - unfit, instances.count()));
            }
            ask_servers(context, &servers, &mut rows).await?;
        }
        Err(error) => note(&format!("warning: who knows which key is not known: {error:#}")),
    }
    let under_way: Vec<&str> =
        journal.keys_under_way(config).into_iter().map(KeyRole::name).collect();
    if !under_way.is_empty() {
        note(&format!("under way: keys rotate {}", under_way.join(" ")));
    }
    let number = |of: Option<(usize, usize)>| {
        of.map_or(Value::Null, |(know, of)| json!({ "know": know, "of": of }))
    };
    let generations: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "key": row.key.name(), "public": row.public, "state": row.state, "file": row.file,
                "instances": number(row.instances), "servers": number(row.servers),
            })
        })
        .collect();
    let document = json!({ "generations": generations, "under_way": under_way });
    context.output.show(&document, || {
        let of = |of: Option<(usize, usize)>| {
            of.map_or("?".to_owned(), |(know, of)| format!("{know} of {of}"))
        };
        let lines = rows.iter().map(|row| {
            let file = row.file.strip_prefix(&config.folder).unwrap_or(&row.file);
            vec![
                row.key.name().to_owned(),
                row.state.to_owned(),
                row.public.clone(),
                of(row.instances),
                of(row.servers),
                file.display().to_string(),
            ]
        });
        table(&["KEY", "STATE", "PUBLIC KEY", "INSTANCES", "SERVERS", "FILE"], lines.collect())
    })
}

async fn ask_servers(context: &Context, servers: &Servers, rows: &mut [Row]) -> anyhow::Result<()> {
    let config = context.admin.config();
    match &config.mode {
        Mode::Operator(mode) => {
            let operators = servers.operators().await?;
            let auth = servers.held(&mode.auth_account).await?;
            let users = servers.held(&mode.users_account).await?;
            for row in rows {
                let lists = |held: &[super::servers::Held]| {
                    held.iter().filter(|(it, _)| listed(&it.body.0).contains(&row.public)).count()
                };
                let know = match row.key {
                    KeyRole::OperatorSigning => operators
                        .values()
                        .filter(|it| it.iter().any(|it| operator_keys(it).contains(&row.public)))
                        .count(),
                    KeyRole::UserSigning => lists(&users),
                    KeyRole::ResponseSigning => lists(&auth),
                    KeyRole::Xkey | KeyRole::Issuer => auth
                        .iter()
                        .filter_map(|(it, _)| it.body.0.get("authorization")?.get("xkey")?.as_str())
                        .filter(|xkey| *xkey == row.public)
                        .count(),
                };
                row.servers = Some((know, operators.len()));
            }
        }
        Mode::Config(_) => {
            let requests = servers.requests(config, keyfile::xkeys(&config.callout.xkey)?).await?;
            let all = requests.keys.len() + requests.unseen.len();
            for row in rows {
                let has = |(issuer, xkey): &&(String, String)| {
                    *(if row.key == KeyRole::Xkey { xkey } else { issuer }) == row.public
                };
                row.servers = Some((requests.keys.values().filter(has).count(), all));
            }
        }
    }
    Ok(())
}
