//! Permission templates: `{{tenant.id}}`, `{{user.name}}` and `{{user.hash}}`; the lists `{{user.publish}}` and
//! `{{user.subscribe}}` of the row, and `{{claims.NAME}}` of a verified JWT, which turn one
//! template into as many subjects as the list has.

use std::str::FromStr;

use aws_lc_rs::digest;

use super::subject::{Pattern, SubjectError};
use crate::authn::Principal;
use crate::causes::quoted;
use crate::redact::shortened;

/// What is wrong with a template, found when it is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// `{{` without `}}`, or the reverse.
    #[error("`{0}`: the braces do not match")]
    Braces(String),
    /// A placeholder that does not exist.
    #[error("`{{{{{0}}}}}` is no placeholder")]
    Placeholder(String),
    /// More than one list in a template.
    #[error("`{0}`: more than one list")]
    Lists(String),
    /// No subject whatever is filled in.
    #[error("`{text}` is no subject: {reason}")]
    Subject {
        /// The template.
        text: String,
        /// Why not.
        reason: SubjectError,
    },
}

impl TemplateError {
    /// What to do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Braces(_) => "write {{name}}",
            Self::Placeholder(_) => {
                "there are tenant.id, user.name, user.hash, user.publish, user.subscribe and claims.NAME"
            }
            Self::Lists(_) => {
                "user.publish, user.subscribe and claims.NAME are lists, of which a line takes one"
            }
            Self::Subject { .. } => {
                "write tokens with dots between them; `*` is a whole token, `>` the last"
            }
        }
    }
}

/// A template could not be filled in for this user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// The user's name is spliced in and is not one plain token.
    #[error(
        "the user's name is not one subject token, as a line with user.name needs; user.hash always is"
    )]
    Name,
    /// The JWT has no such claim, or the user logged in with something else.
    #[error(
        "the login brings no claim `{0}` that is a text, a number, true, false or a list of them"
    )]
    NoClaim(Box<str>),
    /// The issuer's rules do not hand this claim on, whatever the JWT has.
    #[error(
        "the claim `{claim}` is not handed to the policy; list it in [issuers.{issuer}] claims"
    )]
    Unlisted {
        /// The claim.
        claim: Box<str>,
        /// The issuer's name.
        issuer: String,
    },
    /// A value of the claim is spliced in and is not one plain token.
    #[error(
        "a value of the claim `{claim}` is not one subject token of [A-Za-z0-9_-]{{1,64}}: {}",
        quoted(shortened(value))
    )]
    Claim {
        /// The claim.
        claim: Box<str>,
        /// The value.
        value: String,
    },
    /// The result is no legal subject.
    #[error("`{0}` is no legal subject: {1}")]
    Subject(String, SubjectError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    TenantId,
    UserName,
    UserHash,
    List,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    Publish,
    Subscribe,
    Claim(Box<str>),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    list: Option<List>,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let braces = || TemplateError::Braces(text.to_owned());
        let mut parts = Vec::new();
        let mut list = None;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(braces)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let mut take_list = |which| match list.replace(which) {
                None => Ok(Part::List),
                Some(_) => Err(TemplateError::Lists(text.to_owned())),
            };
            parts.push(match name.trim() {
                "tenant.id" => Part::TenantId,
                "user.name" => Part::UserName,
                "user.hash" => Part::UserHash,
                "user.publish" => take_list(List::Publish)?,
                "user.subscribe" => take_list(List::Subscribe)?,
                other => match other.strip_prefix("claims.") {
                    Some(name) if !name.is_empty() => take_list(List::Claim(name.into()))?,
                    _ => return Err(TemplateError::Placeholder(other.to_owned())),
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let sample: String = parts
            .iter()
            .map(|part| if let Part::Text(text) = part { text.as_str() } else { "x" })
            .collect();
        if sample.contains(['{', '}']) {
            return Err(braces());
        }
        sample
            .parse::<Pattern>()
            .map_err(|reason| TemplateError::Subject { text: text.to_owned(), reason })?;
        Ok(Self { parts, list })
    }
}

impl Template {
    /// Whether all subjects begin with `before`, the tenant's id and a dot.
    pub(crate) fn is_below(&self, before: &str) -> bool {
        match self.parts.as_slice() {
            [Part::Text(first), Part::TenantId, Part::Text(next), ..] => {
                first == before && next.starts_with('.')
            }
            _ => false,
        }
    }

    /// The claim that it takes its values from.
    pub(crate) fn claim(&self) -> Option<&str> {
        match &self.list {
            Some(List::Claim(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether it is one plain subject token whatever is filled in.
    pub(crate) fn is_token(&self) -> bool {
        let rows = matches!(self.list, Some(List::Publish | List::Subscribe));
        !rows
            && self.parts.iter().all(|part| match part {
                Part::Text(text) => text.bytes().all(plain),
                _ => true,
            })
    }

    /// Fills the template in and hands on the subjects.
    pub(crate) fn expand(
        &self,
        principal: &Principal,
        mut each: impl FnMut(Pattern),
    ) -> Result<(), ExpandError> {
        let user = &principal.record().user;
        let entries = match &self.list {
            None => {
                each(self.fill(principal, "")?);
                return Ok(());
            }
            Some(List::Claim(name)) => {
                let values = principal.claims().get(&**name);
                let values = values.ok_or_else(|| no_claim(principal, name))?;
                if let Some(value) = values.iter().find(|value| token(value).is_none()) {
                    return Err(ExpandError::Claim { claim: name.clone(), value: value.clone() });
                }
                values
            }
            Some(List::Publish) => &user.publish,
            Some(List::Subscribe) => &user.subscribe,
        };
        for entry in entries {
            // Checked alone too: a template must not heal what the row has wrong.
            parse(entry)?;
            each(self.fill(principal, entry)?);
        }
        Ok(())
    }

    fn fill(&self, principal: &Principal, entry: &str) -> Result<Pattern, ExpandError> {
        let record = principal.record();
        let mut subject = String::with_capacity(64);
        let hash = if self.parts.contains(&Part::UserHash) {
            user_hash(principal.name())
        } else {
            String::new()
        };
        for part in &self.parts {
            subject.push_str(match part {
                Part::Text(text) => text,
                Part::TenantId => record.tenant.id.as_str(),
                Part::UserName => token(principal.name()).ok_or(ExpandError::Name)?,
                Part::UserHash => &hash,
                Part::List => entry,
            });
        }
        parse(&subject)
    }
}

fn no_claim(principal: &Principal, claim: &str) -> ExpandError {
    match principal.issuer() {
        Some(issuer) if !issuer.claims.iter().any(|listed| listed == claim) => {
            ExpandError::Unlisted { claim: claim.into(), issuer: issuer.name.clone() }
        }
        _ => ExpandError::NoClaim(claim.into()),
    }
}

fn parse(subject: &str) -> Result<Pattern, ExpandError> {
    subject.parse().map_err(|reason| {
        // A row may hold a megabyte, which no log needs.
        let mut shown: String = subject.chars().take(SHOWN).collect();
        if shown.len() < subject.len() {
            shown.push('…');
        }
        ExpandError::Subject(shown, reason)
    })
}

/// How many characters of an illegal subject a message shows.
const SHOWN: usize = 200;

/// One token of whatever name: the first 16 bytes of its SHA-256 in hex. No two names have the same.
fn user_hash(name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    data_encoding::HEXLOWER.encode(hash.as_ref().get(..16).unwrap_or_default())
}

/// The text, if it is one plain subject token: no wildcard may come from an identity or a claim.
fn token(text: &str) -> Option<&str> {
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(plain)).then_some(text)
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authn::IssuerOf;
    use crate::store::{LoginRecord, TenantRecord, UserKind, UserRecord};

    fn principal(name: &str, claims: &[(&str, &[&str])]) -> Principal {
        let record = LoginRecord {
            tenant: TenantRecord::new("42".parse().unwrap()),
            user: UserRecord::new(name, UserKind::Bb),
        };
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let claims = claims.iter().map(|(name, values)| ((*name).to_owned(), owned(values)));
        let principal = Principal::new(Arc::new(record), "jwt", None, 0).unwrap();
        principal.with_claims(claims.collect())
    }

    fn expand(template: &str, principal: &Principal) -> Result<Vec<String>, ExpandError> {
        let mut subjects = Vec::new();
        let template: Template = template.parse().unwrap();
        template.expand(principal, |pattern| subjects.push(pattern.to_string()))?;
        Ok(subjects)
    }

    #[test]
    fn a_claim_gives_as_many_subjects_as_it_has_values() {
        let alice = principal("alice", &[("teams", &["red", "blue"]), ("none", &[])]);
        let subjects = expand("t.{{tenant.id}}.{{claims.teams}}.{{user.name}}", &alice).unwrap();
        assert_eq!(subjects, ["t.42.red.alice", "t.42.blue.alice"]);
        assert_eq!(expand("t.{{ claims.none }}", &alice), Ok(vec![]));
        let missing = Err(ExpandError::NoClaim("roles.admin".into()));
        assert_eq!(expand("t.{{claims.roles.admin}}", &alice), missing);
        let issuer = IssuerOf { name: "kc".to_owned(), claims: vec!["roles.admin".to_owned()] };
        let alice = alice.with_issuer(Arc::new(issuer));
        assert_eq!(expand("t.{{claims.roles.admin}}", &alice), missing, "its JWT has none");
        let unlisted = expand("t.{{claims.org}}", &alice).unwrap_err().to_string();
        assert!(unlisted.ends_with("list it in [issuers.kc] claims"), "{unlisted}");
    }

    #[test]
    fn no_value_of_a_claim_and_no_name_is_more_than_a_token() {
        let long = "a".repeat(65);
        for value in ["", "*", ">", "a.b", "a b", "a\tb", "é", "a*", "{{", long.as_str()] {
            let claims = principal("alice", &[("team", &["red", value])]);
            let (claim, value) = ("team".into(), value.to_owned());
            let refused = Err(ExpandError::Claim { claim, value: value.clone() });
            assert_eq!(expand("t.{{claims.team}}", &claims), refused, "{value:?}");
            let named = principal(&value, &[]);
            assert_eq!(expand("t.{{user.name}}", &named), Err(ExpandError::Name), "{value:?}");
        }
    }

    #[test]
    fn whatever_name_has_a_token_of_its_own() {
        let alice = principal("alice@example.com", &[]);
        assert_eq!(expand("in.{{user.name}}", &alice), Err(ExpandError::Name));
        // By Python's hashlib.
        let hash = "ff8d9819fc0e12bf0d24892e45987e24";
        assert_eq!(expand("in.{{user.hash}}.>", &alice).unwrap(), [format!("in.{hash}.>")]);
        let without_row = principal("42/app", &[]).with_name("app");
        assert_eq!(expand("in.{{user.name}}", &without_row).unwrap(), ["in.app"]);
    }

    #[test]
    fn what_is_no_template() {
        for (text, wanted) in [
            ("a.{{tenant.id", "braces"),
            ("a.}}", "braces"),
            ("a.{{{{tenant.id}}}}", "no placeholder"),
            ("{{claims.}}", "no placeholder"),
            ("{{user.id}}", "no placeholder"),
            ("{{user.publish}}.{{claims.x}}", "more than one list"),
            ("a b", "blank"),
            ("{{tenant.id}}..a", "empty token"),
            ("", "empty"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.to_string().contains(wanted), "{text}: {error}");
            assert!(!error.remedy().is_empty());
        }
    }

    #[test]
    fn which_templates_stay_with_the_tenant() {
        let below = |text: &str| text.parse::<Template>().unwrap().is_below("user.");
        assert!(below("user.{{tenant.id}}.>") && below("user.{{tenant.id}}.{{user.publish}}"));
        for text in
            ["user.{{tenant.id}}", "user.{{tenant.id}}x.>", "user.*.>", "a.user.{{tenant.id}}.b"]
        {
            assert!(!below(text), "{text}");
        }
    }
}
