//! `show`: one tenant with its users, or one user. Never a secret, nor a hash of one.

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::database::explain;
use super::lookup::{find_tenant, parse_id, without_row};
use super::output::{facts, table, time, time_json};
use crate::admin::AdminError;
use crate::authn::hashing::unusable;
use crate::config::Config;
use crate::config::units::format_size;
use crate::deployment::isolation_of;
use crate::store::{Isolation, StoreError, TenantRecord, UserKind, UserRecord};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The tenant's id
    tenant: String,
    /// One of its users
    user: Option<String>,
}

pub(super) async fn run(args: &ShowArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    match &args.user {
        None => {
            let users = context.admin.users(&id).await.map_err(explain)?;
            show_tenant(&tenant, &users, context)
        }
        Some(name) => {
            let user = context.admin.user(&id, name).await.map_err(|error| {
                let is_missing = matches!(error.0, AdminError::Store(StoreError::Missing { .. }));
                let said = explain(error);
                if !is_missing {
                    return said;
                }
                anyhow!("{said}{}", without_row(context, id.as_str()))
            })?;
            show_user(&tenant, &user, context)
        }
    }
}

fn show_tenant(
    tenant: &TenantRecord,
    users: &[UserRecord],
    context: &Context,
) -> anyhow::Result<()> {
    let json = json!({
        "tenant": tenant_json(tenant, context.admin.config()),
        "users": users.iter().map(user_json).collect::<Vec<_>>(),
    });
    context.output.show(&json, || {
        let rows = users
            .iter()
            .map(|user| {
                vec![
                    user.name.clone(),
                    user.kind.to_string(),
                    user.policy.clone().unwrap_or_default(),
                    user.status.to_string(),
                    subjects(user, &user.publish),
                    subjects(user, &user.subscribe),
                    never(user.expires_at),
                    never(user.last_login_at),
                ]
            })
            .collect();
        let header =
            ["USER", "KIND", "POLICY", "STATUS", "PUBLISH", "SUBSCRIBE", "EXPIRES", "LAST LOGIN"];
        format!(
            "{}\n\n{}",
            facts(&tenant_facts(tenant, context.admin.config())),
            table(&header, rows)
        )
    })
}

fn show_user(tenant: &TenantRecord, user: &UserRecord, context: &Context) -> anyhow::Result<()> {
    let json = json!({
        "tenant": tenant_json(tenant, context.admin.config()),
        "user": user_json(user),
    });
    context.output.show(&json, || {
        let mut rows = vec![
            ("user", user.name.clone()),
            ("tenant", tenant.id.to_string()),
            ("kind", user.kind.to_string()),
            ("policy", user.policy.clone().unwrap_or_else(|| "that of its kind".to_owned())),
            ("status", user.status.to_string()),
            ("publish", subjects(user, &user.publish)),
            ("subscribe", subjects(user, &user.subscribe)),
            ("password", password(user)),
            ("nkey", user.nkey.clone().unwrap_or_else(|| "none".to_owned())),
            ("certificate", user.certificate.clone().unwrap_or_else(|| "none".to_owned())),
            ("expires", never(user.expires_at)),
            ("last login", never(user.last_login_at)),
            ("created", time(user.created_at)),
            ("updated", time(user.updated_at)),
        ];
        let isolation = isolation_of(context.admin.config(), tenant);
        if user.kind == UserKind::Service && isolation == Some(Isolation::Shared) {
            rows.push(("note", format!("the lists are taken below user.{}.", tenant.id)));
        }
        facts(&rows)
    })
}

fn tenant_facts(tenant: &TenantRecord, config: &Config) -> Vec<(&'static str, String)> {
    let limits = &tenant.limits;
    let unlimited = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
    };
    vec![
        ("tenant", tenant.id.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.to_string()),
        ("isolation", isolation(tenant, config).to_owned()),
        ("account", account(tenant).unwrap_or_else(|| "the default, or none yet".to_owned())),
        ("policy", tenant.policy.clone().unwrap_or_else(|| "the default".to_owned())),
        ("answers", if tenant.answers { "yes" } else { "no" }.to_owned()),
        ("memory", format_size(limits.memory)),
        ("storage", format_size(limits.storage)),
        ("streams", unlimited(limits.streams)),
        ("consumers", unlimited(limits.consumers)),
        ("connections", unlimited(limits.connections)),
        ("expires", never(tenant.expires_at)),
        ("created", time(tenant.created_at)),
        ("updated", time(tenant.updated_at)),
    ]
}

/// How a tenant is kept apart, where its row names an account that it may have.
pub(super) fn isolation(tenant: &TenantRecord, config: &Config) -> &'static str {
    isolation_of(config, tenant).map_or("none", Isolation::as_str)
}

/// A tenant's row.
pub(super) fn tenant_json(tenant: &TenantRecord, config: &Config) -> Value {
    let limits = &tenant.limits;
    json!({
        "id": tenant.id.as_str(),
        "name": tenant.name,
        "status": tenant.status.as_str(),
        "isolation": isolation(tenant, config),
        "account": account(tenant),
        "policy": tenant.policy,
        "answers": tenant.answers,
        "limits": {
            "memory": limits.memory,
            "storage": limits.storage,
            "streams": limits.streams,
            "consumers": limits.consumers,
            "connections": limits.connections,
        },
        "expires_at": time_json(tenant.expires_at),
        "created_at": time(tenant.created_at),
        "updated_at": time(tenant.updated_at),
    })
}

fn user_json(user: &UserRecord) -> Value {
    json!({
        "name": user.name,
        "kind": user.kind.as_str(),
        "status": user.status.as_str(),
        "policy": user.policy,
        "publish": user.publish,
        "subscribe": user.subscribe,
        "has_password": user.password_hash.is_some(),
        "password_unusable": why_unusable(user),
        "nkey": user.nkey,
        "certificate": user.certificate,
        "expires_at": time_json(user.expires_at),
        "last_login_at": time_json(user.last_login_at),
        "created_at": time(user.created_at),
        "updated_at": time(user.updated_at),
    })
}

/// Why no login can use the hash that is there.
fn why_unusable(user: &UserRecord) -> Option<String> {
    Some(unusable(user.password_hash.as_ref()?.expose())?.to_string())
}

fn password(user: &UserRecord) -> String {
    match why_unusable(user) {
        Some(why) => format!("none that a login can use: {why}"),
        None if user.password_hash.is_some() => "yes".to_owned(),
        None => "no".to_owned(),
    }
}

fn account(tenant: &TenantRecord) -> Option<String> {
    tenant.placement.clone().or_else(|| tenant.account.map(|account| account.to_string()))
}

/// A service's list; the other kinds' subjects follow from their policy.
fn subjects(user: &UserRecord, list: &[String]) -> String {
    match (user.kind, list) {
        (UserKind::Bb, _) => "by policy".to_owned(),
        (UserKind::Service, []) => "nothing".to_owned(),
        (UserKind::Service, list) => list.join(", "),
    }
}

fn never(at: Option<i64>) -> String {
    at.map_or_else(|| "never".to_owned(), time)
}
