//! The policy of files: one TOML file for each policy, named after it, with a section for each
//! form of isolation. The shipped files are embedded; a folder of the operator's own overrides
//! them file by file. [`super::explain`] says where a grant comes from, [`super::table`] tests one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use super::rule::Permission;
use super::rule::{Line, Rule, Rules};
use super::subject::Pattern;
use super::{ConnectionContext, Decision, Grant, Policy, file};
use crate::authn::{Denied, DenyReason, IssuerOf, Principal};
use crate::causes::quoted;
use crate::clock::UnixSeconds;
use crate::problem::{Origin, Problem, list, shown_file};
use crate::store::{Isolation, LoginRecord, UserKind};

const SHIPPED: [(&str, &str); 3] = [
    ("bb", include_str!("../../policies/bb.toml")),
    ("service", include_str!("../../policies/service.toml")),
    ("admin", include_str!("../../policies/admin.toml")),
];

/// Where messages say that a shipped file is.
pub(super) const SHIPPED_FOLDER: &str = "shipped policies";

/// Why there are no policies. The text names each mistake, its place and what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PolicyError(#[from] pub(crate) NoPolicies);

/// What a [`PolicyError`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPolicies {
    /// The folder or a file in it cannot be read.
    #[error(
        "cannot read {}: {source}; check [policies] folder and its permissions",
        shown_file(path)
    )]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Files have mistakes: all of them.
    #[error("{}", list(.0, "the policies"))]
    Invalid(Vec<Problem>),
}

/// All policies by name.
#[derive(Clone)]
pub struct PolicySet {
    policies: BTreeMap<String, Rules>,
}

impl PolicySet {
    /// The policies that come with the program.
    pub fn shipped() -> Result<Self, PolicyError> {
        Self::read(Vec::new())
    }

    /// The shipped policies, overridden and extended by the files `<name>.toml` of a folder.
    /// Their test tables, `<name>.test.toml`, are passed over.
    pub fn with_folder(folder: &Path) -> Result<Self, PolicyError> {
        Self::read(Sources::of(folder)?.policies)
    }

    /// The policies that a configuration names: those of a folder, else the shipped ones.
    pub(crate) fn configured(folder: Option<&Path>) -> Result<Self, PolicyError> {
        folder.map_or_else(Self::shipped, Self::with_folder)
    }

    /// The shipped policies and these, which come later and go first.
    pub(crate) fn read(sources: Vec<Source>) -> Result<Self, PolicyError> {
        let (mut policies, mut problems) = (BTreeMap::new(), Vec::new());
        let shipped = SHIPPED.into_iter().map(|(name, text)| Source {
            name: name.to_owned(),
            path: Path::new(SHIPPED_FOLDER).join(format!("{name}.toml")),
            text: text.to_owned(),
        });
        for Source { name, path, text } in shipped.chain(sources) {
            match file::parse(&name, &path, &text) {
                Ok(rules) => drop(policies.insert(name, rules)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self { policies })
        } else {
            Err(NoPolicies::Invalid(problems).into())
        }
    }

    /// The names of all policies, with their files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.policies.iter().map(|(name, rules)| (name.as_str(), rules.path.as_path()))
    }

    /// The names of all policies.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The lines of a policy's section that take their values from a claim.
    pub(crate) fn wanted(&self, policy: &str, form: Isolation) -> impl Iterator<Item = Wanted<'_>> {
        self.policies.get(policy).into_iter().flat_map(move |rules| {
            let mut lines: Vec<&Line> = rules.of(form).lines.iter().collect();
            lines.sort_by_key(|line| line.line);
            lines.into_iter().filter_map(move |line| {
                let key = format!("[{}] {}", form.as_str(), line.key());
                let at = Origin::Line(rules.path.clone(), line.line);
                line.template.claim().map(|claim| Wanted { at, key, claim })
            })
        })
    }

    /// What is likely not meant, though it can be done.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = Problem> {
        self.policies.values().filter_map(|rules| {
            let line = rules.account.lines.iter().find(|line| line.preset.is_some())?.line;
            let hears = |line: &Line| line.permission == Permission::Subscribe;
            (!rules.account.lines.iter().any(hears)).then(|| Problem {
                at: Origin::Line(rules.path.clone(), line),
                key: "[account] presets".to_owned(),
                what: "without an inbox to hear the answers in".to_owned(),
                remedy: "add subscribe = [\"_INBOX.>\"]".to_owned(),
            })
        })
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

    /// The section for a login that it admits, and until when.
    pub(super) fn ruling(
        &self,
        principal: &Principal,
        context: &ConnectionContext<'_>,
    ) -> Result<Ruling<'_>, Denied> {
        let record = principal.record();
        let name = Self::name_for(record);
        let Some(rules) = self.policies.get(name) else {
            let denied = Denied::from(DenyReason::Policy).of(principal.login());
            let (who, place) = match (principal.issuer(), &record.user.policy) {
                (Some(IssuerOf { name, .. }), Some(_)) if principal.is_without_row() => {
                    (format!("[issuers.{name}]"), "it there".to_owned())
                }
                (_, Some(_)) => ("the row".to_owned(), "users.policy".to_owned()),
                (_, None) => ("the row".to_owned(), "tenants.policy".to_owned()),
            };
            return Err(denied.with_detail(format!(
                "{who} names the policy {}, which does not exist; add its file `<name>.toml` \
                 to the folder of policies, or change {place}",
                quoted(name)
            )));
        };
        let rule = rules.of(context.isolation);
        match rule.admission.admit(context.client, context.now) {
            Ok(until) => Ok(Ruling { path: &rules.path, rule, until }),
            Err(refused) => {
                let denied = Denied::from(refused.reason).of(principal.login());
                Err(denied.with_detail(refused.what).with_origin(match refused.line {
                    Some(line) => Origin::Line(rules.path.clone(), line),
                    None => Origin::File(rules.path.clone()),
                }))
            }
        }
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicySet").field(&self.policies.keys().collect::<Vec<_>>()).finish()
    }
}

impl Policy for PolicySet {
    fn decide(&self, principal: &Principal, context: &ConnectionContext<'_>) -> Decision {
        let ruling = self.ruling(principal, context);
        match ruling.and_then(|ruling| ruling.grant(principal, |_, _, _| {})) {
            Ok(grant) => Decision::Permit(grant),
            Err(denied) => Decision::Deny(denied),
        }
    }
}

/// A claim that a line wants.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) at: Origin,
    /// The line's key, with its section.
    pub(crate) key: String,
    pub(crate) claim: &'a str,
}

/// A section that admits a login.
#[derive(Debug)]
pub(super) struct Ruling<'a> {
    pub(super) path: &'a Path,
    pub(super) rule: &'a Rule,
    pub(super) until: Option<UnixSeconds>,
}

impl Ruling<'_> {
    /// What the section grants. `note` is told of every subject with its line.
    pub(super) fn grant(
        &self,
        principal: &Principal,
        mut note: impl FnMut(Permission, &Pattern, &Line),
    ) -> Result<Grant, Denied> {
        let rule = self.rule;
        let mut lists = rule.counts.map(Vec::with_capacity);
        let [publish, subscribe, deny_publish, deny_subscribe] = &mut lists;
        let jetstream = principal.record().tenant.limits.jetstream();
        for line in rule.lines.iter().filter(|line| jetstream || !line.only_with_jetstream) {
            let into = match line.permission {
                Permission::Publish => &mut *publish,
                Permission::Subscribe => &mut *subscribe,
                Permission::DenyPublish => &mut *deny_publish,
                Permission::DenySubscribe => &mut *deny_subscribe,
            };
            let filled = line.template.expand(principal, |pattern| {
                note(line.permission, &pattern, line);
                into.push(pattern);
            });
            filled.map_err(|error| {
                Denied::from(DenyReason::Policy)
                    .of(principal.login())
                    .with_detail(error.to_string())
                    .with_origin(Origin::Line(self.path.to_owned(), line.line))
            })?;
        }
        let [publish, subscribe, deny_publish, deny_subscribe] = lists.map(|mut list| {
            list.sort_unstable();
            list.dedup();
            list
        });
        Ok(Grant {
            publish,
            subscribe,
            deny_publish,
            deny_subscribe,
            responses: rule.responses.as_ref().map(|it| it.value),
            ttl: rule.ttl.as_ref().map(|it| it.value),
            until: self.until,
            // Its `connections` have decided.
            dangerous_shared_mqtt: true,
            no_renewal: rule.no_renewal,
            rule: rule.name.clone(),
        })
    }
}

/// The text of a file, read but not looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The file's name without its ending.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The files of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) policies: Vec<Source>,
    /// Test tables, named like the policies.
    pub(crate) tables: Vec<Source>,
}

impl Sources {
    /// Reads all `<name>.toml` and `<name>.test.toml` of a folder, by name.
    pub(crate) fn of(folder: &Path) -> Result<Self, PolicyError> {
        let unreadable =
            |path: &Path, source| NoPolicies::Unreadable { path: path.to_owned(), source };
        let mut sources = Self { policies: Vec::new(), tables: Vec::new() };
        let entries = std::fs::read_dir(folder).map_err(|source| unreadable(folder, source))?;
        for entry in entries {
            let path = entry.map_err(|source| unreadable(folder, source))?.path();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Editors leave hidden files beside the one they write.
            let name = file.strip_suffix(".toml").filter(|name| !name.starts_with('.'));
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            let (into, name) = match name.strip_suffix(".test") {
                Some(name) => (&mut sources.tables, name),
                None => (&mut sources.policies, name),
            };
            let name = name.to_owned();
            let text =
                std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
            into.push(Source { name, path, text });
        }
        sources.policies.sort_by(|one, two| one.name.cmp(&two.name));
        sources.tables.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(sources)
    }
}
