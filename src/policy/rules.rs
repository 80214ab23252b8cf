//! The policy of files: one TOML file for each policy, named after it, with a section for each
//! form of isolation. The shipped files are embedded; a folder of the operator's own overrides
//! them file by file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::subject::Pattern;
use super::template::{ExpandError, Template, TemplateError};
use super::{ConnectionContext, Decision, Form, Grant, Policy, Responses};
use crate::authn::{DenyReason, Principal};
use crate::store::{LoginRecord, UserKind};

const SHIPPED: [(&str, &str); 3] = [
    ("bb", include_str!("../../policies/bb.toml")),
    ("service", include_str!("../../policies/service.toml")),
    ("admin", include_str!("../../policies/admin.toml")),
];

/// What is wrong with a policy file.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {path}: {source}; check [policies] folder and its permissions")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no policy.
    #[error("policy {name} ({origin}): {reason}")]
    Malformed {
        /// The policy.
        name: String,
        /// The file, or `shipped`.
        origin: String,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A permission of the file is no template.
    #[error("policy {name} ({origin}), [{form}] {key}: {source}")]
    Template {
        /// The policy.
        name: String,
        /// The file, or `shipped`.
        origin: String,
        /// The section.
        form: &'static str,
        /// The list.
        key: &'static str,
        /// What is wrong.
        source: TemplateError,
    },
    /// A section grants what would break the isolation of a shared account.
    #[error(
        "policy {name} ({origin}): [shared] must not have `responses`, since the reply subject \
         is the requester's to choose; publish `_R_.>` instead"
    )]
    SharedResponses {
        /// The policy.
        name: String,
        /// The file, or `shipped`.
        origin: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    account: Section,
    shared: Section,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    /// Subjects to publish as well where the tenant has a JetStream limit above zero.
    #[serde(default)]
    jetstream_publish: Vec<String>,
    #[serde(default)]
    deny_publish: Vec<String>,
    #[serde(default)]
    deny_subscribe: Vec<String>,
    responses: Option<ResponsesSection>,
    /// Seconds.
    ttl: Option<u64>,
    /// Connection types and kinds that may not connect: `mqtt`, `leafnode`, `websocket`, `nats`.
    #[serde(default)]
    refuse_connections: Vec<ConnectionType>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct ResponsesSection {
    max: u32,
    /// Seconds.
    expires: u64,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum ConnectionType {
    Nats,
    Mqtt,
    Websocket,
    Leafnode,
}

#[derive(Debug, Clone)]
struct Rule {
    publish: Vec<Template>,
    subscribe: Vec<Template>,
    jetstream_publish: Vec<Template>,
    deny_publish: Vec<Template>,
    deny_subscribe: Vec<Template>,
    responses: Option<Responses>,
    ttl: Option<Duration>,
    refuse_connections: Vec<ConnectionType>,
}

#[derive(Debug, Clone)]
struct Rules {
    account: Rule,
    shared: Rule,
}

/// All policies by name.
#[derive(Clone)]
pub struct PolicySet {
    policies: BTreeMap<String, Rules>,
}

impl PolicySet {
    /// The policies that come with the program.
    pub fn shipped() -> Result<Self, PolicyError> {
        let policies = SHIPPED
            .into_iter()
            .map(|(name, text)| Ok((name.to_owned(), parse(name, "shipped", text)?)))
            .collect::<Result<_, PolicyError>>()?;
        Ok(Self { policies })
    }

    /// The shipped policies, overridden and extended by the files `<name>.toml` of a folder.
    /// Their test tables, `<name>.test.toml`, are passed over.
    pub fn with_folder(folder: &Path) -> Result<Self, PolicyError> {
        let unreadable =
            |path: &Path, source| PolicyError::Unreadable { path: path.to_owned(), source };
        let mut set = Self::shipped()?;
        let entries = std::fs::read_dir(folder).map_err(|source| unreadable(folder, source))?;
        for entry in entries {
            let path = entry.map_err(|source| unreadable(folder, source))?.path();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = file.strip_suffix(".toml").filter(|name| !name.ends_with(".test"))
            else {
                continue;
            };
            let text =
                std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
            let rules = parse(name, &path.display().to_string(), &text)?;
            set.policies.insert(name.to_owned(), rules);
        }
        Ok(set)
    }

    /// The names of all policies.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The policy's name for a user: its own, else its tenant's (`bb` users only, since a service
    /// gets exactly its lists), else the one of its kind.
    #[must_use]
    pub fn name_for(record: &LoginRecord) -> &str {
        let own = record.user.policy.as_deref();
        match record.user.kind {
            UserKind::Bb => own.or(record.tenant.policy.as_deref()),
            UserKind::Service => own,
        }
        .unwrap_or(record.user.kind.as_str())
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicySet").field(&self.policies.keys().collect::<Vec<_>>()).finish()
    }
}

impl Policy for PolicySet {
    fn decide(&self, principal: &Principal, context: &ConnectionContext<'_>) -> Decision {
        let record = principal.record();
        let name = Self::name_for(record);
        let Some(rules) = self.policies.get(name) else {
            tracing::error!(
                user = %record.user.name,
                tenant = %record.tenant.id,
                policy = name,
                "refused: the row names a policy that does not exist; add policies/{name}.toml or \
                 change the column `policy`"
            );
            return Decision::Deny(DenyReason::Policy);
        };
        let rule = match context.form {
            Form::Own => &rules.account,
            Form::Shared => &rules.shared,
        };
        let client = context.client;
        if rule.refuse_connections.iter().any(|refused| refused.is_of(client)) {
            return Decision::Deny(DenyReason::Policy);
        }
        match rule.grant(record) {
            Ok(grant) => Decision::Permit(grant),
            Err(error) => {
                tracing::error!(
                    user = ?record.user.name,
                    tenant = %record.tenant.id,
                    policy = name,
                    %error,
                    "refused: the policy cannot be filled in for this user"
                );
                Decision::Deny(DenyReason::Policy)
            }
        }
    }
}

impl ConnectionType {
    fn is_of(self, client: &crate::protocol::claims::ClientInfo) -> bool {
        match self {
            Self::Leafnode => client.kind.eq_ignore_ascii_case("leafnode"),
            Self::Mqtt => client.connection_type == "mqtt",
            Self::Websocket => client.connection_type == "websocket",
            Self::Nats => client.connection_type == "nats",
        }
    }
}

impl Rule {
    fn grant(&self, record: &LoginRecord) -> Result<Grant, ExpandError> {
        let expand = |templates: &[Template], extra: &[Template]| {
            let mut subjects = Vec::with_capacity(templates.len() + extra.len());
            for template in templates.iter().chain(extra) {
                template.expand(record, &mut subjects)?;
            }
            subjects.sort_unstable();
            subjects.dedup();
            Ok::<Vec<Pattern>, ExpandError>(subjects)
        };
        let jetstream: &[Template] =
            if record.tenant.limits.jetstream() { &self.jetstream_publish } else { &[] };
        Ok(Grant {
            publish: expand(&self.publish, jetstream)?,
            subscribe: expand(&self.subscribe, &[])?,
            deny_publish: expand(&self.deny_publish, &[])?,
            deny_subscribe: expand(&self.deny_subscribe, &[])?,
            responses: self.responses,
            ttl: self.ttl,
        })
    }
}

fn parse(name: &str, origin: &str, text: &str) -> Result<Rules, PolicyError> {
    let file: File = toml::from_str(text).map_err(|error| PolicyError::Malformed {
        name: name.to_owned(),
        origin: origin.to_owned(),
        reason: error.to_string(),
    })?;
    if file.shared.responses.is_some() {
        return Err(PolicyError::SharedResponses {
            name: name.to_owned(),
            origin: origin.to_owned(),
        });
    }
    let rule = |form: Form, section: Section| {
        let templates = |key, list: Vec<String>| {
            list.iter()
                .map(|text| {
                    text.parse().map_err(|source| PolicyError::Template {
                        name: name.to_owned(),
                        origin: origin.to_owned(),
                        form: form.as_str(),
                        key,
                        source,
                    })
                })
                .collect::<Result<Vec<Template>, _>>()
        };
        Ok(Rule {
            publish: templates("publish", section.publish)?,
            subscribe: templates("subscribe", section.subscribe)?,
            jetstream_publish: templates("jetstream_publish", section.jetstream_publish)?,
            deny_publish: templates("deny_publish", section.deny_publish)?,
            deny_subscribe: templates("deny_subscribe", section.deny_subscribe)?,
            responses: section.responses.map(|responses| Responses {
                max: responses.max,
                expires: Duration::from_secs(responses.expires),
            }),
            ttl: section.ttl.map(Duration::from_secs),
            refuse_connections: section.refuse_connections,
        })
    };
    Ok(Rules { account: rule(Form::Own, file.account)?, shared: rule(Form::Shared, file.shared)? })
}
