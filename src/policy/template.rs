//! Permission templates: `{{tenant.id}}`, `{{user.name}}`, and the lists `{{user.publish}}` and
//! `{{user.subscribe}}`, which turn one template into as many subjects as the list has.

use std::str::FromStr;

use super::subject::{Pattern, SubjectError};
use crate::store::LoginRecord;

/// What is wrong with a template, found when it is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`, or the reverse.
    #[error("`{0}`: braces do not match; write {{{{name}}}}")]
    Braces(String),
    /// A placeholder that does not exist.
    #[error(
        "`{0}` is no placeholder; there are tenant.id, user.name, user.publish and user.subscribe"
    )]
    Placeholder(String),
    /// More than one list in a template.
    #[error("`{0}`: only one list placeholder in a template")]
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

/// A template could not be filled in for this user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// The user's name is spliced in and is not one plain token.
    #[error("the user's name is not one subject token, as a template with user.name needs")]
    Name,
    /// The result is no legal subject.
    #[error("`{0}` is no legal subject: {1}")]
    Subject(String, SubjectError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    TenantId,
    UserName,
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Publish,
    Subscribe,
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
                "user.publish" => take_list(List::Publish)?,
                "user.subscribe" => take_list(List::Subscribe)?,
                other => return Err(TemplateError::Placeholder(other.to_owned())),
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
    /// Fills the template in and appends the subjects.
    pub(crate) fn expand(
        &self,
        record: &LoginRecord,
        into: &mut Vec<Pattern>,
    ) -> Result<(), ExpandError> {
        match self.list {
            None => into.push(self.fill(record, "")?),
            Some(list) => {
                let entries = match list {
                    List::Publish => &record.user.publish,
                    List::Subscribe => &record.user.subscribe,
                };
                for entry in entries {
                    // Checked alone too: a template must not heal what the row has wrong.
                    parse(entry)?;
                    into.push(self.fill(record, entry)?);
                }
            }
        }
        Ok(())
    }

    fn fill(&self, record: &LoginRecord, entry: &str) -> Result<Pattern, ExpandError> {
        let mut subject = String::with_capacity(64);
        for part in &self.parts {
            subject.push_str(match part {
                Part::Text(text) => text,
                Part::TenantId => record.tenant.id.as_str(),
                Part::UserName => token(&record.user.name).ok_or(ExpandError::Name)?,
                Part::List => entry,
            });
        }
        parse(&subject)
    }
}

fn parse(subject: &str) -> Result<Pattern, ExpandError> {
    subject.parse().map_err(|reason| ExpandError::Subject(subject.to_owned(), reason))
}

/// The name, if it is one plain subject token: no wildcard may come from an identity.
fn token(name: &str) -> Option<&str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!name.is_empty() && name.len() <= 64 && name.bytes().all(legal)).then_some(name)
}
