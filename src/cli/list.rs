//! `list`: all tenants.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::Context;
use super::database::explain;
use super::output::{table, time};
use super::show::{isolation, tenant_json};
use crate::config::units::format_size;
use crate::store::{TenantRecord, UserRecord};

/// How many tenants' users are read at once.
const PARALLEL: usize = 4;

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let tenants = context.admin.tenants().await.map_err(explain)?;
    let rows: Vec<(TenantRecord, Vec<UserRecord>)> = stream::iter(tenants)
        .map(|tenant| async move {
            let users = context.admin.users(&tenant.id).await.map_err(explain)?;
            anyhow::Ok((tenant, users))
        })
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let tenants: Vec<_> = rows
        .iter()
        .map(|(tenant, users)| {
            let mut json = tenant_json(tenant, context.admin.config());
            if let Some(object) = json.as_object_mut() {
                let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
                object.insert("users".to_owned(), json!(names));
            }
            json
        })
        .collect();
    context.output.show(&json!({ "tenants": tenants }), || {
        if rows.is_empty() {
            return "There are no tenants yet: add one with `nats-callout tenant add NAME`."
                .to_owned();
        }
        let rows = rows
            .iter()
            .map(|(tenant, users)| {
                vec![
                    tenant.id.to_string(),
                    tenant.name.clone(),
                    tenant.status.to_string(),
                    isolation(tenant, context.admin.config()).to_owned(),
                    format_size(tenant.limits.memory),
                    format_size(tenant.limits.storage),
                    tenant.expires_at.map_or_else(|| "never".to_owned(), time),
                    users.len().to_string(),
                    users
                        .iter()
                        .filter_map(|user| user.last_login_at)
                        .max()
                        .map_or_else(|| "never".to_owned(), time),
                ]
            })
            .collect();
        let header = [
            "ID",
            "NAME",
            "STATUS",
            "ISOLATION",
            "MEMORY",
            "STORAGE",
            "EXPIRES",
            "USERS",
            "LAST LOGIN",
        ];
        table(&header, rows)
    })
}
