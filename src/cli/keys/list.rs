//! `keys list`: public keys alone, and how many instances and servers know each.

use serde_json::{Value, json};

use super::super::Context;
use super::super::output::{note, table};
use super::explain;
use crate::admin::keys::{self, KeyRole, Known};

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let found = keys::list(&context.admin).await.map_err(explain)?;
    if let Some(error) = found.unasked {
        note(&format!("warning: who knows which key is not known: {:#}", explain(error)));
    }
    let under_way: Vec<&str> = found.under_way.into_iter().map(KeyRole::name).collect();
    if !under_way.is_empty() {
        note(&format!("under way: keys rotate {}", under_way.join(" ")));
    }
    let number = |known: Option<Known>| {
        known.map_or(Value::Null, |Known { know, of }| json!({ "know": know, "of": of }))
    };
    let generations = found.generations.iter().map(|it| {
        json!({
            "key": it.key.name(), "public": it.public, "state": it.state.name(), "file": it.file,
            "instances": number(it.instances), "servers": number(it.servers),
        })
    });
    let document =
        json!({ "generations": generations.collect::<Vec<_>>(), "under_way": under_way });
    context.output.show(&document, || {
        let of = |known: Option<Known>| {
            known.map_or("?".to_owned(), |Known { know, of }| format!("{know} of {of}"))
        };
        let rows = found.generations.iter().map(|it| {
            let file = it.file.strip_prefix(&context.admin.config().folder).unwrap_or(&it.file);
            vec![
                it.key.name().to_owned(),
                it.state.name().to_owned(),
                it.public.clone(),
                of(it.instances),
                of(it.servers),
                file.display().to_string(),
            ]
        });
        table(&["KEY", "STATE", "PUBLIC KEY", "INSTANCES", "SERVERS", "FILE"], rows.collect())
    })
}
