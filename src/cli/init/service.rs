//! The text of `nats-callout.toml`: the keys that a deployment has to have, and the others as
//! comments with their defaults.

use super::Deployment;
use super::cluster::{replicas, urls};
use crate::config::settings::{Applies, Kind, SETTINGS, Setting};
use crate::deployment::topology::Account;
use crate::keys::AccountId;

pub(super) fn operator(
    deployment: &Deployment,
    id: impl Fn(Account) -> anyhow::Result<AccountId>,
) -> anyhow::Result<String> {
    let mut values = values(deployment, "operator");
    for (name, account) in [
        ("callout.account", Account::Auth),
        ("operator.bb_account", Account::Bb),
        ("operator.users_account", Account::Users),
        ("operator.events_account", Account::Events),
        ("operator.answers_account", Account::Answers),
        ("intake.account", Account::Intake),
    ] {
        values.push((name, quote(&id(account)?.to_string())));
    }
    let sections = ["nats", "callout", "operator", "intake", "tenants"];
    Ok(text(Applies::Operator, &sections, &values))
}

pub(super) fn config(deployment: &Deployment) -> String {
    let mut values = values(deployment, "config");
    values.extend([
        ("callout.account", quote("AUTH")),
        ("placement.accounts", "[\"USERS\"]".to_owned()),
        ("intake.account", quote("INTAKE")),
    ]);
    text(Applies::Config, &["nats", "callout", "placement", "intake"], &values)
}

const HEAD: &str = "# nats-callout: who may log in to nats-server, and what they may do there.\n\
                    # A line that begins with `# key =` shows a default. Every key is overridden by\n\
                    # NATS_CALLOUT_<SECTION>_<KEY>; relative paths start at this file's folder.\n";

/// The sections that both modes have alike.
const COMMON: [&str; 9] =
    ["bb", "events", "database", "cache", "hashing", "guessing", "policies", "http", "log"];

const ISSUERS: &str = "# Whose JWTs are logins: a table for each issuer.\n\
                       # [issuers.keycloak]\n\
                       # issuer = \"https://id.example.com/realms/shop\"\n\
                       # audience = [\"nats\"]\n\
                       # user_claim = \"sub\"\n";

/// What a deployment writes in place of defaults: the key's name, and the value as TOML.
type Values = Vec<(&'static str, String)>;

fn values(deployment: &Deployment, mode: &str) -> Values {
    let mut values = vec![
        ("nats.mode", quote(mode)),
        ("nats.url", quote(&urls(deployment))),
        ("callout.xkey", "[\"keys/xkey.nk\"]".to_owned()),
        ("database.url", quote(&deployment.database)),
    ];
    let copies = replicas(deployment);
    if copies > 1 {
        values.extend(["bb.replicas", "events.replicas"].map(|name| (name, copies.to_string())));
    }
    values
}

fn text(mode: Applies, sections: &[&str], values: &Values) -> String {
    let mut text = HEAD.to_owned();
    for section in sections.iter().chain(&COMMON) {
        text += &format!("\n[{section}]\n");
        let settings = SETTINGS.iter().filter(|it| it.section() == *section && it.is_of(mode));
        text.extend(settings.map(|setting| lines(setting, values)));
        if *section == "guessing" {
            text += ISSUERS;
        }
    }
    text
}

fn lines(setting: &Setting, values: &Values) -> String {
    let mut text: String = setting.note.lines().map(|line| format!("# {line}\n")).collect();
    let value = values.iter().find(|(name, _)| *name == setting.name);
    let is_made = matches!(setting.kind, Kind::File(_) | Kind::Keys(_));
    let mark = if is_made || value.is_some() { "" } else { "# " };
    let value = value.map_or_else(|| setting.kind.written(), |(_, value)| value.clone());
    text += &format!("{mark}{} = {value}\n", setting.key());
    text
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
