//! The values of a section: lists, numbers and names, each with the place of its mistake.

use std::time::Duration;

use jiff::tz::TimeZone;
use strum::VariantNames as _;
use toml::Spanned;
use toml::de::DeValue;

use crate::document::Document;
use crate::policy::admission::ConnectionType;
use crate::policy::{Responses, times};

/// A text with the offset at which it stands.
pub(super) type Text<'a> = (&'a str, usize);

impl Document<'_> {
    /// The texts of a list, with where they stand.
    pub(super) fn list<'v>(
        &mut self,
        key: &str,
        value: &'v Spanned<DeValue<'_>>,
    ) -> Option<Vec<Text<'v>>> {
        let at = value.span().start;
        let DeValue::Array(values) = value.get_ref() else {
            self.problem(at, key, "no list", "write it as [\"a\", \"b\"]");
            return None;
        };
        let mut texts = Vec::new();
        for value in values.iter() {
            let at = value.span().start;
            match value.get_ref() {
                DeValue::String(text) => texts.push((text.as_ref(), at)),
                _ => {
                    self.problem(at, key, "no text in the list", "write it in double quotes");
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// [`Self::list`] of a limit, which must hold something.
    pub(super) fn filled<'v>(
        &mut self,
        key: &str,
        value: &'v Spanned<DeValue<'_>>,
    ) -> Option<Vec<Text<'v>>> {
        let texts = self.list(key, value)?;
        if texts.is_empty() {
            let at = value.span().start;
            self.problem(at, key, "an empty list lets nobody in", "fill it, or remove the key");
        }
        Some(texts)
    }

    /// A filled list of values.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> Result<T, (String, String)>,
    ) -> Option<Vec<T>> {
        let mut values = Vec::new();
        for (text, at) in self.filled(key, value)? {
            match parse(text) {
                Ok(value) => values.push(value),
                Err((what, remedy)) => self.problem(at, key, what, remedy),
            }
        }
        Some(values)
    }

    pub(super) fn responses(
        &mut self,
        key: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Responses> {
        const REMEDY: &str = "write responses = { max = 1, expires = 60 }: how many answers to \
                              each request, and for how many seconds";
        let DeValue::Table(table) = value.get_ref() else {
            self.problem(at, key, "no table", REMEDY);
            return None;
        };
        let (mut max, mut expires) = (None, None);
        for (name, value) in table {
            let number = whole(value.get_ref()).filter(|number| *number > 0);
            match name.get_ref().as_ref() {
                "max" => max = number.and_then(|number| u32::try_from(number).ok()),
                "expires" => expires = number.map(Duration::from_secs),
                other => {
                    self.problem(name.span().start, key, format!("unknown key `{other}`"), REMEDY);
                    return None;
                }
            }
        }
        let (Some(max), Some(expires)) = (max, expires) else {
            self.problem(at, key, "`max` and `expires` are whole numbers from 1 on", REMEDY);
            return None;
        };
        Some(Responses { max, expires })
    }

    pub(super) fn seconds(
        &mut self,
        key: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        least: Duration,
    ) -> Option<Duration> {
        let seconds = whole(value.get_ref()).filter(|seconds| *seconds > 0);
        if seconds.is_none() {
            let remedy = format!("write whole seconds from {} on, such as 300", least.as_secs());
            self.problem(at, key, "no number of seconds", remedy);
        }
        seconds.map(Duration::from_secs)
    }

    pub(super) fn truth(
        &mut self,
        key: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<bool> {
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(*truth);
        }
        self.problem(at, key, "neither true nor false", "write true or false, without quotes");
        None
    }

    pub(super) fn zone(
        &mut self,
        key: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<TimeZone> {
        let name = match value.get_ref() {
            DeValue::String(name) => name.as_ref(),
            _ => "",
        };
        let zone = times::zone(name);
        if zone.is_none() {
            let remedy = "write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"";
            self.problem(at, key, format!("`{name}` is no time zone"), remedy);
        }
        zone
    }
}

pub(super) fn connection_type(text: &str) -> Result<ConnectionType, (String, String)> {
    text.parse().map_err(|_| {
        let remedy = format!("there are {}", ConnectionType::VARIANTS.join(", "));
        (format!("`{text}` is no type of connection"), remedy)
    })
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}
